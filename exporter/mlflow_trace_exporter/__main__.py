"""The program `mlflow-trace-exporter`, also `python -m mlflow_trace_exporter`, from its first moment on."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line, and obey signals before what it takes is imported, which lasts a second."""
    if os.getpid() == 1:  # where Linux ignores what has no handler, and a container would be killed later instead
        signal.signal(signal.SIGTERM, _end)
    try:
        from mlflow_trace_exporter.commands.cli import main as command_line
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    command_line()


def _end(number: int, _: FrameType | None) -> None:
    """End as a process ends that has no handler. Commands that have something to finish put their own in its place."""
    os._exit(128 + number)


if __name__ == "__main__":
    main()
