"""Servers whose answers do not end, or grow without end, or are not what was asked for."""

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BufferedIOBase as Stream
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Event, Thread

Answer = Callable[[Stream, Event], object]
"""Writes to a client, until an event is set."""

_MEMBER_BYTES = 2**24

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextmanager
def server(answer: Answer, plain: bool = True) -> Iterator[str]:
    """The address of a server that answers each request like this, for the time of a block; ``plain`` False: without
    reading it first."""
    over = Event()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            if plain:
                _read_request(self.rfile)
            with suppress(OSError):  # the client has had enough
                answer(self.wfile, over)

    class Server(ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """A client that goes away is what is hoped for."""

    with Server(("127.0.0.1", 0), Handler) as tcp:
        thread = Thread(target=tcp.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{tcp.server_address[1]}"
        finally:
            over.set()
            tcp.shutdown()
            thread.join()


def _read_request(request: Stream) -> None:
    length = 0
    while (line := request.readline().strip()) != b"":
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    request.read(length)


def once(text: bytes) -> Answer:
    """Write something and end."""
    return lambda out, _: out.write(text)


def again_and_again(head: bytes, piece: bytes, every_s: float = 0.0) -> Answer:
    """Write a head, and then something without end."""

    def answer(out: Stream, over: Event) -> None:
        out.write(head)
        while not over.wait(every_s):
            out.write(piece)

    return answer


def letter_by_letter(text: bytes, every_s: float) -> Answer:
    """Write something slowly, again and again."""

    def answer(out: Stream, over: Event) -> None:
        while True:
            for number in text:
                out.write(bytes([number]))
                if over.wait(every_s):
                    return

    return answer


def with_body(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> Answer:
    """A whole answer."""
    length = b"Content-Length: %d" % len(body)
    return once(b"\r\n".join((b"HTTP/1.1 " + status, *headers, length, b"Connection: close", b"", body)))


def bomb(size: int) -> bytes:
    """So many spaces in few bytes: a multiple of 16 MiB, each a gzip member, because to pack them all takes seconds."""
    return _member() * (size // _MEMBER_BYTES)


@cache
def _member() -> bytes:
    return gzip.compress(b" " * _MEMBER_BYTES)
