from datetime import UTC, datetime

from mlflow_trace_exporter.domain.activity import DAY_MS, HOUR_MS, WINDOWS, Activity, Who, activities
from tests.support.builders import record

PLACE = ("chatbot", "production")
HASH_OF_ANN = -8270052116146162779
DAY, MONTH = WINDOWS


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_the_windows_of_the_example() -> None:
    hours, days = DAY.starts(ms("2026-11-24 12:07")), MONTH.starts(ms("2026-11-24 12:07"))
    assert (hours[0], hours[-1], len(hours)) == (ms("2026-11-23 12:00"), ms("2026-11-24 12:00"), 25)
    assert (days[0], days[-1], len(days)) == (ms("2026-10-25"), ms("2026-11-24"), 31)
    assert (hours.step, days.step) == (HOUR_MS, DAY_MS)


def test_a_trace_is_active_in_the_hour_of_its_start() -> None:
    start_ms = ms("2026-11-24 12:59:59")
    trace = record(start_ms=start_ms, duration_ms=60_000, user="ann", session="c-1")
    assert activities(trace, PLACE).keys() == {
        Activity(Who.USER, PLACE, ms("2026-11-24 12:00")),
        Activity(Who.SESSION, PLACE, ms("2026-11-24 12:00")),
    }


def test_a_trace_without_a_user_or_session_has_none() -> None:
    assert activities(record(user=None, session=""), PLACE) == {}


def test_the_hash_of_a_name_stays_what_it_is() -> None:
    """Or everybody would count twice after an upgrade."""
    (of_user,) = activities(record(user="ann", session=None), PLACE).values()
    (of_session,) = activities(record(user=None, session="ann"), PLACE).values()
    assert of_user == of_session == HASH_OF_ANN
    (of_half_a_pair,) = activities(record(user="\ud83d", session=None), PLACE).values()
    assert of_half_a_pair != of_user
