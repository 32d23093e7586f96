"""The settings that say where the ledger is, and which start times are counted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlflow_trace_exporter.domain.shards import Shard
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.ledger.place import Database
from mlflow_trace_exporter.settings import config
from mlflow_trace_exporter.settings.values import parse_database_url
from mlflow_trace_exporter.wiring import ledger_place, poll_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "exporter.yml"


def loaded(file: Path, text: str) -> config.Config:
    file.write_text(text)
    return config.load(file)


def mistake(file: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        loaded(file, text)
    return str(caught.value)


URLS = [
    "postgresql://",
    "postgresql://h",
    "postgres://u@h:5432/d",
    "postgresql://u:p%40ss%2F@h1:1,h2:2,[::1]:3/d?sslmode=verify-full&password=a@b",
    "postgresql:///d?host=/var/run/postgresql",
]


@pytest.mark.parametrize("url", URLS)
def test_urls_of_databases(file: Path, url: str) -> None:
    settings = loaded(file, f"ledger: {{url: '{url}'}}")
    assert ledger_place(settings) == Database(url, "mlflow_trace_exporter")
    assert "p%40ss" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        *("", "secret", "mysql://u:secret@h/d", "postgresql:/u:secret@h", "host=h password=secret", 5, "http://secret"),
        *("postgresql://u:sec/ret@h/d", "postgresql://u:sec@ret@h/d", "postgresql://u:sec?ret@h/d"),
        *("postgresql://u:secret%zz@h/d", "postgresql://h:secret/d", "postgresql://u:sec ret@h/d"),
        *("postgresql://u:sec#ret@h/d", "postgresql://u:secret%@h/d"),
    ],
)
def test_what_is_no_url_of_a_database_is_not_shown(file: Path, url: object) -> None:
    said = mistake(file, f"ledger: {{url: {url!r}}}")
    assert "ledger.url: " in said
    assert not any(part in said for part in ("sec", "ret"))
    with pytest.raises(ValueError, match="postgresql://user@host:5432/database"):
        parse_database_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h:5/d?password=secret", "h:5/d"),
        ("postgresql:///d?password=a@secret", "/d"),
        ("postgresql://?password=secret", "the default address"),
    ],
)
def test_a_ledger_is_shown_without_its_password(url: str, shown: str) -> None:
    place = Database(url, "x")
    assert str(place) == repr(place) == f"ledger x in PostgreSQL at {shown}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{url: 'postgresql://h', path: a.db}", "ledger: has both a path and a url; remove one of them"),
        ("{name: x}", "ledger: has a name without a url; a ledger in a file has only a path"),
        ("{path: a.db, name: x}", "ledger: has a name without a url"),
        *(
            (f"{{url: 'postgresql://h', name: {name}}}", "write up to 40 letters from a to z, digits and underscores")
            for name in ("A", "1a", "a-b", "'a b'", "a" * 41, "''", 5, "'x\"; DROP'")
        ),
    ],
)
def test_what_is_no_place(file: Path, text: str, complaint: str) -> None:
    assert complaint in mistake(file, f"ledger: {text}")


def test_each_shard_has_a_ledger_of_its_own(file: Path) -> None:
    in_file = loaded(file, "ledger: {path: /x/ledger.db}")
    assert ledger_place(in_file) == Path("/x/ledger.db")
    assert ledger_place(in_file, Shard(2, 3)) == Path("/x/ledger-2-of-3.db")
    name = "a" * 40
    in_database = loaded(file, f"ledger: {{url: 'postgresql://h', name: {name}}}")
    place = ledger_place(in_database, Shard(1000, 1000))
    assert place == Database("postgresql://h", f"{name}_1000_of_1000")
    assert len(f"{name}_1000_of_1000") < 64, "PostgreSQL would shorten longer names"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-25T14:30Z", datetime(2026, 11, 25, 14, 30, tzinfo=UTC)),
        ("2026-11-25T14:30:05+02:00", datetime(2026, 11, 25, 12, 30, 5, tzinfo=UTC)),
        ("2026-11-25 14:30", datetime(2026, 11, 25, 14, 30, tzinfo=UTC)),
        ("2026-11-25", datetime(2026, 11, 25, tzinfo=UTC)),
    ],
)
def test_times_of_start_and_end(file: Path, text: str, expected: datetime) -> None:
    settings = loaded(file, f"poll: {{start: {text}, until: '{text}'}}")
    assert settings.poll.start == settings.poll.until == expected
    polled = poll_settings(settings)
    assert polled.origin_ms == polled.until_ms == expected.timestamp() * 1000
    assert polled.origin_is_exact


@pytest.mark.parametrize("text", ["now", "earliest", "1h"])
def test_other_starts_are_not_exact(file: Path, text: str) -> None:
    polled = poll_settings(loaded(file, f"poll: {{start: {text}}}"))
    assert (polled.origin_is_exact, polled.until_ms) == (False, None)


@pytest.mark.parametrize("key", ["start", "until"])
@pytest.mark.parametrize("text", ["yesterday", "14:30", "2026-13-01", "1999-12-31", "[1]", "true", "2026-11-25T25:00"])
def test_what_is_no_time(file: Path, key: str, text: str) -> None:
    said = mistake(file, f"poll: {{{key}: {text!r}}}" if text != "[1]" else f"poll: {{{key}: {text}}}")
    assert f"poll.{key}: " in said
    assert "time such as 2026-11-25T14:30Z" in said


def test_a_duration_is_no_end(file: Path) -> None:
    assert "'24h' is not a time such as" in mistake(file, "poll: {until: 24h}")
    assert loaded(file, "poll: {start: 24h}").poll.start == timedelta(hours=24)
