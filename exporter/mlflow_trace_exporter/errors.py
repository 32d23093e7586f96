"""Errors, named by what the caller should do about them."""

import os
from enum import Enum


class UserError(Exception):
    """An error that only the user can fix. The message names the place and the fix; a command exits with code 2."""


class ArgumentError(UserError):
    """An invalid ``argument`` of the Python API. ``problem`` is the message without the argument's name, because a
    command puts the name of its flag there."""

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"{argument}: {problem}")
        self.argument = argument
        self.problem = problem


class Reason(Enum):
    """Why a poll failed: the label ``reason`` of mlflow_trace_exporter_poll_errors_total."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    THROTTLED = "throttled"
    SERVER_ERROR = "server_error"
    BAD_ANSWER = "bad_answer"
    CREDENTIALS = "credentials"
    CONFIGURATION = "configuration"
    LEDGER = "ledger"
    CLOCK = "clock"
    INTERNAL = "internal"


class PollError(Exception):
    """A poll failed. The next poll reads again whatever this one had not committed."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotUnderstoodError(PollError):
    """MLflow does not understand a request: its filter is wrong, or this server does not support it."""

    def perhaps(self, name: str, filter_string: str) -> "NotUnderstoodError":
        """The same error, which also asks whether the user's filter is right."""
        return NotUnderstoodError(self.reason, f"{self}. Is {name} right ({filter_string!r})?")


def what_failed(error: OSError) -> str:
    """The operating system's message for an error, without what Python adds to it."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
