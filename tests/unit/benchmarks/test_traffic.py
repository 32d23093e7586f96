"""The simulated traffic of the benchmarks."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.benchmarks.traffic import SERIES, Traffic

Make = Callable[[int, int], Traffic]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes traffic with a number of label sets in a number of experiments."""
    made: list[Traffic] = []

    def traffic(label_sets: int, experiments: int) -> Traffic:
        made.append(Traffic(label_sets * SERIES, tmp_path, experiments))
        return made[-1]

    yield traffic
    for each in made:
        each.rig.ledger.close()


@pytest.mark.parametrize("experiments", [1, 3])
def test_each_poll_counts_as_many_traces_as_are_new(make: Make, experiments: int) -> None:
    traffic = make(6, experiments)
    traffic.settle(4)
    for _ in range(8):
        traffic.poll(4)
    assert traffic.polls == 8
    assert len(traffic.rig.labels()) == 6
    assert len({labels[0] for labels in traffic.rig.labels()}) == experiments


def test_a_poll_that_counts_another_number_is_noticed(make: Make) -> None:
    traffic = make(1, 1)
    traffic.settle(4)
    traffic.mlflow.before_request = lambda _: traffic.mlflow.traces.clear()
    with pytest.raises(AssertionError, match="counts 0 traces, and 4 are new"):
        traffic.poll(4)


def test_the_cpu_time_of_the_simulation_is_measured(make: Make) -> None:
    traffic = make(1, 1)
    before_s = traffic.mlflow.spent_s
    traffic.settle(100)
    assert traffic.mlflow.spent_s > before_s
