"""Flags that several commands share, and helpers to parse flags and to report errors in them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from mlflow_trace_exporter import logs
from mlflow_trace_exporter.domain.durations import parse_duration
from mlflow_trace_exporter.domain.shards import parse_shard
from mlflow_trace_exporter.errors import ArgumentError, UserError
from mlflow_trace_exporter.settings.values import parse_ratio
from mlflow_trace_exporter.shown import shown

T = TypeVar("T")


def read_by(read: Callable[[Any], T]) -> Callable[[click.Context, click.Parameter, Any], T | None]:
    """Create a callback that parses a flag with ``read``, which raises ValueError for an invalid value."""

    def callback(_: click.Context, __: click.Parameter, value: Any) -> T | None:
        try:
            return None if value is None else read(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


duration = read_by(parse_duration)


def shares(given: tuple[str, ...]) -> dict[str, float]:
    """Parse ratios with a name each, such as correctness=90%. Raises ValueError for anything else."""
    found: dict[str, float] = {}
    for each in given:
        name, _, ratio = each.rpartition("=")
        if not name.strip():
            raise ValueError(f"{shown(each)!r} is not a name with a ratio, such as correctness=90%")
        if name in found:
            raise ValueError(f"{shown(name)!r} has two ratios; write one")
        found[name] = parse_ratio(ratio)
    return found


def seconds(given: timedelta | None) -> float | None:
    """A duration in seconds; None if it was not given."""
    return None if given is None else given.total_seconds()


config_file = click.option(
    "--config.file",
    "config_file",
    type=click.Path(path_type=Path),
    help="Configuration file (YAML). Without it, all settings have their defaults.",
)


shard = click.option(
    "--shard",
    "shard",
    metavar="I/N",
    default="1/1",
    callback=read_by(parse_shard),
    help="Read one of N parts of the experiments, such as 1/3. Each part needs its own exporter.",
)


def tell(line: str) -> None:
    """Print a line, which may quote text from elsewhere, without control characters."""
    click.echo(shown(line))


@contextmanager
def of_arguments() -> Iterator[None]:
    """Make errors about arguments of the Python API name the flag of the current command.

    The flag has the name of the argument, without a unit. Example: --p95 for ``p95_s``.
    """
    try:
        yield
    except ArgumentError as error:
        names = (error.argument, error.argument.removesuffix("_s"))
        found = (each.opts[0] for each in click.get_current_context().command.params if each.name in names)
        raise UserError(f"{next(found, error.argument)}: {error.problem}") from None


@contextmanager
def mlflow_loaded() -> Iterator[None]:
    """Import mlflow, or modules that need it, within this block. Raises UserError if the import fails.

    The import takes a second, which --help and an invalid flag should not wait for. mlflow reads some of its
    environment variables on import. Its own log handlers are removed afterwards.
    """
    try:
        yield
    except ValueError as error:
        raise UserError(f"MLflow's client rejects one of its environment variables: {error}") from None
    except Exception as error:  # the import runs a lot of code
        raise UserError(
            f"MLflow's client cannot be loaded: {type(error).__name__}: {error}\nto see where it fails, run"
            f" {sys.executable} -c 'import mlflow'"
        ) from error
    logs.quiet_mlflow()


@contextmanager
def progress(since_ms: int, until_ms: int) -> Iterator[Any]:
    """Show the progress of a read over the start times from since to until. See ``progress.shown``."""
    from mlflow_trace_exporter.commands import progress as shown_progress  # rich, which --help should not wait for

    with shown_progress.shown(since_ms, until_ms) as tell:
        yield tell
