"""Checks a running exporter with one request, without a proxy and without following redirects."""

import re
import ssl
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from socket import gaierror
from urllib.parse import urlsplit

from mlflow_trace_exporter.errors import UserError, what_failed
from mlflow_trace_exporter.shown import shown

TIMEOUT_S = 3.0
"""How long to wait for the connection, and for each part of the response."""

HEALTHY = "/-/healthy"
LOOPBACK = "127.0.0.1"

_OTHER_NAME = {62, 64}
_UNKNOWN_AUTHORITY = {18, 19, 20, 21}
"""OpenSSL's codes (X509_V_ERR_…): a certificate for another name or address, and one from an unknown CA."""


class ProbeError(Exception):
    """The exporter does not work, or cannot be reached. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """The endpoint to check."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The target as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Parse a URL, or ``host:port``, ``[ipv6]:port`` or ``:port`` (this machine) for http.

        The default path is HEALTHY. Raises ValueError for anything else.
        """
        has_scheme = "://" in text
        try:
            parts = urlsplit(text if has_scheme else f"http://{text}")
            port = parts.port
        except ValueError:
            raise _no_address(text) from None
        host = parts.hostname or (LOOPBACK if port else "")
        path = (parts.path or HEALTHY) + (f"?{parts.query}" if parts.query else "")
        if parts.scheme not in ("http", "https") or not re.fullmatch("[!-~]+", host + path) or not host:
            raise _no_address(text)
        if port == 0 or (port is None and not has_scheme):
            raise _no_address(text)
        if "@" in parts.netloc:
            raise ValueError(f"leave out the user and the password: {HEALTHY} and /-/ready need none")
        return cls(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path)


def _no_address(text: str) -> ValueError:
    return ValueError(
        f"{text!r} is not an address; write HOST:PORT, as in 127.0.0.1:10500, or a URL, as in"
        " https://exporter.example.com/-/ready"
    )


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS options: the CA to trust (None: those of this machine), whether to trust any certificate, and the client
    certificate with its key."""

    ca_file: Path | None = None
    insecure: bool = False
    cert_file: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Create the SSL context. Raises UserError for an invalid file."""
        context = ssl.create_default_context()
        if self.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        elif self.ca_file:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts no CA yet
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # so that the exporter's own certificate is enough
            _require_readable("--ca-file", self.ca_file)
            try:
                context.load_verify_locations(self.ca_file)
            except OSError:
                raise UserError(f"--ca-file: {self.ca_file} contains no usable certificate") from None
        if self.cert_file:
            self._show(self.cert_file, context)
        return context

    def _show(self, certificate: Path, context: ssl.SSLContext) -> None:
        key = self.key_file or certificate
        _require_readable("--cert-file", certificate)
        _require_readable("--key-file", key)
        try:  # with any password, even an empty one, OpenSSL does not prompt on the terminal
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ValueError):
            raise UserError(f"--cert-file: {certificate} does not match the key in {key}") from None


def _require_readable(flag: str, file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise UserError(f"{flag}: cannot read {file}: {what_failed(error)}") from None


def ask(target: Target, tls: Tls) -> str:
    """Send the request and return the response. Raises ProbeError if the status is not 200 or there is no response, and
    UserError for an invalid file of ``tls``."""
    connection = (
        HTTPSConnection(target.host, target.port, timeout=TIMEOUT_S, context=tls.context())
        if target.scheme == "https"
        else HTTPConnection(target.host, target.port, timeout=TIMEOUT_S)
    )
    try:
        connection.request("GET", target.path)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, ValueError, HTTPException) as error:
        raise ProbeError(_why(error, target)) from None
    finally:
        connection.close()
    if answer.status != 200:
        lines = text.splitlines() or [answer.reason]
        raise ProbeError(f"HTTP {answer.status}: {shown(lines[0][:200])}")
    return text


def _why(error: Exception, target: Target) -> str:
    """The message: what happened, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _distrust(error)
    has_closed = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    if isinstance(error, ssl.SSLError) and not has_closed and "ALERT" not in str(error.reason):
        return f"the server does not speak TLS ({error.reason}); for an exporter without TLS write http://"
    no_answer = (
        "the server closed the connection; if it requires client certificates, set --cert-file and --key-file"
        if target.scheme == "https"
        else "the server does not speak HTTP; for an exporter with TLS write https://"
    )
    reasons: tuple[tuple[type[Exception], str], ...] = (
        (TimeoutError, f"no answer within {TIMEOUT_S:g} s"),
        (ConnectionRefusedError, "Connection refused; is the exporter running, with this --web.listen-address?"),
        (gaierror, f"cannot resolve the host {target.host}"),
        (UnicodeError, f"{target.host!r} is not a host name"),
        (ssl.SSLError, no_answer),
        (ConnectionError, no_answer),
        (HTTPException, no_answer),
    )
    unexpected = what_failed(error) if isinstance(error, OSError) else str(error)
    return next((reason for kind, reason in reasons if isinstance(error, kind)), unexpected)


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _OTHER_NAME:
        remedy = "use the name that the certificate is for"
    elif error.verify_code in _UNKNOWN_AUTHORITY:
        remedy = "set the certificate to trust with --ca-file"
    else:
        remedy = "renew the certificate"
    return f"{error.verify_message.rstrip('.')}; {remedy}, or, for an exporter on this machine, use --insecure"
