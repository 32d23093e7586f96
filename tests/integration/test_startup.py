"""A process from its first moment on: who runs it, what it imports, and who stops it meanwhile."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlflow_trace_exporter.demo.processes import HOST
from tests.integration.test_cli import complaint
from tests.support.commands import config_file
from tests.support.ports import free_port
from tests.support.real import EXPORTER, Mlflow, Trace, eventually, now_ms, tool
from tests.support.waiting import HANG_S

WITHOUT_ENTRY = """
import os, pwd
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
os.environ.pop("HOME", None)
"""
"""Makes whoever runs it a user as OpenShift makes them: a number, without an entry in /etc/passwd."""

COMMANDS = (
    *(("report",), ("health", "--environment=production"), ("check",), ("doctor",), ("serve",)),
    *(("serve", "--config.check"), ("backfill", "--since=3d", "--output=history.om")),
)


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


@pytest.mark.parametrize("command", [each for each in COMMANDS if each != ("serve",)], ids=" ".join)
def test_a_user_without_a_home_can_ask(mlflow: Mlflow, tmp_path: Path, command: tuple[str, ...]) -> None:
    experiment = mlflow.experiment()
    for start_ms in (now_ms() - 1_000, now_ms() - 2 * 86_400_000):
        mlflow.log(experiment, Trace(start_ms, tags={"environment": "production"}))
    file = config_file(tmp_path, mlflow, experiment)
    arguments = [each.replace("history.om", f"{tmp_path}/history.om") for each in command]
    done = run(WITHOUT_ENTRY + EXPORTER[2], *arguments, f"--config.file={file}")
    assert done.returncode == {"health": 3}.get(command[0], 0), done.stderr


def test_a_user_without_a_home_can_serve(tmp_path: Path) -> None:
    code = WITHOUT_ENTRY + EXPORTER[2]
    done = run(code, "serve", MLFLOW_TRACKING_URI=f"http://{HOST}:{free_port()}", XDG_STATE_HOME="/dev/null")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot keep a ledger at /dev/null/mlflow-trace-exporter/ledger.db" in done.stderr
    port = free_port()
    serving = [sys.executable, "-c", code, "serve", f"--web.listen-address={HOST}:{port}"]
    with subprocess.Popen(serving, env={**os.environ, "XDG_STATE_HOME": str(tmp_path)}) as process:
        try:
            eventually(lambda: run(EXPORTER[2], "probe", f":{port}").returncode == 0, "it serves")
        finally:
            process.terminate()
    assert process.returncode == 0


def test_the_processes_of_a_demo_have_a_home() -> None:
    show = "from mlflow_trace_exporter.demo import command; command.run = lambda _: print('at', os.environ['HOME'])"
    done = run(f"{WITHOUT_ENTRY}{show}{EXPORTER[2]}", "demo")
    assert (done.returncode, done.stdout) == (0, "at /\n"), done.stderr


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """What is imported as mlflow."""
    package = tmp_path / "packages" / "mlflow"
    package.mkdir(parents=True)
    return package / "__init__.py"


def before_all_others(package: Path) -> str:
    """The path with which a process imports a package of a test, and everything else from where this one does."""
    return os.pathsep.join([str(package.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.mark.parametrize(
    ("command", "error"),
    [
        *((command, "RuntimeError('a\\nb')") for command in COMMANDS),
        (("health",), "OSError(30, 'Read-only file system')"),
        (("health",), "ImportError('x')"),
    ],
)
def test_a_client_that_cannot_be_loaded_is_exit_code_2(broken: Path, command: tuple[str, ...], error: str) -> None:
    broken.write_text(f"raise {error}")
    message = complaint(*command, PYTHONPATH=before_all_others(broken))
    assert f"MLflow's client cannot be loaded: {error.partition('(')[0]}: " in message


def test_a_client_that_cannot_be_loaded_is_logged(broken: Path) -> None:
    broken.write_text("import sys, warnings; warnings.warn('odd'); print('in between', file=sys.stderr); 1 / 0")
    said = complaint("serve", "--log.format=json", PYTHONPATH=before_all_others(broken))
    warning, line, error = map(json.loads, said.splitlines())
    assert "UserWarning: odd" in warning["msg"]
    assert line["msg"] == "in between"
    assert (error["level"], "ZeroDivisionError: division by zero" in error["msg"]) == ("error", True)


@contextmanager
def importing(broken: Path, *before: str) -> Iterator[subprocess.Popen[str]]:
    """A process of `serve` while it imports mlflow, which does not end."""
    gate = broken.with_name("gate")
    os.mkfifo(gate)
    broken.write_text(f"open({str(gate)!r}).read()")
    environment = {**os.environ, "PYTHONPATH": before_all_others(broken)}
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "mlflow_trace_exporter", "serve", "--log.format=json"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with gate.open("w"):  # once somebody reads
            yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGTERM, -signal.SIGTERM, []), (signal.SIGINT, 130, ["stopped"])]
)
def test_it_is_stopped_while_it_starts(broken: Path, number: signal.Signals, code: int, said: list[str]) -> None:
    with importing(broken) as process:
        process.send_signal(number)
        _, log = process.communicate(timeout=HANG_S)
    assert (process.returncode, [json.loads(line)["msg"] for line in log.splitlines()]) == (code, said)


def test_it_is_stopped_while_it_starts_as_the_first_process_of_a_container(broken: Path) -> None:
    """Linux ignores a signal for process 1 that it has no handler for."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a container")
    with importing(broken, tool("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child") as process:
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        assert process.wait(HANG_S) == 128 + signal.SIGTERM
