"""The scan against a real MLflow server."""

from itertools import pairwise

import pytest

from exporter.client import PAGE_SIZE, Client
from exporter.errors import PollError, Reason
from exporter.horizon import Window
from exporter.source import MAX_EXCLUDED, MlflowSource
from exporter.trace import TraceRecord
from tests.real import Mlflow, Trace, now_ms

START_MS = 1_780_000_000_000
ALL = Window(0, 2**53)


def source(mlflow: Mlflow, *selectors: str, filter_string: str | None = None) -> MlflowSource:
    return MlflowSource(Client(mlflow.uri), now_ms, selectors, filter_string)


def read(source: MlflowSource, window: Window = ALL) -> list[TraceRecord]:
    return [record for page in source.scan(window) for record in page.records]


def ids(records: list[TraceRecord]) -> list[str]:
    return [record.trace_id for record in records]


def test_many_pages_in_order_and_each_trace_once(mlflow: Mlflow) -> None:
    experiment = mlflow.experiment()
    made = mlflow.insert(experiment, (Trace(START_MS + number // 7) for number in range(3 * PAGE_SIZE + 11)))
    records = read(source(mlflow, experiment))
    assert sorted(ids(records)) == sorted(made)
    assert all(before.start_ms <= after.start_ms for before, after in pairwise(records))


def test_fault_6_1500_traces_in_one_millisecond(mlflow: Mlflow) -> None:
    experiment = mlflow.experiment()
    made = mlflow.insert(experiment, [Trace(START_MS)] * 1_500 + [Trace(START_MS + 1)] * 3)
    assert sorted(ids(read(source(mlflow, experiment)))) == sorted(made)


def test_more_traces_in_one_millisecond_than_a_search_can_leave_out(mlflow: Mlflow) -> None:
    experiment = mlflow.experiment()
    made = mlflow.insert(experiment, [Trace(START_MS)] * (MAX_EXCLUDED + 2 * PAGE_SIZE) + [Trace(START_MS + 1)])
    assert sorted(ids(read(source(mlflow, experiment)))) == sorted(made)


def test_fault_4_an_earlier_row_deleted_between_two_pages(mlflow: Mlflow) -> None:
    experiment = mlflow.experiment()
    made = mlflow.insert(experiment, (Trace(START_MS + number) for number in range(PAGE_SIZE + 100)))
    pages = source(mlflow, experiment).scan(ALL)
    first = next(pages).records
    mlflow.client.delete_traces(mlflow.experiment_id(experiment), trace_ids=made[:50])
    rest = [record for page in pages for record in page.records]
    assert ids([*first, *rest]) == made, "with page tokens 50 would be skipped"


def test_windows_are_half_open_and_ended_after_is_inclusive(mlflow: Mlflow) -> None:
    experiment = mlflow.experiment()
    first, second, _ = mlflow.insert(experiment, (Trace(START_MS + number, duration_ms=100) for number in range(3)))
    reader = source(mlflow, experiment)
    assert ids(read(reader, Window(START_MS, START_MS + 2))) == [first, second]
    assert ids(read(reader, Window(START_MS, START_MS + 2, ended_after_ms=START_MS + 101))) == [second]


def test_experiments_are_chosen_by_name_glob_and_id(mlflow: Mlflow) -> None:
    team, at_ms = f"team-{now_ms()}", START_MS + 60_000
    for name in ("a", "b"):
        mlflow.insert(mlflow.experiment(f"{team}-{name}"), [Trace(at_ms, name=name)])
    other = mlflow.experiment()
    mlflow.insert(other, [Trace(at_ms, name="other")])

    def names(*selectors: str) -> set[str | None]:
        return {record.name for record in read(source(mlflow, *selectors), Window(at_ms, at_ms + 1))}

    assert names(f"{team}-a") == {"a"}
    assert names(f"{team}-*") == {"a", "b"}
    assert names(mlflow.experiment_id(other)) == {"other"}
    assert names("nothing-like-it") == set()
    assert names() == {"a", "b", "other"}


def test_an_experiment_is_read_only_once_it_was_named(mlflow: Mlflow) -> None:
    """Or its traces could come before it is known from where on they count."""
    clock_ms, team = now_ms(), f"team-{now_ms()}"
    reader = MlflowSource(Client(mlflow.uri), lambda: clock_ms, [f"{team}-*"])
    mlflow.insert(mlflow.experiment(f"{team}-a"), [Trace(START_MS, name="a")])
    assert len(reader.experiments()) == 1
    mlflow.insert(mlflow.experiment(f"{team}-b"), [Trace(START_MS, name="b")])
    clock_ms += 10 * 60_000
    assert {record.name for record in read(reader)} == {"a"}
    assert len(reader.experiments()) == 2
    assert {record.name for record in read(reader)} == {"a", "b"}


def test_a_deleted_experiment_is_not_among_all(mlflow: Mlflow) -> None:
    name = mlflow.experiment()
    mlflow.client.delete_experiment(mlflow.experiment_id(name))
    selection = source(mlflow).selection()
    assert name not in selection.names.values()
    assert name not in selection.active


def test_selectors_that_match_nothing_are_named(mlflow: Mlflow) -> None:
    name = mlflow.experiment(f"odd[1]-{now_ms()}")
    selection = source(mlflow, name, "shoop", name).selection()
    assert (list(selection.names.values()), selection.unmatched) == ([name], ("shoop",))


def test_the_user_s_filter_narrows_every_scan(mlflow: Mlflow) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, [Trace(START_MS, tags={"team": "a"}), Trace(START_MS, tags={"team": "b"})])
    (record,) = read(source(mlflow, experiment, filter_string="tag.team = 'a'"))
    assert record.tags["team"] == "a"


def test_a_filter_that_mlflow_does_not_understand(mlflow: Mlflow) -> None:
    experiment = mlflow.experiment()
    with pytest.raises(PollError, match=r"refused the request; check mlflow\.filter.*team") as caught:
        read(source(mlflow, experiment, filter_string="team is a"))
    assert caught.value.reason is Reason.CONFIGURATION


def test_version(mlflow: Mlflow) -> None:
    assert source(mlflow).client.server_version().startswith("3.")
