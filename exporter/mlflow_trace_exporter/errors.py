"""Errors, named by what the one who catches them should do."""

import os
from enum import Enum


class UserError(Exception):
    """Only the user can mend it. The message names the place and the remedy; a command ends with exit code 2."""


class ArgumentError(UserError):
    """A mistake in an ``argument`` of the Python API. ``problem`` is the message without its name: a command says the
    name of the flag."""

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
    """A poll could not be finished; what it had not committed is to be read again at the next one."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotUnderstoodError(PollError):
    """MLflow does not understand a request: a filter in it is wrong, or this server lacks what is asked for."""

    def perhaps(self, name: str, filter_string: str) -> "NotUnderstoodError":
        """The same, with the question whether a filter that the user wrote is to blame."""
        return NotUnderstoodError(self.reason, f"{self}. Is {name} right ({filter_string!r})?")


def what_failed(error: OSError) -> str:
    """The system's words for an error, without what Python adds to them."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
