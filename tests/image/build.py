"""Builds the Dockerfile with buildah, unchanged, on a stand-in for the image that it is made from.

The stand-in is Debian 12 with Debian's Python, made by debootstrap, and has the name of the real one. It is kept in
.image for the next run. Everything else is removed at the end.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support import PROJECT
from tests.support.real import tool

KEPT = PROJECT / ".image"
NAME = "mlflow-trace-exporter"

PACKAGES = ("ca-certificates", "python-is-python3", "python3-venv")
"""What the Dockerfile expects of its base image, beside what every Debian has."""

BASE = """\
FROM scratch
ADD base.tar /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""

PIP = Path("/etc/xdg/pip")
"""Where pip also looks for its configuration, in the containers of the build."""


@dataclass(frozen=True)
class Image:
    """A built image. ``root`` has its files, ``base_root`` those of what it is made from."""

    config: Mapping[str, Any]
    root: Path
    base_root: Path
    revision: str
    created: str

    @property
    def labels(self) -> dict[str, str]:
        """Those that say what it is, without what their names have in common."""
        prefix = "org.opencontainers.image."
        labels: Mapping[str, str] = self.config["Labels"]
        return {name.removeprefix(prefix): value for name, value in labels.items() if name.startswith(prefix)}

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its processes."""
        return dict(each.split("=", 1) for each in self.config["Env"])


@dataclass(frozen=True)
class Buildah:
    """buildah, with images and containers of its own in a folder. Its driver vfs copies files and mounts nothing."""

    folder: Path

    def __call__(self, *arguments: object) -> str:
        """Run a command; returns its output."""
        own = ("--root", self.folder / "storage", "--runroot", self.folder / "run", "--storage-driver", "vfs")
        command = [tool("buildah"), *map(str, (*own, *arguments))]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def build(self, context: Path, *arguments: object) -> None:
        """Build an image. Its format is Docker's, because OCI's has no health check."""
        how = ("--format", "docker", "--isolation", "chroot", "--network", "host", "--pull=never")
        self("build", *how, *arguments, context)

    def files(self, image: str) -> Path:
        """The files of an image."""
        return Path(self("mount", self("from", "--pull=never", image)))


@contextmanager
def built() -> Iterator[Image]:
    """The image, for the time of a block."""
    base = base_name()
    archive = _base()
    created, revision = f"{datetime.now(UTC):%FT%TZ}", _revision()
    with TemporaryDirectory(prefix="image-") as folder, TemporaryDirectory(prefix="pip-") as pip:
        buildah = Buildah(Path(folder))
        (KEPT / "Dockerfile").write_text(BASE)
        buildah.build(archive.parent, "--tag", f"docker.io/library/{base}")
        _write_pip_configuration(Path(pip))
        says = ("--build-arg", f"REVISION={revision}", "--build-arg", f"CREATED={created}")
        buildah.build(PROJECT, "--target", "exporter", "--tag", NAME, "--volume", f"{pip}:{PIP}:ro", *says)
        config = json.loads(buildah("inspect", "--type", "image", NAME))["Docker"]["config"]
        yield Image(config, buildah.files(NAME), buildah.files(base), revision, created)


def base_name() -> str:
    """The image from which the Dockerfile starts."""
    found = re.search(r"^FROM (\S+) AS base$", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def _base() -> Path:
    """The archive of the stand-in, which is made if there is none."""
    archive, files = KEPT / "base.tar", KEPT / "files"
    if not archive.exists():
        KEPT.mkdir(exist_ok=True)
        _remove(files)  # what is left if it was interrupted
        what = ("--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", str(files))
        subprocess.run([tool("debootstrap"), *what], check=True)
        unneeded = ("--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*", "--exclude=./dev/*")
        unfinished = archive.with_suffix(".unfinished")
        subprocess.run(["tar", "--create", f"--file={unfinished}", *unneeded, f"--directory={files}", "."], check=True)
        unfinished.rename(archive)
        _remove(files)
    return archive


def _remove(folder: Path) -> None:
    """Remove a folder, but not what is mounted in it."""
    subprocess.run(["rm", "--recursive", "--force", "--one-file-system", folder], check=True)


def _revision() -> str:
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _write_pip_configuration(folder: Path) -> None:
    """What pip needs on this machine to reach a package index. It is mounted during the build, and not in the image."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = {"[global]": None}
    for name, value in re.findall(r"^\S+\.(\S+)='(.*)'$", listed, re.MULTILINE):
        if Path(value).is_file():  # a certificate
            shutil.copy(value, folder / name)
            lines[f"{name} = {PIP / name}"] = None
        elif not value.startswith("/"):  # folders of this machine are not in the containers
            lines[f"{name} = {value}"] = None
    (folder / "pip.conf").write_text("\n".join(lines) + "\n")
