"""The processes of the demo: starts them, waits until they are ready, and stops all of them."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from mlflow_trace_exporter.errors import UserError, what_failed

HOST = "127.0.0.1"
STOP_S = 8.0
LOG_LINES = 15

CHATBOT_ENVIRONMENT = {
    "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "true",  # responses of the chatbot never wait for MLflow
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_WORKERS": "10",
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_QUEUE_SIZE": "1000",
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_SPAN_BATCH_SIZE": "50",  # a trace has several, and a request for each 5 is costly
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_INTERVAL_MILLIS": "1000",
    "MLFLOW_TRACE_SAMPLING_RATIO": "0.5",
}
"""Variables that the MLflow client reads on import. The chatbot's code overrides the ratio for two of its paths."""

_PORTS = range(10_000, 32_768)
_RANDOM = random.SystemRandom()  # tests seed the other one

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Process:
    """A running process and the file with its output."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def last_words(self) -> str:
        """The last lines of its output, for the message about its failure."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([*(f"  | {line}" for line in lines[-LOG_LINES:]), f"full log: {self.log}"])


class Processes:
    """A group of processes. All of them are stopped at the end of the ``with`` block, also after an error.

    Their working directory is ``logs``, which must exist, because some write files to their working directory.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._stop_all(0.0 if kind is KeyboardInterrupt else STOP_S)
        finally:  # the user may have interrupted even this
            self._stop_all(0.0)

    def _stop_all(self, patience_s: float) -> None:
        while self._running:
            self.stop(self._running[-1], patience_s)

    def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Process:
        """Start ``python -m …``."""
        return self.start_program(name, [sys.executable, "-m", *arguments], environment)

    def start_program(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Process:
        """Start a program in its own session, so that Ctrl-C does not reach it directly."""
        log = self._logs / f"{name}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                command,
                env={**_own_environment(), "NO_PROXY": HOST, "no_proxy": HOST, **environment},
                cwd=self._logs,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process(name, popen, log)
        self._running.append(process)
        return process

    def start_mlflow(self, data: Path, port: int, store: str | None = None) -> Process:
        """Start an MLflow server with its data in ``data``, an absolute path, and in the database ``store``, by default
        an SQLite file in ``data``."""
        arguments = ["mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
        arguments += ["--backend-store-uri", store or sqlite_in(data)]
        arguments += ["--artifacts-destination", str(data / "artifacts")]
        environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        return self.start("mlflow", arguments, environment)

    def stop(self, process: Process, patience_s: float = STOP_S) -> None:
        """Terminate the process. Kill it after ``patience_s`` seconds, and then its children."""
        process.popen.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.popen.wait(patience_s)
        with suppress(ProcessLookupError):  # its children may have outlived it
            os.killpg(process.popen.pid, signal.SIGKILL)
        process.popen.wait()
        self._running.remove(process)

    def check(self) -> None:
        """Raise UserError if one of the processes has exited."""
        for process in self._running:
            if process.popen.poll() is not None:
                raise UserError(f"{process.name} exited with code {process.popen.returncode}:\n{process.last_words()}")

    def wait_until_ready(self, url: str, give_up: Callable[[], bool], timeout_s: float = 300) -> None:
        """Wait until ``url`` answers, or until ``give_up`` returns true. Raises UserError if a process exits or the
        time runs out."""
        deadline = time.monotonic() + timeout_s
        while not give_up():
            self.check()
            if fetch(url) is not None:
                return
            if time.monotonic() > deadline:
                raise UserError(f"{url} did not answer within {timeout_s:.0f} s; the logs are in {self._logs}")
            time.sleep(0.2)


def sqlite_in(data: Path) -> str:
    """The URI of MLflow's SQLite database in a directory."""
    return f"sqlite:///{data / 'mlflow.db'}"


def _own_environment() -> dict[str, str]:
    """Our environment without variables that would send the demo's traces elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "OTEL_"))}


def fetch(url: str, timeout_s: float = 2) -> str | None:
    """The response of a local address; None if it does not answer (yet)."""
    try:
        with _DIRECT.open(url, timeout=timeout_s) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return None


def require_free(port: int, option: str) -> None:
    """Raise UserError if the port is already in use."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        raise UserError(f"{option}: cannot use port {port} ({what_failed(error)}); choose another") from None


def free_port() -> int:
    """A free port. Systems give outgoing connections none of _PORTS, so it stays free until a server that takes a while
    to start listens on it."""
    while True:
        port = _RANDOM.choice(_PORTS)
        with suppress(OSError):
            socket.create_server((HOST, port)).close()
            return port
