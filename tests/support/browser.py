"""A headless browser, and the pictures that it takes."""

import struct
import subprocess
from pathlib import Path

from tests.support.real import tool
from tests.support.waiting import HANG_S


def browse(directory: Path, url: str, *flags: str) -> str:
    """Open a page in a headless Chromium; returns what it made of it, as HTML."""
    command = [tool("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={directory / 'chromium'}"]
    command += ["--hide-scrollbars", *flags, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pixels(picture: Path) -> tuple[int, int]:
    """The width and the height of a PNG, from its header."""
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    return width, height
