"""The HTTP server: uvicorn on a listening socket that we create."""

import errno
import gc
import socket
import sys
from collections.abc import Collection
from contextlib import suppress
from ipaddress import IPv6Address

import uvicorn
from starlette.types import ASGIApp

from mlflow_trace_exporter.errors import UserError, what_failed
from mlflow_trace_exporter.settings.web_config import Settings
from mlflow_trace_exporter.web.auth import Authentication
from mlflow_trace_exporter.web.connections import ConnectionLimits, Doorkeeper

STOP_TIMEOUT_S = 1
"""How long a shutdown waits for responses in progress."""

BACKLOG = 128
"""How many connections may wait to be accepted. asyncio accepts as many at once, before any of them can be closed."""


SWITCH_S = 0.0001
FULL_COLLECTIONS = 1_000


def answer_promptly() -> None:
    """Tune Python for low response times during a poll.

    Threads switch after 0.1 ms instead of 5 ms. Both a scrape and a request to MLflow would otherwise wait that long at
    each system call while a page is processed, and MLflow would have nothing to do meanwhile. Full garbage
    collections run a hundred times less often: with 100,000 series one takes 150 ms, in which no request is answered,
    and finds next to nothing.
    """
    sys.setswitchinterval(SWITCH_S)
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, FULL_COLLECTIONS)


class AddressInUseError(UserError):
    """The address is already in use."""


def listen(address: str) -> socket.socket:
    """Open a listening socket on ``host:port`` or ``[ipv6]:port``, or on all IPv4 and IPv6 addresses with ``:port`` or
    ``[::]:port``.

    Raises UserError if the address is invalid or unavailable, AddressInUseError if it is in use.
    """
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise UserError(f"--web.listen-address: {address!r} is not an address; write HOST:PORT, as in 127.0.0.1:10500")
    try:
        return _listen_everywhere(int(port)) if _is_everywhere(host) else _listen_at(host, int(port))
    except UnicodeError:
        raise UserError(f"--web.listen-address: {host!r} is not a host name") from None
    except OSError as error:
        complaint = f"--web.listen-address: cannot listen on {address}: {what_failed(error)}"
        if error.errno == errno.EADDRINUSE:
            raise AddressInUseError(f"{complaint}; stop the program that uses it, or choose another port") from None
        raise UserError(complaint) from None


def _is_everywhere(host: str) -> bool:
    """Whether the host is empty, or the unspecified IPv6 address in any notation."""
    with suppress(ValueError):
        return IPv6Address(host).is_unspecified
    return not host


def _listen_everywhere(port: int) -> socket.socket:
    dual = socket.has_dualstack_ipv6()  # False if the kernel runs without IPv6
    family = socket.AF_INET6 if dual else socket.AF_INET
    return socket.create_server(("", port), family=family, backlog=BACKLOG, dualstack_ipv6=dual)


def _listen_at(host: str, port: int) -> socket.socket:
    """Listen on one address. A name with both IPv4 and IPv6 addresses gets IPv4, as in Go programs."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, _, _, _, place = min(found, key=lambda each: each[0] != socket.AF_INET)
    return socket.create_server(place, family=family, backlog=BACKLOG)


def address(listener: socket.socket, scheme: str) -> str:
    """The address of a listening socket, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def web_server(
    app: ASGIApp, settings: Settings, limits: ConnectionLimits | None = None, open_paths: Collection[str] = ()
) -> uvicorn.Server:
    """Create a server. ``run(sockets=[listener])`` runs it until SIGINT, SIGTERM, or until ``should_exit`` is set.

    ``open_paths`` need no password.
    """
    keeper = Doorkeeper(settings, limits or ConnectionLimits())
    config = uvicorn.Config(
        Authentication(app, settings, open_paths),
        http=keeper.protocol,  # type: ignore[arg-type]  # called like the class that is expected
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
        timeout_keep_alive=75,  # longer than a scrape interval, so that Prometheus keeps its connection
        lifespan="off",
        backlog=BACKLOG,
    )
    return uvicorn.Server(config)
