"""The order in which a scan requests, waits and returns."""

from collections.abc import Sequence

import pytest

from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.errors import PollError
from mlflow_trace_exporter.tracking.pending import PendingAnswer
from mlflow_trace_exporter.tracking.scanning import Found, Scan, Tokens
from mlflow_trace_exporter.tracking.slices import Extent, Known
from tests.support.builders import record
from tests.support.simulated import unreachable, unreadable

PAGE_SIZE = 10


class Answers:
    """A server with a trace at each of ``starts``. ``told`` lists which requests were sent, answered and dropped.
    ``fail_at`` is the number of a request that fails."""

    def __init__(self, starts: Sequence[int], fail_at: int = 0) -> None:
        self.traces = [record(trace_id=f"tr-{at:03}", start_ms=start_ms) for at, start_ms in enumerate(starts)]
        self.windows: list[tuple[int, int]] = []
        self.told: list[str] = []
        self._fail_at = fail_at

    def search(
        self, window: Window, excluded: frozenset[str] = frozenset(), tokens: Tokens | None = None
    ) -> PendingAnswer[Found]:
        offset = int((tokens or {}).get(None, 0))
        self.windows.append((window.lo_ms, window.hi_ms))
        number = len(self.windows)
        self.told.append(f"ask {number}")
        inside = [each for each in self.traces if window.lo_ms <= each.start_ms < window.hi_ms]
        found = [each for each in inside if each.trace_id not in excluded][offset:][:PAGE_SIZE]

        def answer() -> Found:
            self.told.append(f"answer {number}")
            if number == self._fail_at:
                raise unreachable()
            more = len(found) == PAGE_SIZE
            return Found(Extent.of(found, more), records, {None: str(offset + PAGE_SIZE)} if more else {})

        def records() -> tuple[TraceRecord, ...]:
            self.told.append(f"convert {number}")
            return tuple(found)

        return PendingAnswer(answer, lambda: self.told.append(f"drop {number}"))

    def scan(self, max_excluded: int = 20, known: Known = ()) -> Scan:
        return Scan(self.search, unreadable, PAGE_SIZE, max_excluded, known)


ALL = Window(0, 10**6)


def starts_of(scan: Scan) -> list[int]:
    return [each.start_ms for page in scan.pages(ALL) for each in page.records]


def test_two_requests_are_in_flight_while_the_caller_has_a_page() -> None:
    server = Answers(range(100))
    pages = server.scan().pages(ALL)
    assert server.told == [], "nothing is requested before the caller wants something"
    next(pages)
    assert server.told == ["ask 1", "answer 1", "ask 2", "ask 3", "convert 1"]
    next(pages)
    assert server.told[5:] == ["answer 2", "ask 4", "convert 2"]
    assert server.windows == [(0, 10**6), (9, 17), (17, 25), (25, 35)]


def test_a_page_that_is_not_full_is_the_only_request() -> None:
    server = Answers(range(9))
    assert starts_of(server.scan()) == list(range(9))
    assert server.windows == [(0, 10**6)]


@pytest.mark.parametrize("read", [0, 1, 2])
def test_a_scan_that_is_not_continued_drops_its_requests(read: int) -> None:
    server = Answers(range(100))
    pages = server.scan().pages(ALL)
    for _ in range(read):
        next(pages)
    pages.close()
    open_ = {each[4:] for each in server.told if each.startswith("ask")}
    assert open_ == {each.partition(" ")[2] for each in server.told if each.startswith(("answer", "drop"))}


def test_a_failure_is_raised_when_its_page_is_due() -> None:
    server = Answers(range(100), fail_at=3)
    pages = server.scan().pages(ALL)
    assert [next(pages).next_lo_ms, next(pages).next_lo_ms] == [9, 16]
    with pytest.raises(PollError, match="cannot be reached"):
        next(pages)
    assert server.told[-2:] == ["answer 3", "drop 4"]


@pytest.mark.parametrize("max_excluded", [0, 1, 5, 20, 1_000])
@pytest.mark.parametrize(
    "starts",
    [
        pytest.param(range(0, 3_000, 7), id="evenly"),
        pytest.param([7] * 35, id="in one millisecond"),
        pytest.param([*range(8), *[8] * 45, *range(9, 40)], id="a full millisecond in between"),
        pytest.param([*range(30), *[31] * 30, *[32] * 30, *range(500, 900)], id="two of them, and a gap"),
        pytest.param([*range(40), *range(50_000, 50_040)], id="a gap"),
        pytest.param([*range(0, 4_000, 100), *[4_000 + at // 3 for at in range(90)]], id="a burst"),
        pytest.param([at * at for at in range(200)], id="less and less"),
    ],
)
def test_each_trace_comes_once_and_in_order(starts: Sequence[int], max_excluded: int) -> None:
    server = Answers(starts)
    pages = list(server.scan(max_excluded).pages(ALL))
    assert [each for page in pages for each in page.records] == server.traces
    assert all(page.next_lo_ms == page.records[-1].start_ms for page in pages)


def test_a_gap_is_skipped_with_one_request() -> None:
    server = Answers([*range(40), *range(50_000, 50_040)])
    starts_of(server.scan())
    assert len(server.windows) < 20, "and not 6,000"


@pytest.mark.parametrize("share", [1, 2, 3])
@pytest.mark.parametrize("max_excluded", [5, 20, 1_000])
def test_known_traces_are_left_out(max_excluded: int, share: int) -> None:
    server = Answers([at // 4 for at in range(200)])
    known = [(each.start_ms, each.trace_id) for each in server.traces if int(each.trace_id[3:]) % share]
    found = [each.start_ms for page in server.scan(max_excluded, known).pages(ALL) for each in page.records]
    wanted = [each.start_ms for each in server.traces if not int(each.trace_id[3:]) % share]
    assert found == sorted(found)
    assert len(wanted) <= len(found) <= len(wanted) * 1.5, "a few more than can be excluded come back"


def test_a_page_of_nothing_is_not_followed() -> None:
    nothing = Found(Extent.of((), more=True), tuple, {None: "1"})
    scan = Scan(lambda *_, **__: PendingAnswer(lambda: nothing, lambda: None), unreadable, PAGE_SIZE, 20)
    with pytest.raises(PollError, match="no new ones"):
        list(scan.pages(ALL))
