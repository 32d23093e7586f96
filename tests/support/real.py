"""Real components for tests: an MLflow server, exporter processes, and the tools that a test may need."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import pytest
import requests
import yaml
from mlflow import MlflowClient
from mlflow.entities import AssessmentSource, Feedback, TraceInfo, TraceLocation, TraceState
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.pool import NullPool

from mlflow_trace_exporter.demo.processes import HOST, Process, Processes, fetch, sqlite_in
from mlflow_trace_exporter.domain.spans import NS
from tests.support.ports import free_port
from tests.support.prometheus_api import PrometheusApi
from tests.support.waiting import HANG_S

T = TypeVar("T")


_WITHOUT_PROGRESS = """
from importlib.util import LazyLoader, find_spec, module_from_spec
spec = find_spec("mlflow_trace_exporter.commands.progress")
spec.loader = LazyLoader(spec.loader)
sys.modules[spec.name] = module_from_spec(spec)
spec.loader.exec_module(sys.modules[spec.name])
sys.modules[spec.name].LINE_S = float("inf")
"""
"""A command that takes long says how far it is, and how long it takes depends on the machine."""


def _with_skinny(*missing: str) -> tuple[str, ...]:
    script = f"""
import sys
sys.modules |= dict.fromkeys({missing})
{_WITHOUT_PROGRESS}
from mlflow_trace_exporter.commands.cli import main
main()
"""
    return sys.executable, "-c", script


EXPORTER = _with_skinny("numpy", "pandas", "pyarrow", "scipy")
"""The command as users have it: with mlflow-skinny, without what the full MLflow of the tests takes long to import."""
EXPORTER_WITH_USERS = _with_skinny("pandas", "pyarrow", "scipy")
"""The same with the extra ``users``, which needs NumPy."""


def eventually(probe: Callable[[], T | bool | None], what: str, timeout_s: float = HANG_S, every_s: float = 0.1) -> T:
    """What ``probe`` returns once that is true; fails the test if it is not within the time."""
    deadline = time.monotonic() + timeout_s
    while True:
        is_last = time.monotonic() > deadline  # there is one after the deadline, because this process may stand still
        if found := probe():
            return found  # type: ignore[return-value]  # it is true, so it is a T
        if is_last:
            pytest.fail(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(every_s)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def tool(name: str) -> str:
    """The path of a program that is no Python package; without it the test is skipped, or fails under REQUIRE_TOOLS."""
    path = shutil.which(name)
    if path is None:
        complain = pytest.fail if os.environ.get("REQUIRE_TOOLS") else pytest.skip
        complain(f"{name} is not on PATH")
    return path


@dataclass(frozen=True)
class Trace:
    """A trace as a test wants MLflow to hold it."""

    start_ms: int
    duration_ms: int | None = 100
    state: str = "OK"
    name: str | None = "support"
    finalized: bool = True
    trace_id: str | None = None
    """None lets one be made up."""
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


ODD_IDS = (
    *(" ", "a b", "it's", '"', "''", "100%", "_", "\\", "a\\", "\\x41", ";--", "/*", "(a,b)", "`a`", "$1", "?", ":a"),
    *("\0", "tr-a\0b", "\n", "\t", "\x1b[31m", "\x85", "\u202e", "\ufeff"),
    *("日本", "é", "e\u0301", "ﬁ", "\N{KELVIN SIGN}", "\N{GRINNING FACE}"),
)
"""MLflow takes whatever id a client makes up."""


SERVER_PYTHON = "SERVER_PYTHON"
"""The environment variable that names the Python which has the MLflow of the servers; see tests/compatibility.py."""


_IN_ONE_PROCESS = """
import os
from mlflow import server
from mlflow.cli import cli
from uvicorn.main import main
def run_here(command, *, extra_env, **_):
    os.environ |= extra_env
    main(command[3:])
server._exec_cmd = run_here
cli()
"""
"""`mlflow`, whose server is another process, `python -m uvicorn`. That takes as long again to import the same."""


class ServerProcesses(Processes):
    """Processes of which the MLflow servers start faster, or have a Python of their own."""

    def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Process:
        if name != "mlflow":
            return super().start(name, arguments, environment)
        if python := os.environ.get(SERVER_PYTHON):
            return self.start_program(name, [python, "-m", *arguments], environment)
        return self.start_program(name, [sys.executable, "-c", _IN_ONE_PROCESS, *arguments[1:]], environment)


class Mlflow:
    """A running MLflow server, on SQLite unless another database is named."""

    def __init__(self, data: Path, processes: Processes, port: int, store: str | None = None) -> None:
        self.uri = f"http://{HOST}:{port}"
        self._store = store or sqlite_in(data)
        self._database = create_engine(self._store, poolclass=NullPool)
        self._processes = processes
        self._data, self._port = data, port
        self._numbers = count(1)
        self.start()
        self.client = MlflowClient(self.uri)

    @property
    def dialect(self) -> str:
        """The kind of its database."""
        return self._database.dialect.name

    def start(self) -> None:
        self._process = self._processes.start_mlflow(self._data, self._port, self._store)
        self._processes.wait_until_ready(f"{self.uri}/health", lambda: False, HANG_S)

    def stop(self) -> None:
        self._processes.stop(self._process)

    def experiment(self, name: str | None = None) -> str:
        """Make an experiment; returns its name."""
        name = name or f"experiment-{time.time_ns()}"
        self.client.create_experiment(name)
        return name

    def log(self, experiment: str, *traces: Trace) -> list[str]:
        """Send traces the way a client does, one request each. Returns their ids."""
        store = self.client._tracing_client.store  # there is no public way to choose the times
        found = self.experiment_id(experiment)
        ids = [trace.trace_id or self._new_id() for trace in traces]
        for trace_id, trace in zip(ids, traces, strict=True):
            store.start_trace(
                TraceInfo(
                    trace_id=trace_id,
                    trace_location=TraceLocation.from_experiment_id(found),
                    request_time=trace.start_ms,
                    execution_duration=trace.duration_ms,
                    state=TraceState(trace.state),
                    trace_metadata=dict(trace.metadata),
                    tags={**({"mlflow.traceName": trace.name} if trace.name else {}), **trace.tags},
                )
            )
        return ids

    def assess(self, trace_id: str, name: str, value: Any, source: str = "HUMAN", **fields: Any) -> str:
        """Give a feedback. Returns its id."""
        feedback = Feedback(name=name, value=value, source=AssessmentSource(source, "x"), trace_id=trace_id, **fields)
        store = self.client._tracing_client.store  # the public functions use the server of the environment
        return str(store.create_assessment(feedback).assessment_id)

    def insert(self, experiment: str, traces: Iterable[Trace]) -> list[str]:
        """Put many traces into the server's database at once, as the rows that the server would make of them."""
        found, ids = self.experiment_id(experiment), []
        with self._database.begin() as db:
            columns = {column["name"] for column in inspect(db).get_columns("trace_info")}
            for trace in traces:
                trace_id = trace.trace_id or self._new_id()
                ids.append(trace_id)
                row = {"id": trace_id, "at": trace.start_ms, "ms": trace.duration_ms, "state": trace.state}
                db.execute(_INSERT, {**row, "experiment": int(found)})
                _annotate(db, trace_id, trace)
                _fill_columns(db, trace_id, trace, columns)
        return ids

    def insert_span(
        self,
        experiment: str,
        trace_ids: Sequence[str],
        name: str,
        status: str = "OK",
        span_type: str = "TOOL",
        attributes: Mapping[str, Any] = MappingProxyType({}),
        streamed: bool = False,
    ) -> None:
        """Put a span of a second into each of these traces in the server's database: one without inputs and outputs.
        MLflow compares its start with the times that are searched for. ``streamed``: it has a first chunk."""
        found, at_ns = int(self.experiment_id(experiment)), time.time_ns()
        first_chunk = {"name": "mlflow.chunk.item.0", "time_unix_nano": at_ns + NS // 2, "attributes": {}}
        with self._database.begin() as db:
            for trace_id in trace_ids:
                span_id = f"{next(self._numbers):016x}"
                own = {"mlflow.traceRequestId": trace_id, "mlflow.spanType": span_type, **attributes}
                content: dict[str, Any] = {
                    "trace_id": _in_base64(trace_id.removeprefix("tr-")),
                    "span_id": _in_base64(span_id),
                    "parent_span_id": None,
                    "name": name,
                    "start_time_unix_nano": at_ns,
                    "end_time_unix_nano": at_ns + NS,
                    "events": [first_chunk] if streamed else [],
                    "status": {"code": f"STATUS_CODE_{status}", "message": ""},
                    "attributes": {key: json.dumps(value) for key, value in own.items()},
                }
                row = {"trace": trace_id, "experiment": found, "span": span_id, "name": name, "type": span_type}
                row |= {"status": status, "at": at_ns, "content": json.dumps(content)}
                db.execute(_INSERT_SPAN, row)
                db.execute(_LOCATE_SPANS, {"trace": trace_id})

    def annotate(self, trace_id: str, trace: Trace) -> None:
        """Give a trace that is there the tags, the metadata and the mark of ``trace``."""
        with self._database.begin() as db:
            _annotate(db, trace_id, trace)

    def end(self, trace_id: str, duration_ms: int, state: str = "OK") -> None:
        """End a trace that was logged as running."""
        with self._database.begin() as db:
            db.execute(
                text("UPDATE trace_info SET status = :state, execution_time_ms = :ms WHERE request_id = :id"),
                {"state": state, "ms": duration_ms, "id": trace_id},
            )

    def experiment_id(self, name: str) -> str:
        return str(self.client.get_experiment_by_name(name).experiment_id)

    def _new_id(self) -> str:
        return f"tr-{time.time_ns():016x}{next(self._numbers):016x}"


_INSERT_SPAN = text(
    "INSERT INTO spans (trace_id, experiment_id, span_id, name, type, status, start_time_unix_nano, content)"
    " VALUES (:trace, :experiment, :span, :name, :type, :status, :at, :content)"
)
_LOCATE_SPANS = text(
    "INSERT INTO trace_tags (request_id, key, value) SELECT :trace, 'mlflow.trace.spansLocation', 'TRACKING_STORE'"
    " WHERE NOT EXISTS (SELECT 1 FROM trace_tags WHERE request_id = :trace AND key = 'mlflow.trace.spansLocation')"
)
_INSERT = text(
    "INSERT INTO trace_info (request_id, experiment_id, timestamp_ms, execution_time_ms, status)"
    " VALUES (:id, :experiment, :at, :ms, :state)"
)


def _fill_columns(db: Connection, trace_id: str, trace: Trace, columns: set[str]) -> None:
    """What MLflow from 3.17 on keeps beside the tags and metadata, and gives in their place."""
    if "trace_name" not in columns:
        if trace.name is not None:
            tag = text("INSERT INTO trace_tags (request_id, key, value) VALUES (:id, 'mlflow.traceName', :name)")
            db.execute(tag, {"name": trace.name, "id": trace_id})
        return
    found = {"trace_name": trace.name, "session_id": trace.metadata.get("mlflow.trace.session")}
    for key in ("mlflow.trace.tokenUsage", "mlflow.trace.cost"):
        found |= json.loads(trace.metadata.get(key, "{}"))
    names = ", ".join(f"{name} = :{name}" for name in found)
    db.execute(text(f"UPDATE trace_info SET {names} WHERE request_id = :id"), {**found, "id": trace_id})


def _in_base64(number: str) -> str:
    """A hexadecimal number as spans have it."""
    return base64.b64encode(bytes.fromhex(number)).decode()


def _annotate(db: Connection, trace_id: str, trace: Trace) -> None:
    metadata = {**({"mlflow.trace.infoFinalized": "true"} if trace.finalized else {}), **trace.metadata}
    for table, pairs in (("trace_tags", trace.tags), ("trace_request_metadata", metadata)):
        rows = [{"id": trace_id, "key": key, "value": value} for key, value in pairs.items()]
        if rows:
            db.execute(text(f"INSERT INTO {table} (request_id, key, value) VALUES (:id, :key, :value)"), rows)


Samples = dict[str, float]
"""Values by sample, written as ``name{label="value",…}`` with the labels in alphabetical order."""


def samples(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


class Exporter:
    """A process of `serve`, with the configuration of a test."""

    def __init__(
        self, directory: Path, config: Mapping[str, Any], *flags: str, scheme: str = "http", **environment: str
    ) -> None:
        self.url = f"{scheme}://{HOST}:{free_port()}"
        self._file = directory / "exporter.yml"
        defaults = {"ledger": {"path": str(directory / "ledger.db")}, "series": {"zero_hold": "0s"}}
        self._file.write_text(yaml.safe_dump({**defaults, **config}))
        command = EXPORTER_WITH_USERS if "active_users" in config else EXPORTER
        self._arguments = [*command, "serve", f"--config.file={self._file}"]
        self._arguments += [f"--web.listen-address={self.url.partition('://')[2]}", *flags]
        self._environment = {**os.environ, "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{HANG_S:.0f}", **environment}
        self._log = directory / "exporter.log"

    @contextmanager
    def running(self) -> Iterator["Exporter"]:
        """Run it for the time of a block."""
        with self._log.open("ab") as log:
            process = self.process = subprocess.Popen(self._arguments, stdout=log, stderr=log, env=self._environment)
        try:
            eventually(lambda: process.poll() is not None or self._listens(), "the exporter runs")
            assert process.poll() is None, self.log()
            yield self
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _listens(self) -> bool:
        if self.url.startswith("http:"):
            return fetch(f"{self.url}/-/healthy") is not None
        with socket.socket() as probe:  # whom it answers there is for the test to see
            return probe.connect_ex((HOST, int(self.url.rpartition(":")[2]))) == 0

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to stop; fails the test if it hangs.

        How long it waits at most is a constant of ``service``. How long it takes depends on the machine, so tests that
        show that it does not wait for something let that take longer than they wait.
        """
        self.process.send_signal(number)
        self.process.wait(HANG_S)

    def threads(self) -> int:
        """How many it has; Linux alone tells."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def log(self) -> str:
        return self._log.read_text()

    def text(self) -> str:
        return fetch(f"{self.url}/metrics", HANG_S) or ""

    def samples(self) -> Samples:
        return samples(self.text())

    def traces_page(self, **query: str) -> str:
        """The page of traces, once MLflow was fast enough for it to look at all that it has to."""

        def whole() -> str | None:
            answer = requests.get(f"{self.url}/traces", params=query, timeout=HANG_S)
            return answer.text if answer.ok and "Not all traces in this time range" not in answer.text else None

        return eventually(whole, "MLflow answers in time")

    def after_next_poll(self) -> Samples:
        """The samples once a poll is over that began after now."""
        name = "mlflow_trace_exporter_polls_total"
        polls = self.samples().get(name, 0)
        return eventually(lambda: found if (found := self.samples()).get(name, 0) >= polls + 2 else None, "two polls")


class Prometheus:
    """A running Prometheus that scrapes ``targets`` (by job) every second; ``scrape`` says how, as in its own file.
    ``rules`` is a file of rules."""

    def __init__(self, directory: Path, targets: Mapping[str, str], rules: Path | None = None, **scrape: Any) -> None:
        self.url = f"http://{HOST}:{free_port()}"
        self._directory = directory
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "rule_files": [str(rules)] if rules else [],
            "scrape_configs": [
                {
                    "job_name": job,
                    "honor_labels": True,
                    "static_configs": [{"targets": [url.partition("://")[2]]}],
                    "scheme": url.partition("://")[0],
                    **scrape,
                }
                for job, url in targets.items()
            ],
        }
        self._file = directory / "prometheus.yml"
        self._file.write_text(yaml.safe_dump(config))

    @contextmanager
    def running(self) -> Iterator["Prometheus"]:
        """Run it for the time of a block."""
        address = self.url.removeprefix("http://")
        arguments = [tool("prometheus"), f"--config.file={self._file}", f"--web.listen-address={address}"]
        arguments += [f"--storage.tsdb.path={self._directory / 'prometheus'}", "--enable-feature=exemplar-storage"]
        with (self._directory / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(arguments, stdout=log, stderr=log)
        try:
            eventually(lambda: fetch(f"{self.url}/-/ready"), "Prometheus is ready")
            yield self
        finally:
            process.kill()  # nobody needs what it has
            process.wait()

    @property
    def api(self) -> PrometheusApi:
        """What answers."""
        return PrometheusApi(self.url)

    def value(self, query: str) -> float | None:
        """What an instant query gives, None for nothing; fails the test for more than one series."""
        return self.api.value(query)

    def exemplars(self, query: str) -> list[Mapping[str, Any]]:
        """The exemplars of series, of the last ten years."""
        start_s = time.time() - 10 * 365 * 86_400
        found = self.api.get("query_exemplars", query=query, start=f"{start_s:.0f}", end=f"{time.time() + 60:.0f}")
        return [exemplar for series in found for exemplar in series["exemplars"]]
