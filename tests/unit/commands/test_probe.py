"""What can be written to `probe`, and what is made of it."""

import pytest

from mlflow_trace_exporter.commands.probe import Target
from tests.support.commands import invoke


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:10500", "http://127.0.0.1:10500/-/healthy"),
        (":10500", "http://127.0.0.1:10500/-/healthy"),
        ("[::1]:10500", "http://[::1]:10500/-/healthy"),
        ("[::]:10500", "http://[::]:10500/-/healthy"),
        ("localhost:10500/-/ready", "http://localhost:10500/-/ready"),
        (":10500/-/ready", "http://127.0.0.1:10500/-/ready"),
        ("http://127.0.0.1:10500", "http://127.0.0.1:10500/-/healthy"),
        ("http://127.0.0.1:10500/", "http://127.0.0.1:10500/"),
        ("https://exporter.example.com", "https://exporter.example.com:443/-/healthy"),
        ("http://exporter.example.com/p/-/ready?a=b", "http://exporter.example.com:80/p/-/ready?a=b"),
        ("HTTPS://[2001:db8::1]#x", "https://[2001:db8::1]:443/-/healthy"),
    ],
)
def test_an_address(text: str, url: str) -> None:
    assert Target.parse(text).url == url


@pytest.mark.parametrize(
    "text",
    [
        *("", "10500", "localhost", "/-/healthy", "http://", "http:///-/healthy", "https://?", "://a:1"),
        *("http://[::1", "[::1]", "::1:10500", ":0", "a:0", "a:99999", "a:b", "a:-1", "http://a:1:2"),
        *("file:///etc/passwd", "ftp://a:1", "unix:///run/a", "http:/a:1", "http//a:1"),
        *("a b:1", "a:1/b c", "a:1/é", "a:1/\x7f", "é:1", "http://alice:secret@a:1", "alice@a:1"),
    ],
)
def test_what_is_no_address_is_one_message(text: str) -> None:
    done = invoke("probe", "--", text)
    assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
    assert "secret" not in done.output
    assert (
        "write HOST:PORT, as in 127.0.0.1:10500" in done.output or "leave out the user and the password" in done.output
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--insecure"], "--insecure: needs https; write https://127.0.0.1:10500/-/healthy"),
        (["--ca-file=/absent", "http://a:1/b"], "--ca-file: needs https; write https://a:1/b"),
        (["--insecure", "--ca-file=/absent", "https://a"], "--insecure, --ca-file: use one of them, not both"),
        (["--key-file=/absent", "https://a"], "--key-file: needs --cert-file"),
        (["--ca-file=/absent", "https://a"], "--ca-file: cannot read /absent: No such file or directory"),
        (["--ca-file=/dev/null", "https://a"], "--ca-file: /dev/null contains no usable certificate"),
        (["--cert-file=/absent", "https://a"], "--cert-file: cannot read /absent: No such file or directory"),
        (["--cert-file=/dev/null", "https://a"], "--cert-file: /dev/null does not match the key in /dev/null"),
    ],
)
def test_flags_that_do_not_fit(arguments: list[str], message: str) -> None:
    done = invoke("probe", *arguments)
    assert (done.exit_code, done.output) == (2, f"mlflow-trace-exporter: {message}\n")


@pytest.mark.parametrize("host", ["127.0.0..1", "a" * 70, "absent.invalid"])
def test_a_host_that_there_is_not(host: str) -> None:
    done = invoke("probe", f"{host}:1")
    assert (done.exit_code, done.output.count("\n"), host in done.output) == (1, 1, True), done.output
