"""Durations in Prometheus notation. Pure."""

import re
from datetime import timedelta

from mlflow_trace_exporter.shown import as_written

_UNITS_S = {"y": 31_536_000, "w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 0.001}
_DURATION = re.compile("".join(rf"(?:(\d{{1,6}}){unit})?" for unit in _UNITS_S))


def parse_duration(value: object) -> timedelta:
    """Parse a duration in Prometheus notation, such as 15s, 2h or 1h30m. Raises ValueError for anything else."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if match:
        counts = zip(match.groups(default="0"), _UNITS_S.values(), strict=True)
        try:
            return timedelta(seconds=sum(int(count) * unit_s for count, unit_s in counts))
        except OverflowError:
            raise ValueError(f"the duration {value!r} is too long") from None
    raise ValueError(f"{as_written(value)} is not a duration; write one such as 15s, 2m or 1h30m")
