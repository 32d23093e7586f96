import random
import sys
from itertools import permutations

import pytest

from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.ledger import sketches
from mlflow_trace_exporter.ledger.sketches import Sketch, is_sound

DICE = random.Random(0)
MANY = [DICE.getrandbits(63) for _ in range(100_000)]


def of(hashes: list[int]) -> Sketch:
    sketch = Sketch()
    sketch.add(hashes)
    return sketch


@pytest.mark.parametrize("count", [0, 1, 2, 10])
def test_few_are_counted_exactly(count: int) -> None:
    assert of(MANY[:count]).count() == count


@pytest.mark.parametrize("count", [1_000, 10_000, 100_000])
def test_many_are_counted_within_three_standard_errors(count: int) -> None:
    sketch = of(MANY[:count])
    assert sketch.count() == pytest.approx(count, rel=3 * 0.015)
    assert len(sketch.packed()) <= 1_350


def test_a_hash_counts_once() -> None:
    sketch = of(MANY[:1_000])
    count = sketch.count()
    assert not sketch.add(MANY[:1_000])
    assert sketch.count() == count
    assert sketch.add(range(-10, 0))


def test_a_union_counts_what_is_in_several_once_in_every_order() -> None:
    parts = [of(MANY[:3_000]).packed(), of(MANY[2_000:5_000]).packed(), of(MANY[:10]).packed()]
    assert {Sketch(each).count() for each in permutations(parts)} == {of(MANY[:5_000]).count()}


def test_what_is_added_in_memory_counts_as_if_it_was_read_again() -> None:
    """Otherwise the count would jump at a restart."""
    sketch = of([])
    for at in range(0, 20_000, 500):
        sketch.add(MANY[at : at + 500])
        assert sketch.count() == Sketch([sketch.packed()]).count()


def test_every_flipped_bit_is_found() -> None:
    packed = of(MANY[:100]).packed()
    assert is_sound(packed)
    for bit in range(8 * len(packed)):
        wrong = bytearray(packed)
        wrong[bit // 8] ^= 1 << bit % 8
        assert not is_sound(bytes(wrong))
    assert not is_sound(b"")
    assert not is_sound(packed[:-1])


def test_without_the_library_there_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    sketches.require()
    monkeypatch.setitem(sys.modules, "datasketches", None)
    with pytest.raises(UserError, match=r"^active_users\.enabled: .*pip install 'mlflow-trace-exporter\[users\]'$"):
        sketches.require()
