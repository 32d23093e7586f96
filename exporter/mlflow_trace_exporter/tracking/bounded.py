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
from time import monotonic
from typing import Any, Generic, TypeVar

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


class BoundedCall(Generic[T]):
    """Runs ``ask`` in its own thread, with a time limit that begins now.

    The thread is told to exit if the time is up while somebody waits for the result, or if the result is no longer
    needed. It exits when the next byte arrives or the timeout of the current read expires. So only requests that were
    given up within the last such timeout can still have a thread.
    """

    def __init__(self, seconds: float, ask: Callable[[], T]) -> None:
        self._seconds = seconds
        self._until_s = monotonic() + seconds
        self._ask = ask
        self._context = copy_context()  # contains the workspace of MLflow's client, if the program set one
        self._results: SimpleQueue[tuple[T, None] | tuple[None, Exception]] = SimpleQueue()
        self._lock, self._done = Lock(), Event()
        self._thread = Thread(target=self._run, name="question to MLflow", daemon=True)
        self._thread.start()

    def result(self) -> T:
        """Wait for the result, once. Returns or raises what ``ask`` does, or raises TookTooLong."""
        try:
            found, error = self._results.get(timeout=max(0.0, self._until_s - monotonic()))
        except Empty:
            self.end()
            raise TookTooLong(f"the response was not complete after {self._seconds:g} s") from None
        except BaseException:  # Ctrl-C
            self.end()
            raise
        if error is not None:
            raise error
        return found  # type: ignore[return-value]  # it is a T if there is no error

    def end(self) -> None:
        """Make the thread exit, because the result is not needed."""
        with self._lock:  # after the thread has ended, another one may get its id
            if not self._done.is_set():
                _end(self._thread)

    def _run(self) -> None:
        with suppress(SystemExit):  # raised by _end
            try:
                self._results.put((self._context.run(self._ask), None))
            except Exception as error:  # raised again in the waiting thread
                self._results.put((None, error))
            with self._lock:
                self._done.set()


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
