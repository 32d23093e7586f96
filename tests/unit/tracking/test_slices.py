"""The ranges of start times that a scan requests."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.tracking.slices import STEP_MS, Extent, Slice, next_width_ms, split, to_count, unread
from tests.support.builders import record

ALL = Slice(Window(0, 1_000))
PAGE_SIZE = 10


def page(*starts: int, more: bool = True, prefix: str = "tr") -> Extent:
    return Extent.of([record(trace_id=f"{prefix}-{at}", start_ms=each) for at, each in enumerate(starts)], more)


def test_a_slice_is_as_long_as_the_density_predicts() -> None:
    full = page(*range(0, 100, 10))
    assert next_width_ms(None, ALL, full, PAGE_SIZE) == 81, "0.9 pages, of ten traces in 90 ms"
    nine = next_width_ms(50, Slice(Window(0, 50)), page(*range(9), more=False), PAGE_SIZE)
    assert nine == 50, "it fills as much of a page as it should"


@pytest.mark.parametrize(
    ("asked", "starts", "more", "width_ms"),
    [
        pytest.param(Slice(Window(0, 80)), (1, 2, 3, 4), False, None, id="a sparse slice ends the slicing"),
        pytest.param(Slice(Window(0, 80)), (), False, None, id="so does an empty one"),
        pytest.param(Slice(Window(0, 80)), (1, 2, 3, 4, 5), False, 144, id="half a page makes longer slices"),
        pytest.param(Slice(Window(0, 80), is_rest=True), (1,), False, 80, id="the rest of a full slice says nothing"),
        pytest.param(Slice(Window(0, 80)), (7,) * 10, True, None, id="a millisecond has no density"),
        pytest.param(Slice(Window(0, 80)), (), True, None, id="nor has an empty page"),
        pytest.param(Slice(Window(0, 80)), (7,) * 9 + (8,), True, 1, id="a slice has a millisecond at least"),
    ],
)
def test_when_slices_grow_shrink_and_end(asked: Slice, starts: Sequence[int], more: bool, width_ms: int | None) -> None:
    assert next_width_ms(80, asked, page(*starts, more=more), PAGE_SIZE) == width_ms


def test_the_rest_of_a_page_excludes_what_is_read_of_its_last_millisecond() -> None:
    rest = ALL.after(page(5, 7, 7))
    assert rest == Slice(replace(ALL.window, lo_ms=7), frozenset({"tr-1", "tr-2"}), is_rest=True)
    assert rest.after(page(7, 7, prefix="other")).read == rest.read | {"other-0", "other-1"}
    assert rest.after(page(7, 8)).read == {"tr-1"}


@given(
    starts=st.lists(st.integers(-3, 60), max_size=40).map(sorted),
    width_ms=st.none() | st.integers(1, 30),
    at_most=st.integers(1, 9),
    read=st.integers(0, 3),
    hi_ms=st.integers(1, 50),
)
def test_slices_are_the_whole_and_exclude_known_traces_where_they_start(
    starts: list[int], width_ms: int | None, at_most: int, read: int, hi_ms: int
) -> None:
    known = sorted((start_ms, f"tr-{at}") for at, start_ms in enumerate(starts))
    rest: Slice | None = Slice(Window(0, hi_ms), frozenset(f"read-{at}" for at in range(read)))
    before_ms, found = 0, set[str]()
    while rest is not None:
        part, rest = split(rest, width_ms, known, at_most)
        window = part.window
        assert before_ms == window.lo_ms < window.hi_ms <= hi_ms
        assert width_ms is None or window.hi_ms - window.lo_ms <= width_ms
        ids = part.excluded(known, at_most)
        inside = {trace_id for start_ms, trace_id in known if window.lo_ms <= start_ms < window.hi_ms}
        assert len(ids) <= at_most
        assert ids - part.read <= inside
        if len(part.read) <= at_most:
            assert ids - part.read == inside or (window.hi_ms - window.lo_ms == 1 and len(ids) == at_most)
        before_ms, found = window.hi_ms, found | ids
    assert before_ms == hi_ms


def test_few_known_traces_make_no_slices() -> None:
    known = [(at, f"tr-{at}") for at in range(50)]
    assert split(ALL, None, known, at_most=50) == (ALL, None)
    first, rest = split(ALL, None, known, at_most=49)
    assert (first.window.hi_ms, rest) == (49, Slice(Window(49, 1_000)))


@pytest.mark.parametrize("trace_id", ["it's", "x" * 65, "", "日本", "a b"])
def test_an_id_that_may_make_a_filter_invalid_is_not_excluded(trace_id: str) -> None:
    assert ALL.excluded([(1, trace_id), (2, "tr-1")], 9) == {"tr-1"}


def test_a_scan_omits_the_seconds_in_which_all_traces_are_known() -> None:
    known = [(start_ms, f"tr-{start_ms}") for start_ms in range(3_500, 9_500, 100)]
    window = Window(0, 20_000, ended_after_ms=5)
    counted = to_count(window, known)
    assert counted == Window(3_500, 9_401)
    all_known = {3_000: 5, **dict.fromkeys(range(4_000, 9_000, 1_000), 10), 9_000: 5}
    assert unread(window, known, counted, all_known) == [Window(0, 3_500, 5), Window(9_401, 20_000, 5)]
    one_more = {**all_known, 6_000: 11}
    assert Window(6_000, 7_000, 5) in unread(window, known, counted, one_more)
    one_deleted = {**all_known, 3_000: 4}
    assert unread(window, known, counted, one_deleted) == [Window(0, 4_000, 5), Window(9_401, 20_000, 5)]
    assert unread(window, known, counted, {}) == [window], "all of them are deleted"


@given(
    there=st.lists(st.integers(0, 6_000), max_size=30).map(sorted),
    known_share=st.integers(1, 10),
    lo_ms=st.integers(0, 3_000),
    hi_ms=st.integers(3_001, 6_001),
)
def test_no_unknown_trace_is_in_an_omitted_second(there: list[int], known_share: int, lo_ms: int, hi_ms: int) -> None:
    window = Window(lo_ms, hi_ms)
    known = [(start_ms, f"tr-{at}") for at, start_ms in enumerate(there) if at % known_share == 0]
    if not known or not (counted := to_count(window, known)).lo_ms < counted.hi_ms:
        return
    inside = [start_ms for start_ms in there if counted.lo_ms <= start_ms < counted.hi_ms]
    remain = unread(window, known, counted, Counter(start_ms // STEP_MS * STEP_MS for start_ms in inside))
    unknown = [each for at, each in enumerate(there) if at % known_share and window.lo_ms <= each < window.hi_ms]
    assert all(any(each.lo_ms <= start_ms < each.hi_ms for each in remain) for start_ms in unknown)
    edges = [edge for each in remain for edge in (each.lo_ms, each.hi_ms)]
    assert edges == sorted(edges)
    if known_share == 1:
        assert all(each.hi_ms <= counted.lo_ms or each.lo_ms >= counted.hi_ms for each in remain)
