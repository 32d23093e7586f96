"""The invariants over some histories; `make soak` tries many more."""

from tests.histories import History, explore


def test_invariants_hold_over_random_histories() -> None:
    explore(histories=80, steps=40, repeatable=True)
    assert History.steps > 2_000
    assert all(History.found[each] for each in ("killed", "late", "lost beyond D, and told", "counted"))
