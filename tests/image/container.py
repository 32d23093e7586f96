"""Runs an image without a container engine: as another user, on a read-only root, in namespaces of its own."""

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.image.build import Image
from tests.support.real import tool

CLONE_NEWNET = 0x40000000

MOUNTED = """
set -e
root=$1 volume=$2 folder=$3
shift 3
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind "$volume" "$root$folder"
mount -o remount,bind,ro "$root"
exec "$@"
"""


def leave_the_network() -> None:
    """This process and those that it starts get a network of their own, in which every port is free."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run([tool("ip"), "link", "set", "lo", "up"], check=True)


@dataclass(frozen=True)
class Container:
    """A running container: a process that has ``pid`` outside of it."""

    image: Image
    user: str
    popen: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """That of its first process, which is the child of unshare."""
        return self._children()[0]

    def kill(self) -> None:
        """End all that still runs in it: the first process takes the others with it, and unshare ends after that."""
        for pid in self._children() if self.popen.poll() is None else ():
            os.kill(pid, signal.SIGKILL)
        self.popen.wait()

    def _children(self) -> list[int]:
        pid = self.popen.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def run(self, *command: str) -> int:
        """Run a command beside what runs in it; returns its exit code."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--"]
        return subprocess.run([*enter, *_inside(self.image, self.user, command)], check=False).returncode


@contextmanager
def running(image: Image, user: str, command: Sequence[str], **environment: str) -> Iterator[Container]:
    """A container for the time of a block. ``user``: an id of a user and one of a group, such as ``10500:0``."""
    (folder,) = image.config["Volumes"]
    with TemporaryDirectory(prefix="volume-") as volume:
        within = image.root / folder.lstrip("/")
        shutil.copystat(within, volume)  # a new volume has the owner and the permissions of the folder in the image
        os.chown(volume, within.stat().st_uid, within.stat().st_gid)
        unshare = ["unshare", "--mount", "--pid", "--fork", "--", "sh", "-c", MOUNTED, "sh"]
        inside = _inside(image, user, command, **environment)
        popen = subprocess.Popen([*unshare, str(image.root), volume, folder, *inside], text=True)
        container = Container(image, user, popen)
        try:
            yield container
        finally:
            container.kill()


def run(image: Image, user: str, *command: str) -> int:
    """Run a command in a container of its own; returns its exit code."""
    with running(image, user, command) as container:
        return container.popen.wait(60)


def _inside(image: Image, user: str, command: Sequence[str], **environment: str) -> list[str]:
    variables = [f"{name}={value}" for name, value in {**image.environment, **environment}.items()]
    within = ["chroot", f"--userspec={user}", "--groups=", str(image.root)]
    return [
        *("setpriv", "--no-new-privs", "--", *within),
        *("/usr/bin/env", f"--chdir={image.config['WorkingDir']}", "--ignore-environment", *variables, *command),
    ]
