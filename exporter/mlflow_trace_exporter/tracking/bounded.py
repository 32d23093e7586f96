"""Questions to MLflow with a bound in time and in bytes.

The timeout of an HTTP library is for each read from a socket, so an answer that drips, or does not end, never comes to
it; and nothing limits what a small compressed answer can grow to.
"""

import ctypes
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, TypeVar

import requests  # this and the next are the MLflow client's transport, and come with it
import urllib3

T = TypeVar("T")

MAX_BYTES = 64 * 1024 * 1024
"""The largest answer that is read, compressed and decompressed: 500 traces of 130 kB each."""

PIECE_BYTES = 64 * 1024

CODINGS = ("", "identity", "gzip", "x-gzip")
"""The content codings that are understood; only gzip is asked for."""


class TookTooLong(requests.Timeout):
    """The whole answer was not there in time."""


class TooLarge(requests.RequestException):
    """The answer is larger than MAX_BYTES."""


class UnknownCoding(requests.RequestException):
    """The answer is encoded in a way that was not asked for."""


def within(seconds: float, ask: Callable[[], T]) -> T:
    """What ``ask`` returns or raises, if it does so in time; raises TookTooLong if not.

    It is asked in a thread of its own, which is told to end when its time is over. It does so at the next byte that
    comes, or when the timeout of the read that it waits for is over; so no more threads are left behind than questions
    are given up in that time.
    """
    answers: SimpleQueue[tuple[T, None] | tuple[None, Exception]] = SimpleQueue()
    context = copy_context()  # the workspace of MLflow is in it
    lock, done = Lock(), Event()

    def run() -> None:
        with suppress(SystemExit):  # which is how it is told to end
            try:
                answers.put((context.run(ask), None))
            except Exception as error:  # whatever it is, it is raised where the answer is waited for
                answers.put((None, error))
            with lock:
                done.set()

    thread = Thread(target=run, name="question to MLflow", daemon=True)
    thread.start()
    try:
        found, error = answers.get(timeout=seconds)
    except BaseException as reason:
        with lock:  # once it is done, another thread may have its number
            if not done.is_set():
                _end(thread)
        if isinstance(reason, Empty):
            raise TookTooLong(f"the whole answer was not there after {seconds:g} s") from None
        raise  # somebody has pressed Ctrl-C
    if error is not None:
        raise error
    return found  # type: ignore[return-value]  # it is a T where there is no error


def _end(thread: Thread) -> None:
    """Have a thread of ours end. Python runs a few lines of its own for each byte that a socket gives, and raises it
    there."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))


def body(response: requests.Response, limit: int = MAX_BYTES) -> bytes:
    """The body of an answer that was asked for with ``stream=True``, decompressed. Raises TooLarge, UnknownCoding, and
    what urllib3 and zlib raise."""
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in CODINGS:
        raise UnknownCoding(f"its content coding is {coding[:50]!r}")
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
            raise TooLarge(f"it is larger than {limit // 2**20} MiB")
        yield piece


def unzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What is in a gzip file, in pieces that are small whatever is in it. Raises zlib.error for what is none, and
    ValueError where its end is missing."""
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
        raise ValueError("the end of the gzip file is missing")


def without_body(response: requests.Response, *_: Any, **__: Any) -> None:
    """A response hook: drop the body of a redirection, which the library would read whole, whatever its size."""
    if response.is_redirect:
        response.close()
        response._content = b""
