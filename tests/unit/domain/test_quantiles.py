"""Quantiles compared with numpy's."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_trace_exporter.domain.quantiles import RELATIVE_ERROR, Quantiles

SHARES = (0.0, 0.5, 0.95, 0.99, 1.0)
seconds = st.floats(0, 1e6, allow_subnormal=False)


def quantiles(values: list[float], exact_up_to: int) -> Quantiles:
    found = Quantiles(exact_up_to)
    for value in values:
        found.add(value)
    return found


@given(st.lists(seconds, min_size=1, max_size=50) | st.lists(st.sampled_from([0.0, 0.5, 0.5, 2.0]), min_size=1))
def test_up_to_a_size_quantiles_equal_numpy_s(values: list[float]) -> None:
    found = quantiles(values, exact_up_to=len(values))
    assert found.is_exact
    assert found.max == max(values)
    read = found.reader()
    for share in SHARES:
        assert read(share) == pytest.approx(np.quantile(values, share))


@given(st.lists(seconds, min_size=2, max_size=200))
def test_beyond_it_quantiles_are_within_the_stated_error(values: list[float]) -> None:
    found = quantiles(values, exact_up_to=1)
    assert not found.is_exact
    assert found.max == max(values)
    read = found.reader()
    for share in SHARES:
        # the sketch takes one of the two numbers between which numpy's is
        below, above = (np.quantile(values, share, method=method) for method in ("lower", "higher"))
        measured = read(share)
        assert measured is not None
        assert below * (1 - RELATIVE_ERROR) - 1e-9 <= measured <= above * (1 + RELATIVE_ERROR) + 1e-9


def test_there_are_no_quantiles_without_values() -> None:
    found = Quantiles()
    assert (found.reader()(0.5), found.max, found.is_exact) == (None, None, True)


@pytest.mark.parametrize(("ours", "theirs"), [(50, 0), (0, 50), (50, 40), (200, 40), (40, 200), (200, 300)])
def test_merged_is_what_all_values_together_are(ours: int, theirs: int) -> None:
    dice = random.Random(4)
    values = [dice.lognormvariate(0, 2) for _ in range(ours + theirs)]
    parts = [quantiles(each, exact_up_to=100) for each in (values[:ours], values[ours:])]
    together = quantiles(values, exact_up_to=100)
    before = parts[1].reader()(0.5)
    parts[0].merge(parts[1])
    assert parts[0].is_exact == together.is_exact
    assert parts[0].max == max(values, default=None)
    for share in (0, 0.5, 0.95, 1):
        assert parts[0].reader()(share) == pytest.approx(together.reader()(share), rel=1e-9)
    assert parts[1].reader()(0.5) == before, "which stays as it is"
