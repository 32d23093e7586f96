"""Logging to standard error, one line per event, as logfmt or JSON.

The fields of an event are passed as ``extra``: ``log.info("page read", extra={"traces": 500})``.
"""

import io
import json
import logging
import re
import sys
import threading
from asyncio import CancelledError
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Literal, TextIO

LEVELS = ("debug", "info", "warn", "error")
FORMATS = ("logfmt", "json")

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


def setup(level: str, fmt: Literal["logfmt", "json"]) -> None:
    """Send the log of the whole process to standard error.

    Libraries log at ``level`` too, but never below warnings: there they log what they send and receive, which does not
    belong in a log.
    """
    handler = _Handler(sys.stderr)
    handler.setFormatter(_Formatter(fmt))
    least = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(least, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("mlflow_trace_exporter").setLevel(least)
    logging.captureWarnings(True)
    _OTHERS.setLevel(logging.WARNING)
    web = logging.getLogger("uvicorn.error")  # its warnings are about malformed requests, which only the client can fix
    web.setLevel(logging.ERROR)
    web.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], CancelledError)))  # at a stop
    quiet_mlflow()


def quiet_mlflow() -> None:
    """Silence MLflow's client, which quotes from responses. Its errors reach us as exceptions.

    Call this after importing mlflow, because the import installs handlers of its own.
    """
    mlflow = logging.getLogger("mlflow")
    mlflow.handlers, mlflow.propagate = [logging.NullHandler()], False


@contextmanager
def all_of_stderr() -> Iterator[None]:
    """Turn everything that is written to standard error within a block into log events, including the exceptions of
    threads and finalizers. What Python itself prints when it crashes cannot be caught."""
    before = sys.stderr, threading.excepthook, sys.unraisablehook
    sys.stderr = _Lines()
    threading.excepthook = _thread_has_failed
    sys.unraisablehook = _finalizer_has_failed
    try:
        yield
    finally:
        sys.stderr, threading.excepthook, sys.unraisablehook = before


_OTHERS = logging.getLogger("stderr")
"""A logger outside of our own, whose level the user sets: unexpected output is always logged."""


class _Lines(io.TextIOBase):
    """A replacement for standard error that logs each line."""

    def __init__(self) -> None:
        self._begun = threading.local()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._begun.line = (getattr(self._begun, "line", "") + text).split("\n")
        for line in filter(str.strip, lines):
            _OTHERS.warning(line)
        return len(text)

    def flush(self) -> None:
        if getattr(self._begun, "line", ""):
            self.write("\n")


def _thread_has_failed(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is not None and failure.exc_type is not SystemExit:
        name = failure.thread.name if failure.thread else ""
        _OTHERS.error("thread %s failed", name, exc_info=failure.exc_value)


def _finalizer_has_failed(failure: "sys.UnraisableHookArgs") -> None:
    _OTHERS.error("%s: %r", failure.err_msg or "Exception ignored in", failure.object, exc_info=failure.exc_value)


class _Handler(logging.StreamHandler[TextIO]):
    """Logs an event when another event cannot be written."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            return  # the reader of the log is gone
        about = {"logger": record.name, "said": repr(record.msg), "error": repr(error)}
        fault = {"msg": "cannot log an event", "levelno": logging.ERROR, "levelname": "ERROR"}
        with suppress(Exception):
            self.stream.write(self.format(logging.makeLogRecord({**fault, **about})) + self.terminator)
            self.flush()


_UNQUOTED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Characters that JSON leaves as they are, but that break terminals and line readers."""


class _Formatter(logging.Formatter):
    def __init__(self, fmt: Literal["logfmt", "json"]) -> None:
        super().__init__()
        self._write = _json if fmt == "json" else _logfmt

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": "warn" if record.levelno == logging.WARNING else record.levelname.lower(),
            "msg": record.getMessage(),
        }
        fields.update((key, value) for key, value in record.__dict__.items() if key not in _STANDARD)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return self._write(fields)


def _json(fields: Mapping[str, object]) -> str:
    try:
        return json.dumps(fields, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # a value without a JSON form, or one that contains itself
        return json.dumps({key: str(value) for key, value in fields.items()})


def _logfmt(fields: Mapping[str, object]) -> str:
    return " ".join(f"{key}={_logfmt_value(value)}" for key, value in fields.items())


def _logfmt_value(value: object) -> str:
    text = str(value)
    bare = text and text.isprintable() and not any(char in text for char in ' ="\\')
    if bare:
        return text
    return _UNQUOTED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))
