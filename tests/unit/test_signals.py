"""Processes that tests start have the signals as a terminal gives them, whatever the parent of the tests ignores."""

import subprocess
import sys

from tests.support import PROJECT

IGNORE = 'trap "" HUP INT QUIT TERM; exec "$@"'
TELL = """
import signal
ignored = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
print(ignored - {signal.SIGPIPE, signal.SIGXFSZ} or "none is ignored")
"""


def test_a_process_ignores_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", TELL], capture_output=True, text=True, check=True)
    assert done.stdout == "none is ignored\n"


def test_nor_where_the_tests_run_in_the_background() -> None:
    """The test above once more, in a worker, started by a shell that ignores what shells ignore for such jobs."""
    above = f"{__file__}::{test_a_process_ignores_nothing.__name__}"
    only_ours = ["--noconftest", "-p", "tests.conftest", "-p", "no:cacheprovider"]  # the others import much
    tests = [sys.executable, "-m", "pytest", "--numprocesses=1", *only_ours, above]
    command = ["sh", "-c", IGNORE, "sh", *tests]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout + done.stderr
