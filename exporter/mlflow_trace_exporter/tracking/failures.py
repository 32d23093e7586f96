"""Diagnoses why a request to MLflow failed, and what to do about it. Pure."""

import re
from html import unescape
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from mlflow_trace_exporter.addresses import without_credentials
from mlflow_trace_exporter.errors import NotUnderstoodError, PollError
from mlflow_trace_exporter.shown import shown
from mlflow_trace_exporter.tracking import remedies
from mlflow_trace_exporter.tracking.bounded import TooLarge, UnknownCoding
from mlflow_trace_exporter.tracking.remedies import Diagnosis

MAX_DETAIL = 200
"""The maximum number of characters that are quoted from a message of the server or a library."""


class RefusedError(Exception):
    """A response whose HTTP ``status`` is not 200, with its message. ``location``: the target of a redirect."""

    def __init__(self, status: int, message: str, location: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.location = location


class NotAskedError(Exception):
    """MLflow's client failed before it sent the request. The message is its own."""


class WebPageError(ValueError):
    """The response is a web page instead of data."""


def classify(error: Exception, tracking_uri: str, endpoint: str) -> PollError:
    """Convert an exception of a request to an endpoint of MLflow to a PollError that explains what to do."""
    diagnosis = _diagnosis(error, endpoint)
    sentence = diagnosis.sentence.format(
        uri=tracking_uri,
        host=urlsplit(tracking_uri).netloc.rpartition("@")[2],
        name=urlsplit(tracking_uri).hostname,
        location=_location(error, tracking_uri, endpoint),
    )
    kind = NotUnderstoodError if diagnosis is remedies.NOT_UNDERSTOOD else PollError
    return kind(diagnosis.reason, f"{shown(sentence)} [{endpoint}: {_detail(error)}]")


_BY_TYPE: tuple[tuple[type[Exception], Diagnosis], ...] = (
    (NotAskedError, remedies.NOT_ASKED),
    (WebPageError, remedies.WEB_PAGE),
    (requests.exceptions.InvalidHeader, remedies.HEADER),
    (requests.exceptions.InvalidURL, remedies.ADDRESS),
    (requests.exceptions.MissingSchema, remedies.ADDRESS),
    (requests.exceptions.InvalidSchema, remedies.ADDRESS),
    (requests.exceptions.TooManyRedirects, remedies.ENDLESS_REDIRECTION),
    (requests.Timeout, remedies.TIMEOUT),
    (urllib3.exceptions.ReadTimeoutError, remedies.TIMEOUT),
    (TooLarge, remedies.BAD_ANSWER),
    (UnknownCoding, remedies.BAD_ANSWER),
)
"""Diagnoses by the type of the exception or its root cause; the first match wins."""


def _diagnosis(error: Exception, endpoint: str) -> Diagnosis:
    if isinstance(error, RefusedError):
        return _of_refusal(error, endpoint)
    causes = [each for each in (_root(error), error, _transport(error)) if each is not None]
    network = [each for each in causes if isinstance(each, _NETWORK)]
    by_type = (found for each in causes for kind, found in _BY_TYPE if isinstance(each, kind))
    words = " ".join(f"{type(each).__name__} {each}" for each in network)
    by_words = (found for pattern, found in remedies.BY_WORDS if re.search(pattern, words))
    return next(by_type, None) or next(by_words, None) or (remedies.UNREACHABLE if network else remedies.BAD_ANSWER)


def _of_refusal(error: RefusedError, endpoint: str) -> Diagnosis:
    if found := remedies.BY_STATUS.get(error.status):
        return next((special for words, special in remedies.BY_REFUSAL if re.search(words, str(error))), found)
    match error.status // 100:
        case 2:
            return remedies.BAD_ANSWER
        case 3:
            return remedies.MOVED if urlsplit(error.location).path.endswith(endpoint) else remedies.SOME_REDIRECTION
        case 4:
            return remedies.SOME_REFUSAL
    return remedies.SOME_GATEWAY


def _location(error: Exception, tracking_uri: str, endpoint: str) -> str:
    """The target of a redirect, or the address that MLflow seems to have moved to. The query is removed because it may
    be secret."""
    if not isinstance(error, RefusedError) or not error.location:
        return "another address"
    target = urljoin(tracking_uri, error.location).partition("?")[0].partition("#")[0]
    return without_credentials(target).removesuffix(endpoint)


def _detail(error: Exception) -> str:
    """The message of the server or the library, shortened."""
    if isinstance(_transport(error), requests.exceptions.InvalidHeader):  # its message quotes the token
        return "invalid header"
    words = str(_root(error))
    if title := _TITLE.search(words):  # a web page
        words = unescape(title[1])
    words = " ".join(without_credentials(words).split())
    if isinstance(error, RefusedError):
        words = f"HTTP {error.status}{': ' if words else ''}{words}"
    return shown(words[:MAX_DETAIL])


_TITLE = re.compile("<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


def is_of_network(error: BaseException | None) -> bool:
    """Whether the error, or its cause, comes from the HTTP library: the request was sent, or was about to be."""
    return isinstance(error, _NETWORK) or (error is not None and isinstance(_transport(error), _NETWORK))


_NETWORK = (requests.RequestException, urllib3.exceptions.HTTPError)


def _transport(error: BaseException) -> BaseException | None:
    """The exception of the HTTP library, which MLflow's client wraps."""
    return error.__cause__ or error.__context__


def _root(error: BaseException) -> BaseException:
    """The root cause of an error: the HTTP library also wraps the error of its last attempt."""
    transport = _transport(error)
    last_try = transport.args[0] if transport is not None and transport.args else None
    reason = getattr(last_try, "reason", None)
    return reason if isinstance(reason, Exception) else error
