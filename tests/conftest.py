"""What every run starts from, whoever starts it and where: signals, environment, hypothesis, the order of the tests."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

    from tests.support.real import Mlflow

IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
"""subprocess gives both back to the processes that it starts."""

OF_WHO_STARTS_IT = re.compile(
    r"(MLFLOW|OTEL|OPENAI|LC)_.*|LANG|LANGUAGE"  # they may name a server that is somebody's, or a language
    r"|COLUMNS|LINES|TERM|COLORTERM|NO_COLOR|FORCE_COLOR|CLICOLOR(_FORCE)?|TTY_(COMPATIBLE|INTERACTIVE)"
    r"|(?i:(http|https|ftp|all|no)_proxy)"  # all servers of the tests are on this machine
)
"""Variables of the environment that change what the tests see. A test sets those that it needs."""


def pytest_configure() -> None:
    catch_ignored_signals()
    keep_bytecode()
    for name in filter(OF_WHO_STARTS_IT.fullmatch, list(os.environ)):
        del os.environ[name]
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.umask(0o022)  # PostgreSQL runs as a user of its own, and has to get at its files
    # CI=1 in the environment selects another profile; how long an example takes depends on what else the machine does
    settings.register_profile(
        "any machine", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("any machine")


def keep_bytecode() -> None:
    """Keep what is compiled, whatever the environment says.

    Else each worker rewrites the assertions of all tests, and each of the many exporters compiles all of its modules.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def catch_ignored_signals() -> None:
    """Let the processes of the tests begin with the signals as a terminal gives them.

    What a parent ignores (SIGHUP under nohup, SIGINT in the background of a script), its children ignore too. A signal
    that is caught, even by a function that does nothing, has its default action in a child.
    """
    for number in signal.valid_signals() - IGNORED_BY_PYTHON:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _do_nothing)


def _do_nothing(*_: object) -> None:
    """Here the signal is as good as ignored."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start what takes long first, so that in the end no worker is left with it while the others have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


ON_ONE_WORKER = (
    "tests/e2e/test_backfill.py",
    "tests/e2e/test_dashboards.py",
    "tests/e2e/test_remote_write.py",
    "tests/integration/test_cookbook.py",
    "tests/integration/test_demo_applications.py",
    "tests/integration/test_faults_in_postgresql.py",
    "tests/integration/test_ledger_in_postgresql.py",
    "tests/integration/test_postgresql.py",
    "tests/integration/test_spans.py",
)
"""Modules with a fixture that takes long: it is made once, and not for each worker that gets some of their tests."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "LoadScopeScheduling | None":
    """Of --dist=loadscope: a worker gets one test after another, or one of these modules as a whole.

    --dist=loadgroup, which is made for this, ignores its groups under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling  # there may be no xdist

    if config.getoption("dist") != "loadscope":
        return None
    scheduling = LoadScopeScheduling(config, log)
    scheduling._split_scope = _what_stays_together
    return scheduling


def _what_stays_together(nodeid: str) -> str:
    module = nodeid.partition("::")[0]
    return module if module in ON_ONE_WORKER else nodeid


@pytest.fixture(autouse=True)
def _settings_of_the_client_end_with_the_test() -> Iterator[None]:
    """It keeps them in the environment, and what the user had set there for as long as the process lives."""
    yield
    for name in [name for name in os.environ if name.startswith("MLFLOW_HTTP_REQUEST_")]:
        del os.environ[name]
    if variables := sys.modules.get("mlflow_trace_exporter.tracking.variables"):
        variables._timeout_of_the_user.cache_clear()


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Mlflow"]:
    """One MLflow server for all tests of a worker; each makes an experiment of its own."""
    from tests.support.ports import free_port
    from tests.support.real import Mlflow, ServerProcesses  # imports mlflow, which reads the environment

    data = tmp_path_factory.mktemp("mlflow")
    with ServerProcesses(data) as processes:
        yield Mlflow(data, processes, free_port())
