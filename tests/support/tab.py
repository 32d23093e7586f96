"""A page in a browser that answers questions about it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any

from tests.support.real import tool


class Tab:
    """A page in a headless Chromium, which is asked about it by the DevTools protocol: two pipes, and JSON that ends
    with a zero byte."""

    def __init__(self, to_browser: IO[bytes], from_browser: IO[bytes]) -> None:
        self._to, self._from = to_browser, from_browser
        self._numbers = count(1)
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method, and keep the events before its answer."""
        number = next(self._numbers)
        session = {"sessionId": self._session} if self._session else {}
        self._to.write(json.dumps({"id": number, "method": method, "params": parameters, **session}).encode() + b"\0")
        self._to.flush()
        while (said := self._read()).get("id") != number:
            self.events.append(said)
        assert "error" not in said, (method, said)
        result: dict[str, Any] = said["result"]
        return result

    def open(self, url: str) -> None:
        """Open a page, and wait until it is loaded."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not self.named("Page.loadEventFired"):
            self.events.append(self._read())

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, whatever scripts the page allows."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def named(self, method: str) -> list[dict[str, Any]]:
        """The events with this name, since the page was opened."""
        return [each["params"] for each in self.events if each.get("method") == method]

    def close(self) -> None:
        """End the browser."""
        self._session = None
        self.call("Browser.close")

    def _read(self) -> dict[str, Any]:
        text = b"".join(iter(lambda: self._from.read(1) or b"\0", b"\0"))
        assert text, "the browser has ended"
        found: dict[str, Any] = json.loads(text)
        return found


@contextmanager
def tab(directory: Path) -> Iterator[Tab]:
    """Start a headless Chromium; stop it afterwards."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    flags += [f"--user-data-dir={directory / 'chromium'}", "--remote-debugging-pipe"]
    pipes = 'exec "$@" 3<&0 4>&1 </dev/null 1>&2'  # the numbers that Chromium expects
    command = ["sh", "-c", pipes, "sh", tool("chromium"), *flags]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            made = Tab(process.stdin, process.stdout)
            yield made
            made.close()
        finally:
            process.kill()
