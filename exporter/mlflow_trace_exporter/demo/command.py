"""`demo`: starts all processes, shows a live table of the values in /metrics, and stops all processes at the end."""

import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import yaml

from mlflow_trace_exporter.demo import applications, table
from mlflow_trace_exporter.demo.applications import APPLICATIONS, Application
from mlflow_trace_exporter.demo.monitoring import Stack
from mlflow_trace_exporter.demo.options import Options
from mlflow_trace_exporter.demo.pager import Pager
from mlflow_trace_exporter.demo.processes import HOST, Process, Processes, fetch, free_port, require_free
from mlflow_trace_exporter.demo.screen import Screen
from mlflow_trace_exporter.errors import UserError, what_failed
from mlflow_trace_exporter.ledger.file import hold

DRAIN_S = 30.0


@dataclass(frozen=True)
class Programs:
    """Paths of Prometheus and Alertmanager on this machine."""

    prometheus: str
    alertmanager: str

    @classmethod
    def found(cls) -> "Programs | None":
        """Look for both on PATH. Returns None if one is missing."""
        prometheus, alertmanager = shutil.which("prometheus"), shutil.which("alertmanager")
        return cls(prometheus, alertmanager) if prometheus and alertmanager else None


@dataclass(frozen=True)
class Monitoring:
    """The monitoring of the exporter, and the receiver of its notifications."""

    programs: Programs
    stack: Stack
    pager: Pager


def run(options: Options) -> None:
    """Run the demo. Raises UserError if it cannot start or one of its processes fails."""
    require_free(options.mlflow_port, "--mlflow-port")
    require_free(options.exporter_port, "--exporter-port")
    programs = Programs.found()
    if programs:
        require_free(options.prometheus_port, "--prometheus-port")
        require_free(options.alertmanager_port, "--alertmanager-port")
    try:
        logs = options.data / "logs"
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--data-dir: cannot use {options.data_dir}: {what_failed(error)}") from None
    stopping = threading.Event()
    receiver_port = free_port()
    alone = hold(options.data / "demo", "the data of the demo", "give this one another --data-dir")
    with alone, _stopped_by_signals(stopping), Pager(receiver_port) as pager, Processes(logs) as processes:
        monitoring = Monitoring(programs, options.stack(receiver_port), pager) if programs else None
        _Demo(options, Screen(options), processes, stopping, monitoring).run()


@contextmanager
def _stopped_by_signals(stopping: threading.Event) -> Iterator[None]:
    asked = 0

    def stop(*_: object) -> None:
        nonlocal asked
        asked += 1
        stopping.set()
        if asked == 2:  # exit at once; further signals must not disturb the cleanup
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Demo:
    def __init__(
        self,
        options: Options,
        screen: Screen,
        processes: Processes,
        stopping: threading.Event,
        monitoring: Monitoring | None,
    ) -> None:
        self._options = options
        self._screen = screen
        self._monitoring = monitoring
        self._processes = processes
        self._stopping = stopping

    def run(self) -> None:
        began = time.monotonic()
        self._start_mlflow()
        self._start_exporter()
        self._start_monitoring()
        if self._stopping.is_set():
            return
        environment = applications.load_environment(
            self._options, self._processes, self._screen.say, self._stopping.is_set
        )
        traffic = [self._start(application, environment) for application in APPLICATIONS]
        self._screen.say(f"everything is running after {time.monotonic() - began:.0f} s; stop it with Ctrl-C\n")
        self._watch()
        self._screen.say("\nstopping: the applications send their last traces")
        for process in traffic:
            process.popen.terminate()  # all at once, before the first is waited for
        for process in traffic:
            self._processes.stop(process, DRAIN_S)
        self._drain()
        self._screen.summarize()

    def _start_mlflow(self) -> None:
        with self._screen.progress("MLflow is starting (the first start creates its database and takes about 20 s)"):
            self._processes.start_mlflow(self._options.data, self._options.mlflow_port)
            self._processes.wait_until_ready(f"{self._options.mlflow}/health", self._stopping.is_set)

    def _start_exporter(self) -> None:
        file = self._options.data / "exporter.yml"
        configuration = applications.exporter_configuration(self._options)
        file.write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")
        address = f"{HOST}:{self._options.exporter_port}"
        arguments = ["mlflow_trace_exporter", "serve", f"--config.file={file}", f"--web.listen-address={address}"]
        with self._screen.progress("the exporter is starting"):
            self._processes.start("exporter", arguments, {})
            self._processes.wait_until_ready(self._options.metrics, self._stopping.is_set)

    def _start_monitoring(self) -> None:
        if self._monitoring is None:
            self._screen.say("alerts: none, because prometheus and alertmanager are not both on PATH")
            return
        programs, stack = self._monitoring.programs, self._monitoring.stack
        data = self._options.data / "monitoring"
        stack.write(data)
        with self._screen.progress("Prometheus and Alertmanager are starting"):
            self._processes.start_program("alertmanager", stack.alertmanager_command(programs.alertmanager, data), {})
            self._processes.start_program("prometheus", stack.prometheus_command(programs.prometheus, data), {})
            for address in (stack.alertmanager, stack.prometheus):
                self._processes.wait_until_ready(f"{address}/-/ready", self._stopping.is_set)
        self._screen.say(
            f"alerts: {stack.prometheus}/alerts, sent by {stack.alertmanager};"
            f" their windows are shorter here: two minutes instead of an hour"
        )

    def _start(self, application: Application, environment: Mapping[str, str]) -> Process:
        return self._processes.start(
            application.name, applications.load_arguments(application, self._options), environment
        )

    def _watch(self) -> None:
        """Show the values until the time is up."""
        began = time.monotonic()
        duration = self._options.duration
        ends = None if duration is None else began + duration.total_seconds()
        with self._screen.live() as live:
            while not self._stopping.is_set() and (ends is None or time.monotonic() < ends):
                self._processes.check()
                elapsed_s = time.monotonic() - began
                self._screen.show_news(self._monitoring.pager.news() if self._monitoring else (), elapsed_s)
                self._screen.show(live, elapsed_s)
                self._stopping.wait(1)

    def _drain(self) -> None:
        """Wait for a poll that started after the last trace was sent and leaves no pending traces."""
        sent = time.time()
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline:
            text = fetch(self._options.metrics) or ""
            polled = table.value(text, "mlflow_trace_exporter_last_successful_poll_timestamp_seconds") or 0
            began = polled - (table.value(text, "mlflow_trace_exporter_poll_duration_seconds") or 0)
            if began > sent and table.value(text, "mlflow_trace_exporter_pending_traces") == 0:
                return
            time.sleep(0.2)
