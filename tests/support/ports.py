"""Free ports, which no other test on this machine gets as well."""

import fcntl
import os
from pathlib import Path
from tempfile import gettempdir

from mlflow_trace_exporter.demo import processes

_taken: set[int] = set()
_locks: list[int] = []


def free_port() -> int:
    """A free port for a server that is started later. It belongs to this process until that ends.

    Without that, two of the processes that run tests can choose the same one before either of their servers listens.
    """
    while not _is_ours(port := processes.free_port()):
        pass
    return port


def _is_ours(port: int) -> bool:
    if port in _taken:
        return False
    if not _locks:  # one file with a byte for each port, whose locks end with the process
        path = Path(gettempdir()) / f"mlflow-trace-exporter-ports-{os.getuid()}"
        _locks.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    try:
        fcntl.lockf(_locks[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _taken.add(port)
    return True
