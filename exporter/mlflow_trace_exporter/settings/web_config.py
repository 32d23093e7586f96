"""The web configuration (--web.config.file): TLS and users, in the format of the Prometheus exporter toolkit.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. Keys of that format that are not
supported here are errors, because a server must not be less secure than its configuration says.
"""

import logging
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Literal, NoReturn

import bcrypt
from pydantic import Field, PlainValidator, StrictBool, StrictStr
from pydantic import model_validator as validates_model

from mlflow_trace_exporter.errors import UserError, what_failed
from mlflow_trace_exporter.settings import yaml_file
from mlflow_trace_exporter.settings.yaml_file import Section

log = logging.getLogger(__name__)

Version = Literal["TLS10", "TLS11", "TLS12", "TLS13"]
_VERSIONS = dict(
    zip(
        ("TLS10", "TLS11", "TLS12", "TLS13"),
        (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3),
        strict=True,
    )
)
_VERIFIES = {"VerifyClientCertIfGiven": ssl.CERT_OPTIONAL, "RequireAndVerifyClientCert": ssl.CERT_REQUIRED}
_CLIENT_AUTH = ("NoClientCert", *_VERIFIES)
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": ".*",
    "Strict-Transport-Security": ".*",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "(?i:deny|sameorigin)",
    "X-XSS-Protection": ".*",
}
_BCRYPT = re.compile(r"(\$2[abxy]\$)(\d\d)(\$[./A-Za-z0-9]{53})")


def _client_auth(value: object) -> str:
    if value in ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert"):
        raise ValueError(f"{value} accepts any certificate, which is not supported; use RequireAndVerifyClientCert")
    if value not in _CLIENT_AUTH:
        raise ValueError(f"{value!r} is none of {', '.join(_CLIENT_AUTH)}")
    return str(value)


def _headers(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise ValueError("must contain keys, as in `X-Frame-Options: deny`")
    for name, text in value.items():
        if name not in _HEADERS:
            raise ValueError(f"{name} cannot be set; supported headers are {', '.join(_HEADERS)}")
        if not isinstance(text, str) or not text.isascii() or not text.isprintable():
            raise ValueError(f"{name} must be printable ASCII text")
        if text and not re.fullmatch(_HEADERS[name], text):
            raise ValueError(f"{name} cannot be {text!r}")
    return {name: text for name, text in value.items() if text}


def _users(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise ValueError("must contain a bcrypt hash for each user, as in `alice: $2y$10$...`")
    for user, password_hash in value.items():
        if not isinstance(user, str) or ":" in user:
            raise ValueError(f"{user!r} cannot be a user name")
        if not isinstance(password_hash, str) or not _is_bcrypt(password_hash):
            raise ValueError(f"the password of {user} is not a bcrypt hash; create one with `htpasswd -nBC 10 {user}`")
    return value


def _is_bcrypt(password_hash: str) -> bool:
    form = _BCRYPT.fullmatch(password_hash)
    if form is None or not 4 <= int(form[2]) <= 31:
        return False
    try:  # at the lowest cost, because only the format is checked
        bcrypt.checkpw(b"", f"{form[1]}04{form[3]}".encode())
    except ValueError:
        return False
    return True


def _not_supported(_: object) -> NoReturn:
    raise ValueError("is not supported here; leave it out")


NotSupported = Annotated[Any, PlainValidator(_not_supported)]


class TlsServer(Section):
    """TLS settings. TLS is off if none is set. Paths are relative to the file that names them."""

    cert_file: StrictStr = ""
    key_file: StrictStr = ""
    client_ca_file: StrictStr = ""
    client_auth_type: Annotated[str, PlainValidator(_client_auth)] = "NoClientCert"
    client_allowed_sans: tuple[StrictStr, ...] = ()
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    prefer_server_cipher_suites: StrictBool = True
    cert: NotSupported = None
    key: NotSupported = None
    client_ca: NotSupported = None
    cipher_suites: NotSupported = None
    curve_preferences: NotSupported = None

    @property
    def is_on(self) -> bool:
        """Whether any setting needs TLS."""
        return bool(self.cert_file or self.key_file or self.client_ca_file or self.client_auth_type != "NoClientCert")

    @validates_model(mode="after")
    def _fits_together(self) -> "TlsServer":
        """Validation across keys."""
        if self.is_on and not self.cert_file:
            raise ValueError("cert_file is missing")
        if self.is_on and not self.key_file:
            raise ValueError("key_file is missing")
        verifies = self.client_auth_type in _VERIFIES
        if self.client_ca_file and not verifies:
            raise ValueError("client_ca_file needs a client_auth_type, such as RequireAndVerifyClientCert")
        if verifies and not self.client_ca_file:
            raise ValueError(f"client_auth_type {self.client_auth_type} needs a client_ca_file")
        if self.client_allowed_sans and self.client_auth_type != "RequireAndVerifyClientCert":
            raise ValueError("client_allowed_sans needs client_auth_type: RequireAndVerifyClientCert")
        if _VERSIONS[self.min_version] > _VERSIONS[self.max_version]:
            raise ValueError("min_version must not be above max_version")
        return self


class HttpServer(Section):
    """Headers of all responses. ``http2`` is accepted without effect: the server speaks HTTP/1.1."""

    http2: StrictBool = True
    headers: Annotated[Mapping[str, str], PlainValidator(_headers)] = Field(default_factory=dict)


class WebConfig(Section):
    """The whole file."""

    tls_server_config: TlsServer = Field(default_factory=TlsServer)
    http_server_config: HttpServer = Field(default_factory=HttpServer)
    basic_auth_users: Annotated[Mapping[str, str], PlainValidator(_users)] = Field(default_factory=dict)
    rate_limit: NotSupported = None


@dataclass(frozen=True, slots=True)
class WebSettings:
    """How to serve.

    ``tls``: None for plain HTTP. ``users``: password hashes by user name; without users, no password is needed.
    ``headers`` are added to all responses. ``client_names``: a client certificate must have one of these names; if
    empty, any verified certificate is accepted.
    """

    tls: ssl.SSLContext | None = None
    users: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    client_names: tuple[str, ...] = ()


def load(path: Path) -> tuple[WebSettings, tuple[Path, ...]]:
    """Load the settings. Returns them with the paths of all files that they depend on. Raises UserError with every
    error in them."""
    config = yaml_file.load(path, WebConfig, "--web.config.file")
    tls, beside = config.tls_server_config, path.absolute().parent
    files = tuple(beside / each for each in (tls.cert_file, tls.key_file, tls.client_ca_file) if each)
    context = _context(tls, beside, path) if tls.is_on else None
    settings = WebSettings(context, config.basic_auth_users, config.http_server_config.headers, tls.client_allowed_sans)
    return settings, (path, *files)


def _context(tls: TlsServer, beside: Path, path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
    if tls.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    for key, name in (("cert_file", tls.cert_file), ("key_file", tls.key_file), ("client_ca_file", tls.client_ca_file)):
        if name:
            _require_readable(beside / name, f"{path}: tls_server_config.{key}")
    try:  # with any password, even an empty one, OpenSSL does not prompt on the terminal
        context.load_cert_chain(beside / tls.cert_file, beside / tls.key_file, password="")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cert_file and key_file are not a usable pair: {error}") from None
    if tls.client_ca_file:
        try:
            context.load_verify_locations(beside / tls.client_ca_file)
        except OSError as error:
            raise UserError(f"{path}: client_ca_file contains no usable certificate: {error}") from None
        context.verify_mode = _VERIFIES[tls.client_auth_type]
    return context


def _require_readable(file: Path, place: str) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise UserError(f"{place}: cannot read {file}: {what_failed(error)}") from None


RETRY_S = 5.0
"""How long to wait before trying a rejected change again: a file that it names may appear a moment later."""


class WebConfigFile:
    """The settings of a file, reloaded when it or a file that it names has changed.

    An invalid change is logged, and the previous settings stay in force. The same holds for a change that removes the
    users or turns TLS on or off, because a file that is empty for a moment must not open the server to everybody.
    """

    def __init__(self, path: Path | None) -> None:
        """Load the file. Raises UserError if it is invalid."""
        self._path = path
        self._settings, self._files = load(path) if path else (WebSettings(), ())
        self._seen = self._stamps()
        self._failed_s = -RETRY_S
        self._error = ""

    def settings(self) -> WebSettings:
        """The settings that are in force now."""
        if self._path is None:
            return self._settings
        stamps = self._stamps()
        if stamps != self._seen or (self._error and monotonic() - self._failed_s >= RETRY_S):
            self._seen = stamps
            self._read_again(self._path)
        return self._settings

    def _read_again(self, path: Path) -> None:
        try:
            settings, files = load(path)
            before = self._settings
            users_gone = bool(before.users) and not settings.users
            if users_gone or (settings.tls is None) != (before.tls is None):
                raise UserError(f"{path}: restart the exporter to turn TLS on or off, or to remove all users")
        except UserError as error:
            if str(error) != self._error:
                log.error("the changed web configuration is invalid and not used", extra={"error": str(error)})
            self._error, self._failed_s = str(error), monotonic()
            return
        self._settings, self._error = settings, ""
        if files != self._files:  # new files to watch, which may have changed since they were read
            self._files, self._seen = files, ()
        log.info("web configuration reloaded", extra={"file": path})

    def _stamps(self) -> tuple[object, ...]:
        return tuple(map(_stamp, self._files))


def _stamp(file: Path) -> object:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


Settings = Callable[[], WebSettings]
"""Returns the settings that are in force."""
