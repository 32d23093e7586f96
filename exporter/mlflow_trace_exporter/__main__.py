"""The entry point of `mlflow-trace-exporter` and of `python -m mlflow_trace_exporter`."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line. Signals are obeyed during the imports, which take a second."""
    if os.getpid() == 1:  # for PID 1, Linux ignores signals without a handler: a container would be killed later
        signal.signal(signal.SIGTERM, _end)
    try:
        from mlflow_trace_exporter.commands.cli import main as command_line
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    command_line()


def _end(number: int, _: FrameType | None) -> None:
    """Exit as a process without a handler would. Commands that have something to finish install their own handler."""
    os._exit(128 + number)


if __name__ == "__main__":
    main()
