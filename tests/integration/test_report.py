"""`report` and `make_report` against a real MLflow server: their numbers are numpy's over the raw traces."""

import csv
import json
import os
import random
import re
import shlex
import subprocess
from collections.abc import Callable, Iterable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from mlflow_trace_exporter import make_report
from mlflow_trace_exporter.domain.moments import utc
from mlflow_trace_exporter.domain.quantiles import Quantiles
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.reports import presence, tallies
from tests.support.commands import config_file, invoke
from tests.support.real import EXPORTER, Mlflow, Trace, now_ms

NOW_MS = now_ms()
HOUR_MS = 3_600_000
TRACES = 1_700
"""More than three pages, the last of which is not full."""


def some_traces() -> list[Trace]:
    """Traces of the last ten hours, with ties, without durations, usage or cost, in progress, and of an evaluation."""
    dice = random.Random(7)
    made = []
    for at in range(TRACES):
        usage = {
            "input_tokens": dice.randrange(900),
            "output_tokens": dice.randrange(300),
            "cache_read_input_tokens": dice.randrange(100),
        }
        metadata = {"mlflow.trace.user": f"user-{dice.randrange(9)}", "mlflow.trace.session": f"s-{dice.randrange(40)}"}
        if at % 5:
            metadata["mlflow.trace.tokenUsage"] = json.dumps(usage)
        if at % 7:
            metadata["mlflow.trace.cost"] = json.dumps({"input_cost": dice.random(), "output_cost": 0.25})
        tags = {"environment": dice.choice(["production", "staging"]), "app_version": dice.choice(["1", "2"])}
        made.append(
            Trace(
                NOW_MS - dice.randrange(1, 10 * HOUR_MS),
                dice.choice([None, 0, 250, 250, 250, dice.randrange(60_000)]),
                dice.choice(["OK", "OK", "OK", "ERROR"]),
                dice.choice(["support", "billing"]),
                tags=tags | ({"mlflow.eval.requestId": "1"} if at % 11 == 0 else {}),
                metadata=metadata,
            )
        )
    running = [
        Trace(NOW_MS - 1_000 * at, None, "IN_PROGRESS", tags={"environment": "production"}) for at in range(1, 4)
    ]
    alone = Trace(NOW_MS - HOUR_MS, 1_234, tags={"environment": "canary"})
    unmeasured = Trace(NOW_MS - HOUR_MS, None, "ERROR", tags={"environment": "unmeasured"})
    other = Trace(NOW_MS - HOUR_MS, 10, tags={"environment": "not-staging"})
    unsaid = [
        Trace(NOW_MS - HOUR_MS, duration_ms, "STATE_UNSPECIFIED", tags={"environment": "unsaid"})
        for duration_ms in (5, 500, None)
    ]
    return [*made, *running, *unsaid, alone, unmeasured, other]


@pytest.fixture(scope="module")
def experiment(mlflow: Mlflow) -> str:
    return mlflow.experiment()


@pytest.fixture(scope="module")
def traces(mlflow: Mlflow, experiment: str) -> list[Trace]:
    made = some_traces()
    mlflow.insert(experiment, made)
    return made


@pytest.fixture
def config(mlflow: Mlflow, experiment: str, traces: list[Trace], tmp_path: Path) -> Path:  # noqa: ARG001 - they must be there
    return config_file(tmp_path, mlflow, experiment)


def counted(traces: Iterable[Trace]) -> list[Trace]:
    return [each for each in traces if ended(each) and "mlflow.eval.requestId" not in each.tags]


def ended(trace: Trace) -> bool:
    return trace.state in ("OK", "ERROR") or (trace.state == "STATE_UNSPECIFIED" and trace.duration_ms is not None)


def truth(traces: Iterable[Trace]) -> dict[str, Any]:
    """What numpy makes of the raw traces."""
    found = list(traces)
    seconds = np.array([each.duration_ms for each in found if each.duration_ms is not None]) / 1000
    usages = [json.loads(each.metadata[key]) for each in found if (key := "mlflow.trace.tokenUsage") in each.metadata]
    costs = [json.loads(each.metadata[key]) for each in found if (key := "mlflow.trace.cost") in each.metadata]
    errors = sum(each.state == "ERROR" for each in found)
    quantiles = np.quantile(seconds, [0.5, 0.95, 0.99, 1]) if len(seconds) else [None] * 4
    tokens = {name: sum(each[f"{name}_tokens"] for each in usages) if usages else None for name in ("input", "output")}
    return {
        "traces": len(found),
        "errors": errors,
        "error_rate": errors / len(found) if found else None,
        **dict(zip(("p50_s", "p95_s", "p99_s", "max_s"), quantiles, strict=True)),
        "exact": True,
        **{f"{name}_tokens": count for name, count in tokens.items()},
        "cache_read_input_tokens": sum(each["cache_read_input_tokens"] for each in usages) if usages else None,
        "cache_creation_input_tokens": None,
        "total_tokens": sum(tokens.values()) if usages else None,
        "cost_usd": sum(each["input_cost"] + each["output_cost"] for each in costs) if costs else None,
        "without_duration": len(found) - len(seconds),
        "without_usage": len(found) - len(usages),
        "without_cost": len(found) - len(costs),
    }


def hour(trace: Trace) -> str:
    return str(np.datetime64(trace.start_ms, "ms").astype("datetime64[h]")) + ":00Z"


VALUES: dict[str, Callable[[Trace], str]] = {
    "environment": lambda trace: trace.tags.get("environment", "unknown"),
    "version": lambda trace: trace.tags.get("app_version", "unknown"),
    "trace_name": lambda trace: trace.name or "unknown",
    "user": lambda trace: trace.metadata.get("mlflow.trace.user", "unknown"),
    "session": lambda trace: trace.metadata.get("mlflow.trace.session", "unknown"),
    "hour": hour,
}


@pytest.mark.parametrize(
    "by", [("environment",), ("environment", "version"), ("user",), ("session", "trace_name"), ("hour",)]
)
def test_every_row_is_what_numpy_says(traces: list[Trace], config: Path, by: tuple[str, ...]) -> None:
    report = make_report(since="12h", by=by, config=config)
    groups: dict[tuple[str, ...], list[Trace]] = {}
    for trace in counted(traces):
        groups.setdefault(tuple(VALUES[name](trace) for name in by), []).append(trace)
    rows = {tuple(row.key.values()): row.as_dict() for row in report.rows}
    assert rows.keys() == groups.keys()
    for key, group in groups.items():
        expected = {**dict(zip(by, key, strict=True)), **truth(group)}
        assert rows[key] == pytest.approx(expected), key
    assert report.total.as_dict() == pytest.approx(truth(counted(traces)))
    order = [row.key["hour"] for row in report.rows] if by == ("hour",) else [-row.traces for row in report.rows]
    assert order == sorted(order)


def test_filters_choose_the_same_traces_as_a_loop_over_all(traces: list[Trace], config: Path) -> None:
    for asked, chosen in (
        ({"environment": "staging"}, lambda each: VALUES["environment"](each) == "staging"),
        ({"version": "2"}, lambda each: VALUES["version"](each) == "2"),
        ({"status": "error"}, lambda each: each.state == "ERROR"),
        ({"status": "ok"}, lambda each: each.state != "ERROR"),
        ({"status": "ok", "environment": "unsaid"}, lambda each: each.state == "STATE_UNSPECIFIED"),
        ({"min_duration_s": 0.25}, lambda each: (each.duration_ms or 0) >= 250),
        ({"user": "user-3"}, lambda each: VALUES["user"](each) == "user-3"),
        ({"filter_string": "trace.name = 'billing'"}, lambda each: each.name == "billing"),
        ({"since": utc(NOW_MS - 3 * HOUR_MS)}, lambda each: each.start_ms >= NOW_MS - 3 * HOUR_MS),
        ({"environment": "unknown"}, lambda each: False),  # noqa: ARG005 - none is
    ):
        expected = sum(map(chosen, counted(traces)))
        found = make_report(**{"since": "12h", "config": config, **asked})  # type: ignore[arg-type]  # built from parts
        assert found.total.traces == expected, asked


def test_what_is_not_asked_for_is_not_read(config: Path) -> None:
    read: list[int] = []
    make_report(since="12h", environment="canary", config=config, progress=lambda count, _: read.append(count))
    assert read == [1], "MLflow has looked for it"


def test_no_traces_are_no_numbers(config: Path) -> None:
    report = make_report(since=timedelta(days=3), until=timedelta(days=2), config=config)
    assert report.rows == ()
    assert report.total.as_dict() == truth([])


def test_slowest_and_latest_errors_with_links(
    mlflow: Mlflow, experiment: str, traces: list[Trace], config: Path
) -> None:
    report = make_report(since="12h", slowest=5, errors=4, config=config)
    measured = sorted((each.duration_ms for each in counted(traces) if each.duration_ms is not None), reverse=True)
    assert [line.duration_s for line in report.slowest] == [ms / 1000 for ms in measured[:5]]
    failed = sorted((each.start_ms for each in counted(traces) if each.state == "ERROR"), reverse=True)
    assert [line.start.timestamp() for line in report.errors] == [ms / 1000 for ms in failed[:4]]
    place = f"{mlflow.uri}/#/experiments/{mlflow.experiment_id(experiment)}"
    for line in (*report.slowest, *report.errors):
        assert line.url == f"{place}/traces/{line.trace_id}"


def test_past_a_size_quantiles_are_of_a_sketch_and_it_says_so(
    traces: list[Trace], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Quantiles, "__init__", _small)
    row = make_report(since="12h", config=config).total
    assert not row.exact
    assert row.p95_s == pytest.approx(truth(counted(traces))["p95_s"], rel=0.05)
    shown = run(config, "--since=12h", "--by=version").stdout
    assert "~" in shown.split("total")[1]
    assert "~ marks estimates, within 1%" in shown


def _small(quantiles: Any, *_: int) -> None:
    _init(quantiles, exact_up_to=10)


_init = Quantiles.__init__


def test_beyond_so_many_rows_the_rest_is_one(
    traces: list[Trace], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "MAX_ROWS", 5)
    report = make_report(since="12h", by=["session"], config=config)
    assert len(report.rows) == 6
    assert sum(row.traces for row in report.rows) == report.total.traces == len(counted(traces))
    assert "(others)" in [row.key["session"] for row in report.rows]


def run(config: Path, *arguments: str) -> Result:
    return invoke("report", f"--config.file={config}", *arguments)


def test_a_table(config: Path) -> None:
    shown = run(config, "--since=12h", "--by=environment", "--slowest=1").stdout
    report = make_report(since="12h", by=["environment"], config=config)
    lines = [line.split() for line in shown.splitlines()]
    for row in report.rows:
        (found,) = [line for line in lines if line[:1] == [row.key["environment"]]]
        assert found[1:3] == [f"{row.traces:,}", f"{row.errors:,}"]
    assert "slowest" in shown
    assert "traces have no token usage" in shown
    assert "0 finished traces" in run(config, "--since=3d", "--until=2d").stdout


def test_json_csv_and_markdown_hold_the_same_rows(config: Path) -> None:
    asked = ("--since=12h", "--by=user", "--by=version")
    rows = make_report(since="12h", by=["user", "version"], config=config).as_dicts()
    found = json.loads(run(config, *asked, "--format=json", "--errors=2").stdout)
    assert found["rows"] == rows
    assert len(found["errors"]) == 2
    table = list(csv.DictReader(StringIO(run(config, *asked, "--format=csv").stdout)))
    assert [(row["user"], row["version"], row["traces"]) for row in table] == [
        (row["user"], row["version"], str(row["traces"])) for row in rows
    ]
    markdown = run(config, *asked, "--format=markdown").stdout
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if "|" in line]
    assert cells[0][:3] == ["user", "version", "traces"]
    assert [row[:3] for row in cells[2:-1]] == [[row["user"], row["version"], f"{row['traces']:,}"] for row in rows]


def test_top_shows_the_rows_with_the_most_traces_and_says_how_many_there_are_more(config: Path) -> None:
    shown = run(config, "--since=12h", "--by=user", "--top=2").stdout
    assert "8 more rows are not shown" in shown
    rows = make_report(since="12h", by=["hour"], config=config).rows
    found = json.loads(run(config, "--since=12h", "--by=hour", "--top=2", "--format=json").stdout)
    most = sorted(row.traces for row in rows)[-2:]
    assert sorted(row["traces"] for row in found["rows"]) == most
    assert [row["hour"] for row in found["rows"]] == sorted(row["hour"] for row in found["rows"])
    assert found["rows_left_out"] == len(rows) - 2


@pytest.mark.parametrize("columns", [40, 80, 100, 120, 200])
def test_a_narrow_terminal_gets_fewer_columns_and_no_cut_numbers(config: Path, columns: int) -> None:
    command = f"{shlex.join(EXPORTER)} report --config.file={config} --since=12h"
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    shown = subprocess.run(
        ["script", "-qec", command, "/dev/null"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    total = make_report(since="12h", config=config).total
    (line,) = [each for each in shown.splitlines() if each.strip().startswith("total")]
    assert f"{total.traces:,}" in line
    assert f"{total.total_tokens:,}" in line
    assert f"${total.cost_usd:,.4f}" in line
    assert (f"{total.input_tokens:,}" in line) == ("without" not in shown or "input" not in shown.split("without")[-1])
    if columns >= 80:
        assert max(len(each) for each in shown.splitlines() if "production" in each) <= columns


@pytest.mark.parametrize(
    ("environment", "width"),
    [
        *(
            (each, None)
            for each in ("TERM=dumb", "FORCE_COLOR=1", "FORCE_COLOR=1 TERM=dumb", "COLUMNS=20", "COLUMNS=x")
        ),
        *((each, 20) for each in ("TERM=dumb", "NO_COLOR=1", "TERM=unknown")),
        *((each, 300) for each in ("TERM=dumb", "FORCE_COLOR=1", "COLUMNS=20")),
    ],
)
def test_no_terminal_and_no_variable_cuts_a_number(config: Path, environment: str, width: int | None) -> None:
    total = make_report(since="12h", config=config).total
    numbers = (f"{total.traces:,}", f"{total.total_tokens:,}", f"${total.cost_usd:,.4f}")
    for form in ("table", "markdown") if width is None else ("table",):
        command = f"{environment} {shlex.join(EXPORTER)} report --config.file={config} --since=12h --format={form}"
        if width is not None:
            command = f"script -qec {shlex.quote(f'stty cols {width}; {command} 2>/dev/null')} /dev/null"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        for number in numbers:
            assert re.search(rf"(^|\s){re.escape(number)}(\s|$)", done.stdout, re.MULTILINE), done.stdout
        assert "…" not in done.stdout
        assert "\x1b" not in done.stdout


@pytest.mark.parametrize("environment", ["FORCE_COLOR=1", "TTY_COMPATIBLE=1", "TERM=dumb"])
def test_progress_writes_no_escape_codes_where_nobody_wants_them(config: Path, environment: str) -> None:
    command = f"{environment} {shlex.join(EXPORTER)} report --config.file={config} --since=12h"
    if environment == "TERM=dumb":
        command = f"script -qec {shlex.quote(command)} /dev/null"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout + done.stderr


def test_a_spreadsheet_takes_no_text_for_a_formula(mlflow: Mlflow, tmp_path: Path) -> None:
    formulas = ["=HYPERLINK(0)", "+1", "-1", "@SUM(A1)", "\uff1d1+1", "\uff20a"]
    harmless = ["a=b", "'quoted", "1-2", "x\t=1"]
    experiment = mlflow.experiment()
    users = [*formulas, *harmless]
    mlflow.insert(experiment, [Trace(now_ms() - 1_000, metadata={"mlflow.trace.user": user}) for user in users])
    file = config_file(tmp_path, mlflow, experiment)
    table = list(csv.DictReader(StringIO(run(file, "--by=user", "--format=csv").stdout)))
    expected = {*(f"'{user}" for user in formulas), *(user.replace("\t", "\ufffd") for user in harmless)}
    assert {row["user"] for row in table} == expected
    found = json.loads(run(file, "--by=user", "--format=json").stdout)
    assert {row["user"] for row in found["rows"]} == {user.replace("\t", "\ufffd") for user in users}, "as it is"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--by=colour"], "--by: 'colour' is not one of experiment, environment"),
        (["--by=version,enviroment"], "'enviroment' is not one of"),
        (["--by=enviroment"], "; did you mean environment?"),
        (["--environment= "], "--environment: is empty"),
        (["--min-duration=99999y"], "--min-duration: "),
        (["--min-duration=999999y"], "--min-duration"),
        (["--since=yesterday"], "--since: 'yesterday' is neither"),
        (["--since=1h", "--until=2h"], "--since: 1h is not before 2h"),
        (["--filter=colour"], "Is the filter right ('colour')?"),
        (["--format=csv", "--errors=1"], "--slowest and --errors need"),
        (["--since=3000y"], "--since: "),
        (["--until=never"], "--until: "),
    ],
)
def test_a_mistake_is_one_message(config: Path, arguments: list[str], words: str) -> None:
    done = run(config, *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_several_dimensions_with_commas_are_the_same_as_each_alone(config: Path) -> None:
    asked = ("--since=12h", "--format=csv")
    together = run(config, *asked, "--by=environment,version", "--by=hour").stdout
    assert together == run(config, *asked, "--by=environment", "--by=version", "--by=hour").stdout
    assert together.startswith("environment,version,hour,traces")


def test_an_environment_that_no_trace_has_is_a_mistake_and_a_quiet_one_is_none(config: Path) -> None:
    for form in ("table", "json", "csv", "markdown"):
        done = run(config, "--since=12h", "--environment=prodcution", f"--format={form}")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "--environment: no trace has 'prodcution'; did you mean production?" in done.stderr
        assert "the latest traces have canary, not-staging, production, staging" in done.stderr
    version = run(config, "--since=12h", "--environment=staging", "--version=1.5")
    assert version.exit_code == 2
    assert "--version: no trace with environment 'staging' has '1.5'; " in version.stderr
    assert "the latest traces have 1, 2" in version.stderr
    for asked in (["--since=3d", "--until=2d"], ["--since=12h", "--user=nobody"]):
        quiet = run(config, "--environment=staging", "--version=1", *asked)
        assert (quiet.exit_code, quiet.stdout.split(" from")[0]) == (0, "0 finished traces")
    assert make_report(environment="prodcution", config=config).rows == (), "as far as a notebook is concerned"


def test_an_environment_with_old_traces_only_is_not_called_absent(
    mlflow: Mlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "SAMPLE", 3)
    experiment = mlflow.experiment()
    mlflow.insert(
        experiment, [Trace(now_ms() - 72 * HOUR_MS, tags={"environment": name}) for name in ("old", "o d, é")]
    )
    mlflow.insert(experiment, [Trace(now_ms() - at, tags={"environment": "new"}) for at in range(5)])
    file = config_file(tmp_path, mlflow, experiment)
    for name in ("old", "o d, é"):
        assert run(file, f"--environment={name}").exit_code == 0, name
    assert "the latest traces have new\n" in run(file, "--environment=odl").stderr


def test_where_there_are_no_traces_at_all_nobody_is_corrected(mlflow: Mlflow, tmp_path: Path) -> None:
    assert run(config_file(tmp_path, mlflow, mlflow.experiment()), "--environment=any").exit_code == 0


def test_a_notebook_keeps_its_own_settings_of_mlflow(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    make_report(since="1h", config=config)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ({"status": "bad"}, "status: 'bad' is not one of ok, error"),
        ({"by": "colour"}, "by: 'colour' is not one of experiment"),
        ({"slowest": -1}, "slowest: -1 is not a whole number of at least 0"),
        ({"since": 3}, "since: 3 is neither a text"),
    ],
)
def test_a_mistake_in_a_notebook_is_told_like_one_in_a_flag(config: Path, mistake: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        make_report(config=config, **mistake)


def test_no_experiment_is_a_mistake_in_the_configuration(mlflow: Mlflow, tmp_path: Path) -> None:
    file = config_file(tmp_path, mlflow, "reprots")
    for command in ("report", "health"):
        done = invoke(command, f"--config.file={file}")
        assert done.exit_code == 2, done.output
        assert "mlflow.experiments: reprots selects none of" in done.stderr


def test_what_users_wrote_cannot_disturb_what_is_shown(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    user, version = " bob\n\x1b[31m|red ", "a\\|<b>"
    mlflow.insert(
        experiment,
        [Trace(now_ms() - 60_000, tags={"app_version": version}, metadata={"mlflow.trace.user": user})],
    )
    file = config_file(tmp_path, mlflow, experiment, labels={"extra": {"errors": "tag.app_version"}})
    shown = run(file, "--by=user", "--slowest=1").stdout
    assert "\x1b" not in shown
    cleaned = make_report(by="user", config=file).rows[0].key["user"]
    assert make_report(user=cleaned, config=file).total.traces == 1, "as it is shown"
    markdown = run(file, "--by=version", "--format=markdown").stdout
    (row,) = [line for line in markdown.splitlines() if "<b" in line]
    assert row.startswith("| a\\\\\\|\\<b\\> ")
    assert "--by: 'errors' is not one of" in run(file, "--by=errors").stderr, (
        "a label with the name of a column would hide it"
    )


def test_a_terminal_that_cannot_show_a_character(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, [Trace(now_ms() - 60_000, tags={"environment": "żółw"})])
    file = config_file(tmp_path, mlflow, experiment)
    done = subprocess.run(
        [*EXPORTER, "report", f"--config.file={file}"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
    )
    assert b"\\u017c\xf3\\u0142w" in done.stdout
