"""Basic authentication as in the Prometheus exporter toolkit. Health checks are exempt: they have no password."""

import asyncio
import base64
import binascii
import hmac
import secrets
from collections.abc import Collection, Mapping

import bcrypt
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlflow_trace_exporter.settings.web_config import Settings

MAX_PASSWORD_BYTES = 72
"""bcrypt ignores anything beyond this."""


_UNAUTHORIZED = PlainTextResponse("Unauthorized\n", 401, {"WWW-Authenticate": 'Basic realm="mlflow-trace-exporter"'})
_ONE_AT_A_TIME = PlainTextResponse("another password from this address is being checked\n", 429, {"Retry-After": "1"})


class Authentication:
    """ASGI middleware that checks user and password, and adds the configured headers to every response.

    bcrypt is slow on purpose, so a correct password is remembered (as a keyed digest). Other passwords are checked one
    at a time, and only one per address: guessing uses at most one core and keeps no other address waiting. Each
    rejection takes as long as the most expensive hash, so that the time does not reveal which users exist.
    """

    def __init__(self, app: ASGIApp, settings: Settings, open_paths: Collection[str] = ()) -> None:
        """``open_paths`` need no password."""
        self._app = app
        self._open_paths = open_paths
        self._settings = settings
        self._right: dict[str, bytes] = {}
        self._secret = secrets.token_bytes()
        self._one_at_a_time = asyncio.Lock()
        self._guessing: set[str] = set()
        """The addresses whose password is being checked."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        settings = self._settings()
        users, headers = settings.users or {}, settings.headers or {}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        refusal = await self._refusal(scope, users) if users and not self._is_open(scope) else None
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _is_open(self, scope: Scope) -> bool:
        return scope["path"] in self._open_paths and scope["method"] in ("GET", "HEAD")

    async def _refusal(self, scope: Scope, users: Mapping[str, str]) -> ASGIApp | None:
        """The response that rejects a request; None if the request is allowed."""
        user, password = _credentials(Headers(scope=scope).get("authorization", ""))
        if not user and not password:
            return _UNAUTHORIZED
        most = max(map(_cost, users.values()))
        password_hash = users.get(user) or next(each for each in users.values() if _cost(each) == most)
        digest = hmac.digest(self._secret, password_hash.encode() + password, "sha256")
        if user in users and hmac.compare_digest(self._right.get(user, b""), digest):
            return None
        address = (scope.get("client") or ("",))[0]
        if address in self._guessing:
            return _ONE_AT_A_TIME
        self._guessing.add(address)
        try:
            async with self._one_at_a_time:
                right = await asyncio.to_thread(_is_right, password[:MAX_PASSWORD_BYTES], password_hash, most)
        finally:
            self._guessing.discard(address)
        if not right or user not in users:
            return _UNAUTHORIZED
        self._right[user] = digest
        return None


def _is_right(password: bytes, password_hash: str, most: int) -> bool:
    """Whether the password matches. If not, this takes as long as a hash of cost ``most`` does.

    Each cost takes twice as long as the one before. Example: a check at cost 10 takes 2^10 rounds; with further checks
    at 10, 11 and 12 the total is 2^13.
    """
    if bcrypt.checkpw(password, password_hash.encode()):
        return True
    for cost in range(_cost(password_hash), most):
        bcrypt.checkpw(password, f"{password_hash[:4]}{cost:02}{password_hash[6:]}".encode())
    return False


def _cost(password_hash: str) -> int:
    """The cost of a bcrypt hash. Example: 10 for $2y$10$…"""
    return int(password_hash[4:6])


def _credentials(authorization: str) -> tuple[str, bytes]:
    """The user and the password in the header; both are empty if it has none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", b""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).partition(b":")
        return ("", b"") if b"\0" in password else (user.decode(), password)  # bcrypt would stop at the NUL
    except (binascii.Error, UnicodeDecodeError):
        return "", b""
