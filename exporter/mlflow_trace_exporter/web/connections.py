"""Limits on connections (number and time), and TLS.

An attacker can open connections and then send nothing, or read nothing. So each connection must complete a request
within ``request_s``. At the limit of connections, the server closes the longest-waiting connection of the address that
has the most of them. So no client can lock out others.
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from mlflow_trace_exporter.settings.web_config import Settings


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """``connections``: how many may be open. ``request_s``: the longest time from accepting a connection to its first
    complete response, and from each response to the next. ``handshake_s``: the longest TLS handshake."""

    connections: int = 256
    request_s: float = 90.0
    handshake_s: float = 10.0


class Doorkeeper:
    """Creates the protocol object of each connection that uvicorn accepts, and enforces the limits."""

    def __init__(self, settings: Settings, limits: ConnectionLimits) -> None:
        self.settings = settings
        self.limits = limits
        self.handshakes: set[asyncio.Task[None]] = set()
        self._visits: dict[Visit, None] = {}
        """The longest-waiting connections come first."""

    def protocol(self, **options: Any) -> asyncio.Protocol:
        """Create the protocol of a connection. uvicorn calls this as its protocol class."""
        return _Arrival(self, lambda visit: _Http(visit, **options))

    def enter(self, transport: asyncio.Transport) -> "Visit":
        """Register a connection. At the limit, close another one."""
        if len(self._visits) >= self.limits.connections:
            crowd, _ = Counter(visit.address for visit in self._visits).most_common(1)[0]
            oldest = next(visit for visit in self._visits if visit.address == crowd)
            oldest.end()  # now, because connection_lost is called only after the other new connections
            oldest.transport.abort()
        visit = Visit(self, transport)
        self.renew(visit)
        return visit

    def renew(self, visit: "Visit") -> None:
        """Move a connection to the end of the waiting order."""
        self._visits.pop(visit, None)
        self._visits[visit] = None

    def leave(self, visit: "Visit") -> None:
        """Forget a connection."""
        self._visits.pop(visit, None)


class Visit:
    """One connection, from accept to close."""

    def __init__(self, keeper: Doorkeeper, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.address: str = (transport.get_extra_info("peername") or ("",))[0]
        self._keeper = keeper
        self._deadline = self._new_deadline()

    def answered(self) -> None:
        """A request was answered: restart the timeout."""
        self._keeper.renew(self)
        self._deadline.cancel()
        self._deadline = self._new_deadline()

    def end(self) -> None:
        """The connection has ended."""
        self._deadline.cancel()
        self._keeper.leave(self)

    def _new_deadline(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._keeper.limits.request_s, self.transport.abort)


class _Arrival(asyncio.Protocol):
    """The protocol of a new connection, until HTTP takes over. Does the TLS handshake if TLS is on."""

    def __init__(self, keeper: Doorkeeper, http: "Callable[[Visit], _Http]") -> None:
        self._keeper = keeper
        self._http = http
        self._visit: Visit | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plain = cast(asyncio.Transport, transport)
        self._visit = self._keeper.enter(plain)
        context = self._keeper.settings().tls
        if context is None:
            _hand_over(plain, self._http(self._visit))
            return
        task = asyncio.get_running_loop().create_task(self._handshake(plain, self._visit, context))
        self._keeper.handshakes.add(task)
        task.add_done_callback(self._keeper.handshakes.discard)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason does not matter
        if self._visit is not None:
            self._visit.end()

    async def _handshake(self, plain: asyncio.Transport, visit: Visit, context: ssl.SSLContext) -> None:
        early = _Early()
        try:
            transport = await asyncio.get_running_loop().start_tls(
                plain, early, context, server_side=True, ssl_handshake_timeout=self._keeper.limits.handshake_s
            )
        except (OSError, asyncio.CancelledError):
            plain.abort()
            visit.end()
            return
        names = self._keeper.settings().client_names
        if transport is None or plain.is_closing() or (names and not set(names) & _names_of(transport)):
            plain.abort()
            visit.end()
            return
        http = self._http(visit)
        _hand_over(transport, http)
        if early.data:
            http.data_received(bytes(early.data))


class _Early(asyncio.Protocol):
    """Buffers data that a client sends together with the end of its handshake."""

    def __init__(self) -> None:
        self.data = bytearray()

    def data_received(self, data: bytes) -> None:
        self.data += data


class _Http(H11Protocol):
    """uvicorn's HTTP protocol, which also reports each response and the end of the connection."""

    def __init__(self, visit: Visit, **options: Any) -> None:
        super().__init__(**options)
        self._visit = visit

    def on_response_complete(self) -> None:
        self._visit.answered()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # in the middle of a response an error can no longer be sent
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._visit.end()
        super().connection_lost(exc)


def _hand_over(transport: asyncio.Transport, http: _Http) -> None:
    transport.set_protocol(http)
    http.connection_made(transport)


def _names_of(transport: asyncio.Transport) -> set[str]:
    """The subject alternative names in the client's certificate."""
    certificate = transport.get_extra_info("peercert") or {}
    return {value for _, value in certificate.get("subjectAltName", ())}
