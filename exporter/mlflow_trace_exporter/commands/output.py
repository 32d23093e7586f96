"""Standard output and standard error of a command, where they cannot be written: the disk is full, nobody reads any
more, or whoever started the command has closed them."""

import errno
import os
import sys
from collections.abc import Callable
from io import BufferedWriter, RawIOBase, TextIOWrapper
from typing import IO, Any, NoReturn, TextIO

import click

from mlflow_trace_exporter.errors import what_failed

STDOUT, STDERR = 1, 2


class OutputError(click.ClickException):
    """What a command prints cannot be written. Nothing is said where the reader of a pipe has gone: ``| head`` is no
    mistake."""

    exit_code = 2

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {what_failed(error)}")
        self._is_told = error.errno != errno.EPIPE

    def show(self, file: IO[Any] | None = None) -> None:
        """Say it on standard error."""
        if self._is_told:
            click.echo(f"mlflow-trace-exporter: {self.format_message()}", file=file, err=True)


def use() -> None:
    """Have what this process prints raise OutputError where it cannot be written. What standard error cannot take is
    lost; the exit code is not."""
    sys.stdout = _text(sys.stdout, STDOUT, _raise)
    sys.stderr = _text(sys.stderr, STDERR, _ignore)


def _raise(error: OSError) -> NoReturn:
    raise OutputError(error) from None


def _ignore(_: OSError) -> None:
    """Nobody can be told."""


def _text(stream: TextIO | None, number: int, failed: Callable[[OSError], None]) -> TextIOWrapper:
    """A stream in the place of one of Python's, which is None where the file descriptor is closed. A terminal that
    cannot show a character is shown its number."""
    raw = _Raw(None if stream is None else number, failed)
    encoding = None if stream is None else stream.encoding
    return TextIOWrapper(BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=True)


class _Raw(RawIOBase):
    """A file descriptor, None for one that is closed. ``failed`` is called once, when it cannot be written: later
    Python flushes what is left, and must not complain again."""

    def __init__(self, number: int | None, failed: Callable[[OSError], None]) -> None:
        self._number = number
        self._failed = failed

    def fileno(self) -> int:
        if self._number is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._number

    def isatty(self) -> bool:
        return self._number is not None and os.isatty(self._number)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int | None:
        try:
            return os.write(self.fileno(), data)
        except BlockingIOError:
            return None  # as RawIOBase says
        except OSError as error:
            failed, self._failed = self._failed, _ignore
            failed(error)
            return len(data)
