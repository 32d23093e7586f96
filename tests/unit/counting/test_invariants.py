"""The invariants over some histories; `make soak` tries many more."""

from itertools import count

import pytest

from tests.support.histories import History, explore

RARE = ("killed", "late", "lost beyond D, and told", "counted", "assessments")
"""What must have happened in some history, or the invariants were hardly put to the test."""


@pytest.mark.long
@pytest.mark.timeout(1_200)  # it computes all the time, on a busy machine several times as long
def test_invariants_hold_over_random_histories() -> None:
    """The histories of a seed depend on the loaded modules, so continue until everything has happened."""
    before = History.steps
    explore(histories=40, steps=40, seed=0)
    assert History.steps - before > 500
    for seed in count(1):
        if all(History.found[each] for each in RARE):
            break
        assert seed < 40, f"twenty times as many histories, and only this happened: {History.found}"
        explore(histories=20, steps=40, seed=seed)
