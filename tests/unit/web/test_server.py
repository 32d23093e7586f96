"""Where the server listens."""

import socket

import pytest

from mlflow_trace_exporter.web import server
from tests.support.waiting import HANG_S

IPV4, IPV6 = "127.0.0.1", "::1"


def reached(listener: socket.socket) -> set[str]:
    """The addresses of this machine that lead to it."""
    port, found = listener.getsockname()[1], set()
    for address in (IPV4, IPV6):
        try:
            socket.create_connection((address, port), timeout=HANG_S).close()
            found.add(address)
        except OSError:
            pass
    return found


def has_ipv6() -> bool:
    try:
        socket.create_server((IPV6, 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
EVERYWHERE = pytest.mark.parametrize("address", [":0", "[::]:0", "[0::0]:0", "[0:0:0:0:0:0:0:0]:0", ":::0"])


@needs_ipv6
@EVERYWHERE
def test_all_addresses_are_those_of_ipv4_and_ipv6(address: str) -> None:
    with server.listen(address) as listener:
        assert reached(listener) == {IPV4, IPV6}


@EVERYWHERE
def test_or_those_of_ipv4_where_there_is_no_ipv6(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with server.listen(address) as listener:
        assert reached(listener) == {IPV4}


@needs_ipv6
@pytest.mark.parametrize(("address", "reach"), [("127.0.0.1:0", {IPV4}), ("0.0.0.0:0", {IPV4}), ("[::1]:0", {IPV6})])
def test_an_address_is_that_one_only(address: str, reach: set[str]) -> None:
    with server.listen(address) as listener:
        assert reached(listener) == reach


@needs_ipv6
def test_a_name_that_has_both_is_its_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe, and Prometheus on this machine, ask 127.0.0.1."""
    both = [socket.getaddrinfo(each, 0, type=socket.SOCK_STREAM)[0] for each in (IPV6, IPV4)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with server.listen("localhost:0") as listener:
        monkeypatch.undo()
        assert reached(listener) == {IPV4}
