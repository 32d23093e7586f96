"""The scan against a real MLflow server."""

from collections.abc import Sequence
from itertools import pairwise

import pytest

from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.trace import PLAIN_ID, State, TraceRecord
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.tracking import source as source_module
from mlflow_trace_exporter.tracking.client import MAX_COUNTS, PAGE_SIZE, Client, FoundTraces
from mlflow_trace_exporter.tracking.pending import PendingAnswer
from mlflow_trace_exporter.tracking.source import MAX_EXCLUDED, Lookup, MlflowSource, can_be_asked_for
from tests.support.real import ODD_IDS, Mlflow, Trace, now_ms

START_MS = 1_780_000_000_000
ALL = Window(0, 2**53)


def source(mlflow: Mlflow, *selectors: str, filter_string: str | None = None) -> MlflowSource:
    return MlflowSource(Client(mlflow.uri), now_ms, selectors, filter_string)


def read(source: MlflowSource, window: Window = ALL) -> list[TraceRecord]:
    return [record for page in source.scan(window) for record in page.records]


def storable(mlflow: Mlflow, trace_id: str) -> bool:
    """Whether the server's database can hold it."""
    return "\0" not in trace_id or mlflow.dialect != "postgresql"


def ids(records: list[TraceRecord]) -> list[str]:
    return [record.trace_id for record in records]


def looked_up(source: MlflowSource, trace_ids: list[str]) -> list[str]:
    return [record.trace_id for found in source.get([Lookup(trace_ids, ALL)]) for record in found]


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


@pytest.mark.parametrize("trace_id", ["req-{:06}", "a b{}", "it's {}", "日本{}", "\0{}"])
def test_an_overfull_millisecond_is_read_whatever_the_ids_are(
    mlflow: Mlflow, trace_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First without what is read, then by page tokens."""
    if not storable(mlflow, trace_id):
        pytest.skip("PostgreSQL cannot hold a NUL")
    monkeypatch.setattr(source_module, "MAX_EXCLUDED", PAGE_SIZE)
    experiment, run = mlflow.experiment(), f"{now_ms()} "
    many = [Trace(START_MS, trace_id=run + trace_id.format(number)) for number in range(3 * PAGE_SIZE + 7)]
    made = mlflow.insert(experiment, [Trace(START_MS - 1), *many, Trace(START_MS + 1)])
    found = ids(read(source(mlflow, experiment)))
    assert len(found) == len(set(found))
    assert sorted(found) == sorted(made)


def test_an_overfull_millisecond_of_which_a_trace_is_deleted_meanwhile(
    mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page tokens are offsets: one is skipped, and nothing else goes wrong. The next reading has it."""
    monkeypatch.setattr(source_module, "MAX_EXCLUDED", 0)
    experiment = mlflow.experiment()
    made = mlflow.insert(experiment, [Trace(START_MS)] * (3 * PAGE_SIZE))
    pages = source(mlflow, experiment).scan(ALL)
    first = [next(pages), next(pages)]
    mlflow.client.delete_traces(mlflow.experiment_id(experiment), trace_ids=made[:1])
    found = [record.trace_id for page in (*first, *pages) for record in page.records]
    assert len(found) == len(set(found)) == len(made) - 1
    assert sorted(ids(read(source(mlflow, experiment)))) == sorted(made[1:])


class Watched(Client):
    """A client that keeps the filters of its searches."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.filters: list[str] = []

    def begin_search(
        self,
        experiment_ids: Sequence[str],
        filter_string: str,
        newest_first: bool = False,
        page_token: str | None = None,
        workspace: str | None = None,
    ) -> PendingAnswer[FoundTraces]:
        self.filters.append(filter_string)
        return super().begin_search(experiment_ids, filter_string, newest_first, page_token, workspace)


def watched(mlflow: Mlflow, experiment: str) -> tuple[MlflowSource, list[str]]:
    """A source, and the filters of its searches from now on."""
    client = Watched(mlflow.uri)
    reader = MlflowSource(client, now_ms, [experiment])
    reader.features()
    client.filters.clear()
    return reader, client.filters


def test_known_traces_are_not_returned(mlflow: Mlflow) -> None:
    experiment = mlflow.experiment()
    made = mlflow.insert(experiment, (Trace(START_MS + number // 3) for number in range(2 * PAGE_SIZE)))
    known = [(START_MS + number // 3, trace_id) for number, trace_id in enumerate(made) if number % 4]
    reader, filters = watched(mlflow, experiment)
    found = [record for page in reader.scan(ALL, known=known) for record in page.records]
    assert ids(found) == made[::4]
    assert len(filters) == 1, "they need no request of their own"


def test_more_known_traces_than_a_search_can_exclude(mlflow: Mlflow) -> None:
    """They are excluded in parts, each in the range of its own start times."""
    experiment = mlflow.experiment()
    made = mlflow.insert(experiment, (Trace(START_MS + number // 3) for number in range(2 * MAX_EXCLUDED + 500)))
    known = [(START_MS + number // 3, trace_id) for number, trace_id in enumerate(made) if number % 100]
    reader, filters = watched(mlflow, experiment)
    found = [record for page in reader.scan(ALL, known=known) for record in page.records]
    assert ids(found) == made[::100]
    assert len(filters) == 3
    assert all(each.count("'tr-") <= MAX_EXCLUDED for each in filters)


def test_more_known_traces_in_one_millisecond_than_a_search_can_exclude(
    mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "MAX_EXCLUDED", 10)
    experiment = mlflow.experiment()
    made = mlflow.insert(experiment, [Trace(START_MS)] * 30 + [Trace(START_MS + 1)] * 3)
    known = sorted((START_MS, trace_id) for trace_id in made[:25])
    found = [record for page in source(mlflow, experiment).scan(ALL, known=known) for record in page.records]
    assert set(made[25:]) < set(ids(found)) < set(made), "as many as possible are excluded"
    assert len(found) == 33 - 10


def test_known_traces_with_odd_ids_are_returned(mlflow: Mlflow) -> None:
    experiment, run = mlflow.experiment(), now_ms()
    odd = [f"{each}{run}" for each in ODD_IDS if storable(mlflow, each)]
    odd = [each for each in odd if not PLAIN_ID.fullmatch(each)]
    for trace_id in [*odd, f"tr-{run}"]:
        mlflow.log(experiment, Trace(START_MS, trace_id=trace_id))
    known = sorted((START_MS, trace_id) for trace_id in [*odd, f"tr-{run}"])
    reader, filters = watched(mlflow, experiment)
    assert {record.trace_id for page in reader.scan(ALL, known=known) for record in page.records} == set(odd)
    assert filters[0].endswith(f"NOT IN ('tr-{run}')")


def test_a_backlog_is_read_in_slices_and_a_gap_is_skipped(mlflow: Mlflow) -> None:
    """Each trace comes once and in order, however dense they are."""
    experiment, day_ms = mlflow.experiment(), 86_400_000
    dense = [START_MS + number * 10 for number in range(6 * PAGE_SIZE)]
    burst = [START_MS + 7 * day_ms + number // 50 for number in range(3 * PAGE_SIZE)]
    sparse = [START_MS + 9 * day_ms + number * day_ms for number in range(20)]
    made = mlflow.insert(experiment, map(Trace, dense + burst + sparse))
    reader, filters = watched(mlflow, experiment)
    pages = list(reader.scan(ALL))
    found = [record for page in pages for record in page.records]
    assert [record.start_ms for record in found] == dense + burst + sparse
    assert sorted(ids(found)) == sorted(made)
    assert [page.next_lo_ms for page in pages] == [page.records[-1].start_ms for page in pages]
    assert len(filters) < 22, "the gaps are not read slice by slice"


def test_a_scan_of_less_than_a_page_is_one_request(mlflow: Mlflow) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, (Trace(START_MS + number) for number in range(PAGE_SIZE - 1)))
    reader, filters = watched(mlflow, experiment)
    assert len(read(reader)) == PAGE_SIZE - 1
    assert len(filters) == 1


def test_any_id_can_be_asked_for(mlflow: Mlflow) -> None:
    """Or a trace that is pending could not be told from one that was deleted."""
    experiment, run = mlflow.experiment(), now_ms()
    odd = [f"{each}{run}{each}" for each in ODD_IDS if storable(mlflow, each)]
    for trace_id in odd:
        mlflow.log(experiment, Trace(START_MS, trace_id=trace_id))
    reader = source(mlflow, experiment)
    assert sorted(ids(read(reader))) == sorted(odd)
    assert all(map(can_be_asked_for, odd))
    for trace_id in odd:
        assert looked_up(reader, [trace_id]) == [trace_id]
    assert sorted(looked_up(reader, [*odd, "' OR 'a' = 'a", "not-there"])) == sorted(odd)


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
    team, at_ms = f"team-{now_ms()}", now_ms()  # when no other test has traces
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
    with pytest.raises(PollError, match=r"'team', 'is', 'a'\]\. Is mlflow\.filter right \('team is a'\)\?") as caught:
        read(source(mlflow, experiment, filter_string="team is a"))
    assert caught.value.reason is Reason.CONFIGURATION


def test_traces_are_what_mlflow_s_own_client_makes_of_them(mlflow: Mlflow) -> None:
    experiment = mlflow.experiment()
    metadata = {"mlflow.trace.tokenUsage": '{"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}', "a": "\u2028"}
    times = [(0, 0), (1, 1), (999, None), (START_MS + 123, 999), (START_MS, 60_000), (5, 1_000_001), (9, -1_500)]
    times += [(253_402_300_799_999, 1), (7, START_MS), (8, 10**12), (6, 10**12 + 1), (4, 315_576_000_000_000)]
    for start_ms, duration_ms in times:
        mlflow.log(experiment, Trace(start_ms, duration_ms, tags={"environment": "日本 "}, metadata=metadata))
    for state in ("OK", "ERROR", "IN_PROGRESS", "STATE_UNSPECIFIED"):
        mlflow.log(experiment, Trace(START_MS, 5, state), Trace(START_MS, None, state))
    found = {record.trace_id: record for record in read(source(mlflow, experiment))}
    infos = [
        each.info
        for each in mlflow.client.search_traces(
            locations=[mlflow.experiment_id(experiment)], max_results=PAGE_SIZE, include_spans=False
        )
    ]
    assert len(infos) == len(found) == len(times) + 8
    for info in infos:
        record, ms = found[info.trace_id], info.execution_duration
        assert (record.start_ms, record.experiment_id) == (info.request_time, info.experiment_id)
        assert record.duration_ms == (ms if ms is not None and 0 <= ms <= 10**12 else None)
        assert (record.tags, record.metadata) == (info.tags, info.trace_metadata)
        unspecified = State.IN_PROGRESS if ms is None else State.OK
        assert record.state is (unspecified if info.state.value == "STATE_UNSPECIFIED" else State(info.state.value))


def test_totals_that_are_not_split_are_counted(mlflow: Mlflow) -> None:
    """MLflow 3.17 keeps the parts as columns, and gives 0 for a part that is not there."""
    experiment = mlflow.experiment()
    metadata = {"mlflow.trace.tokenUsage": '{"total_tokens": 120}', "mlflow.trace.cost": '{"total_cost": 0.25}'}
    mlflow.log(experiment, Trace(START_MS, metadata=metadata))
    (record,) = read(source(mlflow, experiment))
    assert record.usage is not None
    assert record.cost is not None
    assert (record.usage.input, record.usage.output or 0) == (120, 0)
    assert (record.cost.input_usd, record.cost.output_usd or 0) == (0.25, 0)


def test_counts_of_more_steps_than_mlflow_gives_at_once(mlflow: Mlflow) -> None:
    """It gives the first 1,000 and does not say that there are more."""
    experiment, minutes = mlflow.experiment(), MAX_COUNTS + 100
    mlflow.insert(experiment, (Trace(START_MS + minute * 60_000) for minute in range(minutes)))
    reader, found = source(mlflow, experiment), [mlflow.experiment_id(experiment)]
    window = Window(START_MS, START_MS + minutes * 60_000)
    counts = reader.counts(window, 60_000, found)
    assert sum(counts.values()) == minutes
    assert set(counts) == {at_ms // 60_000 * 60_000 for at_ms in range(window.lo_ms, window.hi_ms, 60_000)}
    with pytest.raises(PollError, match="1000 counts may be incomplete"):
        reader.client.count(found, window.lo_ms, window.hi_ms, 60)


def test_version(mlflow: Mlflow) -> None:
    assert source(mlflow).client.server_version().startswith("3.")
