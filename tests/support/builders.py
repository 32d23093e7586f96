"""Values that many tests need."""

from dataclasses import replace
from typing import Any

from mlflow_trace_exporter.domain.admission import Caps
from mlflow_trace_exporter.domain.assessments import HUMAN, Assessment
from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.horizon import Limits
from mlflow_trace_exporter.domain.labels import TRACE_LABELS, LabelRules
from mlflow_trace_exporter.domain.objectives import Objectives
from mlflow_trace_exporter.domain.spans import Span
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.traffic import Traffic
from mlflow_trace_exporter.domain.triage import Batch
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.metrics.families import trace_families
from mlflow_trace_exporter.metrics.meter import Increments, Meter
from mlflow_trace_exporter.metrics.status import Build
from mlflow_trace_exporter.settings.config import Buckets, Config
from mlflow_trace_exporter.tracking.assessment_parsing import form_of

RULES = LabelRules()
OBJECTIVES = Objectives(tuple(each.as_objective() for each in Config().objectives))
FAMILIES = trace_families(Buckets().duration_seconds, Buckets().tokens, objectives=OBJECTIVES)
CAPS = Caps(values=200, series=100_000)
METER = Meter(FAMILIES, RULES, CAPS, frozenset({Traffic.APPLICATION}), OBJECTIVES)
FAMILIES_WITH_SPANS = trace_families(
    Buckets().duration_seconds, Buckets().tokens, objectives=OBJECTIVES, with_spans=True
)
METER_WITH_SPANS = replace(METER, families=FAMILIES_WITH_SPANS, step_types=Config().spans.types)
FAMILIES_WITH_ALL = trace_families(
    Buckets().duration_seconds,
    Buckets().tokens,
    objectives=OBJECTIVES,
    with_spans=True,
    score_edges=Buckets().score,
)
METER_WITH_ALL = replace(METER_WITH_SPANS, families=FAMILIES_WITH_ALL, with_assessments=True)
LIMITS = Limits(lateness_ms=7_200_000, audit_horizon_ms=86_400_000, margin_ms=300_000, overlap_ms=120_000)
BUILD = Build("0.0.0", "3.11.0", "3.17.2")


def group(*values: str) -> Group:
    """The group with these label values: a place, or traces of a version and name."""
    return Group(TRACE_LABELS[: len(values)], values)


def increments(*records: TraceRecord, meter: Meter = METER) -> Increments:
    """What these traces add, in one batch, where no series are yet."""
    return meter.measure(Batch(counted=records), meter.admission(()))


def span(number: int, parent: int | None = None, **fields: Any) -> Span:
    """A call of gpt-4o for 100 and 20 tokens that takes half a second, but for what is said otherwise."""
    defaults: dict[str, Any] = {
        "span_id": f"{number:016x}",
        "parent_id": None if parent is None else f"{parent:016x}",
        "name": "Completions",
        "span_type": "CHAT_MODEL",
        "start_ns": 1_000_000_000 + number,
        "end_ns": 1_500_000_000 + number,
        "model": "gpt-4o",
        "provider": "openai",
        "usage": TokenUsage(input=100, output=20),
        "cost": Cost(input_usd=0.25, output_usd=0.5),
    }
    return Span(**{**defaults, **fields})


def step(number: int, parent: int | None = None, **fields: Any) -> Span:
    """A span of a tool that is no call, but for what is said otherwise."""
    plain: dict[str, Any] = {
        "span_type": "TOOL",
        "name": "search",
        **dict.fromkeys(("model", "provider", "usage", "cost")),
    }
    return span(number, parent, **{**plain, **fields})


def assessment(name: str, value: str | float | None, source: str = HUMAN, **fields: Any) -> Assessment:
    """A feedback; its id is made of what it says, unless one is given."""
    given = {"assessment_id": f"a-{name}-{value}-{source}", "form": form_of(name, value), **fields}
    return Assessment(name=name, value=value, source=source, **given)


def record(**fields: Any) -> TraceRecord:
    """A trace of the chatbot that ended well, but for what is said otherwise."""
    defaults: dict[str, Any] = {
        "trace_id": "tr-1",
        "experiment_id": "1",
        "experiment": "chatbot",
        "state": State.OK,
        "start_ms": 1_000,
        "seen_ms": 5_000,
        "duration_ms": 1_500,
        "finalized": True,
        "name": "support",
        "user": "u",
        "session": "s",
        "usage": TokenUsage(input=100, output=20),
        "cost": Cost(input_usd=0.25, output_usd=0.5),
        "tags": {"environment": "production", "app_version": "1.4.0"},
    }
    return TraceRecord(**{**defaults, **fields})
