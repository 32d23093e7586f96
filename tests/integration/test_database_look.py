"""What `check`, `doctor`, `backfill` and `serve` say about a ledger in PostgreSQL, and that none shows a password."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest

from mlflow_trace_exporter.demo.processes import Processes
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.ledger import look
from mlflow_trace_exporter.ledger.opening import candidate, open_ledger
from mlflow_trace_exporter.ledger.outlook import Outlook
from mlflow_trace_exporter.ledger.place import Database
from tests.integration.conftest import NUMBERS
from tests.support.certificates import make_certificates
from tests.support.commands import config_file, invoke
from tests.support.ports import free_port
from tests.support.postgresql import PostgreSQL
from tests.support.real import Exporter, Mlflow, Trace, _with_skinny, eventually, now_ms
from tests.support.waiting import HANG_S
from tests.unit.ledger.test_copying import fill

PASSWORD = "s3cr3t-w0rd"
WRONG = "wr0ng-w0rd"


def administer(database: Database, *statements: str) -> None:
    with psycopg.connect(database.url, autocommit=True) as session:
        for each in statements:
            session.execute(each.encode())


def schemas(database: Database) -> set[str]:
    with psycopg.connect(database.url) as session:
        return {name for (name,) in session.execute("SELECT nspname FROM pg_namespace")}


def test_the_outlook_of_a_new_ledger_changes_nothing(database: Database) -> None:
    before = schemas(database)
    assert look.outlook(database) is Outlook.NEW
    assert (look.origin_ms(database), look.label_sets(database)) == (None, None)
    assert schemas(database) == before


def test_the_outlook_of_a_ledger(database: Database) -> None:
    with closing(open_ledger(database)) as ledger:
        fill(ledger)
        assert look.outlook(database) is Outlook.IN_USE
        assert look.origin_ms(database) == 1
    assert look.outlook(database) is Outlook.FOUND
    assert look.origin_ms(database) == 1
    found = look.label_sets(database)
    assert found is not None
    assert found.names == ("experiment", "environment", "version", "trace_name")
    assert len(found.groups) > 2


def test_a_look_does_not_keep_others_from_leading(database: Database) -> None:
    open_ledger(database).close()
    with look._reading(database) as found:
        assert found is not None
        open_ledger(database).close()


def refusal(database: Database) -> str:
    """What both a look and `serve` say."""
    with pytest.raises(UserError) as looked:
        look.outlook(database)
    with pytest.raises(UserError) as opened:
        candidate(database).lead()
    assert str(looked.value) in (str(opened.value), f"ledger.url: {opened.value}")
    return str(looked.value)


def test_a_schema_of_another_program_is_refused(database: Database) -> None:
    administer(database, f"CREATE SCHEMA {database.name}", f"CREATE TABLE {database.name}.users (id INT)")
    assert f"the schema {database.name} has tables of another program; set another name" in refusal(database)


def test_a_newer_schema_is_refused(database: Database) -> None:
    open_ledger(database).close()
    administer(database, f"UPDATE {database.name}.leader SET schema_version = 99")
    assert "has schema 99, but this version of the exporter supports schema 8" in refusal(database)


def test_a_damaged_ledger_is_refused(database: Database) -> None:
    with closing(open_ledger(database)) as ledger:
        fill(ledger)
    administer(database, f"UPDATE {database.name}.totals SET value = -1")
    with pytest.raises(UserError, match="is damaged: a total is invalid"):
        look.outlook(database)


def test_another_encoding_is_refused(database: Database) -> None:
    name = f"ascii_{next(NUMBERS)}"
    administer(database, f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
    other = Database(f"{database.url.removesuffix('mlflow')}{name}", "x")
    assert refusal(other) == "ledger.url: the database has to have the encoding UTF8; create another one"


@pytest.fixture
def guarded(postgresql: PostgreSQL, database: Database) -> Database:
    """A ledger of a user with a password, who may not create a schema."""
    user = f"guarded_{next(NUMBERS)}"
    hba = postgresql.data / "pg_hba.conf"
    hba.write_text(f"host all {user} 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
    administer(database, f"CREATE USER {user} PASSWORD '{PASSWORD}'", "SELECT pg_reload_conf()")
    url = f"postgresql://{user}:{PASSWORD}@{postgresql.host}:{postgresql.port}/mlflow"
    eventually(lambda: not can_connect(url.replace(PASSWORD, WRONG)), "passwords are compared")
    return Database(url, database.name)


def can_connect(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_a_user_who_may_not_create_it_is_told_what_to_ask_for(guarded: Database, database: Database) -> None:
    said = refusal(guarded)
    assert "cannot be created: permission denied for database mlflow; as an administrator, CREATE SCHEMA" in said
    assert PASSWORD not in said
    user = guarded.url.partition("://")[2].partition(":")[0]
    administer(database, f"CREATE SCHEMA {database.name} AUTHORIZATION {user}")
    assert look.outlook(guarded) is Outlook.NEW
    open_ledger(guarded).close()
    assert look.outlook(guarded) is Outlook.FOUND


@pytest.mark.parametrize("way", ["PGPASSWORD", "PGPASSFILE", "?password="])
def test_passwords_outside_the_url(
    guarded: Database, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    administer(database, f"GRANT CREATE ON DATABASE mlflow TO {guarded.url.partition('://')[2].partition(':')[0]}")
    url = guarded.url.replace(f":{PASSWORD}", "")
    place = Database(url, guarded.name)
    with pytest.raises(UserError, match="no password supplied"):
        look.outlook(place)
    if way == "PGPASSWORD":
        monkeypatch.setenv(way, PASSWORD)
    elif way == "PGPASSFILE":
        (tmp_path / "pgpass").write_text(f"127.0.0.1:*:mlflow:*:{PASSWORD}\n")
        (tmp_path / "pgpass").chmod(0o600)
        monkeypatch.setenv(way, str(tmp_path / "pgpass"))
    else:
        place = Database(f"{url}?password={PASSWORD}", guarded.name)
    assert look.outlook(place) is Outlook.NEW
    assert PASSWORD not in str(place)


def wrong_urls(guarded: Database) -> dict[str, tuple[str, str]]:
    """URLs, each with a password in two places, and what is wrong about them."""
    host = guarded.url.rpartition("@")[2].partition("/")[0]
    url = f"{guarded.url}?password={PASSWORD}"
    return {
        "the password is wrong": (url.replace(PASSWORD, WRONG), "password authentication failed for user"),
        "nobody listens": (url.replace(host, f"127.0.0.1:{free_port()}"), "Connection refused"),
        "there is no such database": (url.replace("/mlflow", "/absent"), 'database "absent" does not exist'),
        "there is no such host": (url.replace("127.0.0.1", "db.invalid"), "db.invalid"),
        "there is no such parameter": (f"{url}&sslmod={PASSWORD}", "ledger.url: "),
        "a parameter is wrong": (f"{url}&sslmode=maybe", 'invalid sslmode value: "maybe"'),
        "it may not create": (url, "permission denied for database mlflow"),
    }


def assert_no_password(text: str) -> None:
    assert not any(word in text for word in (PASSWORD, WRONG)), text


@pytest.fixture
def experiment(mlflow: Mlflow) -> str:
    name = mlflow.experiment()
    mlflow.log(name, Trace(now_ms() - 5_000))
    return name


def test_what_is_wrong_is_one_message_without_the_password(
    mlflow: Mlflow, guarded: Database, tmp_path: Path, experiment: str
) -> None:
    for what, (url, expected) in wrong_urls(guarded).items():
        file = config_file(tmp_path, mlflow, experiment, ledger={"url": url, "name": guarded.name})
        for command in (["check"], ["doctor"], ["backfill", f"--output={tmp_path}/x.om"]):
            done = invoke(command[0], f"--config.file={file}", *command[1:])
            if command[0] == "backfill" and what == "it may not create":
                continue  # it only reads
            assert done.exit_code == 2, (what, done.output)
            message = next(line for line in done.output.splitlines() if line.startswith("mlflow-trace-exporter: "))
            assert expected in message, what
            assert message.startswith("mlflow-trace-exporter: ledger.url: ") or "the ledger" in message
            assert "Traceback" not in done.output
            assert_no_password(done.output)


def test_commands_say_where_a_ledger_is(mlflow: Mlflow, database: Database, tmp_path: Path, experiment: str) -> None:
    file = config_file(tmp_path, mlflow, experiment, ledger={"url": database.url, "name": database.name})
    place = database.url.rpartition("@")[2]
    for outlook in (Outlook.NEW, Outlook.FOUND):
        done = invoke("check", f"--config.file={file}")
        assert done.exit_code == 0, done.output
        assert f"ledger       ledger {database.name} in PostgreSQL at {place} ({outlook.value})" in done.output
        with closing(open_ledger(database)) as ledger:
            if outlook is Outlook.NEW:
                fill(ledger)
            done = invoke("check", f"--config.file={file}")
            assert f"({Outlook.IN_USE.value})" in done.output


@pytest.mark.long
def test_no_log_shows_a_password(mlflow: Mlflow, guarded: Database, tmp_path: Path, experiment: str) -> None:
    """At any level, whether a connection succeeds or not, also when it is lost."""
    settings = {"mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment}, "poll": {"interval": "1s"}}
    for number, what in enumerate(("the password is wrong", "there is no such host", "nobody listens")):
        url, _ = wrong_urls(guarded)[what]
        log = serve(tmp_path / str(number), {**settings, "ledger": {"url": url}}, "cannot lead")
        assert "PostgreSQL cannot be reached" in log
    administer(
        Database(guarded.url.replace(guarded.url.partition("://")[2].partition("@")[0], "mlflow"), "x"),
        f"GRANT CREATE ON DATABASE mlflow TO {guarded.url.partition('://')[2].partition(':')[0]}",
    )
    url = f"{guarded.url}?password={PASSWORD}"
    log = serve(tmp_path / "right", {**settings, "ledger": {"url": url, "name": guarded.name}}, "leading")
    assert "created a new ledger" in log


def serve(directory: Path, settings: dict[str, Any], until: str) -> str:
    """The log of `serve` at the level debug."""
    directory.mkdir()
    with Exporter(directory, settings, "--log.level=debug").running() as exporter:
        eventually(lambda: until in exporter.log(), until)
        exporter.process.send_signal(signal.SIGHUP)
        eventually(lambda: "configuration reloaded" in exporter.log(), "a reload")
        assert_no_password(exporter.text())
        exporter.stop()
        assert_no_password(exporter.log())
        return exporter.log()


def test_without_the_client_each_command_says_what_to_install(mlflow: Mlflow, tmp_path: Path, experiment: str) -> None:
    ledger = {"url": f"postgresql://u:{PASSWORD}@127.0.0.1/d"}
    file = config_file(tmp_path, mlflow, experiment, ledger=ledger)
    commands = (["check"], ["serve"], ["ledger", "copy", ledger["url"], "a.db"])
    for command in commands:
        flags = [] if command[0] == "ledger" else [f"--config.file={file}"]
        script = [*_with_skinny("psycopg", "numpy", "pandas", "pyarrow", "scipy"), *command, *flags]
        done = subprocess.run(script, capture_output=True, text=True, timeout=HANG_S, check=False, cwd=tmp_path)
        assert done.returncode == 2, done
        assert "the client of PostgreSQL cannot be used" in done.stderr
        assert "install it with pip install 'mlflow-trace-exporter[postgresql]'" in done.stderr
        assert_no_password(done.stdout + done.stderr)


@pytest.fixture
def with_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgreSQL, str]]:
    """A server that accepts only TLS, and the file of its authority."""
    with TemporaryDirectory() as data, Processes(tmp_path_factory.mktemp("postgresql-tls")) as processes:
        server = PostgreSQL(Path(data), "127.0.0.1", free_port())
        server.start(processes)
        folder = tmp_path_factory.mktemp("certificates")
        made = make_certificates(folder)
        for name, there in (("server.pem", "server.crt"), ("server.key", "server.key")):
            (Path(data) / there).write_bytes((folder / name).read_bytes())
            subprocess.run(["chown", "postgres", str(Path(data) / there)], check=True)
            (Path(data) / there).chmod(0o600)
        hba = Path(data) / "pg_hba.conf"
        hba.write_text("hostssl all all 127.0.0.1/32 trust\n")
        administer(server.ledger("x"), "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
        url = f"{server.ledger('x').url}?sslmode=require"
        eventually(lambda: can_connect(url), "it speaks TLS")
        yield server, made.ca


def test_tls(with_tls: tuple[PostgreSQL, str]) -> None:
    server, ca = with_tls
    url = server.ledger("x").url
    place = Database(f"{url}?sslmode=verify-full&sslrootcert={ca}", "x")
    with closing(open_ledger(place)) as ledger:
        fill(ledger)
    assert look.outlook(place) is Outlook.FOUND
    with pytest.raises(UserError, match='does not match host name "localhost"'):
        look.outlook(Database(place.url.replace("127.0.0.1", "localhost"), "x"))
    with pytest.raises(UserError, match="no encryption"):
        look.outlook(Database(f"{url}?sslmode=disable", "x"))
