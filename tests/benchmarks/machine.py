"""What processes use, from Linux's /proc."""

import os
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_SESSION, _USER_TICKS, _SYSTEM_TICKS = 3, 11, 12  # fields of /proc/PID/stat after the name


def cpu_s(pid: int) -> float:
    """The CPU seconds of a process so far."""
    fields = _stat(Path(f"/proc/{pid}"))
    return (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / _TICKS_PER_SECOND


def cpu_of_session_s(pid: int) -> float:
    """The CPU seconds so far of all running processes in the session that this process leads."""
    found = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return sum(cpu_s(each) for each in found if _session(each) == pid)


def resident_mb(pid: int, at_its_peak: bool = False) -> float:
    """The resident memory of a process, now or at its peak, in MB (2^20 bytes)."""
    name = "VmHWM:" if at_its_peak else "VmRSS:"
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def _session(pid: int) -> int | None:
    try:
        return int(_stat(Path(f"/proc/{pid}"))[_SESSION])
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return None


def _stat(process: Path) -> list[str]:
    return (process / "stat").read_text().rpartition(")")[2].split()
