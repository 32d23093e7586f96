"""Messages for failed requests to MLflow, with real HTTP and TLS, and MLflow's own client."""

import datetime
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import trustme

from mlflow_trace_exporter.errors import NotUnderstoodError, PollError, Reason, UserError
from mlflow_trace_exporter.tracking import remedies
from mlflow_trace_exporter.tracking.client import Client
from mlflow_trace_exporter.tracking.variables import prepare_client
from tests.support.certificates import Certificates, make_certificates
from tests.support.waiting import HANG_S

MLFLOW = "/api/2.0/mlflow/experiments/search"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    prepare_client(HANG_S)


@contextmanager
def server(
    status: int = 200,
    body: str = "",
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    version: tuple[int, str] = (404, "not here"),
) -> Iterator[str]:
    """The address of a server that answers each POST and CONNECT with ``status`` and ``body``, and GET /version
    with ``version``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer(status, body, headers or {})

        do_CONNECT = do_POST  # noqa: N815 - the name is http.server's

        def do_GET(self) -> None:
            self._answer(*(version if self.path == "/version" else (200, "<html>log in, please</html>")), {})

        def _answer(self, status: int, body: str, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Ignore it: clients that give up are the subject of these tests."""

    with Server(("127.0.0.1", 0), Handler) as http:
        if tls is not None:
            http.socket = tls.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


def failure(uri: str) -> PollError:
    with pytest.raises(PollError) as caught:
        Client(uri).experiments()
    said = str(caught.value)
    assert "\n" not in said
    assert not re.search(r"[{}]", said.partition(" [/")[0]), "all placeholders are filled in"
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "reason", "sentence"),
    [
        (401, "You are not authenticated.", Reason.CREDENTIALS, "set MLFLOW_TRACKING_USERNAME and"),
        (403, "Permission denied", Reason.CREDENTIALS, "denied access; give the exporter's user or token permission"),
        (403, "Invalid Host header - possible", Reason.CONFIGURATION, "start MLflow with --allowed-hosts"),
        (400, "The plain HTTP request was sent to HTTPS port", Reason.CONFIGURATION, "uses TLS; write https://"),
        (400, "Client sent an HTTP request to an HTTPS server.", Reason.CONFIGURATION, "uses TLS; write https://"),
        (404, "no such page", Reason.CONFIGURATION, "does not have MLflow's API"),
        (404, '{"error_code": "RESOURCE_DOES_NOT_EXIST"}', Reason.CONFIGURATION, "check mlflow.workspaces"),
        (405, "Method Not Allowed", Reason.CONFIGURATION, "does not have MLflow's API"),
        (407, "", Reason.CREDENTIALS, "the proxy for MLflow at"),
        (408, "", Reason.TIMEOUT, "did not answer in time"),
        (409, "", Reason.CONFIGURATION, "or a proxy in front of it, refused the request"),
        (411, "", Reason.CONFIGURATION, "requires a Content-Length header"),
        (413, "<title>413 Too Large</title>", Reason.CONFIGURATION, "client_max_body_size"),
        (414, "", Reason.CONFIGURATION, "the address is too long"),
        (418, "I'm a teapot", Reason.CONFIGURATION, "or a proxy in front of it, refused the request"),
        (421, "Misdirected", Reason.CONFIGURATION, "does not serve the host 127.0.0.1:"),
        (422, "", Reason.CONFIGURATION, "does not have MLflow's API"),
        (429, "", Reason.THROTTLED, "limits requests; raise poll.interval"),
        (431, "", Reason.CONFIGURATION, "check MLFLOW_TRACKING_TOKEN"),
        (500, "database is locked", Reason.SERVER_ERROR, "see the log of the MLflow server"),
        (501, "", Reason.SERVER_ERROR, "does not have MLflow's API"),
        (502, "Bad Gateway", Reason.SERVER_ERROR, "got no response from MLflow"),
        (503, "", Reason.SERVER_ERROR, "got no response from MLflow"),
        (504, "", Reason.SERVER_ERROR, "got no response from MLflow"),
        (520, "", Reason.SERVER_ERROR, "got no response from MLflow"),
        (511, "", Reason.SERVER_ERROR, "the network requires a login"),
        (304, "", Reason.CONFIGURATION, "redirects to another address"),
        (204, "", Reason.BAD_ANSWER, "returned an invalid response"),
        (200, "nothing", Reason.BAD_ANSWER, "is this an MLflow server?"),
        (200, " \n<!doctype html><title>Sign in</title>", Reason.BAD_ANSWER, "login page in front of MLflow, set"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_to_do(status: int, body: str, reason: Reason, sentence: str) -> None:
    with server(status, body) as uri:
        error = failure(uri)
    assert error.reason is reason
    assert sentence in str(error)
    assert uri.removeprefix("http://") in str(error)


def test_all_placeholders_can_be_filled_in() -> None:
    known = [*remedies.BY_STATUS.values(), *(said for _, said in (*remedies.BY_WORDS, *remedies.BY_REFUSAL))]
    for said in [*known, *(each for each in vars(remedies).values() if isinstance(each, remedies.Diagnosis))]:
        filled = said.sentence.format(uri="http://h:1", host="h:1", name="h", location="http://elsewhere")
        assert re.search(r"http://h:1", filled)


def test_requests_that_mlflow_does_not_understand_have_their_own_type() -> None:
    with server(400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "bad filter"}') as uri:
        error = failure(uri)
    assert isinstance(error, NotUnderstoodError)
    assert "HTTP 400: INVALID_PARAMETER_VALUE: bad filter" in str(error)
    assert str(error.perhaps("mlflow.filter", "foo")).endswith("]. Is mlflow.filter right ('foo')?")


def test_only_the_title_of_an_error_page_is_quoted() -> None:
    with server(413, "<html><head><title>413 Too\nLarge &amp; more</title></head><body>nginx</body>") as uri:
        assert f"[{MLFLOW}: HTTP 413: 413 Too Large & more]" in str(failure(uri))


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirection_says_where_mlflow_is(status: int) -> None:
    location = {"Location": f"https://me:secret@mlflow.example:5443/team{MLFLOW}?x=secret"}
    with server(status, headers=location) as uri, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_HTTP_REDIRECTS", "false")
        error = failure(uri)
    assert error.reason is Reason.CONFIGURATION
    assert f"{uri} redirects to https://mlflow.example:5443/team; set mlflow.tracking_uri to that [" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirection_to_a_login_page(status: int) -> None:
    with server(status, headers={"Location": "/oauth2/start?rd=secret"}) as uri:
        error = failure(uri)
    assert error.reason is Reason.CONFIGURATION
    assert f"{uri} redirects to {uri}/oauth2/start. If that is a login page" in str(error)
    assert "secret" not in str(error)


def test_a_redirection_that_keeps_the_request_is_followed() -> None:
    tags = [{"key": "team", "value": "search"}, {"key": "owner"}, {"key": "size", "value": 7}]
    there = json.dumps({"experiments": [{"experiment_id": "1", "name": "a", "tags": tags}]})
    with server(200, there) as new, server(308, headers={"Location": new + MLFLOW}) as old:
        assert [(each.name, each.tags) for each in Client(old).experiments()] == [("a", {"team": "search"})]


@pytest.mark.parametrize("version", [(404, ""), (200, "{}"), (200, "<html>hello</html>"), (200, "")])
def test_a_server_that_answers_everything_with_an_empty_object_is_not_mlflow(version: tuple[int, str]) -> None:
    with server(200, "{}", version=version) as uri:
        failure(uri)
    with server(200, "{}", version=(200, "3.17.2")) as uri:
        assert Client(uri).experiments() == [], "MLflow without an experiment says so"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


def context(certificates: Certificates, name: str = "server") -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(certificates.directory / f"{name}.pem", certificates.directory / f"{name}.key")
    return made


def test_a_certificate_that_is_not_trusted(certificates: Certificates) -> None:
    with server(tls=context(certificates)) as uri:
        error = failure(uri)
    assert error.reason is Reason.UNREACHABLE
    assert "set MLFLOW_TRACKING_SERVER_CERT_PATH to the certificate of the authority" in str(error)
    assert "MLFLOW_TRACKING_INSECURE_TLS=true" in str(error)


def test_a_certificate_for_another_host(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", certificates.ca)
    with server(tls=context(certificates, "other")) as uri:
        assert "is for another host name" in str(failure(uri))


def test_an_expired_or_future_certificate(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(certificates.ca)
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    made = authority.issue_cert("127.0.0.1", not_before=past, not_after=past + datetime.timedelta(days=1))
    made.cert_chain_pems[0].write_to_path(str(certificates.directory / "server.pem"))
    made.private_key_pem.write_to_path(str(certificates.directory / "server.key"))
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", certificates.ca)
    with server(tls=context(certificates)) as uri:
        assert "has expired or is not valid yet" in str(failure(uri))


def test_a_server_that_requires_a_client_certificate(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", certificates.ca)
    tls = context(certificates)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(certificates.ca)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2  # which says so in the handshake, and does not just hang up later
    with server(tls=tls) as uri:
        assert "set MLFLOW_TRACKING_CLIENT_CERT_PATH" in str(failure(uri))


def test_a_client_certificate_without_its_key(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", certificates.ca)
    monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", certificates.client[0])
    with server(tls=context(certificates)) as uri:
        error = failure(uri)
    assert error.reason is Reason.CONFIGURATION
    assert "is not valid PEM; check MLFLOW_TRACKING_CLIENT_CERT_PATH" in str(error)


def test_tls_on_only_one_side(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    with server() as uri:
        assert "does not use TLS; write http://" in str(failure(uri.replace("http:", "https:")))
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", certificates.ca)
    with server(tls=context(certificates)) as uri:
        assert "or does it use https?" in str(failure(uri.replace("https:", "http:")))


def test_an_unknown_host() -> None:
    assert "the host name in http://mlflow.invalid:5000 cannot be resolved" in str(
        failure("http://mlflow.invalid:5000")
    )


def test_a_proxy_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    with server() as gone:
        pass
    monkeypatch.setenv("HTTP_PROXY", gone)
    error = failure("http://mlflow.example:5000")
    assert error.reason is Reason.UNREACHABLE
    assert "check HTTP_PROXY and HTTPS_PROXY, or add mlflow.example to NO_PROXY" in str(error)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_requires_a_password(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with server(407) as proxy:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy)
        error = failure(f"{scheme}://mlflow.example:5000")
    assert error.reason is Reason.CREDENTIALS
    assert "(http://USER:PASSWORD@PROXY:PORT), or add mlflow.example to NO_PROXY" in str(error)


@pytest.mark.parametrize(
    ("name", "value", "quoted"),
    [
        ("REQUESTS_CA_BUNDLE", "/absent.pem", "invalid path: /absent.pem"),
        ("MLFLOW_TRACKING_AWS_SIGV4", "true", "requests_auth_aws_sigv4"),
        ("MLFLOW_TRACKING_CLIENT_CERT_PATH", "/absent.pem", "/absent.pem"),
    ],
)
def test_an_error_of_mlflow_s_client_is_not_mlflow_s_answer(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, quoted: str
) -> None:
    monkeypatch.setenv(name, value)
    error = failure("https://127.0.0.1:1")
    assert error.reason is Reason.CONFIGURATION
    assert "MLflow's client could not send the request" in str(error)
    assert quoted in str(error)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MLFLOW_TRACKING_INSECURE_TLS", "yes", "'yes' is not a valid value; write true or false"),
        ("MLFLOW_TRACKING_AWS_SIGV4", "on", "write true or false"),
        ("MLFLOW_HTTP_POOL_MAXSIZE", "many", "write an integer"),
        ("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "some", "write a number"),
        ("MLFLOW_TRACKING_CLIENT_CERT_PATH", "/absent.pem", "the file /absent.pem does not exist"),
        ("MLFLOW_TRACKING_SERVER_CERT_PATH", "/absent.pem", "the file /absent.pem does not exist"),
    ],
)
def test_variables_of_mlflow_s_client_are_validated_before_the_first_request(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=re.escape(expected)) as caught:
        prepare_client(1)
    assert str(caught.value).startswith(f"{name}: ")
