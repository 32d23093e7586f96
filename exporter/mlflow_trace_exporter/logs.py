"""Log lines on standard error, one for each event, as logfmt or JSON.

What is said about an event goes into ``extra``: ``log.info("page read", extra={"traces": 500})``.
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

    Libraries speak from warnings on, or from a higher ``level``: below warnings they say what they send and receive,
    which is not for a log.
    """
    handler = _Handler(sys.stderr)
    handler.setFormatter(_Formatter(fmt))
    least = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(least, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("mlflow_trace_exporter").setLevel(least)
    logging.captureWarnings(True)
    _OTHERS.setLevel(logging.WARNING)
    web = logging.getLogger("uvicorn.error")  # it warns of whatever a client sends, which is for the client to mend
    web.setLevel(logging.ERROR)
    web.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], CancelledError)))  # at a stop
    quiet_mlflow()


def quiet_mlflow() -> None:
    """Have MLflow's client log nothing: it quotes from answers, and its errors reach us as exceptions. When it is
    imported it installs handlers of its own, so this is for after that."""
    mlflow = logging.getLogger("mlflow")
    mlflow.handlers, mlflow.propagate = [logging.NullHandler()], False


@contextmanager
def all_of_stderr() -> Iterator[None]:
    """Make events of all that anybody writes to standard error in this process, and of what threads and finalizers
    raise, for the time of a block. What Python itself says when it crashes cannot be caught."""
    before = sys.stderr, threading.excepthook, sys.unraisablehook
    sys.stderr = _Lines()
    threading.excepthook = _thread_has_failed
    sys.unraisablehook = _finalizer_has_failed
    try:
        yield
    finally:
        sys.stderr, threading.excepthook, sys.unraisablehook = before


_OTHERS = logging.getLogger("stderr")
"""Not one of ours, whose level the user chooses: what nobody expects is always shown."""


class _Lines(io.TextIOBase):
    """A standard error whose lines become events."""

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
        _OTHERS.error("the thread %s has failed", name, exc_info=failure.exc_value)


def _finalizer_has_failed(failure: "sys.UnraisableHookArgs") -> None:
    _OTHERS.error("%s: %r", failure.err_msg or "Exception ignored in", failure.object, exc_info=failure.exc_value)


class _Handler(logging.StreamHandler[TextIO]):
    """Tells by an event, too, that an event cannot be written."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - so it is called in logging
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            return  # nobody reads the log
        about = {"logger": record.name, "said": repr(record.msg), "error": repr(error)}
        fault = {"msg": "an event cannot be logged", "levelno": logging.ERROR, "levelname": "ERROR"}
        with suppress(Exception):
            self.stream.write(self.format(logging.makeLogRecord({**fault, **about})) + self.terminator)
            self.flush()


_UNQUOTED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What JSON can hold as it is, and terminals and readers of lines cannot."""


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
    except (TypeError, ValueError, RecursionError):  # a value that JSON does not know, or one that holds itself
        return json.dumps({key: str(value) for key, value in fields.items()})


def _logfmt(fields: Mapping[str, object]) -> str:
    return " ".join(f"{key}={_logfmt_value(value)}" for key, value in fields.items())


def _logfmt_value(value: object) -> str:
    text = str(value)
    bare = text and text.isprintable() and not any(char in text for char in ' ="\\')
    if bare:
        return text
    return _UNQUOTED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))
