"""What the pages of `serve` ask MLflow for."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from mlflow_trace_exporter.domain.labels import (
    ASSESSMENT_SOURCE_LABELS,
    ASSESSMENT_VALUE_LABELS,
    INSIDE_LABELS,
    INSIDE_NAMES,
)
from mlflow_trace_exporter.metrics.status import Snapshot
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.tracking.features import Feature
from mlflow_trace_exporter.tracking.query import assessment_term
from mlflow_trace_exporter.tracking.source import MlflowSource
from mlflow_trace_exporter.tracking.span_source import with_inside
from mlflow_trace_exporter.web import trace_list, trace_page
from mlflow_trace_exporter.web.trace_search import Newest, understands
from mlflow_trace_exporter.wiring import label_rules, mlflow_pages, now_ms


@dataclass(frozen=True, slots=True)
class Pages:
    """Answers for pages, from a ``source`` with its settings."""

    settings: Config
    source: MlflowSource

    def mlflow_url(self) -> str:
        """The URL at which people open MLflow."""
        return mlflow_pages(self.settings).home

    def trace_url(self, trace_id: str) -> str | None:
        """The page of a trace in MLflow; None if there is no such trace. Raises PollError if MLflow is unavailable."""
        record = self.source.find(trace_id)
        return None if record is None else mlflow_pages(self.settings).trace(record)

    def traces(self, query: Iterable[tuple[str, str]], snapshot: Snapshot) -> bytes:
        """The page with the latest traces for a query, which suggests values of ``snapshot``. Raises ValueError for an
        invalid query, and PollError if MLflow is unavailable."""
        settings, source = self.settings, self.source
        rules, objectives = label_rules(settings), settings.all_objectives
        inside_names = INSIDE_NAMES if settings.spans.enabled else ()
        question = trace_list.Question.parse(query, rules.all_names, now_ms(), inside_names)
        has = source.features()
        like = has.get(Feature.LIKE, False)
        term = assessment_term(question.assessed) if like else None
        more = [term] if term is not None and understands(source, term) else []
        searches = question.searches(rules, objectives, like, more)
        steps = trace_list.steps(question, searches, has.get(Feature.END_TIME_FILTER, False))
        newest = Newest(source, steps, question.experiment)
        look_inside = partial(with_inside, source.spans)
        records = trace_list.answer(question, newest, rules, objectives, settings.mlflow.traffic, look_inside)
        found = trace_page.Found(records, newest.ended_early)
        of_assessments = (ASSESSMENT_VALUE_LABELS, ASSESSMENT_SOURCE_LABELS) if settings.assessments.enabled else ()
        label_sets = (*(INSIDE_LABELS if inside_names else ()), *of_assessments, rules.names)
        known = trace_page.values_of(label_sets, snapshot.active_ms)
        return trace_page.write(question, found, rules, mlflow_pages(settings), known)
