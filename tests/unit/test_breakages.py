"""`make breakages` takes the protections out; here only that it still could."""

import pytest

from tests.breakages import BREAKAGES, Breakage


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name)
def test_there_is_one_place_to_break(breakage: Breakage) -> None:
    assert breakage.fits()
