"""The invariants over some histories; `make soak` tries many more."""

from tests.histories import History, explore


def test_invariants_hold_over_random_histories() -> None:
    explore(histories=160, steps=40, repeatable=True)  # which they are depends on the modules that are loaded
    assert History.steps > 2_000
    assert all(History.found[each] for each in ("killed", "late", "lost beyond D, and told", "counted"))
