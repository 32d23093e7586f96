"""Numbers in charts and pages, as short texts. Pure."""

from datetime import timedelta


def seconds_text(seconds: float) -> str:
    """A duration with three digits: 250 ms, 1.5 s, 1,200 s."""
    return f"{_three_digits(seconds * 1000)} ms" if seconds < 0.9995 else f"{_three_digits(seconds)} s"


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}"


def step_text(step: timedelta) -> str:
    """The length of a slice in words: minute, 15 minutes, day."""
    for unit, name in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        if step >= unit:
            number = step // unit
            return name if number == 1 else f"{number:,} {name}s"
    return f"{step.total_seconds():g} seconds"
