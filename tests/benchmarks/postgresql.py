"""A ledger in PostgreSQL beside one in a file: catch-up, polls and sizes.

PostgreSQL waits for the disk at each commit here, as in production, and as SQLite does. Both are on the disk of TMPDIR.
"""

import time
from collections.abc import Iterator
from contextlib import closing

from mlflow_trace_exporter.demo.processes import Processes, free_port
from mlflow_trace_exporter.ledger.opening import open_ledger
from tests.benchmarks.catch_up import caught_up
from tests.benchmarks.figures import Figure, Setting, median, say
from tests.benchmarks.store import month, server
from tests.benchmarks.traffic import Traffic
from tests.support.postgresql import PostgreSQL

ROUNDS = 3
POLLS = 20
SAMPLES = 100_000
NEW = 200


def figures(setting: Setting) -> Iterator[Figure]:
    """Measure both in turn."""
    data = setting.folder("postgresql")
    for folder in (setting.directory, data):
        folder.chmod(0o755)
    with Processes(setting.folder("logs")) as processes:
        database = PostgreSQL(data, "127.0.0.1", free_port(), syncs=True)
        database.start(processes)
        yield from catch_ups(setting, database)
        yield from polls(setting, database)


def catch_ups(setting: Setting, database: PostgreSQL) -> Iterator[Figure]:
    """Catch up into each."""
    with server(setting.folder("store")) as store:
        number = len(store.insert(store.experiment("month"), month(setting.traces)))
        files, databases = [], []
        for at in range(ROUNDS):
            files.append(caught_up(store, "month", number, setting.folder(f"file-{at}")))
            place = database.ledger(f"catch_up_{at}")
            databases.append(caught_up(store, "month", number, setting.folder(f"database-{at}"), place=place))
    bytes_in_file = (setting.directory / "file-0" / "ledger.db").stat().st_size
    with closing(open_ledger(database.ledger("catch_up_0"))) as ledger:
        bytes_in_database = ledger.size_bytes()
    ratio = median([one.took_s / other.took_s for one, other in zip(files, databases, strict=True)])
    yield Figure("catch-up, file", number / median([each.took_s for each in files]), "traces/s")
    took_s = median([each.took_s for each in databases])
    yield Figure("catch-up, PostgreSQL", number / took_s, "traces/s", ratio, "a file")
    yield Figure("catch-up, file: CPU per trace", median([each.cpu_s for each in files]) / number * 1e6, "us")
    yield Figure("catch-up, PostgreSQL: CPU per trace", median([each.cpu_s for each in databases]) / number * 1e6, "us")
    yield Figure("file", bytes_in_file / number, "bytes per trace")
    yield Figure(
        "PostgreSQL", bytes_in_database / number, "bytes per trace", bytes_in_database / bytes_in_file, "a file"
    )


def polls(setting: Setting, database: PostgreSQL) -> Iterator[Figure]:
    """Polls of an exporter with many series."""
    for new in (0, NEW):
        found = [
            poll_s(Traffic(SAMPLES, setting.folder(f"{new}-{name}"), place=place), new)
            for name, place in (("file", None), ("postgresql", database.ledger(f"polls_{new}")))
        ]
        yield Figure(f"poll with {new} new traces, file", found[0] * 1000, "ms")
        yield Figure(f"poll with {new} new traces, PostgreSQL", found[1] * 1000, "ms", found[1] / found[0], "a file")


def poll_s(traffic: Traffic, new: int) -> float:
    """How many seconds a poll takes, without the time of the simulated MLflow."""
    traffic.settle(new)
    took_s = []
    for _ in range(POLLS):
        began_s, mlflow_s = time.perf_counter(), traffic.mlflow.spent_s
        traffic.poll(new)
        took_s.append(time.perf_counter() - began_s - (traffic.mlflow.spent_s - mlflow_s))
    say(f"postgresql: {POLLS} polls counted {new} traces each, {min(took_s) * 1000:.0f} to {max(took_s) * 1000:.0f} ms")
    return median(took_s)
