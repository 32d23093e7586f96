"""Parts of the experiments."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_trace_exporter.domain.shards import MOST_SHARDS, Shard, parse_shard

COUNTS = st.integers(1, MOST_SHARDS)


@given(st.text(st.characters()), COUNTS)
def test_each_experiment_is_in_exactly_one_shard(experiment_id: str, count: int) -> None:
    assert sum(Shard(index, count).has(experiment_id) for index in range(1, count + 1)) == 1


@given(COUNTS.flatmap(lambda count: st.tuples(st.integers(1, count), st.just(count))))
def test_a_shard_is_parsed_as_it_is_written(numbers: tuple[int, int]) -> None:
    shard = Shard(*numbers)
    assert parse_shard(str(shard)) == shard
    assert parse_shard(f" {shard.index} / {shard.count} ") == shard


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "/",
        "0/3",
        "4/3",
        "1/0",
        "0/0",
        "-1/3",
        "1/-3",
        "1/1001",
        "1.0/3",
        "1/3/5",
        "a/b",
        "\uff11/\uff13",
        "1/3\n1",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a shard; the first of three is 1/3"):
        parse_shard(text)


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_experiments_are_distributed_evenly(count: int) -> None:
    """Their ids count up, or are 18 random digits."""
    dice = random.Random(0)
    for ids in (range(10_000), [dice.randrange(10**17, 10**18) for _ in range(10_000)]):
        sizes = Counter(next(at for at in range(count) if Shard(at + 1, count).has(str(each))) for each in ids)
        expected = len(ids) / count
        assert all(abs(sizes[at] - expected) < 5 * expected**0.5 for at in range(count))


@pytest.mark.parametrize(("experiments", "count"), [(6, 2), (6, 3), (12, 3), (12, 4), (24, 6)])
def test_a_server_with_few_experiments_leaves_no_shard_without_any(experiments: int, count: int) -> None:
    found = {at for at in range(1, count + 1) for each in range(1, experiments + 1) if Shard(at, count).has(str(each))}
    assert len(found) == count


def test_the_place_of_an_experiment_is_the_same_in_all_versions() -> None:
    """Otherwise an upgrade would move experiments to exporters that have not counted them."""
    found = [next(at for at in (1, 2, 3) if Shard(at, 3).has(str(each))) for each in range(12)]
    assert found == [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3]
    assert [at for at in (1, 2, 3) if Shard(at, 3).has("models")] == [2]
