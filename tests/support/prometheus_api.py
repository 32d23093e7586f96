"""Prometheus' HTTP API, asked by tests."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from mlflow_trace_exporter.demo.processes import fetch
from tests.support.waiting import HANG_S

T = TypeVar("T")


def _fetch(url: str) -> str | None:
    return fetch(url, HANG_S)


class StoodStillError(Exception):
    """The machine stood still, and Prometheus did not scrape what a test is about."""


@contextmanager
def undisturbed(open_in: Callable[[Path], AbstractContextManager[T]], directory: Path) -> Iterator[T]:
    """What ``open_in`` opens in a folder; once more, and in another folder, if that raises StoodStillError."""
    for number in range(5):
        folder = directory / f"{number}"
        folder.mkdir()
        with ExitStack() as stack:
            try:
                found = stack.enter_context(open_in(folder))
            except StoodStillError as error:
                still = error
                continue
            yield found
            return
    raise still


@dataclass(frozen=True)
class PrometheusApi:
    """The API at ``url``, which ``get_text`` asks: None stands for no answer."""

    url: str
    get_text: Callable[[str], str | None] = _fetch

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer; an empty object where there is none."""
        return json.loads(self.get_text(f"{self.url}/api/v1/{path}?{urlencode(parameters)}") or "{}").get("data", {})

    def query(self, expr: str, at_s: float | None = None) -> list[Mapping[str, Any]]:
        """What an instant query finds, now or at a time (Unix s)."""
        time = {} if at_s is None else {"time": str(at_s)}
        found: list[Mapping[str, Any]] = self.get("query", query=expr, **time).get("result", [])
        return found

    def longest_gap_s(self, window: str, at_s: float | None = None) -> float:
        """The longest time between two samples of a series; 0 without samples. ``window``: such as ``up[1h]``."""
        times = ([at_s for at_s, _ in each["values"]] for each in self.query(window, at_s))
        return max((after - before for each in times for before, after in pairwise(each)), default=0.0)

    def value(self, expr: str) -> float | None:
        """The value that an instant query finds, None for nothing; fails the test for more than one series."""
        found = self.query(expr)
        assert len(found) < 2, found
        return float(found[0]["value"][1]) if found else None
