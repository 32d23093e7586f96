"""A real MLflow server with a database into which traces can be inserted fast enough for a benchmark."""

import json
import random
import sqlite3
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread

from mlflow_trace_exporter.demo.processes import Process, Processes, free_port
from tests.support.real import Mlflow, Trace, now_ms

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_STEP_S = 0.2
_PAGE = 5_000


class _Server(Processes):
    """Starts an MLflow server with a given number of workers."""

    def __init__(self, logs: Path, workers: int) -> None:
        super().__init__(logs)
        self._workers = str(workers)
        self.pid = 0

    def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Process:
        before = ["--workers", "1"]
        at = list(arguments).index("--workers")
        assert list(arguments[at : at + 2]) == before, "the server is started with one worker"
        changed = [*arguments[: at + 1], self._workers, *arguments[at + 2 :]]
        process = super().start(name, changed, environment)
        self.pid = process.popen.pid
        return process


class Store:
    """An MLflow server on SQLite. ``pid`` is its main process, which leads the session of all its processes."""

    def __init__(self, mlflow: Mlflow, database: Path, pid: int) -> None:
        self.mlflow = mlflow
        self.uri = mlflow.uri
        self.database = database
        self.pid = pid
        self._ids = random.Random(1)

    def experiment(self, name: str) -> str:
        """Create an experiment. Returns its id."""
        return self.mlflow.experiment_id(self.mlflow.experiment(name))

    def connect(self) -> sqlite3.Connection:
        """Open the server's database. Nothing in it has to survive a crash."""
        db = sqlite3.connect(self.database, timeout=30)
        db.execute("PRAGMA synchronous = OFF")
        return db

    def write_ahead(self) -> None:
        """Set the database to WAL mode, in which a writer does not block readers."""
        with closing(self.connect()) as db:
            db.execute("PRAGMA journal_mode = WAL")

    def insert(self, experiment_id: str, traces: Iterable[Trace]) -> list[str]:
        """Insert traces as the rows that the server would make of them. Returns their ids."""
        ids: list[str] = []
        with closing(self.connect()) as db:
            some: list[Trace] = []
            for trace in traces:
                some.append(trace)
                if len(some) == _PAGE:
                    ids += self._insert(db, experiment_id, some)
                    some = []
            ids += self._insert(db, experiment_id, some)
        return ids

    def add_spans(self, experiment_id: str, number: int, size: int) -> None:
        """Give each trace of an experiment ``number`` spans, each with ``size`` bytes of inputs and outputs: copies of
        the spans of a trace that MLflow's SDK logs."""
        other = self.experiment(f"spans of {experiment_id}")
        script = [sys.executable, "-c", _ONE_TRACE, self.uri, other, str(number), str(size)]
        subprocess.run(script, check=True, capture_output=True)
        with closing(self.connect()) as db, db:
            db.create_function("raw", 1, lambda trace_id: b64encode(bytes.fromhex(trace_id[3:])).decode())
            columns = [row[1] for row in db.execute("PRAGMA table_info(spans)")]  # without generated ones
            changed = {
                "trace_id": "request_id",
                "experiment_id": "trace_info.experiment_id",
                "content": "replace(replace(content, trace_id, request_id), raw(trace_id), raw(request_id))",
            }
            values = ", ".join(changed.get(column, f"spans.{column}") for column in columns)
            db.execute(
                f"INSERT INTO spans ({', '.join(columns)}) SELECT {values} FROM spans, trace_info"
                " WHERE spans.experiment_id = ? AND trace_info.experiment_id = ?",
                (int(other), int(experiment_id)),
            )
            db.execute(
                "INSERT INTO trace_tags (request_id, key, value)"
                " SELECT request_id, 'mlflow.trace.spansLocation', 'TRACKING_STORE' FROM trace_info"
                " WHERE experiment_id = ?",
                (int(experiment_id),),
            )

    def _insert(self, db: sqlite3.Connection, experiment_id: str, traces: Sequence[Trace]) -> list[str]:
        named = [(trace.trace_id or f"tr-{self._ids.getrandbits(128):032x}", trace) for trace in traces]
        with db:
            db.executemany(
                f"INSERT INTO trace_info ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})",
                [_info(trace_id, int(experiment_id), trace) for trace_id, trace in named],
            )
            db.executemany(
                "INSERT INTO trace_tags (request_id, key, value) VALUES (?, ?, ?)",
                [(trace_id, *pair) for trace_id, trace in named for pair in trace.tags.items()],
            )
            db.executemany(
                "INSERT INTO trace_request_metadata (request_id, key, value) VALUES (?, ?, ?)",
                [(trace_id, *pair) for trace_id, trace in named for pair in _metadata(trace).items()],
            )
        return [trace_id for trace_id, _ in named]


_ONE_TRACE = """
import sys, mlflow
_, uri, experiment_id, spans, size = sys.argv
mlflow.set_tracking_uri(uri)
mlflow.set_experiment(experiment_id=experiment_id)
USAGE = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
def fill(span):
    span.set_inputs({"question": "x" * (int(size) // 2)})
    span.set_outputs({"answer": "y" * (int(size) // 2)})
with mlflow.start_span("support") as root:
    fill(root)
    for number in range(1, int(spans)):
        with mlflow.start_span(f"step {number}", span_type=("TOOL", "LLM")[number % 2]) as span:
            fill(span)
            if number % 2:
                span.set_attributes({"mlflow.llm.model": "gpt-4o", "mlflow.chat.tokenUsage": USAGE})
mlflow.flush_trace_async_logging()
"""

_AMOUNTS = {
    "mlflow.trace.tokenUsage": ("input_tokens", "output_tokens", "total_tokens"),
    "mlflow.trace.cost": ("input_cost", "output_cost", "total_cost"),
}
_COLUMNS = (
    *("request_id", "experiment_id", "timestamp_ms", "execution_time_ms", "status", "trace_name", "session_id"),
    *(column for columns in _AMOUNTS.values() for column in columns),
)


def _info(trace_id: str, experiment_id: int, trace: Trace) -> tuple[object, ...]:
    """The values of _COLUMNS."""
    amounts = {key: json.loads(trace.metadata.get(key, "{}")) for key in _AMOUNTS}
    return (
        *(trace_id, experiment_id, trace.start_ms, trace.duration_ms, trace.state, trace.name),
        trace.metadata.get("mlflow.trace.session"),
        *(amounts[key].get(column) for key, columns in _AMOUNTS.items() for column in columns),
    )


def _metadata(trace: Trace) -> dict[str, str]:
    return {**({"mlflow.trace.infoFinalized": "true"} if trace.finalized else {}), **trace.metadata}


@contextmanager
def server(directory: Path, workers: int = 1) -> Iterator[Store]:
    """Run a server for the duration of a block."""
    with _Server(directory, workers) as processes:
        mlflow = Mlflow(directory, processes, free_port())
        yield Store(mlflow, directory / "mlflow.db", processes.pid)


def realistic(dice: random.Random, start_ms: int, duration_ms: int) -> Trace:
    """A trace of a chatbot, of about 624 bytes in a response; a few have failed."""
    usage = {"input_tokens": dice.randrange(2_000), "output_tokens": dice.randrange(500)}
    metadata = {
        "mlflow.trace.user": f"user-{dice.randrange(100)}",
        "mlflow.trace.session": f"session-{dice.randrange(500)}",
        "mlflow.trace.tokenUsage": json.dumps(usage),
        "mlflow.trace.cost": json.dumps({"input_cost": 0.001, "output_cost": 0.002}),
        "mlflow.source.name": "/srv/chatbot/main.py",
    }
    tags = {"environment": dice.choice(["production", "staging"]), "app_version": dice.choice(["1.4.0", "1.5.0"])}
    state = "ERROR" if dice.random() < 0.05 else "OK"
    return Trace(start_ms, duration_ms, state, dice.choice(["support", "billing"]), tags=tags, metadata=metadata)


def month(number: int) -> Iterator[Trace]:
    """Traces over a month that ended four hours ago. No two start in the same millisecond."""
    dice = random.Random(1)
    first_ms = now_ms() - 30 * DAY_MS - 4 * HOUR_MS
    for at in range(number):
        yield realistic(dice, first_ms + 30 * DAY_MS * at // number, int(dice.lognormvariate(0, 1) * 1000))


class Driver:
    """Inserts traces that end at a steady ``rate`` per second. ``make`` makes a trace from its end (Unix ms).

    ``ends_s`` are the ends of the traces so far, in Unix seconds, in order; ``ids`` their ids.
    """

    def __init__(self, store: Store, experiment_id: str, rate: float, make: Callable[[int], Trace]) -> None:
        self._store, self._experiment_id = store, experiment_id
        self._rate, self._make = rate, make
        self.ends_s: list[float] = []
        self.ids: list[str] = []
        self.lag_s = 0.0
        """The maximum delay of the driver."""

    def run(self, for_s: float, stop: Event) -> None:
        """Insert traces as they end, until the time is up or ``stop`` is set."""
        began_s, made = time.time(), 0
        while made < round(for_s * self._rate) and not stop.wait(_STEP_S):
            due = min(round(for_s * self._rate), int((time.time() - began_s) * self._rate))
            self._add(began_s + made / self._rate, due - made)
            made = due
            self.lag_s = max(self.lag_s, time.time() - began_s - made / self._rate)

    def _add(self, first_s: float, number: int) -> None:
        ends_s = [first_s + at / self._rate for at in range(number)]
        self.ids += self._store.insert(self._experiment_id, (self._make(int(end_s * 1000)) for end_s in ends_s))
        self.ends_s += ends_s


@contextmanager
def driving(drivers: Sequence[Driver], for_s: float) -> Iterator[None]:
    """Run drivers for the duration of a block."""
    stop = Event()
    threads = [Thread(target=driver.run, args=(for_s, stop)) for driver in drivers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
