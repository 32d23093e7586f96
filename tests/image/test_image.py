"""The image of the exporter, built and run for real. See CONTRIBUTING.md for what this needs."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlflow_trace_exporter import __version__
from mlflow_trace_exporter.demo.processes import HOST, fetch
from tests.image import container
from tests.image.build import Image, built
from tests.support.real import Mlflow, Trace, eventually, now_ms, samples

MB = 1024 * 1024
MOST_ABOVE_THE_BASE_MB = 160
"""135 MB were seen. With all of MLflow it would be several times as much."""

SIGTERM_S = 8
"""Docker kills what has not ended ten seconds after SIGTERM."""


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    if os.geteuid():
        pytest.fail("make image needs root")
    with built() as image:
        container.leave_the_network()
        yield image


@pytest.fixture(scope="session")
def user(image: Image) -> str:
    """The ids of the image's user."""
    entries = dict(line.split(":", 1) for line in (image.root / "etc" / "passwd").read_text().splitlines())
    _, uid, gid, _ = entries[image.config["User"]].split(":", 3)
    return f"{uid}:{gid}"


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", flush=True)  # noqa: T201 - figures for who builds it

    return say


def health_check(image: Image) -> list[str]:
    """The command that says whether a container is healthy."""
    kind, *command = map(str, image.config["Healthcheck"]["Test"])
    assert kind == "CMD"
    return command


def address(image: Image) -> str:
    """Where the exporter is, as long as one runs."""
    (port,) = image.config["ExposedPorts"]
    return f"http://{HOST}:{port.removesuffix('/tcp')}"


def metrics(image: Image) -> str:
    return fetch(f"{address(image)}/metrics") or ""


@contextmanager
def serving(image: Image, user: str, mlflow: Mlflow) -> Iterator[container.Container]:
    """The command of the image, once it is ready."""
    command = [*image.config["Entrypoint"], *image.config["Cmd"]]
    with container.running(image, user, command, MLFLOW_TRACKING_URI=mlflow.uri) as running:
        eventually(lambda: fetch(f"{address(image)}/-/ready"), "it is ready")
        yield running


def mb(root: Path) -> float:
    """The size of the files in a folder, in MB."""
    found = subprocess.run(["du", "--summarize", "--bytes", root], check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(found.split()[0]) / MB


def test_it_counts_on_a_read_only_root_until_sigterm(
    image: Image, user: str, mlflow: Mlflow, say: Callable[[str], None]
) -> None:
    experiment = mlflow.experiment()

    def counted() -> float:
        found = samples(metrics(image))
        return sum(value for name, value in found.items() if re.match(rf'mlflow_traces_total.*"{experiment}"', name))

    with serving(image, user, mlflow) as running:
        assert running.run(*health_check(image)) == 0
        mlflow.log(experiment, Trace(now_ms()))
        eventually(lambda: counted() == 1, "it counts a trace")
        assert running.run("touch", "/var/tmp/file") != 0, "everybody may write there, but not on a read-only root"
        assert running.run("touch", "/tmp/file", f"{image.config['WorkingDir']}/file") == 0
        status = Path(f"/proc/{running.pid}/status").read_text()
        resident = int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024
        began = time.monotonic()
        os.kill(running.pid, signal.SIGTERM)
        code = running.popen.wait(30)
        took_s = time.monotonic() - began
    assert (code, took_s < SIGTERM_S) == (0, True), f"exit code {code} after {took_s:.1f} s"
    say(f"{resident:.0f} MB resident; it ended {took_s:.1f} s after SIGTERM")


def test_any_user_of_group_0_can_run_it(image: Image, mlflow: Mlflow) -> None:
    """As on OpenShift."""
    with serving(image, "1000650000:0", mlflow) as running:
        assert running.run(*health_check(image)) == 0
        assert f'version="{__version__}"' in metrics(image)
    assert metrics(image) == "", "it has ended"


def test_a_volume_belongs_to_its_user_and_group_0(image: Image, user: str) -> None:
    folder = (image.root / image.config["WorkingDir"].lstrip("/")).stat()
    assert (user, folder.st_uid, folder.st_gid) == ("10500:10500", 10500, 0)
    assert folder.st_mode >> 3 & 0o7 == folder.st_mode >> 6 & 0o7 == 0o7


def test_without_an_exporter_its_health_check_fails(image: Image, user: str) -> None:
    assert container.run(image, user, *health_check(image)) == 1


@pytest.mark.parametrize(("module", "code"), [("psycopg", 0), ("pip", 1), ("mlflow.server", 1)])
def test_what_is_installed(module: str, code: int, image: Image, user: str) -> None:
    assert container.run(image, user, "python", "-c", f"import {module}") == code


def test_it_says_what_it_is(image: Image) -> None:
    labels, names = image.labels, ("title", "description", "version", "licenses", "base.name", "revision", "created")
    assert [name for name in names if not labels.get(name)] == []
    assert (labels["version"], labels["revision"], labels["created"]) == (__version__, image.revision, image.created)


def test_nothing_of_the_machine_that_built_it_is_in_it(image: Image) -> None:
    assert list(image.root.rglob("pip.conf")) == []
    names = {name for name in image.environment if re.search("pip|proxy", name, re.IGNORECASE)}
    assert names == set()


def test_its_size(image: Image, say: Callable[[str], None]) -> None:
    whole, base = mb(image.root), mb(image.base_root)
    say(f"the image has {whole:.0f} MB, of which {whole - base:.0f} MB are above its base")
    assert whole - base < MOST_ABOVE_THE_BASE_MB
