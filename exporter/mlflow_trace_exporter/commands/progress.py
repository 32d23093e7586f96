"""Progress of long-running commands, on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from mlflow_trace_exporter.domain.moments import text

if TYPE_CHECKING:
    from mlflow_trace_exporter.tracking.query import Progress  # with MLflow's client, which takes a second

LINE_S = 15.0
"""How often a line is printed if there is no progress bar."""


@contextmanager
def shown(since_ms: int, until_ms: int) -> "Iterator[Progress]":
    """Show a progress bar over the start times from since to until, and remove it afterwards.

    Prints a line every LINE_S instead if standard error is not a terminal, or one that cannot move its cursor.
    """
    with _told("querying MLflow") as tell:
        yield lambda count, at_ms: tell(
            f"{count:,} traces read, up to {text(at_ms)}", at_ms - since_ms, max(1, until_ms - since_ms)
        )


@contextmanager
def shown_rows() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar over the rows of a ledger that are copied, as ``shown`` does."""
    with _told("opening the ledgers") as tell:
        yield lambda copied, total: tell(f"{copied:,} of {total:,} rows copied", copied, max(1, total))


@contextmanager
def _told(first: str) -> Iterator[Callable[[str, int, int], None]]:
    """A function that shows a text, and how much is done of how much. ``first``: the text until it is called."""
    console = Console(stderr=True)
    if sys.stderr is None or not sys.stderr.isatty() or console.is_dumb_terminal:  # it is None if closed
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(first, total=None)
        yield lambda said, done, total: bar.update(task, description=said, completed=done, total=total)


def _lines() -> Callable[[str, int, int], None]:
    told_s = time.monotonic()

    def tell(said: str, _done: int, _total: int) -> None:
        nonlocal told_s
        if time.monotonic() - told_s >= LINE_S:
            told_s = time.monotonic()
            click.echo(said, err=True)

    return tell
