"""Basic authentication for every path, as the Prometheus exporter toolkit does it."""

import asyncio
import base64
import binascii
import hmac
import secrets
from collections.abc import Mapping

import bcrypt
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.web_config import Settings

MAX_PASSWORD_BYTES = 72
"""bcrypt looks at no more."""


_UNAUTHORIZED = PlainTextResponse("Unauthorized\n", 401, {"WWW-Authenticate": 'Basic realm="mlflow-trace-exporter"'})
_ONE_AT_A_TIME = PlainTextResponse("another password from this address is being looked at\n", 429, {"Retry-After": "1"})


class Authentication:
    """Lets through whom the settings name, and puts their headers on every answer.

    bcrypt is slow on purpose, so a password that was right is remembered (as a keyed digest); others are looked at one
    at a time, and one for each address, so that guessing takes one core at most and keeps no other address waiting.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._right: dict[str, bytes] = {}
        self._secret = secrets.token_bytes()
        self._one_at_a_time = asyncio.Lock()
        self._guessing: set[str] = set()
        """The addresses whose password is being looked at."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        settings = self._settings()
        users, headers = settings.users or {}, settings.headers or {}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        refusal = await self._refusal(scope, users) if users else None
        await (refusal or self._app)(scope, receive, send_with_headers)

    async def _refusal(self, scope: Scope, users: Mapping[str, str]) -> ASGIApp | None:
        """What to answer whom we do not let in; None for those whom we do."""
        user, password = _credentials(Headers(scope=scope).get("authorization", ""))
        if not user and not password:
            return _UNAUTHORIZED
        # who asks for a user that there is not must wait as long as for one that there is
        password_hash = users.get(user, next(iter(users.values()))).encode()
        digest = hmac.digest(self._secret, password_hash + password, "sha256")
        if user in users and hmac.compare_digest(self._right.get(user, b""), digest):
            return None
        address = (scope.get("client") or ("",))[0]
        if address in self._guessing:
            return _ONE_AT_A_TIME
        self._guessing.add(address)
        try:
            async with self._one_at_a_time:
                right = await asyncio.to_thread(bcrypt.checkpw, password[:MAX_PASSWORD_BYTES], password_hash)
        finally:
            self._guessing.discard(address)
        if not right or user not in users:
            return _UNAUTHORIZED
        self._right[user] = digest
        return None


def _credentials(authorization: str) -> tuple[str, bytes]:
    """The user and the password of the header; both empty where it has none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", b""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).partition(b":")
        return ("", b"") if b"\0" in password else (user.decode(), password)  # bcrypt would stop reading there
    except (binascii.Error, UnicodeDecodeError):
        return "", b""
