"""Figures, tables and the runner of the benchmarks."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as runner
from tests.benchmarks.figures import (
    Figure,
    Goal,
    Setting,
    as_json,
    at_least,
    at_most,
    number,
    quantile,
    ratio_at_least,
    table,
)


@pytest.mark.parametrize(
    ("goal", "reached"),
    [
        (None, None),
        (at_most(20), True),
        (at_most(19), False),
        (at_least(20), True),
        (at_least(21), False),
        (ratio_at_least(0.5), True),
        (ratio_at_least(0.6), False),
    ],
)
def test_a_goal_is_for_the_value_or_for_the_ratio(goal: Goal | None, reached: bool | None) -> None:
    assert Figure("catch-up", 20, "s", ratio=0.5, beside="the bare loop", goal=goal).reached is reached


def test_a_goal_for_a_ratio_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="no ratio"):
        _ = Figure("catch-up", 20, "s", goal=ratio_at_least(0.5)).reached


@pytest.mark.parametrize(("level", "found"), [(0.0, 1), (0.2, 1), (0.21, 2), (0.5, 3), (0.99, 5), (1.0, 5)])
def test_a_quantile_is_one_of_the_values(level: float, found: float) -> None:
    assert quantile([5, 3, 1, 4, 2], level) == found


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (1234.5, "1,234")],
)
def test_a_number_has_three_digits_or_more(value: float, text: str) -> None:
    assert number(value) == text


def test_the_table_has_a_line_for_each_figure() -> None:
    found = [
        ("ticks", Figure("nothing new", 110, "ms", goal=at_most(25))),
        ("catch-up", Figure("all", 2, "s", 0.3, "x")),
    ]
    assert table(found).splitlines() == [
        "subject   what         value  unit    ratio  beside     goal  reached",
        "ticks     nothing new    110  ms                     <= 25.0  NO",
        "catch-up  all           2.00  s     0.300 x  x",
    ]


def test_a_figure_as_json_says_whether_it_reached_its_goal() -> None:
    assert as_json("ticks", Figure("nothing new", 110, "ms", goal=at_most(25))) == {
        "subject": "ticks",
        "name": "nothing new",
        "value": 110,
        "unit": "ms",
        "ratio": None,
        "beside": "",
        "goal": "<= 25.0",
        "reached": False,
    }


def test_a_run_goes_on_after_a_benchmark_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: Setting) -> Iterator[Figure]:
        yield Figure("before", 1, "s")
        assert_nothing = False
        assert assert_nothing, "it counted 800"

    def works(setting: Setting) -> Iterator[Figure]:
        yield Figure("after", setting.traces, "traces")

    monkeypatch.setattr(runner, "SUBJECTS", {"fails": fails, "works": works})
    assert runner.main(["--json", str(tmp_path / "found.json"), "--traces", "7"]) == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(each["subject"], each["name"], each["value"]) for each in found["figures"]] == [
        ("fails", "before", 1),
        ("works", "after", 7),
    ]
    assert found["failed"]["fails"].startswith("AssertionError: it counted 800")
    assert "fails FAILED: AssertionError: it counted 800" in capsys.readouterr().out


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        runner.main(["tikcs"])
    assert "unknown: tikcs" in capsys.readouterr().err
