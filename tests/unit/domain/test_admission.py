"""Label values beyond the caps (fault 24), and how room becomes free again."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from mlflow_trace_exporter.counting.release import SeriesSettings
from mlflow_trace_exporter.domain.admission import OTHER, Admission, Caps
from mlflow_trace_exporter.domain.labels import TRACE_LABELS, LabelRules, LabelSource
from mlflow_trace_exporter.domain.trace import State
from mlflow_trace_exporter.domain.traffic import Traffic, traffic_of
from mlflow_trace_exporter.metrics.meter import Meter
from mlflow_trace_exporter.tracking.experiments import Experiment
from tests.support.builders import FAMILIES, METER, RULES, increments, record
from tests.support.rig import HOUR_MS, MINUTE_MS, TRACES, Rig
from tests.support.simulated import SimulatedMlflow

OVERFLOW = "mlflow_trace_exporter_label_overflow_total"
COSTS = {4: 90, 2: 16}
NUMBERS = count()


def admission(values: int = 3, series: int = 10_000) -> Admission:
    return Admission((), Caps(values, series), lambda group: COSTS[len(group.names)])


def labels(version: str = "1", name: str = "chat", environment: str = "production") -> dict[str, str]:
    return dict(zip(TRACE_LABELS, ("bot", environment, version, name), strict=True))


def meter(values: int = 200, series: int = 100_000) -> Meter:
    return Meter(FAMILIES, RULES, Caps(values, series), METER.traffic, METER.objectives)


def add(mlflow: SimulatedMlflow, version: str, name: str = "chat", **fields: Any) -> None:
    """Add a trace that has just ended."""
    tags = {"environment": fields.pop("environment", "production"), "app_version": version}
    times = {"start_ms": mlflow.clock_ms, "duration_ms": 0, "name": name, "tags": tags, **fields}
    mlflow.add(record(trace_id=f"tr-{next(NUMBERS)}", **times), 0)


def test_values_up_to_the_cap_are_admitted_and_stay_so() -> None:
    here = admission(values=3)
    found = [
        here.admit(labels(version=str(number)), TRACE_LABELS).labels["version"] for number in (1, 2, 3, 4, 5, 2, 4)
    ]
    assert found == ["1", "2", "3", OTHER, OTHER, "2", OTHER]
    assert here.admit(labels(version="9"), TRACE_LABELS).overflowed == ("version",)
    assert here.admit(labels(version="1"), TRACE_LABELS).overflowed == ()


def test_unknown_and_other_need_no_room() -> None:
    here = admission(values=1)
    found = [here.admit(labels(version=version), TRACE_LABELS) for version in ("unknown", "other", "1", "2")]
    assert [each.labels["version"] for each in found] == ["unknown", "other", "1", "other"]
    assert [each.overflowed for each in found] == [(), (), (), ("version",)]


def test_each_label_has_its_own_cap() -> None:
    here = admission(values=1)
    here.admit(labels(version="1", name="chat"), TRACE_LABELS)
    assert here.admit(labels(version="2", name="chat"), TRACE_LABELS).labels == labels(version=OTHER, name="chat")
    assert here.admit(labels(version="1", name="faq"), TRACE_LABELS).overflowed == ("trace_name",)


def test_beyond_the_limit_of_series_all_labels_are_other() -> None:
    here = admission(values=100, series=200)
    assert here.admit(labels(), TRACE_LABELS).overflowed == ()
    assert here.series == COSTS[4] + COSTS[2]
    assert here.admit(labels(version="2"), TRACE_LABELS).overflowed == (), "its place is there already, and it fits"
    beyond = here.admit(labels(version="3"), TRACE_LABELS)
    assert set(beyond.labels.values()) == {OTHER}
    assert beyond.overflowed == TRACE_LABELS
    assert here.admit(labels(), TRACE_LABELS).overflowed == (), "existing values stay admitted"
    assert here.series == 2 * (COSTS[4] + COSTS[2]) + COSTS[4]


def test_a_hundred_thousand_values_use_no_memory() -> None:
    here = admission(values=50)
    versions = map(str, range(100_000))
    overflowed = sum(bool(here.admit(labels(version=each), TRACE_LABELS).overflowed) for each in versions)
    assert overflowed == 100_000 - 50
    assert here.series == 51 * COSTS[4] + COSTS[2]


def test_the_predicted_number_of_series_is_right() -> None:
    here = meter().admission(())
    made = increments(record(), record(trace_id="2", state=State.ERROR, tags={"environment": "staging"}))
    for group in made.groups:
        here.admit(dict(zip(group.names, group.values, strict=True)), group.names)
    counts = sum(1 for cell in made.amounts if cell.part == "+Inf")  # beside each stands a _count
    assert here.series == len(made.amounts) + counts


def test_fault_24_more_values_than_the_cap(mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(mlflow, meter=meter(values=20))
    for number in range(1_000):
        add(mlflow, f"v{number:04}", f"request {number}")
    rig.settle()
    assert rig.traces == 1_000
    assert len({version for _, _, version, _ in rig.labels()}) == 21
    assert rig.total(OVERFLOW) == 2 * 980
    admitted = min(labels for labels in rig.labels() if OTHER not in labels)
    rig.restart()
    add(mlflow, admitted[2], admitted[3])
    add(mlflow, "new", admitted[3])
    rig.settle()
    assert rig.traces == 1_002
    assert rig.total(OVERFLOW) == 2 * 980 + 1, "what was admitted before the restart still is"
    assert rig.reading.series <= 22 * (90 + 16)


def test_sleeping_groups_make_room(mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(mlflow, meter=meter(values=1), series=SeriesSettings(0, 2 * HOUR_MS))
    versions = {}
    for version in ("1", "2"):
        add(mlflow, version)
        rig.settle()
        versions[version] = {labels[2] for labels in rig.labels()}
    assert versions == {"1": {"1"}, "2": {"1", OTHER}}
    rig.run(3 * HOUR_MS, every_ms=10 * MINUTE_MS)
    add(mlflow, "2")
    rig.settle()
    assert {labels[2] for labels in rig.labels()} == {"2"}


def test_environments_of_running_traces_are_capped_too(mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(mlflow, meter=meter(values=2))
    for number in range(5):
        add(mlflow, "1", state=State.IN_PROGRESS, duration_ms=None, environment=f"e{number}")
    rig.tick()
    assert {environment: count for (_, environment), count in rig.reading.running.items()} == {
        "e0": 1,
        "e1": 1,
        OTHER: 3,
    }


def test_environments_of_pending_traces_are_capped_too(mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(mlflow, meter=meter(values=2))
    for number in range(50):
        add(mlflow, "1", environment=f"e{number:02}")
    rig.tick()
    shown = {environment for _, environment in rig.reading.running}
    assert len(shown) == 3
    rig.settle()
    assert {environment for _, environment, *_ in rig.labels()} == shown, "the same, when they are counted"


def test_memory_is_flat_while_values_overflow(mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]) -> None:
    """Such as a request id in the name of a trace. The same admission is used for many pages."""
    rig = make_rig(mlflow, meter=meter(values=2))
    for number in range(200):
        mlflow.add(record(trace_id=f"tr-{number}", start_ms=mlflow.clock_ms - HOUR_MS, name=f"request {number}"))
        rig.tick()
    kept = rig.poller._reader.tally._admission
    assert kept is not None
    assert len(kept[1]._admitted) <= 3
    assert len(rig.labels()) == 3


def test_traces_that_cannot_be_checked_are_given_up_under_the_cap(make_rig: Callable[..., Rig]) -> None:
    """Running evaluations whose experiment is no longer selected: their places belong to no group."""
    mlflow = SimulatedMlflow(page_size=5)
    rig = make_rig(mlflow, meter=meter(values=2))
    for number in range(30):
        tags = {"environment": f"e{number}", "mlflow.eval.requestId": "x"}
        running = record(trace_id=f"tr-e{number}", start_ms=mlflow.clock_ms, duration_ms=None, tags=tags)
        mlflow.add(replace(running, state=State.IN_PROGRESS), 0)
    rig.tick()
    mlflow.selected = {"2": Experiment("2", "other", 0)}
    rig.run(8 * 24 * HOUR_MS, every_ms=HOUR_MS)
    abandoned = "mlflow_traces_abandoned_total"
    assert rig.total(abandoned) == 30
    assert len(rig.labels(abandoned)) <= 3


@pytest.mark.parametrize(
    ("tags", "metadata", "traffic"),
    [
        ({}, {}, Traffic.APPLICATION),
        ({"mlflow.eval.requestId": "x"}, {}, Traffic.EVALUATION),
        ({"mlflow.eval.requestId": "x", "mlflow.trace.sourceScorer": "s"}, {}, Traffic.SCORER),
        ({}, {"mlflow.gateway.endpointId": "e"}, Traffic.GATEWAY),
    ],
)
def test_traffic(tags: dict[str, str], metadata: dict[str, str], traffic: Traffic) -> None:
    trace = record(tags=tags, metadata=metadata)
    assert traffic_of(trace) is traffic
    made = increments(trace)
    counted = sum(amount for cell, amount in made.amounts.items() if cell.family == TRACES)
    assert (counted, made.left_out[traffic]) == ((1, 0) if traffic is Traffic.APPLICATION else (0, 1))


def test_extra_labels_come_last_and_are_cleaned() -> None:
    rules = LabelRules(RULES.environment, RULES.version, (("team", (LabelSource("tag", "team"),)),))
    assert rules.names == (*TRACE_LABELS, "team")
    assert rules.values(record(tags={"team": "search\n"}))["team"] == "search"
    assert rules.values(record())["team"] == "unknown"
