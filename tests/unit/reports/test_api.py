"""What a notebook can get wrong is a UserError that names the argument, before MLflow is asked."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlflow_trace_exporter import PollError, UserError, check_health, make_report

NAN, INF = float("nan"), float("inf")


class Odd:
    """Nothing that any argument can be."""

    def __repr__(self) -> str:
        return "odd"


class OwnDivision(timedelta):
    """Like pendulum's Duration, which divides only by others of its kind."""

    def __floordiv__(self, other: Any) -> Any:
        raise AttributeError(f"{other!r} has no attribute '_to_microseconds'")


NO_NUMBERS: tuple[Any, ...] = (
    NAN,
    INF,
    -INF,
    -1,
    True,
    "5",
    "5s",
    b"5",
    [5],
    {},
    1j,
    Decimal(1),
    Odd(),
    np.float64("nan"),
)
NO_TEXTS: tuple[Any, ...] = (0, 1.5, True, b"x", ["x"], {}, Odd(), "", " ", "\t")
NO_MOMENTS: tuple[Any, ...] = (
    0,
    1.5,
    NAN,
    True,
    b"24h",
    ["24h"],
    Odd(),
    "",
    "yesterday",
    "-1h",
    "999999y",
    "24 h",
    None,
)
NO_NAMES: tuple[Any, ...] = (
    0,
    True,
    None,
    Odd(),
    b"production",
    [b"production"],
    [None],
    [["production"]],
    ["production", 5],
)

REPORT: dict[str, tuple[Any, ...]] = {
    "since": (*NO_MOMENTS, timedelta.max, timedelta.min, "now", timedelta(0), np.timedelta64(1, "h")),
    "until": (*NO_MOMENTS, timedelta.max),
    "by": (*NO_NAMES, "", "colour", "environment,", ["environment", "colour"], ["environment", ""], "a\nb"),
    "environment": NO_TEXTS,
    "version": NO_TEXTS,
    "status": ("bad", "OK", "", 0, True, b"ok", ["ok"], Odd()),
    "min_duration_s": (*NO_NUMBERS, 1e300, 10**400),
    "user": NO_TEXTS,
    "filter_string": (0, True, b"x", ["x"], {}, Odd()),
    "slowest": (*NO_NUMBERS, 2.5, None),
    "errors": (*NO_NUMBERS, 2.5, None),
    "config": (0, True, b"exporter.yml", ["exporter.yml"], {}, Odd(), "", "nowhere.yml", "a\0b", "/"),
    "progress": (0, "print", None, Odd()),
}
HEALTH: dict[str, tuple[Any, ...]] = {
    "lookback": (*NO_MOMENTS, timedelta(0), timedelta(hours=-1), "now"),
    "environments": (*NO_NAMES, "", " ", ["production", ""]),
    "error_rate": (*NO_NUMBERS, 0, 1, 500, 10**400, "500%", "", "nan"),
    "p95_s": (*NO_NUMBERS, 0, 1e300, 10**400),
    "good": (
        *("correctness", ["correctness"], 0.9, None, Odd(), {"": 0.9}, {5: 0.9}, {"a": 0.9, " a": 0.8}),
        *({"a": each} for each in (0, 1, 90, "90", None, True, Odd())),
    ),
    "min_traces": (*NO_NUMBERS, 0, 2.5),
    "config": REPORT["config"],
    "progress": REPORT["progress"],
}


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """There is no MLflow, and no configuration."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mlflow_trace_exporter.wiring.RETRIES", 0)


@pytest.mark.parametrize(
    ("function", "name", "values"),
    [(make_report, *each) for each in REPORT.items()] + [(check_health, *each) for each in HEALTH.items()],
    ids=lambda each: getattr(each, "__name__", None) or (each if isinstance(each, str) else "mistakes"),
)
def test_a_mistake_is_told_with_the_name_of_the_argument(function: Any, name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(UserError) as told:
            function(**{name: value})
        assert str(told.value).startswith(f"{name}: "), (value, told.value)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("function", "asked"),
    [
        (make_report, {"since": OwnDivision(hours=3)}),
        (make_report, {"since": "7d", "until": datetime.now(UTC)}),
        (make_report, {"since": timedelta(hours=1), "until": timedelta(hours=-1)}),
        (make_report, {"by": "environment, version"}),
        (make_report, {"by": ("environment,version", "hour")}),
        (make_report, {"by": (name for name in ("user", "session"))}),
        (make_report, {"by": ()}),
        (make_report, {"min_duration_s": np.float32(0.5), "slowest": np.int64(3)}),
        (make_report, {"min_duration_s": 0, "status": "ok", "filter_string": ""}),
        (check_health, {"lookback": OwnDivision(minutes=30)}),
        (check_health, {"error_rate": np.float32(0.05), "p95_s": np.int64(5), "min_traces": np.int32(5)}),
        (check_health, {"error_rate": "5%", "environments": (name for name in ("production", "staging"))}),
        (check_health, {"good": {"correctness": "90%", "tone": np.float32(0.5)}, "environments": "production"}),
    ],
    ids=lambda each: each.__name__ if callable(each) else " ".join(each),
)
def test_what_is_right_is_asked_of_mlflow(function: Any, asked: dict[str, Any]) -> None:
    with pytest.raises(PollError, match="cannot be reached"):
        function(**asked)
