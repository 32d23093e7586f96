"""The part of `doctor` about label sets: the series that they make, and those that a ledger has."""

from collections import Counter
from collections.abc import Iterator, Sequence, Sized

from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.ledger.look import LabelSets
from mlflow_trace_exporter.metrics.meter import Meter

MAX_LABEL_SETS_SHOWN = 20
MAX_WIDTH = 40
"""The most characters of a label value."""


def series(sample: Counter[Group], count: int, meter: Meter, now: LabelSets | None) -> Iterator[str]:
    """The ``count`` series that `serve` would make of these label sets (with the number of traces of each), compared
    with those that are in the ledger ``now``."""
    limit = f"of at most {meter.caps.series:,}"
    yield f"series       {_count(sample, 'label set')}, {count:,} series {limit}"
    names = meter.rules.names
    is_same = now is not None and now.names == names
    if now is not None and is_same:
        admission = meter.admission(now.groups)
        before = admission.series
        for group in sample:
            admission.admit(dict(zip(group.names, group.values, strict=True)), group.names)
        new = _count(sample.keys() - {*now.groups}, "label set")
        yield f"ledger       {before:,} series are exposed now; with {new} more they are {admission.series:,} {limit}"
    elif now is not None and now.names:
        yield (
            f"ledger       its labels are {', '.join(now.names)}: with {', '.join(names)} all series about traces start"
            " at 0, and those of now end"
        )
    rows = [(f"{count:,}", *group.values, _mark(group, now if is_same else None)) for group, count in _most(sample)]
    yield from _table(("traces", *names, ""), rows)
    if more := len(sample) - len(rows):
        yield f"and {more:,} more label sets"


def _most(sample: Counter[Group]) -> list[tuple[Group, int]]:
    """The label sets with the most traces, and how many they have."""
    return sorted(sample.items(), key=lambda each: (-each[1], each[0]))[:MAX_LABEL_SETS_SHOWN]


def _mark(group: Group, now: LabelSets | None) -> str:
    return "new" if now is not None and group not in now.groups else ""


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    lines = [head, *(tuple(_short(text) for text in row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    for first, *others in lines:
        texts = [text.ljust(width) for text, width in zip(others, widths[1:], strict=True)]
        yield "  ".join((first.rjust(widths[0]), *texts)).rstrip()


def _short(text: str) -> str:
    return text if len(text) <= MAX_WIDTH else f"{text[: MAX_WIDTH - 1]}…"


def _count(things: Sized, name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"
