"""The resident memory of `serve`, without traces and with 100,000 samples that are scraped.

`serve` can import only the packages of requirements-run.lock, which are linked into a separate folder.
"""

import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import mlflow_trace_exporter
from tests.benchmarks.figures import Figure, Setting, at_most, say
from tests.benchmarks.machine import resident_mb
from tests.benchmarks.store import Store, server
from tests.benchmarks.traffic import SERIES
from tests.benchmarks.watch import look
from tests.support.real import Exporter, Trace, eventually, now_ms

SAMPLES = 100_000
LABEL_SETS = SAMPLES // SERIES
LOCK = Path(__file__).parents[2] / "requirements-run.lock"
SCRAPES, EVERY_S = 30, 0.5
NEW = 50
"""How many traces end before each scrape."""
POLLED = "polls_total"
MAIN = "from mlflow_trace_exporter.commands.cli import main; main()"


def figures(setting: Setting) -> Iterator[Figure]:
    """Measure without traces, then with many."""
    packages = installed(LOCK, setting.folder("packages"))
    with server(setting.folder("mlflow")) as store:
        store.experiment("none")
        with exporter(store, setting.folder("idle"), "none", packages).running() as idle:
            eventually(lambda: look(idle).of_exporter(POLLED) >= 5, "it polls")
            scrape(idle)
            assert not look(idle).total
            yield Figure("resident, idle", resident_mb(idle.process.pid), "MB", goal=at_most(85))
        yield from with_samples(setting, store, packages)


def with_samples(setting: Setting, store: Store, packages: Path) -> Iterator[Figure]:
    """Measure with many label sets, some of which keep getting new traces."""
    experiment_id = store.experiment("many")
    store.insert(experiment_id, [trace(number, now_ms() - 3_600_000) for number in range(LABEL_SETS)])
    with exporter(store, setting.folder("many"), "many", packages).running() as many:
        eventually(lambda: look(many).total >= LABEL_SETS, "all are counted")
        for at in range(SCRAPES):
            store.insert(experiment_id, [trace(at * NEW + each, now_ms()) for each in range(NEW)])
            scrape(many)
            time.sleep(EVERY_S)
        eventually(lambda: look(many).total == LABEL_SETS + SCRAPES * NEW, "the new ones are counted")
        shown = look(many).of_exporter("series")
        assert shown > 0.99 * SAMPLES, f"{shown} series are shown"
        say(f"memory: {shown:,.0f} series, {look(many).of_exporter(POLLED):.0f} polls")
        pid = many.process.pid
        yield Figure("resident, 100,000 samples", resident_mb(pid), "MB", goal=at_most(200))
        yield Figure("resident, 100,000 samples, peak", resident_mb(pid, at_its_peak=True), "MB")


def trace(number: int, end_ms: int) -> Trace:
    """A trace of a label set."""
    at = number % LABEL_SETS
    tags = {"environment": "production", "app_version": f"1.{at % 50}"}
    return Trace(end_ms - 500, 500, name=f"name {at // 50}", tags=tags)


def exporter(store: Store, directory: Path, experiment: str, packages: Path) -> Exporter:
    """An exporter that finds only these packages."""
    config = {
        "mlflow": {"tracking_uri": store.uri, "experiments": [experiment]},
        "poll": {"interval": "1s", "start": "24h"},
        "series": {"zero_hold": "0s", "limit": 2 * SAMPLES},
        "labels": {"max_values": 1_000},
    }
    made = Exporter(directory, config, PYTHONPATH=str(packages))
    made._arguments[:3] = [sys.executable, "-S", "-c", MAIN]  # without -S, Python adds all that is installed
    return made


def installed(lock: Path, directory: Path) -> Path:
    """Make a folder with the exporter and the installed packages of a lock file, without those for other systems."""
    for name in re.findall(r"^([\w.-]+)==", lock.read_text(), re.MULTILINE):
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        for top in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (directory / top).exists():
                (directory / top).symlink_to(Path(str(found.locate_file(top))))
    package = Path(mlflow_trace_exporter.__file__).parent
    (directory / package.name).symlink_to(package)
    return directory


def scrape(exporter: Exporter) -> None:
    """Ask for /metrics the way Prometheus does."""
    headers = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
    with urllib.request.urlopen(
        urllib.request.Request(f"{exporter.url}/metrics", headers=headers), timeout=60
    ) as answer:
        assert answer.status == 200
        answer.read()
