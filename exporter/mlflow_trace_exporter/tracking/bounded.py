"""Limits the time and size of requests to MLflow.

The timeout of an HTTP library applies to each read from a socket, so a very slow or endless response never reaches it.
The library also does not limit the size of a small compressed response after decompression.
"""

import ctypes
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, TypeVar

import requests  # requests and urllib3 are dependencies of mlflow, which sends its requests with them
import urllib3

T = TypeVar("T")

MAX_BYTES = 64 * 1024 * 1024
"""The largest response that is read, both compressed and decompressed: 500 traces of 130 kB each."""

PIECE_BYTES = 64 * 1024

CODINGS = ("", "identity", "gzip", "x-gzip")
"""The supported content encodings; only gzip is requested."""


class TookTooLong(requests.Timeout):
    """The complete response did not arrive in time."""


class TooLarge(requests.RequestException):
    """The response is larger than MAX_BYTES."""


class UnknownCoding(requests.RequestException):
    """The response has a content encoding that was not requested."""


def within(seconds: float, ask: Callable[[], T]) -> T:
    """Run ``ask`` with a time limit. Returns or raises what ``ask`` does, or raises TookTooLong.

    ``ask`` runs in its own thread, which is asked to exit when the time is over. It exits when the next byte arrives or
    the timeout of the current read expires. So only the requests that timed out within one such timeout can leave a
    thread behind.
    """
    answers: SimpleQueue[tuple[T, None] | tuple[None, Exception]] = SimpleQueue()
    context = copy_context()  # contains the MLflow workspace
    lock, done = Lock(), Event()

    def run() -> None:
        with suppress(SystemExit):  # raised by _end
            try:
                answers.put((context.run(ask), None))
            except Exception as error:  # raised again in the waiting thread
                answers.put((None, error))
            with lock:
                done.set()

    thread = Thread(target=run, name="question to MLflow", daemon=True)
    thread.start()
    try:
        found, error = answers.get(timeout=seconds)
    except BaseException as reason:
        with lock:  # once it is done, another thread may get its number
            if not done.is_set():
                _end(thread)
        if isinstance(reason, Empty):
            raise TookTooLong(f"the response was not complete after {seconds:g} s") from None
        raise  # Ctrl-C
    if error is not None:
        raise error
    return found  # type: ignore[return-value]  # it is a T if there is no error


def _end(thread: Thread) -> None:
    """Make one of our threads exit. Python runs some bytecode for each read from a socket, and raises SystemExit
    there."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))


def body(response: requests.Response, limit: int = MAX_BYTES) -> bytes:
    """Read and decompress the body of a response to a request with ``stream=True``. Raises TooLarge, UnknownCoding, and
    the errors of urllib3 and zlib."""
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in CODINGS:
        raise UnknownCoding(f"unsupported content encoding {coding[:50]!r}")
    pieces = _limited(_pieces(response.raw), limit)
    return b"".join(_limited(unzipped(pieces), limit) if coding.endswith("gzip") else pieces)


def _pieces(raw: urllib3.HTTPResponse) -> Iterator[bytes]:
    while piece := raw.read(PIECE_BYTES, decode_content=False):
        yield piece


def _limited(pieces: Iterable[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise TooLarge(f"the response is larger than {limit // 2**20} MiB")
        yield piece


def unzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress gzip data into small pieces, whatever the compression ratio. Raises zlib.error if it is not gzip data,
    and ValueError if it is truncated."""
    member = zlib.decompressobj(wbits=31)
    for piece in pieces:
        rest = piece
        while rest:
            if member.eof:
                member = zlib.decompressobj(wbits=31)
            yield member.decompress(rest, PIECE_BYTES)
            rest = member.unconsumed_tail or member.unused_data
    yield member.flush()
    if not member.eof:
        raise ValueError("the gzip data is truncated")


def without_body(response: requests.Response, *_: Any, **__: Any) -> None:
    """A response hook that drops the body of a redirect. The library would read all of it, whatever its size."""
    if response.is_redirect:
        response.close()
        response._content = b""
