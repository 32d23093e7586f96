"""What to do about a request to MLflow that failed. Pure."""

import re

import requests
import urllib3

from exporter.bounded import TooLarge, UnknownCoding
from exporter.errors import PollError, Reason
from exporter.shown import shown

_REMEDIES = {
    Reason.CREDENTIALS: "refused the credentials; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,"
    " or MLFLOW_TRACKING_TOKEN",
    Reason.CONFIGURATION: "refused the request; check mlflow.filter, and mlflow.tracking_uri if it is no MLflow 3",
    Reason.THROTTLED: "asks for fewer requests; raise poll.interval if this goes on",
    Reason.SERVER_ERROR: "failed to answer; its own log says why",
    Reason.TIMEOUT: "did not answer in time; raise mlflow.timeout if it is only slow",
    Reason.UNREACHABLE: "cannot be reached; is it running, and is mlflow.tracking_uri right?",
    Reason.BAD_ANSWER: "gave an answer that cannot be read; is this an MLflow server?",
}


class RefusedError(Exception):
    """An answer whose HTTP ``status`` is not 200; the message is what it says."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def classify(error: Exception, tracking_uri: str, endpoint: str) -> PollError:
    """Say what to do about what a question to MLflow, at one of its endpoints, raised."""
    reason = _reason(error)
    if isinstance(_transport(error), requests.exceptions.InvalidHeader):  # whose message quotes the token
        detail = "a token or password that no HTTP header can carry; has it a line break in it?"
    else:
        detail = shown(without_credentials(" ".join(str(_root(error)).split()))[:200])
    return PollError(reason, f"MLflow at {tracking_uri} {_REMEDIES[reason]} [{endpoint}: {detail}]")


_REASONS = (
    (requests.exceptions.InvalidHeader, Reason.CREDENTIALS),
    (requests.exceptions.InvalidURL, Reason.CONFIGURATION),
    (requests.Timeout, Reason.TIMEOUT),
    (urllib3.exceptions.ReadTimeoutError, Reason.TIMEOUT),
    (TooLarge, Reason.BAD_ANSWER),
    (UnknownCoding, Reason.BAD_ANSWER),
    (requests.RequestException, Reason.UNREACHABLE),
    (urllib3.exceptions.HTTPError, Reason.UNREACHABLE),
)
"""By what the HTTP library raised, or what lies at its bottom; the first that fits."""


def _reason(error: Exception) -> Reason:
    if isinstance(error, RefusedError):
        return _reason_of_status(error.status)
    if isinstance(_root(error), urllib3.exceptions.ReadTimeoutError):
        return Reason.TIMEOUT
    for each in (error, _transport(error)):
        for kind, reason in _REASONS:
            if isinstance(each, kind):
                return reason
    return Reason.BAD_ANSWER


def _transport(error: BaseException) -> BaseException | None:
    """What the HTTP library raised, which the MLflow client wraps."""
    return error.__cause__ or error.__context__


def _root(error: BaseException) -> BaseException:
    """What lies at the bottom of an error: the HTTP library in turn wraps what became of its one and only try."""
    transport = _transport(error)
    last_try = transport.args[0] if transport is not None and transport.args else None
    reason = getattr(last_try, "reason", None)
    return reason if isinstance(reason, Exception) else error


def _reason_of_status(status: int) -> Reason:
    match status:
        case 401 | 403:
            return Reason.CREDENTIALS
        case 408:
            return Reason.TIMEOUT
        case 429:
            return Reason.THROTTLED
        case _ if 200 <= status < 300:
            return Reason.BAD_ANSWER
        case _ if status < 500:
            return Reason.CONFIGURATION
    return Reason.SERVER_ERROR


def without_credentials(uri: str) -> str:
    """The address without the ``user:password@`` that it may carry."""
    return re.sub(r"//[^/\s]*@", "//", uri)
