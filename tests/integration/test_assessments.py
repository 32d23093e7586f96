"""What people, judges and checks say about traces, read from a real MLflow server: MLflow has the same totals."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow.entities import AssessmentError, AssessmentSource, Expectation
from mlflow.entities.assessment import FeedbackValue
from sqlalchemy import inspect, text

from mlflow_trace_exporter.counting import assessment_auditor, recent
from mlflow_trace_exporter.domain import triage
from mlflow_trace_exporter.metrics.assessments import (
    ASSESSED,
    ASSESSMENT_COST,
    ASSESSMENT_ERRORS,
    ASSESSMENTS,
    SCORES,
)
from mlflow_trace_exporter.metrics.families import CHANGED_ASSESSMENTS
from tests.support.reading import Read, reading
from tests.support.real import Mlflow, Trace, now_ms
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.long

JUDGE, CODE = "LLM_JUDGE", "CODE"
NAME, SOURCE, VALUE = 3, 4, 5
DAY_MS = 86_400_000
OVERRIDDEN_TOO = {name: (Counter[str](), Counter({name: 1})) for name in ("thumb", "overridden")}
"""What MLflow counts more: before 3.16, also what is overridden."""

AGES_MS = (1_000, 2_000, 3 * DAY_MS, 6 * DAY_MS)
"""The traces: two of now, one whose id is forgotten soon, and one that is nearly too old."""


@dataclass(frozen=True)
class Store:
    """A server, and an experiment with traces that have ended."""

    mlflow: Mlflow
    experiment: str
    ids: list[str]

    @property
    def _store(self) -> Any:
        return self.mlflow.client._tracing_client.store

    def say(self, trace: int, name: str, value: Any, source: str = "HUMAN", **fields: Any) -> str:
        """Assess a trace. Returns the id of the assessment."""
        return self.mlflow.assess(self.ids[trace], name, value, source, **fields)

    def expect(self, trace: int) -> None:
        """Say what the answer should have been, which is no feedback."""
        expectation = Expectation(
            name="expected", value="42", source=AssessmentSource("HUMAN", "x"), trace_id=self.ids[trace]
        )
        self._store.create_assessment(expectation)

    def override(self, trace: int, assessment_id: str, name: str, value: Any) -> None:
        self.say(trace, name, value, overrides=assessment_id)

    def edit(self, trace: int, assessment_id: str, name: str, value: Any) -> None:
        self._store.update_assessment(self.ids[trace], assessment_id, name, feedback=FeedbackValue(value))

    def delete(self, trace: int, assessment_id: str) -> None:
        self._store.delete_assessment(self.ids[trace], assessment_id)

    def counts(self) -> Counter[str]:
        """MLflow's own count of feedback by name."""
        question: dict[str, Any] = {
            "experiment_ids": [self.mlflow.experiment_id(self.experiment)],
            "view_type": "ASSESSMENTS",
            "metric_name": "assessment_count",
            "aggregations": [{"aggregation_type": "COUNT"}],
            "dimensions": ["assessment_name"],
            "filters": ['assessment.type = "feedback"'],
        }
        answer = requests.post(f"{self.mlflow.uri}/api/3.0/mlflow/traces/metrics", json=question, timeout=HANG_S).json()
        return Counter(
            {each["dimensions"]["assessment_name"]: int(each["values"]["COUNT"]) for each in answer["data_points"]}
        )


@pytest.fixture
def store(mlflow: Mlflow) -> Store:
    experiment = mlflow.experiment()
    traces = [Trace(now_ms() - age_ms, tags={"environment": "production", "app_version": "1"}) for age_ms in AGES_MS]
    return Store(mlflow, experiment, mlflow.log(experiment, *traces))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare at every poll, and read again without waiting: the simulation shows that times are kept."""
    for name in ("FILL_MS", "SETTLE_MS"):
        monkeypatch.setattr(triage, name, 0)
    monkeypatch.setattr(recent, "GROWING_AGAIN_MS", 0)
    monkeypatch.setattr(assessment_auditor, "REST_S", 0.0)
    monkeypatch.setattr(assessment_auditor, "_EVERY_MS", dict.fromkeys(assessment_auditor.Late, 0))


@pytest.fixture
def read(store: Store, tmp_path: Path) -> Iterator[Read]:
    with reading(store.mlflow.uri, store.experiment, tmp_path) as read:
        yield read


def counted(read: Read) -> Counter[str]:
    """All assessments that are counted, by name. The histogram has its labels in another order."""
    found = read.sums(ASSESSMENTS, NAME) + read.sums(SCORES, SOURCE) + read.sums(ASSESSMENT_ERRORS, NAME)
    return Counter({name: int(count) for (name,), count in found.items()})


def test_totals_are_those_of_mlflow(store: Store, read: Read) -> None:
    store.say(0, "correctness", "yes", JUDGE, metadata={"mlflow.assessment.judgeCost": "0.25"}, rationale="secret")
    store.say(0, "correctness", True)
    store.say(1, "correctness", "a text of more than three words", JUDGE)
    store.say(0, "relevance", 0.7, CODE)
    store.say(1, "relevance", 4)
    for odd in (["a", 1], {"a": {"b": 1.0}}):
        store.say(1, "odd", odd, CODE)
    store.say(2, "style", None, CODE, error=AssessmentError("RATE_LIMIT", "secret"))
    store.override(3, store.say(3, "thumb", False), "thumb", True)
    store.edit(3, store.say(3, "mood", "bad"), "mood", "good")
    store.expect(0)
    read.all(len(AGES_MS))
    assert counted(read) == Counter(correctness=3, relevance=2, odd=2, style=1, thumb=1, mood=1)
    assert store.counts() - counted(read) in OVERRIDDEN_TOO["thumb"]
    assert read.sums(ASSESSMENTS, NAME, SOURCE, VALUE) == {
        ("correctness", "llm_judge", "yes"): 1,
        ("correctness", "human", "true"): 1,
        ("correctness", "llm_judge", "other"): 1,
        ("odd", "code", "other"): 2,
        ("thumb", "human", "true"): 1,
        ("mood", "human", "good"): 1,
    }
    assert read.sums(SCORES, part="sum") == {(): 4.7}
    assert read.sums(ASSESSED, NAME)[("correctness",)] == 2
    assert read.sums(ASSESSMENT_COST, NAME) == {("correctness",): 0.25}
    assert read.sums(CHANGED_ASSESSMENTS) == {}


@pytest.mark.parametrize("trace", range(len(AGES_MS)))
def test_fault_33_added_overridden_edited_and_deleted_later(store: Store, read: Read, trace: int) -> None:
    first, second, third = (store.say(trace, name, "yes") for name in ("overridden", "edited", "deleted"))
    read.all(len(AGES_MS))
    assert counted(read) == Counter(overridden=1, edited=1, deleted=1)
    store.override(trace, first, "overridden", "no")
    store.edit(trace, second, "edited", "no")
    store.delete(trace, third)
    store.say(trace, "added", 0.5, JUDGE)
    read.until(lambda: counted(read)["added"] == 1, "the new one is counted")
    assert counted(read) == Counter(overridden=2, edited=2, deleted=1, added=1)
    assert read.sums(CHANGED_ASSESSMENTS) == {(): 2}
    store.say(trace, "deleted", "yes")
    read.until(lambda: counted(read)["deleted"] == 2, "one comes in its place")
    for _ in range(12):
        read.poller.tick()
    assert counted(read) == Counter(overridden=2, edited=2, deleted=2, added=1)
    more = store.counts() - Counter(overridden=1, edited=1, deleted=1, added=1)
    assert more in OVERRIDDEN_TOO["overridden"]
    assert read.published[-1].status.reading is not None
    assert read.published[-1].status.reading.unaccounted_assessments == more.total()


def test_more_values_than_mlflow_returns_counts(store: Store, read: Read) -> None:
    """MLflow returns a thousand, and does not say that there are more."""
    read.all(len(AGES_MS))
    with store.mlflow._database.begin() as db:
        columns = {column["name"] for column in inspect(db).get_columns("assessments")}
        values = {name: value for name, value in _ROW.items() if name in columns}
        insert = text(
            f"INSERT INTO assessments ({', '.join(values)}) SELECT {', '.join(values.values())} FROM trace_info"
            " WHERE request_id = :trace"
        )
        for number in range(1_100):
            db.execute(insert, {"id": f"a-{number}", "value": f"{number / 10_000}", "trace": store.ids[2]})
    read.until(lambda: counted(read)["similarity"] == 1_100, "all are counted")
    store.say(2, "similarity", 0.99999)
    read.until(lambda: counted(read)["similarity"] == 1_101, "one more is found")


_ROW = {
    "assessment_id": ":id",
    "trace_id": "request_id",
    "name": "'similarity'",
    "assessment_type": "'feedback'",
    "value": ":value",
    "created_timestamp": "1",
    "last_updated_timestamp": "1",
    "source_type": "'CODE'",
    "valid": "1",
    "experiment_id": "experiment_id",
    "trace_timestamp_ms": "timestamp_ms",
    "is_numeric_value": "1",
}
"""A row of MLflow's. The last three columns are there from 3.17 on."""
