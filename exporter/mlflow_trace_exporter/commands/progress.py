"""Progress of long-running commands, on standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from mlflow_trace_exporter.domain.moments import text
from mlflow_trace_exporter.tracking.query import Progress

LINE_S = 15.0
"""How often a line is printed if there is no progress bar."""


@contextmanager
def shown(since_ms: int, until_ms: int) -> Iterator[Progress]:
    """Show a progress bar over the start times from since to until, and remove it afterwards.

    Prints a line every LINE_S instead if standard error is not a terminal, or one that cannot move its cursor.
    """
    console = Console(stderr=True)
    if sys.stderr is None or not sys.stderr.isatty() or console.is_dumb_terminal:  # it is None if closed
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("querying MLflow", total=max(1, until_ms - since_ms))

        def tell(count: int, at_ms: int) -> None:
            bar.update(task, completed=at_ms - since_ms, description=_text(count, at_ms))

        yield tell


def _lines() -> Progress:
    told_s = time.monotonic()

    def tell(count: int, at_ms: int) -> None:
        nonlocal told_s
        if time.monotonic() - told_s >= LINE_S:
            told_s = time.monotonic()
            click.echo(_text(count, at_ms), err=True)

    return tell


def _text(count: int, at_ms: int) -> str:
    return f"{count:,} traces read, up to {text(at_ms)}"
