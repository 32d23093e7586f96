"""Who is let in, and what it takes to find out."""

import asyncio
import base64
from collections.abc import MutableMapping
from typing import Any

import bcrypt
import pytest

from mlflow_trace_exporter.settings.web_config import WebSettings
from mlflow_trace_exporter.web.auth import Authentication


def hashed(password: bytes, cost: int, prefix: bytes = b"2b") -> str:
    made = bcrypt.hashpw(password, bcrypt.gensalt(cost))
    return made.replace(b"$2b$", b"$" + prefix + b"$").decode()


USERS = {"ann": hashed(b"a", 4), "ben": hashed(b"b", 6, b"2y"), "cleo": hashed(b"c", 8), "dan": hashed(b"d", 8, b"2a")}


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of what is looked at by bcrypt, each cost."""
    seen: list[int] = []
    check = bcrypt.checkpw

    def counted(password: bytes, password_hash: bytes) -> bool:
        seen.append(int(password_hash[4:6]))
        return check(password, password_hash)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    return seen


def ask(door: Authentication, user: str, password: str) -> int:
    """The status of the answer."""
    said = base64.b64encode(f"{user}:{password}".encode())
    headers = [(b"authorization", b"Basic " + said)]
    scope = {"type": "http", "method": "GET", "path": "/", "client": ("192.0.2.1", 1), "headers": headers}
    statuses: list[int] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        statuses.append(message.get("status", 0))

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    asyncio.run(door(scope, receive, send))
    return statuses[0]


async def inside(_: object, __: object, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def door(users: dict[str, str]) -> Authentication:
    return Authentication(inside, lambda: WebSettings(users=users))


@pytest.mark.parametrize("user", ["ann", "ben", "cleo", "dan", "nobody", "", "ann ", "zoë"])
@pytest.mark.parametrize("password", ["x", "", "d", "x" * 100])
def test_whoever_is_refused_has_cost_what_the_most_expensive_hash_costs(
    costs: list[int], user: str, password: str
) -> None:
    if (user, password) == ("dan", "d"):
        return
    assert ask(door(USERS), user, password) == 401
    if user or password:
        assert sum(2**cost for cost in costs) == 2**8


def test_the_hash_that_costs_most_may_be_any_of_them(costs: list[int]) -> None:
    for users in ({"ann": USERS["ann"]}, {"cleo": USERS["cleo"], "ann": USERS["ann"]}):
        costs.clear()
        answers = [ask(door(users), user, "x") for user in ("ann", "nobody")]
        assert answers == [401, 401]
        assert sum(2**cost for cost in costs) == 2 * 2 ** max(int(each[4:6]) for each in users.values())


def test_the_right_password_is_looked_at_once(costs: list[int]) -> None:
    entrance = door(USERS)
    for user, password, cost in (("ann", "a", 4), ("ben", "b", 6), ("cleo", "c", 8), ("dan", "d", 8)):
        costs.clear()
        assert [ask(entrance, user, password) for _ in range(3)] == [200, 200, 200]
        assert costs == [cost]
        assert ask(entrance, user, f"{password}x") == 401
        assert ask(entrance, "nobody", password) == 401
