"""The web server against clients of all manners, in plain HTTP and over TLS. No MLflow is needed."""

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import bcrypt
import pytest
import requests
import yaml

from mlflow_trace_exporter.errors import PollError, Reason, UserError
from mlflow_trace_exporter.metrics.exposition import Exposition
from mlflow_trace_exporter.metrics.series import series_totals
from mlflow_trace_exporter.metrics.status import Snapshot, Status
from mlflow_trace_exporter.settings.web_config import WebConfigFile
from mlflow_trace_exporter.web import server
from mlflow_trace_exporter.web.connections import ConnectionLimits
from mlflow_trace_exporter.web.routes import Site, application
from tests.support import endless
from tests.support.builders import BUILD, FAMILIES, increments, record
from tests.support.certificates import Certificates, make_certificates
from tests.support.commands import invoke
from tests.support.real import eventually
from tests.support.waiting import HANG_S

HASH = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
ALICE = ("alice", "open sesame")
TLS = {"cert_file": "server.pem", "key_file": "server.key"}
NO_END = ConnectionLimits(request_s=10 * HANG_S, handshake_s=10 * HANG_S)
"""So that a client that is held up by others is so for longer than a test waits, and nothing ends on a slow machine."""


@dataclass
class Served:
    """A running web server."""

    port: int
    exposition: Exposition
    web_file: Path
    certificates: Certificates

    @property
    def tls(self) -> bool:
        return "tls_server_config" in self.web_file.read_text()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def get(self, path: str = "/metrics", **options: Any) -> requests.Response:
        """A request of a client that trusts the authority; it waits no longer than a scrape would."""
        return requests.get(self.url + path, verify=self.certificates.ca, timeout=options.pop("timeout", 5), **options)

    def connect(self) -> socket.socket:
        """A connection that is ready to send a request."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=HANG_S)
        return self.context().wrap_socket(plain, server_hostname="127.0.0.1") if self.tls else plain

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificates.ca)


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve a snapshot with many series, with a web configuration and limits, until the test ends."""
    certificates = make_certificates(tmp_path)
    with ExitStack() as running:

        def start(limits: ConnectionLimits | None = None, site: dict[str, Any] | None = None, **web: Any) -> Served:
            file = tmp_path / "web.yml"
            file.write_text(yaml.safe_dump(web))
            exposition = Exposition()
            records = [record(trace_id=f"tr-{number}", name=f"name {number}") for number in range(100)]
            exposition.publish(
                Snapshot(FAMILIES, series_totals(FAMILIES, increments(*records).amounts), Status.begin(BUILD))
            )
            options: dict[str, Any] = {
                "telemetry_path": "/metrics",
                "prefix": "",
                "mlflow_url": lambda: "http://mlflow",
                "trace_url": lambda _: None,
                "traces_page": lambda _: b"",
                "reload": lambda: None,
                **(site or {}),
            }
            listener = server.listen("127.0.0.1:0")
            port = listener.getsockname()[1]
            served = Site(exposition=lambda: exposition, **options)
            uvicorn = server.web_server(
                application(served), WebConfigFile(file).settings, limits or NO_END, open_paths=served.open_paths
            )
            thread = threading.Thread(target=uvicorn.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()

            @running.callback
            def stop() -> None:
                uvicorn.should_exit = True
                thread.join(HANG_S)

            eventually(lambda: uvicorn.started, "it serves")
            return Served(port, exposition, file, certificates)

        yield start


def silent(served: Served) -> Iterator[socket.socket]:
    """Connections that say nothing; over TLS not even the first word of the handshake."""
    for _ in range(500):
        yield socket.create_connection(("127.0.0.1", served.port), timeout=HANG_S)


def silent_after_handshake(served: Served) -> Iterator[socket.socket]:
    for _ in range(50):
        yield served.connect()


def never_ending_heads(served: Served) -> Iterator[socket.socket]:
    for _ in range(50):
        connection = served.connect()
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nX-")
        yield connection


def bodies_that_never_come(served: Served) -> Iterator[socket.socket]:
    for _ in range(50):
        connection = served.connect()
        connection.sendall(b"POST /-/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 100_000)
        yield connection


def slow_readers(served: Served) -> Iterator[socket.socket]:
    """They ask for much, again and again, and read none of it."""
    for _ in range(50):
        connection = served.connect()
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
        yield connection


def huge_heads(served: Served) -> Iterator[socket.socket]:
    for _ in range(20):
        connection = served.connect()
        try:
            for _ in range(100):
                connection.sendall(b"GET /" + b"x" * 100_000)
        except OSError:
            pass  # it was closed, as it should be
        yield connection


def garbage(served: Served) -> Iterator[socket.socket]:
    for _ in range(50):
        connection = socket.create_connection(("127.0.0.1", served.port), timeout=HANG_S)
        connection.sendall(bytes(range(256)) * 10)
        yield connection


def half_closed(served: Served) -> Iterator[socket.socket]:
    for _ in range(50):
        connection = socket.create_connection(("127.0.0.1", served.port), timeout=HANG_S)
        connection.shutdown(socket.SHUT_WR)
        yield connection


CLIENTS = [
    silent,
    silent_after_handshake,
    never_ending_heads,
    bodies_that_never_come,
    slow_readers,
    huge_heads,
    garbage,
    half_closed,
]


@pytest.mark.parametrize("web", [{}, {"tls_server_config": TLS}], ids=["plain", "tls"])
@pytest.mark.parametrize("clients", CLIENTS, ids=lambda clients: clients.__name__)
def test_fault_25_no_client_holds_up_a_scrape(
    serve: Serve,
    clients: Callable[[Served], Iterator[socket.socket]],
    web: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    served = serve(**web)
    with ExitStack() as open_connections:
        for connection in clients(served):
            open_connections.enter_context(connection)
        for _ in range(3):
            assert served.get().status_code == 200
    assert not [each for each in caplog.records if each.exc_info], "nor does it fill the log with tracebacks"


@pytest.mark.parametrize("web", [{}, {"tls_server_config": TLS}], ids=["plain", "tls"])
def test_there_are_no_more_connections_than_the_limit(serve: Serve, web: dict[str, Any]) -> None:
    """Those that have waited longest go first, so that whoever comes gets in."""
    served = serve(replace(NO_END, connections=10), **web)
    with ExitStack() as open_connections:
        address = ("127.0.0.1", served.port)
        waiting = [open_connections.enter_context(socket.create_connection(address)) for _ in range(30)]
        assert served.get().status_code == 200
        eventually(lambda: sum(map(is_closed, waiting[:20])) == 20, "the first are closed")
        assert not is_closed(waiting[-1])


@pytest.mark.parametrize("web", [{}, {"tls_server_config": TLS}], ids=["plain", "tls"])
def test_a_connection_without_an_answer_is_closed_in_time(serve: Serve, web: dict[str, Any]) -> None:
    served = serve(ConnectionLimits(request_s=REQUEST_S, handshake_s=0.5), **web)
    with socket.create_connection(("127.0.0.1", served.port)) as says_nothing, served.connect() as never_ends:
        with suppress(OSError):  # it is closed, on a machine that has stood still
            never_ends.sendall(b"GET /metrics HTTP/1.1\r\n")
        eventually(lambda: is_kept(served), "one that goes on asking is kept")
        eventually(lambda: is_closed(says_nothing) and is_closed(never_ends), "the others are closed")


REQUEST_S = 2.0


def is_kept(served: Served) -> bool | None:
    """Whether a connection that goes on asking is kept for longer than the limit; None if it did not ask in time."""
    kept = (
        http.client.HTTPSConnection("127.0.0.1", served.port, context=served.context())
        if served.tls
        else http.client.HTTPConnection("127.0.0.1", served.port)
    )
    with closing(kept):
        began_s = asked_s = time.monotonic()
        try:
            while time.monotonic() - began_s < REQUEST_S + 1:
                kept.request("GET", "/-/healthy")
                assert kept.getresponse().read()
                assert kept.sock is not None
                time.sleep(0.3)
                if time.monotonic() - asked_s > 0.8 * REQUEST_S:
                    return None
                asked_s = time.monotonic()
        except (OSError, http.client.HTTPException):
            assert time.monotonic() - asked_s > 0.8 * REQUEST_S, "it was closed although it asked in time"
            return None
    return True


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has ended a connection on which it never sent anything."""
    connection.settimeout(0.01)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_slow_reader_gets_all_of_it(serve: Serve) -> None:
    served = serve()
    size = len(served.get(headers={"Accept-Encoding": "identity"}).content)
    assert size > 1_000_000
    with served.connect() as slow:
        slow.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert served.get().status_code == 200
        received = bytearray()
        slow.settimeout(HANG_S)
        while piece := slow.recv(65_536):
            received += piece
    assert len(received) > size, "and then it gets all of it"


PREFIX = "/mlflow-exporter"


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/-/reload", "/trace/x", "/traces", "/runbook", "/nothing", f"{PREFIX}/metrics"]
)
def test_users_are_asked_for_everywhere(serve: Serve, path: str) -> None:
    served = serve(basic_auth_users={"alice": HASH}, site={"prefix": PREFIX})
    for wrong in (None, ("alice", "wrong"), ("bob", "open sesame"), ("", ""), ("alice", "")):
        answer = served.get(path, auth=wrong)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert served.get(path, auth=ALICE).status_code != 401
    assert requests.head(served.url + path, timeout=HANG_S).status_code == 401


@pytest.mark.parametrize("root", ["", PREFIX])
def test_but_not_by_health_checks_which_have_no_password(serve: Serve, root: str) -> None:
    served = serve(basic_auth_users={"alice": HASH}, site={"prefix": PREFIX})
    for path, status in (("/-/healthy", 200), ("/-/ready", 503), ("/-/healthy?verbose", 200)):
        for auth in (None, ("alice", "wrong"), ALICE):
            assert served.get(root + path, auth=auth).status_code == status
        assert requests.head(served.url + root + path, timeout=HANG_S).status_code == status
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert requests.request(method, served.url + root + path, timeout=HANG_S).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        *("/-/healthy/", "/-/healthy/../../metrics", "/-/healthy%2F", "//-/healthy", "/-/HEALTHY", "/-/healthy;a"),
        *("/-/healthy%00", "/-/healthy%0a", "/-/healthy%3f", "/trace/-/healthy", f"/trace{PREFIX}/-/healthy"),
        *("/x/-/healthy", f"{PREFIX}{PREFIX}/-/healthy", f"{PREFIX}//-/healthy", "http://a/-/healthy"),
    ],
)
def test_nor_does_a_path_that_looks_like_one_open_another(serve: Serve, path: str) -> None:
    """As it stands here: other clients would tidy it up."""
    served = serve(basic_auth_users={"alice": HASH}, site={"prefix": PREFIX})
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=HANG_S)) as client:
        client.putrequest("GET", path)
        client.endheaders()
        assert client.getresponse().status == 401


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic !", "Basic YWxpY2U=", "Bearer x", "Basic " + "A" * 10_000, "Basic /w=="]
)
def test_odd_credentials_are_no_credentials(serve: Serve, header: str) -> None:
    served = serve(basic_auth_users={"alice": HASH})
    assert served.get(headers={"Authorization": header}).status_code == 401


def test_a_right_password_is_remembered_until_it_changes(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(basic_auth_users={"alice": HASH})
    looked_at: list[bytes] = []
    real = bcrypt.checkpw

    def checkpw(password: bytes, known: bytes) -> bool:
        looked_at.append(password)
        return real(password, known)

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    assert [served.get(auth=ALICE).status_code for _ in range(5)] == [200] * 5
    assert len(looked_at) == 1
    assert [served.get(auth=("alice", "wrong")).status_code for _ in range(2)] == [401] * 2
    assert len(looked_at) == 3
    assert served.get(auth=ALICE).status_code == 200
    assert len(looked_at) == 3
    other = bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()
    served.web_file.write_text(yaml.safe_dump({"basic_auth_users": {"alice": other}}))
    assert served.get(auth=ALICE).status_code == 401
    assert served.get(auth=("alice", "other")).status_code == 200


def test_headers_of_the_web_configuration_are_on_every_answer(serve: Serve) -> None:
    served = serve(http_server_config={"headers": {"X-Frame-Options": "deny"}}, basic_auth_users={"alice": HASH})
    assert served.get().headers["X-Frame-Options"] == "deny"
    assert served.get("/nothing", auth=ALICE).headers["X-Frame-Options"] == "deny"


def test_only_clients_with_the_right_certificate_are_served(serve: Serve, tmp_path: Path) -> None:
    verify = {"client_ca_file": "ca.pem", "client_auth_type": "RequireAndVerifyClientCert"}
    served = serve(tls_server_config={**TLS, **verify, "client_allowed_sans": ["prometheus.example"]})
    assert served.get(cert=served.certificates.client).status_code == 200
    with pytest.raises(requests.ConnectionError):
        served.get()
    other = str(tmp_path / "other.pem"), str(tmp_path / "other.key")
    with pytest.raises(requests.ConnectionError):
        served.get(cert=other)


def test_an_older_version_of_tls_than_the_least_is_refused(serve: Serve) -> None:
    served = serve(tls_server_config={**TLS, "min_version": "TLS13"})
    assert served.get().status_code == 200
    older = served.context()
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=HANG_S) as plain,
        pytest.raises(ssl.SSLError),
    ):
        older.wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_renewed_certificate_is_used_without_a_restart(serve: Serve, tmp_path: Path) -> None:
    served = serve(tls_server_config=TLS)
    assert served.get().status_code == 200
    make_certificates(tmp_path)  # by a new authority, which the client now trusts, and not the one before
    assert served.get().status_code == 200


def test_plain_http_to_a_port_with_tls_gets_no_answer(serve: Serve) -> None:
    served = serve(tls_server_config=TLS)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{served.port}/metrics", timeout=HANG_S)


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
PROMETHEUS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"


def fails(error: Exception) -> Callable[[Any], Any]:
    """What answers a question with an error."""

    def fail(_: object) -> Any:
        raise error

    return fail


REFUSED: list[tuple[str, int, str]] = [
    ("/nothing/here", 404, "This page does not exist."),
    ("/-/reload", 405, "This address is not for browsers."),
    ("/trace/x%2Fy/%3Cscript%3E", 404, "MLflow has no trace with this id"),
    ("/trace/away", 502, "MLflow does not answer."),
    ("/trace/broken", 500, "This is a bug in the exporter."),
    ("/traces?user=%3Cscript%3E", 400, "a mistake: &lt;script&gt;"),
]


def trace_url(trace_id: str) -> str | None:
    match trace_id:
        case "away":
            raise PollError(Reason.UNREACHABLE, "secret")
        case "broken":
            raise RuntimeError("secret")
    return None


@pytest.mark.parametrize("prefix", ["", "/p/q"], ids=["at the root", "under a prefix"])
@pytest.mark.parametrize(("path", "status", "message"), REFUSED, ids=[path for path, _, _ in REFUSED])
def test_an_error_is_a_page_for_people_and_text_for_programs(
    serve: Serve, path: str, status: int, message: str, prefix: str
) -> None:
    served = serve(
        site={"trace_url": trace_url, "traces_page": fails(ValueError("a mistake: <script>")), "prefix": "/p/q"}
    )
    page = served.get(prefix + path, headers={"Accept": BROWSER})
    assert (page.status_code, page.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert message in page.text
    assert "<script" not in page.text
    (home,) = re.findall(r'href="([^"]*)">Status<', page.text)
    assert urljoin(f"{served.url}{prefix}{path}", home) == f"{served.url}{prefix}/"
    for accept in ("*/*", PROMETHEUS, "", "text/plain, text/html;q=0.5", "text/html;q=0"):
        text = served.get(prefix + path, headers={"Accept": accept})
        assert (text.status_code, text.headers["Content-Type"]) == (status, "text/plain; charset=utf-8")
        assert text.headers["Vary"] == "Accept"
        assert text.text.count("\n") == 1
        assert "secret" not in text.text + page.text


def test_a_proxy_may_keep_its_prefix(serve: Serve) -> None:
    served = serve(site={"prefix": "/mlflow-exporter"})
    for path in ("/metrics", "/-/healthy", "/"):
        assert served.get(path).status_code == 200
        assert served.get(f"/mlflow-exporter{path}").status_code == 200
    to_the_page = served.get("/mlflow-exporter", headers={"Host": "evil.example"}, allow_redirects=False)
    assert to_the_page.headers["Location"] == "/mlflow-exporter/"


@pytest.mark.parametrize(
    ("encodings", "gzipped"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("GZIP;q=0.5, identity;q=0.5", True),
        ("gzip;q=0.2, identity;q=0.8", False),
        ("", False),
    ],
)
def test_gzip_by_negotiation(serve: Serve, encodings: str, gzipped: bool) -> None:
    answer = serve().get(headers={"Accept-Encoding": encodings})
    assert (answer.headers.get("Content-Encoding") == "gzip") is gzipped
    assert answer.text.startswith("# HELP mlflow_traces_total")


def test_the_format_by_negotiation(serve: Serve) -> None:
    served = serve()
    for accept, content_type in (
        ("application/openmetrics-text;q=0", "text/plain"),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.5", "text/plain"),
        ("application/openmetrics-text;q=0.5,text/plain;q=0.3", "application/openmetrics-text"),
    ):
        assert served.get(headers={"Accept": accept}).headers["Content-Type"].startswith(content_type)
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=HANG_S)) as client:
        client.putrequest("GET", "/metrics")
        client.putheader("Accept", "text/plain;q=0.3")
        client.putheader("Accept", "application/openmetrics-text;q=0.5")
        client.endheaders()
        answer = client.getresponse()
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")


def test_a_reload_is_asked_for_by_post_and_tells_nobody_what_the_file_holds(serve: Serve) -> None:
    def reload() -> None:
        raise UserError("line 3: not 'a secret'")

    served = serve(site={"reload": reload})
    answer = requests.post(f"{served.url}/-/reload", timeout=HANG_S)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert served.get("/-/reload").status_code == 405


@contextmanager
def waiting(event: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        event.set()


def test_a_scrape_under_way_is_not_the_one_that_makes_room(serve: Serve) -> None:
    """Room is made by the address that has most connections."""
    served = serve(replace(NO_END, connections=10))
    size = len(served.get(headers={"Accept-Encoding": "identity"}).content)
    with ExitStack() as open_connections:
        scrape = open_connections.enter_context(
            socket.create_connection(("127.0.0.1", served.port), source_address=("127.0.0.2", 0))
        )
        many = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 19  # more than what waits in buffers on the way
        scrape.sendall(many + b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        received = bytearray(scrape.recv(1000))
        for _ in range(30):
            open_connections.enter_context(socket.create_connection(("127.0.0.1", served.port)))
        assert served.get("/-/healthy").status_code == 200
        scrape.settimeout(HANG_S)
        while piece := scrape.recv(65_536):
            received += piece
    assert len(received) > 20 * size


def test_who_guesses_passwords_keeps_no_other_address_waiting(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(basic_auth_users={"alice": HASH})
    real, go_on = bcrypt.checkpw, threading.Event()

    def slow(password: bytes, known: bytes) -> bool:
        if password == b"guess":
            go_on.wait(HANG_S)
        return real(password, known)

    monkeypatch.setattr(bcrypt, "checkpw", slow)
    guess = b"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YWxpY2U6Z3Vlc3M=\r\n\r\n"
    with ExitStack() as open_connections, waiting(go_on):
        guesses = [open_connections.enter_context(served.connect()) for _ in range(20)]
        for each in guesses:
            each.sendall(guess)
        refused = eventually(lambda: sum(b" 429 " in recv_at_once(each) for each in guesses), "the others are refused")
        assert refused > 0
        go_on.set()
        assert served.get(auth=ALICE).status_code in (200, 429)
        eventually(lambda: served.get(auth=ALICE).status_code == 200, "who knows the password gets in")


def recv_at_once(connection: socket.socket) -> bytes:
    connection.settimeout(0.2)
    try:
        return connection.recv(1000)
    except TimeoutError:
        return b""


def test_a_user_who_is_taken_away_gets_in_no_more(serve: Serve) -> None:
    served = serve(basic_auth_users={"alice": HASH})
    assert served.get(auth=ALICE).status_code == 200
    served.web_file.write_text(yaml.safe_dump({"basic_auth_users": {"bob": HASH}}))
    assert served.get(auth=ALICE).status_code == 401
    assert served.get(auth=("bob", ALICE[1])).status_code == 200


@pytest.mark.parametrize("path", ["/trace", "/metrics/", "/-/healthy/"])
def test_nobody_is_sent_to_another_host(serve: Serve, path: str) -> None:
    answer = serve(site={"prefix": "/p"}).get(path, headers={"Host": "evil.example"}, allow_redirects=False)
    assert answer.status_code == 404
    assert "Location" not in answer.headers


def test_nonsense_in_the_middle_of_an_answer_is_no_error_of_ours(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve()
    served.get(headers={"Accept-Encoding": "identity"})
    with served.connect() as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert connection.recv(100)
        connection.sendall(b"ZZZ\r\n")
        while piece := recv_or_end(connection):
            assert piece
    assert served.get().status_code == 200
    assert not [each for each in caplog.records if each.exc_info]


def recv_or_end(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except ConnectionError:
        return b""


def test_who_asks_for_many_traces_keeps_nobody_else_waiting(serve: Serve) -> None:
    answered, asked = threading.Event(), []

    def trace_url(trace_id: str) -> str | None:
        asked.append(trace_id)
        answered.wait(HANG_S)
        return None

    served = serve(site={"trace_url": trace_url})
    with ExitStack() as open_connections, waiting(answered):
        for number in range(100):
            connection = open_connections.enter_context(served.connect())
            connection.sendall(f"GET /trace/{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        for path in ("/metrics", "/", "/-/healthy"):
            assert served.get(path).status_code == 200
        assert len(asked) <= 2, "MLflow is not asked for all of them at once"
        assert served.get("/trace/one-more").status_code == 503


def probe(*arguments: object) -> tuple[int, str]:
    """What the command makes of it: its exit code, and what it says. A busy server may need more than one probe."""
    return eventually(partial(_answered, *arguments), "it answers in time")


def _answered(*arguments: object) -> tuple[int, str] | None:
    done = invoke("probe", *map(str, arguments))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return None if "no answer within" in done.output else (done.exit_code, done.output)


IS_HEALTHY = (0, "mlflow-trace-exporter is healthy\n")


def test_a_probe_needs_no_password_and_no_proxy(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(basic_auth_users={"alice": HASH})
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    place = f"127.0.0.1:{served.port}"
    written = (place, f":{served.port}", f"http://{place}", f"HTTP://{place}/-/healthy", f"{place}/-/healthy?verbose")
    assert {probe(each) for each in (*written, f"localhost:{served.port}")} == {IS_HEALTHY}
    not_ready = f"http://{place}/-/ready: HTTP 503: not ready: the first poll has not ended\n"
    assert probe(f"{place}/-/ready") == (1, not_ready)
    assert probe(f"http://{place}/") == (1, f"http://{place}/: HTTP 401: Unauthorized\n")


def test_a_probe_of_an_exporter_with_tls(serve: Serve, tmp_path: Path) -> None:
    served = serve(tls_server_config=TLS)
    for trust in (
        ["--insecure"],
        [f"--ca-file={served.certificates.ca}"],
        [f"--ca-file={tmp_path}/server.pem"],
    ):
        assert probe(*trust, f"https://127.0.0.1:{served.port}") == IS_HEALTHY
    (tmp_path / "strangers").mkdir()
    stranger = make_certificates(tmp_path / "strangers").ca
    address = f"https://127.0.0.1:{served.port}"
    for trust, url, complaint in (
        ([], address, "local issuer certificate; set the certificate to trust with --ca-file, or"),
        (
            [f"--ca-file={stranger}"],
            address,
            "local issuer certificate; set the certificate to trust with --ca-file, or",
        ),
        (
            [f"--ca-file={served.certificates.ca}"],
            f"https://localhost:{served.port}",
            "the name that the certificate is for",
        ),
        ([], address.replace("https", "http"), "does not speak HTTP; for an exporter with TLS write https://"),
    ):
        code, said = probe(*trust, url)
        assert (code, said.count("\n"), complaint in said) == (1, 1, True), said


@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
def test_a_probe_of_an_exporter_that_wants_certificates(serve: Serve, version: str) -> None:
    verify = {"client_ca_file": "ca.pem", "client_auth_type": "RequireAndVerifyClientCert", "max_version": version}
    served = serve(tls_server_config={**TLS, **verify})
    address = f"https://127.0.0.1:{served.port}"
    code, said = probe("--insecure", address)
    assert (code, "set --cert-file and --key-file" in said) == (1, True), said
    certificate, key = served.certificates.client
    assert probe("--insecure", f"--cert-file={certificate}", f"--key-file={key}", address) == IS_HEALTHY
    both = Path(key).with_name("both.pem")
    both.write_text(Path(certificate).read_text() + Path(key).read_text())
    assert probe("--insecure", f"--cert-file={both}", address) == IS_HEALTHY
    other = Path(key).with_name("other.key")
    for wrong in (other, "/absent.key", Path(key).with_name("encrypted.key")):
        code, said = probe("--insecure", f"--cert-file={certificate}", f"--key-file={wrong}", address)
        assert (code, said.count("\n"), str(wrong) in said) == (2, 1, True), said


def test_a_probe_by_tls_of_what_has_none(serve: Serve) -> None:
    served = serve()
    code, said = probe(f"https://127.0.0.1:{served.port}")
    assert code == 1
    assert "the server does not speak TLS (WRONG_VERSION_NUMBER); for an exporter without TLS write http://" in said


@pytest.mark.parametrize(
    "answer", [b"", b"\0" * 100, b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]
)
def test_a_probe_of_what_is_no_exporter(answer: bytes) -> None:
    with endless.server(endless.once(answer)) as uri:
        code, said = probe(uri)
    assert (code, said.count("\n")) == (1, 1), said
