"""The columns of a report as people read them, and the cells of its rows. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_trace_exporter.reports.opinions import Opinions
from mlflow_trace_exporter.reports.rows import Row
from mlflow_trace_exporter.reports.subjects import Unit

MAX_VALUES_SHOWN = 3
"""How many of the most frequent words a row names."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns beside the dimensions: ``texts``, then how many there are, then ``numbers``. ``left_out_first``: the
    columns that are left out, in this order, if a terminal is too narrow."""

    numbers: tuple[str, ...]
    left_out_first: tuple[str, ...]
    texts: tuple[str, ...] = ()


_OF_TRACES = Columns(
    ("errors", "p50", "p95", "p99", "max", "input", "output", "cache read", "tokens", "cost"),
    ("cache read", "input", "output", "max", "p50", "p99"),
)
_OF_ASSESSMENTS = Columns(("traces", "mean", "p50", "failed", "cost"), ("p50", "failed", "cost"), ("values",))


def columns(unit: Unit) -> Columns:
    """The columns of a report about traces, or parts of them."""
    return _OF_ASSESSMENTS if unit == "assessments" else _OF_TRACES


def heads(unit: Unit) -> tuple[str, ...]:
    """The names of all columns beside the dimensions, in the order of ``cells``."""
    return (*columns(unit).texts, unit, *columns(unit).numbers)


def cells(row: Row) -> tuple[str, ...]:
    """The cells of a row beside its key, as ``heads`` names them."""
    about = "" if row.exact else "~"
    if row.opinions is not None:
        return _of_opinions(row, row.opinions, about)
    quantiles = (_seconds(value, about) for value in (row.p50_s, row.p95_s, row.p99_s))
    tokens = (row.input_tokens, row.output_tokens, row.cache_read_input_tokens, row.total_tokens)
    return (f"{row.traces:,}", _errors(row), *quantiles, seconds(row.max_s), *map(count, tokens), _cost(row))


def _of_opinions(row: Row, opinions: Opinions, about: str) -> tuple[str, ...]:
    traces = f"{opinions.assessed_traces:,} ({share(opinions.assessed_share)})"
    mean, p50 = _score(opinions.mean), _score(opinions.p50, about)
    return (values(opinions.values), f"{row.traces:,}", traces, mean, p50, _errors(row), _cost(row))


def values(found: Mapping[str, int]) -> str:
    """The most frequent values with their shares. Example: yes 90.5%, no 9.5%."""
    total = sum(found.values())
    shown = [f"{value} {number / total:.1%}" for value, number in list(found.items())[:MAX_VALUES_SHOWN]]
    more = len(found) - len(shown)
    return ", ".join([*shown, *([f"{more:,} more"] if more else [])]) or "-"


def share(part: float | None) -> str:
    """A share in percent; - if it is unknown."""
    return "-" if part is None else f"{part:.1%}"


def seconds(value: float | None) -> str:
    """A duration in seconds; - if it is unknown."""
    return _seconds(value, "")


def count(value: int | None) -> str:
    """A whole number; - if it is unknown."""
    return "-" if value is None else f"{value:,}"


def _errors(row: Row) -> str:
    return "-" if row.error_rate is None else f"{row.errors:,} ({row.error_rate:.1%})"


def _seconds(value: float | None, about: str) -> str:
    return "-" if value is None else f"{about}{value:,.2f}s"


def _score(value: float | None, about: str = "") -> str:
    return "-" if value is None else f"{about}{value:,.3f}"


def _cost(row: Row) -> str:
    return "-" if row.cost_usd is None else f"${row.cost_usd:,.4f}"
