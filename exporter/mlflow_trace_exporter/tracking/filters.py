"""Builds MLflow search filters, which support AND but not OR. Pure."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from mlflow_trace_exporter.domain.horizon import Window

NOTHING = "trace.timestamp_ms < 0"
"""Selects no trace. A search for nothing shows whether MLflow would answer."""


def of_window(window: Window) -> list[str]:
    """Select the traces of a window. ``end_time_ms`` is computed and has no index, so it is only used together with a
    range of start times."""
    terms = [f"trace.timestamp_ms >= {window.lo_ms}", f"trace.timestamp_ms < {window.hi_ms}"]
    return terms if window.ended_after_ms is None else [*terms, f"trace.end_time_ms >= {window.ended_after_ms}"]


def with_ids(trace_ids: Iterable[str]) -> str:
    """Select the traces with these ids."""
    return f"trace.request_id IN ({_quoted(trace_ids)})"


def without_ids(trace_ids: Collection[str]) -> list[str]:
    """Exclude the traces with these ids."""
    return [f"trace.request_id NOT IN ({_quoted(sorted(trace_ids))})"] if trace_ids else []


def parts(window: Window, step_ms: int, steps: int) -> Iterator[Window]:
    """Split a window into parts of at most ``steps`` steps. No step is split. Example: [59 s, 181 s) in parts of two
    steps of a minute is [59 s, 120 s) and [120 s, 181 s)."""
    lo_ms = window.lo_ms
    while lo_ms < window.hi_ms:
        hi_ms = min(window.hi_ms, (lo_ms // step_ms + steps) * step_ms)
        yield replace(window, lo_ms=lo_ms, hi_ms=hi_ms)
        lo_ms = hi_ms


def _quoted(trace_ids: Iterable[str]) -> str:
    """Write ids as a list. MLflow parses a list like Python, so any character can be escaped. Example: it's becomes
    'it\\x27s'."""
    return ",".join(f"'{_ODD.sub(_numbered, trace_id)}'" for trace_id in trace_ids)


_ODD = re.compile(r"[^\w.:/-]", re.ASCII)


def _numbered(odd: re.Match[str]) -> str:
    number = ord(odd[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
