"""The HTTP server: uvicorn on a socket of ours."""

import errno
import gc
import socket
import sys

import uvicorn
from starlette.types import ASGIApp

from exporter.auth import Authentication
from exporter.connections import ConnectionLimits, Doorkeeper
from exporter.errors import UserError, what_failed
from exporter.web_config import Settings

STOP_TIMEOUT_S = 1
"""How long a stop waits for answers that are being sent."""

BACKLOG = 128
"""How many connections can wait to be accepted. asyncio accepts as many in one go, before the first can be closed."""


SWITCH_S = 0.001
FULL_COLLECTIONS = 1_000


def answer_promptly() -> None:
    """Have Python interrupt a poll for a request sooner than it does by default (5 ms, at each system call of an
    answer), and look through all objects for garbage a hundred times less often: with 100,000 series that takes 150 ms,
    in which nothing is answered, and finds next to nothing."""
    sys.setswitchinterval(SWITCH_S)
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, FULL_COLLECTIONS)


class AddressInUseError(UserError):
    """Something listens on the address."""


def listen(address: str) -> socket.socket:
    """A listening socket for ``host:port``, ``[ipv6]:port`` or ``:port`` (all addresses).

    Raises UserError where the address is not of that form or cannot be had, AddressInUseError where something listens
    on it.
    """
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise UserError(f"--web.listen-address: {address!r} is not an address; write HOST:PORT, as in 127.0.0.1:10500")
    try:
        if host:
            family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
        dual = socket.has_dualstack_ipv6()
        return socket.create_server(
            ("", int(port)),
            family=socket.AF_INET6 if dual else socket.AF_INET,
            backlog=BACKLOG,
            dualstack_ipv6=dual,
        )
    except UnicodeError:
        raise UserError(f"--web.listen-address: {host!r} is not the name of a host") from None
    except OSError as error:
        complaint = f"--web.listen-address: cannot listen on {address}: {what_failed(error)}"
        if error.errno == errno.EADDRINUSE:
            raise AddressInUseError(f"{complaint}; stop what uses it, or choose another port") from None
        raise UserError(complaint) from None


def address(listener: socket.socket, scheme: str) -> str:
    """The address that a socket listens on, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def web_server(app: ASGIApp, settings: Settings, limits: ConnectionLimits | None = None) -> uvicorn.Server:
    """A server for ``run(sockets=[listener])``: it runs until SIGINT, SIGTERM, or its ``should_exit`` is set."""
    keeper = Doorkeeper(settings, limits or ConnectionLimits())
    config = uvicorn.Config(
        Authentication(app, settings),
        http=keeper.protocol,  # type: ignore[arg-type]  # it is called like the class that is asked for
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
