"""Several workspaces are read as one server: each trace once, in order of start, whatever fails."""

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.errors import PollError, Reason, UserError
from mlflow_trace_exporter.tracking import client, source
from mlflow_trace_exporter.tracking.client import Client, FoundTraces
from mlflow_trace_exporter.tracking.experiments import Experiment
from mlflow_trace_exporter.tracking.parsing import TraceInfo
from mlflow_trace_exporter.tracking.pending import PendingAnswer
from mlflow_trace_exporter.tracking.source import Lookup, MlflowSource
from mlflow_trace_exporter.tracking.workspaces import SERVER_AGE_MS

ALL = Window(0, 1_000)
A_MINUTE_MS = 60_000


def denied() -> PollError:
    return PollError(Reason.CREDENTIALS, "denied access")


def missing() -> PollError:
    return PollError(Reason.CONFIGURATION, "not found")


def unreachable() -> PollError:
    return PollError(Reason.UNREACHABLE, "cannot be reached")


def trace(trace_id: str, start_ms: int, experiment_id: str) -> TraceInfo:
    found = {
        "trace_id": trace_id,
        "trace_location": {"mlflow_experiment": {"experiment_id": experiment_id}},
        "request_time": f"1970-01-01T00:00:00.{start_ms:03}Z",
        "state": "OK",
    }
    return msgspec.convert(found, TraceInfo)


class Server(Client):
    """A server that answers for one workspace at a time, as MLflow does: each has the experiment ``chatbot``.

    ``hidden`` workspaces are not listed. ``denied`` ones refuse searches for traces. The request number ``fail_at``
    fails.
    """

    def __init__(self, traces: Mapping[str, Sequence[int]], has_workspaces: bool = True) -> None:
        """``traces``: the start times of the traces by workspace."""
        super().__init__("http://told")
        self._has_workspaces = has_workspaces
        self._numbers = count(1)
        self.ids: dict[str, str] = {}
        self.traces: dict[str, list[TraceInfo]] = {}
        self.hidden: Collection[str] = ()
        self.denied: set[str] = set()
        self.fail_at: int | None = None
        self.searched: list[tuple[str | None, str]] = []
        for workspace, starts_ms in traces.items():
            self.add(workspace, starts_ms)

    def add(self, workspace: str, starts_ms: Sequence[int]) -> None:
        self.ids.setdefault(workspace, str(len(self.ids) + 1))
        new = [trace(f"tr-{next(self._numbers)}", at_ms, self.ids[workspace]) for at_ms in starts_ms]
        self.traces[workspace] = sorted([*self.traces.get(workspace, ()), *new], key=lambda each: each.start_ms)

    @property
    def all_ids(self) -> list[str]:
        return sorted(each.trace_id for traces in self.traces.values() for each in traces)

    def has_workspaces(self) -> bool:
        return self._has_workspaces

    def workspaces(self) -> tuple[str, ...]:
        return tuple(name for name in self.ids if name not in self.hidden)

    def experiments(self, workspace: str | None = None) -> list[Experiment]:
        name = workspace or "default"
        if name not in self.ids:
            raise missing()
        return [Experiment(self.ids[name], "chatbot", 0, workspace=name)]

    def begin_search(
        self,
        experiment_ids: Sequence[str],
        filter_string: str,
        newest_first: bool = False,
        page_token: str | None = None,
        workspace: str | None = None,
    ) -> PendingAnswer[FoundTraces]:
        self.searched.append((workspace, filter_string))
        if workspace in self.denied:
            return failing(denied())
        if self.fail_at is not None and len(self.searched) == self.fail_at:
            return failing(unreachable())
        name = workspace or "default"
        assert list(experiment_ids) == [self.ids[name]], "MLflow does not find experiments of other workspaces"
        found = sorted(
            (each for each in self.traces[name] if matches(each, filter_string)),
            key=lambda each: (each.start_ms, each.trace_id),
            reverse=newest_first,
        )
        offset = int(page_token or 0)
        page = found[offset : offset + client.PAGE_SIZE]
        token = str(offset + len(page)) if offset + len(page) < len(found) else None
        return PendingAnswer(lambda: FoundTraces(tuple(page), token), lambda: None)

    def count(
        self, experiment_ids: Sequence[str], first_ms: int, last_ms: int, _: int, workspace: str | None = None
    ) -> dict[int, int]:
        name = workspace or "default"
        assert list(experiment_ids) == [self.ids[name]]
        inside = [each for each in self.traces[name] if first_ms <= each.start_ms <= last_ms]
        return {0: len(inside)} if inside else {}

    def server_ms(self) -> int | None:
        return None


def matches(each: TraceInfo, filter_string: str) -> bool:
    """Whether MLflow would find a trace."""
    lo_ms = max(map(int, re.findall(r"timestamp_ms >= (\d+)", filter_string)), default=0)
    hi_ms = min(map(int, re.findall(r"timestamp_ms < (\d+)", filter_string)), default=10**6)
    excluded = re.search(r"NOT IN \((.*?)\)", filter_string)
    included = re.search(r"request_id IN \((.*?)\)", filter_string)
    return (
        lo_ms <= each.start_ms < hi_ms
        and not (excluded and f"'{each.trace_id}'" in excluded[1])
        and (included is None or f"'{each.trace_id}'" in included[1])
    )


def failing(error: PollError) -> PendingAnswer[FoundTraces]:
    def answer() -> FoundTraces:
        raise error

    return PendingAnswer(answer, lambda: None)


@dataclass
class Clock:
    """What time it is."""

    ms: int = 10**6


@dataclass
class Reading:
    """A source over a server, with a clock that a test moves."""

    server: Server
    workspaces: Sequence[str] = ()
    experiments: Sequence[str] = ()
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.source = MlflowSource(self.server, lambda: self.clock.ms, self.experiments, None, self.workspaces)

    def names(self) -> list[str]:
        """The experiments that are read after the next minute."""
        self.clock.ms += A_MINUTE_MS
        return sorted(each.unique_name for each in self.source.experiments().values())

    def ids(self) -> list[str]:
        self.source.experiments()
        return [record.trace_id for page in self.source.scan(ALL) for record in page.records]


TEAMS = {"default": [], "team-a": [5, 7], "team-b": [3, 9]}


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of five traces, and searches that exclude at most six."""
    for module in (client, source):
        monkeypatch.setattr(module, "PAGE_SIZE", 5)
    monkeypatch.setattr(source, "MAX_EXCLUDED", 6)


def test_all_workspaces_are_read_by_default_in_order_of_start() -> None:
    reading = Reading(Server(TEAMS))
    assert reading.names() == ["default/chatbot", "team-a/chatbot", "team-b/chatbot"]
    records = [record for page in reading.source.scan(ALL) for record in page.records]
    assert [(record.start_ms, record.experiment, record.workspace) for record in records] == [
        (3, "team-b/chatbot", "team-b"),
        (5, "team-a/chatbot", "team-a"),
        (7, "team-a/chatbot", "team-a"),
        (9, "team-b/chatbot", "team-b"),
    ]
    assert [record.start_ms for record in reading.source.newest(ALL)] == [9, 7, 5, 3]
    assert [record.start_ms for record in reading.source.newest(ALL, experiment="team-a/chatbot")] == [7, 5]
    assert reading.source.counts(ALL, 1_000, ["1", "2", "3"]) == {0: 4}


@pytest.mark.parametrize(
    ("selectors", "found"),
    [
        (["team-a"], ["team-a/chatbot"]),
        (["team-*"], ["team-a/chatbot", "team-b/chatbot"]),
        (["team-b", "d*"], ["default/chatbot", "team-b/chatbot"]),
        (["team-a", "team-z"], ["team-a/chatbot"]),
    ],
)
def test_workspaces_are_selected_by_name_or_glob(selectors: list[str], found: list[str]) -> None:
    assert Reading(Server(TEAMS), selectors).names() == found


@pytest.mark.parametrize(
    ("selector", "found"),
    [("chatbot", 3), ("chat*", 3), ("team-*", 0), ("team-a/chatbot", 1), ("team-*/chat*", 2), ("2", 1)],
)
def test_experiments_are_selected_in_all_workspaces_or_by_their_unique_names(selector: str, found: int) -> None:
    assert len(Reading(Server(TEAMS), experiments=[selector]).names()) == found


def test_a_workspace_that_does_not_exist_is_named_with_those_that_do() -> None:
    reading = Reading(Server(TEAMS), ["team-c"])
    with pytest.raises(UserError) as caught:
        reading.source.require_experiments()
    assert str(caught.value) == (
        "mlflow.workspaces: team-c selects none of the 3 workspaces that MLflow at http://told shows this user:"
        " default, team-a, team-b; did you mean team-b?"
    )


def test_workspaces_cannot_be_selected_on_a_server_without_them() -> None:
    with pytest.raises(PollError, match="MLflow at http://told has none; remove it") as caught:
        Reading(Server({"default": []}, has_workspaces=False), ["team-a"]).names()
    assert caught.value.reason is Reason.CONFIGURATION


def test_a_server_without_workspaces_is_read_without_naming_one() -> None:
    server = Server({"default": [4]}, has_workspaces=False)
    reading = Reading(server)
    assert reading.names() == ["chatbot"]
    (record,) = [record for page in reading.source.scan(ALL) for record in page.records]
    assert (record.experiment, record.workspace) == ("chatbot", None)
    assert {workspace for workspace, _ in server.searched} == {None}
    assert reading.source.workspaces() == {}


def test_an_old_server_that_does_not_know_the_question_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"default": [4]})
    monkeypatch.setattr(server, "has_workspaces", partial(throw, missing()))
    assert Reading(server).names() == ["chatbot"]


def test_a_server_that_does_not_answer_is_not_taken_for_one_without_workspaces(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(TEAMS)
    with monkeypatch.context() as patch:
        patch.setattr(server, "has_workspaces", partial(throw, unreachable()))
        with pytest.raises(PollError):
            Reading(server).names()
    assert len(Reading(server).names()) == 3


def test_a_server_that_refuses_everything_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in front of it may ask for another login."""
    server = Server(TEAMS)
    reading = Reading(server)
    with monkeypatch.context() as patch:
        for question in ("has_workspaces", "experiments"):
            patch.setattr(server, question, lambda *_: throw(denied()))
        with pytest.raises(PollError):
            reading.names()
    assert len(reading.names()) == 3


def test_a_refusal_does_not_take_the_workspaces_of_a_server_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its traces would be counted without their workspaces, and those of other workspaces not at all."""
    server = Server(TEAMS)
    reading = Reading(server)
    reading.names()
    with monkeypatch.context() as patch:
        patch.setattr(server, "has_workspaces", partial(throw, missing()))
        with pytest.raises(PollError):
            reading.names()
    assert len(reading.names()) == 3


def test_a_server_that_gets_workspaces_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(TEAMS)
    reading = Reading(server)
    with monkeypatch.context() as patch:
        patch.setattr(server, "has_workspaces", lambda: False)
        assert reading.names() == ["chatbot"]
    assert reading.names() == ["chatbot"], "it is not asked every minute"
    reading.clock.ms += SERVER_AGE_MS
    assert len(reading.names()) == 3
    monkeypatch.setattr(server, "has_workspaces", lambda: False)
    assert reading.names() == ["chatbot"]


def throw(error: Exception) -> bool:
    raise error


def test_a_workspace_that_appears_later_is_found() -> None:
    server = Server(TEAMS)
    reading = Reading(server)
    assert len(reading.names()) == 3
    server.add("team-c", [1])
    assert "team-c/chatbot" in reading.names()
    assert len(reading.ids()) == 5


def test_a_workspace_that_is_denied_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(TEAMS)
    server.denied.add("team-a")
    reading = Reading(server)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert reading.names() == ["default/chatbot", "team-b/chatbot"]
            assert len(reading.ids()) == 2
        assert reading.source.workspaces() == {"default": True, "team-b": True, "team-a": False}
        server.denied.clear()
        assert len(reading.names()) == 3
        assert len(reading.ids()) == 4
    told = [record.getMessage() for record in caplog.records if "a workspace" in record.getMessage()]
    assert told == ["a workspace cannot be read", "a workspace can be read again"]


def test_a_workspace_that_is_denied_during_a_scan_is_left_out_from_the_next_one() -> None:
    server = Server(TEAMS)
    reading = Reading(server)
    assert len(reading.ids()) == 4
    server.denied.add("team-a")
    with pytest.raises(PollError, match="denied"):
        reading.ids()
    assert len(reading.ids()) == 2, "without waiting for the next minute"


def test_all_workspaces_denied_is_an_error() -> None:
    server = Server(TEAMS)
    server.denied = {*TEAMS}
    reading = Reading(server)
    with pytest.raises(PollError, match="denied"):
        reading.names()
    assert set(reading.source.workspaces().values()) == {False}


def test_a_workspace_that_is_not_listed_can_be_named() -> None:
    """MLflow does not list a workspace to a user who may only read some of its experiments."""
    server = Server(TEAMS)
    server.hidden = ["team-a"]
    assert Reading(server, ["team-a"]).names() == ["team-a/chatbot"]


def test_a_user_to_whom_no_workspace_is_shown_reads_the_default_one() -> None:
    server = Server({"default": [1], "team-a": [2]})
    server.hidden = ["default", "team-a"]
    reading = Reading(server)
    assert reading.names() == ["default/chatbot"]
    assert len(reading.ids()) == 1
    assert reading.source.workspaces() == {"default": True}


def test_ids_are_looked_up_in_the_workspaces_of_their_experiments() -> None:
    server = Server(TEAMS)
    reading = Reading(server)
    reading.names()
    server.searched.clear()
    (found,) = reading.source.get([Lookup(server.all_ids, ALL, frozenset({server.ids["team-a"]}))])
    assert [record.start_ms for record in found] == [5, 7]
    assert {workspace for workspace, _ in server.searched} == {"team-a"}
    (found,) = reading.source.get([Lookup(server.all_ids, ALL)])
    assert len(found) == 4
    again = reading.source.find(found[0].trace_id)
    assert again is not None
    assert again.trace_id == found[0].trace_id


STARTS = st.lists(st.tuples(st.sampled_from([*TEAMS]), st.integers(0, 40)), max_size=90)


@given(traces=STARTS, fail_at=st.integers(1, 40), has_counts=st.booleans())
def test_each_trace_is_read_once_whatever_fails(traces: list[tuple[str, int]], fail_at: int, has_counts: bool) -> None:
    """As the reader does it: the position moves with each page, and after a failure reading continues from it."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        server = Server({name: [at_ms for each, at_ms in traces if each == name] for name in TEAMS})
        reading = Reading(server)
        reading.source.features()
        if not has_counts:
            patch.setattr(server, "count", partial(throw, unreachable()))
        lo_ms, stored = 0, set[str]()
        server.fail_at = len(server.searched) + fail_at
        for _ in range(2):
            found: list[str] = []
            try:
                for page in reading.source.scan(Window(lo_ms, 1_000)):
                    found += [record.trace_id for record in page.records]
                    starts_ms = [record.start_ms for record in page.records]
                    assert starts_ms == sorted(starts_ms)
                    assert starts_ms[0] >= lo_ms, "no page goes back"
                    stored |= set(found)
                    lo_ms = page.next_lo_ms
            except PollError:
                server.fail_at = None
            assert len(found) == len(set(found))
        assert sorted(stored) == server.all_ids


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("counts", [(0, 12, 23), (23, 12, 0), (30, 30, 30), (1, 0, 26)])
def test_a_millisecond_with_more_traces_than_can_be_excluded_is_read_once(counts: tuple[int, ...]) -> None:
    """Each workspace has its own pages then."""
    server = Server({name: [20] * number for name, number in zip(TEAMS, counts, strict=True)})
    server.add("team-a", [10, 30])
    assert sorted(Reading(server).ids()) == server.all_ids


@given(traces=STARTS)
def test_the_latest_traces_are_read_once_and_in_order(traces: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        server = Server(
            {name: [3 * number for number, (each, _) in enumerate(traces) if each == name] for name in TEAMS}
        )
        found = list(Reading(server).source.newest(ALL))
        assert [record.start_ms for record in found] == sorted((each.start_ms for each in found), reverse=True)
        assert sorted(record.trace_id for record in found) == server.all_ids


@pytest.mark.usefixtures("small_pages")
def test_known_traces_of_all_workspaces_are_counted_together() -> None:
    server = Server({"team-a": range(0, 40, 2), "team-b": range(1, 40, 2)})
    reading = Reading(server)
    reading.source.experiments()
    records = [record for page in reading.source.scan(ALL) for record in page.records]
    known = [(record.start_ms, record.trace_id) for record in records]
    server.searched.clear()
    assert list(reading.source.scan(Window(0, 40), known=known)) == []
    assert server.searched == [], "MLflow counts as many as are known"
    server.add("team-b", [17])
    (page,) = reading.source.scan(Window(17, 18), known=known)
    assert [record.trace_id for record in page.records] == [f"tr-{next(server._numbers) - 1}"]


def requests_of(server: Server) -> Iterator[str | None]:
    return (workspace for workspace, _ in server.searched)


def test_a_poll_without_new_traces_asks_each_workspace_once() -> None:
    server = Server({"team-a": [], "team-b": []})
    reading = Reading(server)
    reading.source.features()
    server.searched.clear()
    assert reading.ids() == []
    assert sorted(map(str, requests_of(server))) == ["team-a", "team-b"]
