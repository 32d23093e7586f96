"""Log lines on standard error, one for each event, as logfmt or JSON.

What is said about an event goes into ``extra``: ``log.info("page read", extra={"traces": 500})``.
"""

import json
import logging
import re
import sys
from asyncio import CancelledError
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(fmt))
    least = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(least, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("exporter").setLevel(least)
    logging.captureWarnings(True)
    web = logging.getLogger("uvicorn.error")  # it warns of whatever a client sends, which is for the client to mend
    web.setLevel(logging.ERROR)
    web.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], CancelledError)))  # at a stop
    mlflow = logging.getLogger("mlflow")  # it quotes from answers, and its errors reach us as exceptions
    mlflow.handlers, mlflow.propagate = [logging.NullHandler()], False


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
    return json.dumps(fields, default=str)


def _logfmt(fields: Mapping[str, object]) -> str:
    return " ".join(f"{key}={_logfmt_value(value)}" for key, value in fields.items())


def _logfmt_value(value: object) -> str:
    text = str(value)
    bare = text and text.isprintable() and not any(char in text for char in ' ="\\')
    if bare:
        return text
    return _UNQUOTED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))
