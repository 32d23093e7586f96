"""`demo`: starts all processes, shows a live table of the values in /metrics, and stops all processes at the end."""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import yaml
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from mlflow_trace_exporter.counting.ledger_file import hold
from mlflow_trace_exporter.demo import table
from mlflow_trace_exporter.demo.monitoring import Stack
from mlflow_trace_exporter.demo.pager import Pager
from mlflow_trace_exporter.demo.processes import CHATBOT_ENVIRONMENT, HOST, Processes, fetch, free_port, require_free
from mlflow_trace_exporter.errors import UserError, what_failed
from mlflow_trace_exporter.metrics.overview import Row
from mlflow_trace_exporter.reports.report_format import WIDE

EXPERIMENT = "tideline-support"
INTERVAL_S = 2
PLAIN_EVERY_S = 10
INCIDENT_AFTER_S = 60.0
INCIDENT_FOR_S = 240.0
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


@dataclass(frozen=True)
class Options:
    """The flags of the command. ``rate`` is in questions per second. A ``duration`` of None lasts until Ctrl-C."""

    duration: timedelta | None
    rate: float
    incident: bool
    data_dir: Path
    exporter_port: int
    mlflow_port: int
    prometheus_port: int
    alertmanager_port: int

    @property
    def mlflow(self) -> str:
        """The address of the MLflow server."""
        return f"http://{HOST}:{self.mlflow_port}"

    @property
    def metrics(self) -> str:
        """The address of the metrics."""
        return f"http://{HOST}:{self.exporter_port}/metrics"

    def stack(self, receiver_port: int) -> Stack:
        """The ports of the monitoring stack."""
        return Stack(self.exporter_port, self.prometheus_port, self.alertmanager_port, receiver_port, INTERVAL_S)

    @property
    def incident_after_s(self) -> float | None:
        """When the bad version is rolled out: after a minute, or after a third of a duration below three minutes."""
        if not self.incident:
            return None
        return min(INCIDENT_AFTER_S, self.duration.total_seconds() / 3) if self.duration else INCIDENT_AFTER_S


def run(options: Options) -> None:
    """Run the demo. Raises UserError if it cannot start or one of its processes fails."""
    require_free(options.mlflow_port, "--mlflow-port")
    require_free(options.exporter_port, "--exporter-port")
    programs = Programs.found()
    if programs:
        require_free(options.prometheus_port, "--prometheus-port")
        require_free(options.alertmanager_port, "--alertmanager-port")
    try:
        logs = options.data_dir.resolve() / "logs"
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--data-dir: cannot use {options.data_dir}: {what_failed(error)}") from None
    terminal = sys.stdout.isatty()  # FORCE_COLOR and COLUMNS do not count
    console = Console(highlight=False, soft_wrap=True, force_terminal=terminal, width=None if terminal else WIDE)
    stopping = threading.Event()
    receiver_port = free_port()
    alone = hold(options.data_dir.resolve() / "demo", "the data of the demo", "give this one another --data-dir")
    with alone, _stopped_by_signals(stopping), Pager(receiver_port) as pager, Processes(logs) as processes:
        monitoring = Monitoring(programs, options.stack(receiver_port), pager) if programs else None
        _Demo(options, console, processes, stopping, monitoring).run()


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


def _place(labels: Mapping[str, str]) -> str:
    """What an alert is about: an application, or the exporter and so all of them."""
    if "environment" not in labels:
        return "all environments"
    return f"{labels['environment']} of {labels['experiment']}"


class _Demo:
    def __init__(
        self,
        options: Options,
        console: Console,
        processes: Processes,
        stopping: threading.Event,
        monitoring: Monitoring | None,
    ) -> None:
        self._options = options
        self._monitoring = monitoring
        self._console = console
        self._processes = processes
        self._stopping = stopping

    def run(self) -> None:
        began = time.monotonic()
        self._start_mlflow()
        self._start_exporter()
        self._start_monitoring()
        if self._stopping.is_set():
            return
        traffic = self._processes.start("chatbot", self._traffic_arguments(), self._traffic_environment())
        self._console.print(f"everything is running after {time.monotonic() - began:.0f} s; stop it with Ctrl-C\n")
        self._watch()
        self._console.print("\nstopping: the chatbot sends its last traces")
        self._processes.stop(traffic, DRAIN_S)
        self._drain()
        self._summarize()

    def _start_mlflow(self) -> None:
        with self._progress("MLflow is starting (the first start creates its database and takes about 20 s)"):
            self._processes.start_mlflow(self._options.data_dir.resolve(), self._options.mlflow_port)
            self._processes.wait_until_ready(f"{self._options.mlflow}/health", self._stopping.is_set)

    def _start_exporter(self) -> None:
        data = self._options.data_dir.resolve()
        configuration = {
            "mlflow": {"tracking_uri": self._options.mlflow, "experiments": [EXPERIMENT]},
            "poll": {"interval": f"{INTERVAL_S}s", "start": "earliest"},
            "series": {"zero_hold": f"{2 * INTERVAL_S}s"},
            "ledger": {"path": str(data / "ledger.db")},
        }
        file = data / "exporter.yml"
        file.write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")
        address = f"{HOST}:{self._options.exporter_port}"
        arguments = ["mlflow_trace_exporter", "serve", f"--config.file={file}", f"--web.listen-address={address}"]
        with self._progress("the exporter is starting"):
            self._processes.start("exporter", arguments, {})
            self._processes.wait_until_ready(self._options.metrics, self._stopping.is_set)

    def _start_monitoring(self) -> None:
        if self._monitoring is None:
            self._console.print("alerts: none, because prometheus and alertmanager are not both on PATH")
            return
        programs, stack = self._monitoring.programs, self._monitoring.stack
        data = self._options.data_dir.resolve() / "monitoring"
        stack.write(data)
        with self._progress("Prometheus and Alertmanager are starting"):
            self._processes.start_program("alertmanager", stack.alertmanager_command(programs.alertmanager, data), {})
            self._processes.start_program("prometheus", stack.prometheus_command(programs.prometheus, data), {})
            for address in (stack.alertmanager, stack.prometheus):
                self._processes.wait_until_ready(f"{address}/-/ready", self._stopping.is_set)
        self._console.print(
            f"alerts: {stack.prometheus}/alerts, sent by {stack.alertmanager};"
            f" their windows are shorter here: two minutes instead of an hour"
        )

    def _traffic_arguments(self) -> list[str]:
        arguments = [
            "mlflow_trace_exporter.demo.load",
            "--rate",
            str(self._options.rate),
            "--experiment",
            EXPERIMENT,
        ]
        if self._options.incident_after_s is not None:
            arguments += ["--incident", str(self._options.incident_after_s), str(INCIDENT_FOR_S)]
        return arguments

    def _traffic_environment(self) -> Mapping[str, str]:
        """The environment of the chatbot. It uses a real LLM if the user sets an address and a key, else the mock."""
        mlflow = {"MLFLOW_TRACKING_URI": self._options.mlflow, "MLFLOW_DISABLE_TELEMETRY": "true"}
        if os.environ.get("OPENAI_BASE_URL") and os.environ.get("OPENAI_API_KEY"):
            self._console.print(f"LLM: {os.environ['OPENAI_BASE_URL']}, at your cost")
            return {**CHATBOT_ENVIRONMENT, **mlflow}
        port = free_port()
        self._processes.start("llm", ["mlflow_trace_exporter.demo.llm", str(port)], {})
        self._processes.wait_until_ready(f"http://{HOST}:{port}/health", self._stopping.is_set)
        self._console.print("LLM: a mock on this machine; set OPENAI_BASE_URL and OPENAI_API_KEY to use a real one")
        llm = {"OPENAI_BASE_URL": f"http://{HOST}:{port}/v1", "OPENAI_API_KEY": "stand-in"}
        return {**CHATBOT_ENVIRONMENT, **mlflow, **llm}

    def _watch(self) -> None:
        """Show the table until the time is up: live in a terminal, as plain lines elsewhere."""
        began = time.monotonic()
        duration = self._options.duration
        ends = None if duration is None else began + duration.total_seconds()
        with Live(console=self._console, auto_refresh=False) as live:
            shown = 0.0
            while not self._stopping.is_set() and (ends is None or time.monotonic() < ends):
                self._processes.check()
                elapsed = time.monotonic() - began
                self._print_news(elapsed)
                if self._console.is_terminal:
                    live.update(self._table(elapsed), refresh=True)
                elif elapsed >= shown + PLAIN_EVERY_S:
                    shown = elapsed
                    self._print_plain(elapsed)
                self._stopping.wait(1)

    def _table(self, elapsed_s: float) -> Table:
        title = f"{self._options.metrics} after {elapsed_s:.0f} s{self._incident_note(elapsed_s)}"
        shown = Table(title=title, caption=f"traces in MLflow: {self._options.mlflow}", box=box.SIMPLE_HEAD, padding=0)
        for number, name in enumerate(table.COLUMNS):
            shown.add_column(name, justify="left" if number < 2 else "right", min_width=7, overflow="fold")
        for row in self._rows():
            shown.add_row(*table.texts(row))
        return shown

    def _print_news(self, elapsed_s: float) -> None:
        """Print each notification from Alertmanager, with details of those that page."""
        for each in self._monitoring.pager.news() if self._monitoring else ():
            head = (
                f"{elapsed_s:.0f}s {each.receiver}: {each.status} {each.labels['alertname']} in {_place(each.labels)}"
            )
            self._console.print(f"{head}: {each.annotations['summary']}")
            if each.receiver == "pager" and each.status == "firing":
                self._console.print(f"    {each.annotations['description']}")
                self._console.print(f"    its traces: {each.annotations['traces_url']}")
                self._console.print(f"    what to do: {each.annotations['runbook_url']}")

    def _incident_note(self, elapsed_s: float) -> str:
        after_s = self._options.incident_after_s
        if after_s is None or elapsed_s <= after_s:
            return ""
        if elapsed_s <= after_s + INCIDENT_FOR_S:
            return " - incident: 1.5.0 is being rolled out"
        return " - 1.5.0 was rolled back"

    def _print_plain(self, elapsed_s: float) -> None:
        for row in self._rows():
            pairs = zip(table.COLUMNS, table.texts(row), strict=True)
            text = " ".join(f"{name}={value}" for name, value in pairs)
            self._console.print(f"{elapsed_s:.0f}s {text}{self._incident_note(elapsed_s)}")

    def _rows(self) -> list[Row]:
        return table.rows(fetch(self._options.metrics) or "")

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

    def _summarize(self) -> None:
        data = self._options.data_dir
        shown = self._table(0)
        shown.title, shown.caption = "what was counted", None
        self._console.print(shown)
        self._console.print(
            f"metrics   were at {self._options.metrics}, the traces at {self._options.mlflow}\n"
            f"data      {data}: run the demo again, and the counters continue from here\n"
            "sampling  traced: half of the support questions, all billing questions, and one in twenty FAQ questions"
        )

    @contextmanager
    def _progress(self, what: str) -> Iterator[None]:
        if not self._console.is_terminal:
            self._console.print(what)
            yield
            return
        with self._console.status(what):
            yield
