"""What to do about a request to MLflow that failed. Pure."""

import re

import requests  # this and the next are the MLflow client's transport, and come with it
import urllib3

from exporter.errors import PollError, Reason

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


def classify(error: Exception, status: int | None, tracking_uri: str) -> PollError:
    """Say what to do about what the MLflow client raised; ``status`` is the HTTP status that it names, None without."""
    reason = _reason(error, status)
    if isinstance(_transport(error), requests.exceptions.InvalidHeader):  # whose message quotes the token
        detail = "a token or password that no HTTP header can carry; has it a line break in it?"
    else:
        detail = without_credentials(" ".join(str(_root(error)).split()))[:200]
    return PollError(reason, f"MLflow at {tracking_uri} {_REMEDIES[reason]} [{detail}]")


_TRANSPORT_REASONS = (
    (requests.exceptions.InvalidHeader, Reason.CREDENTIALS),
    (requests.exceptions.InvalidURL, Reason.CONFIGURATION),
    (requests.Timeout, Reason.TIMEOUT),
    (requests.RequestException, Reason.UNREACHABLE),
)


def _reason(error: Exception, status: int | None) -> Reason:
    transport = _transport(error)
    if isinstance(transport, requests.exceptions.RetryError):
        found = re.search(r"too many (\d+) error responses", str(transport))
        return _reason_of_status(int(found[1])) if found else Reason.SERVER_ERROR
    if isinstance(_root(error), urllib3.exceptions.ReadTimeoutError):
        return Reason.TIMEOUT
    for kind, reason in _TRANSPORT_REASONS:
        if isinstance(transport, kind):
            return reason
    return Reason.BAD_ANSWER if status is None else _reason_of_status(status)


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
        case _ if status < 500:
            return Reason.CONFIGURATION
    return Reason.SERVER_ERROR


def without_credentials(uri: str) -> str:
    """The address without the ``user:password@`` that it may carry."""
    return re.sub(r"//[^/\s]*@", "//", uri)
