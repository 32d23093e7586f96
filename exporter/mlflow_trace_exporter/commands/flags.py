"""What flags of several commands can be, and how a mistake in one is told."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from mlflow_trace_exporter import logs
from mlflow_trace_exporter.domain.durations import parse_duration
from mlflow_trace_exporter.errors import ArgumentError, UserError
from mlflow_trace_exporter.shown import shown

T = TypeVar("T")


def read_by(read: Callable[[Any], T]) -> Callable[[click.Context, click.Parameter, Any], T | None]:
    """A callback for a flag whose values are read by ``read``, which raises ValueError with what is wrong."""

    def callback(_: click.Context, __: click.Parameter, value: Any) -> T | None:
        try:
            return None if value is None else read(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


duration = read_by(parse_duration)


def seconds(given: timedelta | None) -> float | None:
    """A duration that may not have been given, in seconds."""
    return None if given is None else given.total_seconds()


config_file = click.option(
    "--config.file",
    "config_file",
    type=click.Path(path_type=Path),
    help="Configuration file (YAML). Without one everything has its default.",
)


def tell(line: str) -> None:
    """Print a line; it may quote what others wrote."""
    click.echo(shown(line))


@contextmanager
def of_arguments() -> Iterator[None]:
    """Have messages about arguments of the Python API name the flags of the command that passes them: the flag has the
    argument's name, which may add the unit (``p95_s`` is --p95)."""
    try:
        yield
    except ArgumentError as error:
        names = (error.argument, error.argument.removesuffix("_s"))
        found = (each.opts[0] for each in click.get_current_context().command.params if each.name in names)
        raise UserError(f"{next(found, error.argument)}: {error.problem}") from None


@contextmanager
def mlflow_loaded() -> Iterator[None]:
    """Import mlflow only here: it takes a second that --help and a wrong flag need not wait for, and it reads some of
    its environment variables at once. Its own log handlers go. Raises UserError where it cannot be imported."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"MLflow's client refuses one of its environment variables: {error}") from None
    except Exception as error:  # it does much at its import
        raise UserError(
            f"MLflow's client cannot be loaded: {type(error).__name__}: {error}\nfind out where it fails by"
            f" {sys.executable} -c 'import mlflow'"
        ) from error
    logs.quiet_mlflow()
