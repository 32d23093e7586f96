"""The commands as a user calls them: what they print, and with which exit code they end."""

import os
import re
import shlex
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mlflow_trace_exporter.commands.cli import cli
from mlflow_trace_exporter.demo.processes import HOST
from mlflow_trace_exporter.ledger.file import hold
from mlflow_trace_exporter.ledger.opening import open_ledger
from tests.support.commands import config_file
from tests.support.ports import free_port
from tests.support.real import EXPORTER, Exporter, Mlflow, Trace, now_ms
from tests.support.waiting import HANG_S


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EXPORTER, *arguments],
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


def complaint(*arguments: str, **environment: str) -> str:
    """What a call that the user has to mend says: one message, exit code 2, no traceback."""
    done = run(*arguments, **environment)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "exporter.yml"


def test_check_says_what_serve_would_read(mlflow: Mlflow, tmp_path: Path, file: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.log(experiment, Trace(now_ms(), tags={"environment": "production", "app_version": "1.4.0"}))
    file.write_text(f"mlflow: {{experiments: [{experiment}]}}\nledger: {{path: {tmp_path}/ledger.db}}\n")
    for arguments in (("check",), ("serve", "--config.check")):
        done = run(*arguments, f"--config.file={file}", MLFLOW_TRACKING_URI=mlflow.uri)
        assert (done.returncode, done.stderr) == (0, "")
        shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
        assert shown["MLflow"].startswith(f"{mlflow.uri}, version 3.")
        assert shown["experiments"].startswith("1 of ")
        assert shown["experiments"].endswith(f"selected: {experiment}")
        assert shown["traces"] == "1 in the last hour"
        assert (shown["environment"], shown["version"]) == ("production", "1.4.0")
        assert shown["ledger"] == f"{tmp_path}/ledger.db (will be created)"
        assert shown["start"].startswith("now: earlier traces are not counted")
    assert not (tmp_path / "ledger.db").exists()


def test_check_says_what_is_done_without(mlflow: Mlflow, tmp_path: Path, file: Path) -> None:
    experiment = mlflow.experiment()
    file.write_text(
        f"mlflow: {{experiments: [{experiment}], filter: tag.team = 'a'}}\nledger: {{path: {tmp_path}/ledger.db}}\n"
    )
    done = run("check", f"--config.file={file}", MLFLOW_TRACKING_URI=mlflow.uri)
    assert (done.returncode, done.stderr) == (0, "")
    assert "             warning: MLflow's own trace counts are unavailable" in done.stdout


def test_check_names_the_selector_that_matches_nothing(mlflow: Mlflow, tmp_path: Path, file: Path) -> None:
    experiment = mlflow.experiment()
    file.write_text(f"mlflow: {{experiments: [{experiment}, shoop]}}\nledger: {{path: {tmp_path}/ledger.db}}\n")
    done = run("check", f"--config.file={file}", MLFLOW_TRACKING_URI=mlflow.uri)
    assert done.returncode == 0
    assert "warning: shoop selects none of" in done.stdout


def test_check_of_an_experiment_that_matches_nothing(mlflow: Mlflow, file: Path) -> None:
    mlflow.experiment(known := f"chatbot-{now_ms()}")
    file.write_text(f"mlflow: {{experiments: [{known.replace('bot', 'bto')}]}}")
    message = complaint("check", f"--config.file={file}", MLFLOW_TRACKING_URI=mlflow.uri)
    assert f"mlflow.experiments: {known.replace('bot', 'bto')} selects none of the" in message
    assert f"; did you mean {known}?" in message


def test_check_of_a_filter_that_mlflow_refuses(mlflow: Mlflow, file: Path) -> None:
    file.write_text("mlflow: {filter: nonsense}")
    message = complaint("check", f"--config.file={file}", MLFLOW_TRACKING_URI=mlflow.uri)
    assert "Is mlflow.filter right ('nonsense')?" in message


def test_check_of_a_server_that_does_not_allow_its_name(mlflow: Mlflow) -> None:
    """As in a cluster, where MLflow has a name that it does not know of; who resolves it here is a proxy of MLflow."""
    message = complaint(
        "check", MLFLOW_TRACKING_URI="http://mlflow.mlflow.svc:5000", HTTP_PROXY=mlflow.uri, NO_PROXY="", no_proxy=""
    )
    assert "does not accept requests for the host mlflow.mlflow.svc:5000; start MLflow with --allowed-hosts" in message
    assert "Invalid Host header" in message


def test_check_of_a_server_that_is_not_there() -> None:
    message = complaint("check", MLFLOW_TRACKING_URI=f"http://{HOST}:{free_port()}")
    assert "cannot be reached; is it running, and is mlflow.tracking_uri right?" in message
    assert "Connection refused" in message


def test_check_of_a_ledger_that_is_not_ours(mlflow: Mlflow, tmp_path: Path, file: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but something that somebody may need\n" * 20)
    file.write_text(f"ledger: {{path: {tmp_path}/notes.txt}}")
    assert "cannot be used as a ledger" in complaint("check", f"--config.file={file}", MLFLOW_TRACKING_URI=mlflow.uri)


def test_whatever_ends_serve_ends_check_and_doctor(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    (tmp_path / "notes.txt").write_text("x")
    for path in (tmp_path / "notes.txt" / "ledger.db", tmp_path, "/proc/ledger.db"):
        file = config_file(tmp_path, mlflow, experiment, ledger={"path": str(path)})
        for command in ("check", "doctor", "serve --config.check", f"serve --web.listen-address={HOST}:0"):
            message = complaint(*command.split(), f"--config.file={file}")
            assert f"{path}" in message
            assert "ledger" in message


@pytest.mark.parametrize("command", ["check", "doctor", "serve --config.check", f"serve --web.listen-address={HOST}:0"])
def test_what_active_users_need_is_missed_at_the_start(mlflow: Mlflow, tmp_path: Path, command: str) -> None:
    file = config_file(tmp_path, mlflow, mlflow.experiment(), active_users={"enabled": True})
    message = complaint(*command.split(), f"--config.file={file}")
    assert "active_users.enabled: needs datasketches, which is not installed" in message
    assert message.endswith("install it with pip install 'mlflow-trace-exporter[users]'\n")


def test_check_beside_a_running_exporter(mlflow: Mlflow, tmp_path: Path) -> None:
    settings = {"mlflow": {"tracking_uri": mlflow.uri, "experiments": mlflow.experiment()}}
    with Exporter(tmp_path, settings).running() as exporter:
        address = f"--web.listen-address={exporter.url.removeprefix('http://')}"
        for command in (["check"], ["doctor"], ["serve", "--config.check", address]):
            done = run(*command, f"--config.file={tmp_path}/exporter.yml")
            assert (done.returncode, done.stderr) == (0, ""), command
            assert "ledger.db (in use by a running exporter: counting continues)" in done.stdout
        assert done.stdout.splitlines()[-1].endswith(
            "(in use, by a running exporter or by a program that must be stopped first)"
        )


@pytest.mark.parametrize(
    "flag", ["--web.listen-address=nowhere:port", "--web.listen-address=192.0.2.1:1", "--web.telemetry-path=/-/healthy"]
)
def test_a_check_looks_at_the_flags_of_serve_too(mlflow: Mlflow, tmp_path: Path, flag: str) -> None:
    file = config_file(tmp_path, mlflow, mlflow.experiment())
    assert flag.partition("=")[0] in complaint("serve", "--config.check", f"--config.file={file}", flag)


def test_many_experiments_are_not_listed_on_one_line(mlflow: Mlflow, tmp_path: Path, file: Path) -> None:
    stem = f"many-{now_ms()}"
    for number in range(15):
        mlflow.experiment(f"{stem}-{number:02}")
    ledger = f"ledger: {{path: {tmp_path}/ledger.db}}"
    file.write_text(f"mlflow: {{experiments: ['{stem}-*', '{stem}_03']}}\n{ledger}\n")
    done = run("check", f"--config.file={file}", MLFLOW_TRACKING_URI=mlflow.uri)
    (line,) = [each for each in done.stdout.splitlines() if each.startswith("experiments")]
    assert f"selected: {stem}-00, {stem}-01" in line
    assert line.endswith(f"{stem}-09 and 5 more")
    assert f"{stem}_03 selects none of the active experiments; did you mean {stem}-03?\n" in done.stdout
    file.write_text(f"mlflow: {{experiments: ['{stem}_03']}}\n{ledger}\n")
    message = complaint("check", f"--config.file={file}", MLFLOW_TRACKING_URI=mlflow.uri)
    assert f"; did you mean {stem}-03?" in message
    assert len(message) < 1_000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "30s"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "0"),
        ("MLFLOW_TRACKING_INSECURE_TLS", "perhaps"),
        ("MLFLOW_TRACKING_SERVER_CERT_PATH", "/absent.pem"),
        ("MLFLOW_CONFIGURE_LOGGING", "perhaps"),
        ("MLFLOW_TRACKING_URI", "http://[::1"),
    ],
)
def test_variables_that_mlflow_cannot_use_are_named(name: str, value: str) -> None:
    assert name in complaint("check", **{name: value})


def test_mistakes_in_the_configuration(file: Path) -> None:
    file.write_text("poll:\n  intervall: 15s\n")
    for command in ("check", "serve"):
        message = complaint(command, f"--config.file={file}")
        assert message == (
            f"mlflow-trace-exporter: 1 error in {file}:\n"
            "  line 2, poll.intervall: unknown key; did you mean poll.interval?\n"
        )


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    message = complaint("serve", f"--config.file={tmp_path}/absent.yml")
    assert f"--config.file: cannot read {tmp_path}/absent.yml: No such file or directory" in message


@pytest.mark.parametrize("address", ["10500", "nowhere:port", "127.0.0.1:99999", "no such host:1", "127.0.0..1:1"])
def test_an_address_that_is_none(address: str) -> None:
    assert "--web.listen-address" in complaint("serve", f"--web.listen-address={address}")


def test_a_port_in_use() -> None:
    with socket.create_server((HOST, 0)) as taken:
        address = f"{HOST}:{taken.getsockname()[1]}"
        message = complaint("serve", f"--web.listen-address={address}")
    assert (
        f"cannot listen on {address}: Address already in use; stop the program that uses it, or choose another port"
        in message
    )


@pytest.mark.parametrize(
    "path", ["metrics", "/", "/-/healthy", "/{x}", "/{a:bad}", "/a b", "//", "/a?b", "/traces", "/trace/x", "/runbook"]
)
def test_a_telemetry_path_that_is_none(path: str) -> None:
    assert "--web.telemetry-path" in complaint("serve", f"--web.telemetry-path={path}")


def test_a_ledger_that_is_not_ours_or_in_use(tmp_path: Path, file: Path) -> None:
    address = f"--web.listen-address={HOST}:{free_port()}"
    ledger = tmp_path / "ledger.db"
    file.write_text(f"ledger: {{path: {ledger}}}")
    ledger.write_text("not a database, but something that somebody may need\n" * 20)
    assert f"{ledger} cannot be used as a ledger" in complaint("serve", f"--config.file={file}", address)
    ledger.unlink()
    with closing(open_ledger(ledger)):
        assert f"is in use by process {os.getpid()}" in complaint("serve", f"--config.file={file}", address)


def shell(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """What a line for a shell does, in which EXPORTER is the command."""
    line = f"set -o pipefail; {command.replace('EXPORTER', shlex.join(EXPORTER))}"
    shell = ["bash", "-c", line]
    return subprocess.run(shell, capture_output=True, text=True, timeout=HANG_S, check=False, cwd=directory)


@pytest.mark.parametrize("command", ["--help", "--version", "report --help", "rules", "dashboards --output=made"])
@pytest.mark.parametrize(
    ("ending", "why"),
    [
        (">/dev/full", "cannot write to standard output: No space left on device\n"),
        (">&-", "cannot write to standard output: Bad file descriptor\n"),
        ("| true", ""),
        (">/dev/full 2>/dev/full", ""),
        (">&- 2>&-", ""),
    ],
)
def test_output_that_cannot_be_written(tmp_path: Path, command: str, ending: str, why: str) -> None:
    done = shell(f"EXPORTER {command} {ending}", tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr == (f"mlflow-trace-exporter: {why}" if why else "")


def test_output_of_what_reads_mlflow_that_cannot_be_written(mlflow: Mlflow, tmp_path: Path) -> None:
    config_file(tmp_path, mlflow, mlflow.experiment())
    forms = (f"report --format={form}" for form in ("table", "json", "csv", "markdown"))
    for command in (*forms, "check", "doctor", "serve --config.check"):
        done = shell(f"EXPORTER {command} --config.file=exporter.yml >/dev/full", tmp_path)
        assert done.returncode == 2, command
        assert done.stderr == "mlflow-trace-exporter: cannot write to standard output: No space left on device\n"
    gone = shell("EXPORTER report --config.file=exporter.yml | true", tmp_path)
    assert (gone.returncode, gone.stderr) == (2, ""), "like any command whose reader has gone"


@pytest.mark.parametrize("command", ["health --nonsense", "health --lookback=soon", "serve --log.level=loud"])
@pytest.mark.parametrize("ending", ["2>/dev/full", "2>&-", ">&- 2>&-", "2>&1 | true"])
def test_a_mistake_that_nobody_can_be_told_is_exit_code_2(tmp_path: Path, command: str, ending: str) -> None:
    done = shell(f"EXPORTER {command} {ending}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", ""), "1 would be an answer of health"


def test_flags_that_are_wrong_name_the_flag() -> None:
    assert "--log.level" in complaint("serve", "--log.level=loud")
    assert "--duration" in complaint("demo", "--duration=1 hour")
    assert "No such option" in complaint("serve", "--web.listen=x")


def test_a_second_demo_leaves_the_data_of_the_first_alone(tmp_path: Path) -> None:
    ports = [f"--{name}-port={free_port()}" for name in ("mlflow", "exporter", "prometheus", "alertmanager")]
    with hold(tmp_path / "demo"):
        message = complaint("demo", f"--data-dir={tmp_path}", *ports)
    assert f"is in use by process {os.getpid()}; stop that process, or give this one another --data-dir" in message
    assert {file.name for file in tmp_path.iterdir()} == {"demo.lock", "logs"}


def test_the_demo_says_which_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        message = complaint("demo", f"--mlflow-port={port}", f"--data-dir={tmp_path}")
    assert f"--mlflow-port: cannot use port {port} (Address already in use); choose another" in message


@pytest.mark.parametrize("arguments", [("--help",), ("serve", "-h"), ("check", "-h"), ("demo", "-h"), ("--version",)])
def test_help_is_there_without_waiting_for_mlflow(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    assert "mlflow-trace-exporter" in done.stdout or "Usage" in done.stdout
    assert not re.search(r" mlflow(\.|$)", done.stderr, re.MULTILINE)


@pytest.mark.parametrize("columns", ["80", "100"])
def test_no_summary_of_a_command_is_cut_short(columns: str) -> None:
    shown = run("--help", COLUMNS=columns).stdout.partition("Commands:\n")[2].splitlines()
    assert len(shown) == len(cli.commands), "a line each"
    assert all(line.endswith((".", "?")) and not line.endswith("...") for line in shown), shown


def test_a_probe_of_what_does_not_listen() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlflow_trace_exporter", "probe", f"http://{HOST}:{free_port()}/-/healthy"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Connection refused" in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr
