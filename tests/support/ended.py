"""Processes that have ended when a test has, also one that fails."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.waiting import HANG_S


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process for the time of a block. It is told to stop if it has not ended by then, and killed if it hangs.

    A process that is left behind is a ResourceWarning in some later test, and keeps its ports and the processor busy.
    """
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=HANG_S)
                process.kill()
