"""Handles standard output and standard error that cannot be written: the disk is full, the reader of a pipe has exited,
or the parent process has closed them."""

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
    """The output of a command cannot be written. There is no message if the reader of a pipe has exited, because
    ``| head`` is not an error."""

    exit_code = 2

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {what_failed(error)}")
        self._has_message = error.errno != errno.EPIPE

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message on standard error."""
        if self._has_message:
            click.echo(f"mlflow-trace-exporter: {self.format_message()}", file=file, err=True)


def use() -> None:
    """Replace both streams. Standard output that cannot be written raises OutputError. Standard error that cannot be
    written is lost, without a change of the exit code."""
    sys.stdout = _text(sys.stdout, STDOUT, _raise)
    sys.stderr = _text(sys.stderr, STDERR, _ignore)


def _raise(error: OSError) -> NoReturn:
    raise OutputError(error) from None


def _ignore(_: OSError) -> None:
    """Do nothing: there is nowhere to report the error."""


def _text(stream: TextIO | None, number: int, failed: Callable[[OSError], None]) -> TextIOWrapper:
    """Create the replacement for one of Python's streams, which is None if the file descriptor is closed. Characters
    that the encoding lacks are written as escapes."""
    raw = _Raw(None if stream is None else number, failed)
    encoding = None if stream is None else stream.encoding
    return TextIOWrapper(BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=True)


class _Raw(RawIOBase):
    """A file descriptor; None if it is closed. ``failed`` is called for the first failed write only, because Python
    flushes the rest later and must not report the error again."""

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
            return None  # as specified by RawIOBase
        except OSError as error:
            failed, self._failed = self._failed, _ignore
            failed(error)
            return len(data)
