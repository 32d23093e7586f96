from datetime import UTC, datetime, timedelta, timezone

import pytest

from mlflow_trace_exporter.domain.moments import Moment, text, unix_ms

NOW_MS = 1_780_000_000_000
DAY = datetime(2026, 5, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "expected_ms"),
    [
        ("now", NOW_MS),
        ("1h30m", NOW_MS - 5_400_000),
        (timedelta(seconds=2), NOW_MS - 2_000),
        ("2026-05-28", int(DAY.timestamp() * 1000)),
        ("2026-05-28T01:00", int(DAY.timestamp() * 1000) + 3_600_000),
        ("2026-05-28T01:00+01:00", int(DAY.timestamp() * 1000)),
        (datetime(2026, 5, 28), int(DAY.timestamp() * 1000)),  # noqa: DTZ001 - without a zone it is UTC
        (DAY.astimezone(timezone(timedelta(hours=5))), int(DAY.timestamp() * 1000)),
    ],
)
def test_durations_are_back_from_now_and_dates_are_utc(moment: Moment, expected_ms: int) -> None:
    assert unix_ms(moment, NOW_MS) == expected_ms


@pytest.mark.parametrize("moment", ["yesterday", "", "2026-13-01", "-1h"])
def test_what_is_neither_is_refused_with_examples(moment: str) -> None:
    with pytest.raises(ValueError, match="such as 24h"):
        unix_ms(moment, NOW_MS)


def test_times_are_formatted_in_utc() -> None:
    assert text(0) == "1970-01-01 00:00"
