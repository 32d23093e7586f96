"""`doctor` against a real MLflow server: what it finds, and what it advises."""

import json
from pathlib import Path
from typing import Any

from mlflow_trace_exporter.domain.trace import ORPHAN_MS
from tests.integration.test_cli import complaint, run
from tests.support.real import Exporter, Mlflow, Trace, now_ms

GOOD = {"environment": "production", "app_version": "1.4.0"}
KNOWN = {
    "mlflow.trace.user": "ada",
    "mlflow.trace.session": "s-1",
    "mlflow.trace.tokenUsage": '{"input_tokens": 5, "output_tokens": 2}',
    "mlflow.trace.cost": '{"input_cost": 0.5, "output_cost": 0.5}',
}
DAY_MS = 86_400_000


def said(mlflow: Mlflow, directory: Path, experiment: str, *arguments: str, **settings: Any) -> str:
    shown = told(mlflow, directory, experiment, *arguments, **settings)
    assert not (directory / "ledger.db").exists(), "a dry run"
    return shown


def told(mlflow: Mlflow, directory: Path, experiment: str, *arguments: str, **settings: Any) -> str:
    file = directory / "exporter.yml"
    ledger = {"path": str(directory / "ledger.db")}
    mlflow_settings = {"tracking_uri": mlflow.uri, "experiments": experiment, **settings.pop("mlflow", {})}
    file.write_text(json.dumps({"mlflow": mlflow_settings, "ledger": ledger, **settings}))
    done = run("doctor", f"--config.file={file}", *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_where_all_is_well_nothing_needs_to_be_changed(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, [Trace(now_ms() - at * 1_000, tags=GOOD, metadata=KNOWN) for at in range(40)])
    shown = said(mlflow, tmp_path, experiment)
    assert "experiments  1 of" in shown, "what check says comes first"
    assert "40 counted, 0 in progress, 0 of traffic that is not counted" in shown
    assert "tag environment: 1 value (production)" in shown
    assert "metadata mlflow.trace.user: 1 value\n" in shown, "how many there are, and not who"
    fields = ("token usage", "cost", "environment", "version", "user", "session", "duration")
    assert "have         " + ", ".join(f"{name} 100%" for name in fields) in shown
    assert "clock        MLflow's clock and this machine's agree within 2 s" in shown
    assert "\n\n- nothing needs to change\n\nsample " in shown, "then what to change, then what that rests on"


def test_the_series_are_those_that_serve_shows(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    versions = [{**GOOD, "app_version": version} for version in ("1", "2", "3")]
    mlflow.insert(experiment, [Trace(now_ms() - 3_600_000, tags=tags, metadata=KNOWN) for tags in versions])
    (line,) = [each for each in said(mlflow, tmp_path, experiment).splitlines() if each.startswith("series")]
    settings = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment},
        "poll": {"start": "2h", "interval": "1s"},
    }
    with Exporter(tmp_path, settings).running() as exporter:
        found = exporter.after_next_poll()
    series = int(found["mlflow_trace_exporter_series"])
    assert line == f"series       3 label sets, {series:,} series of at most 100,000"


def test_what_is_wrong_is_told_in_sentences(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment, at_ms = mlflow.experiment(), now_ms()
    traces = [
        Trace(at_ms - at, 700_000, name=f"call-{at}", tags={"environment": "lab"}, metadata={}) for at in range(1, 9)
    ]
    traces += [Trace(at_ms - 2 * DAY_MS, None, "IN_PROGRESS"), Trace(at_ms, tags={"mlflow.eval.requestId": "1"})]
    mlflow.insert(experiment, traces)
    shown = said(mlflow, tmp_path, experiment, labels={"max_values": 8})
    advice = [line for line in shown.splitlines() if line.startswith("- ")]
    for words in (
        "100% of the traces have no token usage. Trace LLM calls",
        "100% of the traces have no cost.",
        "100% of the traces have no version. Set it in the application: mlflow.update_current_trace",
        "100% of the traces have no user.",
        "The label trace_name has 8 values in this sample alone",
        f"No objective for {experiment} in lab: no alert covers this.",
        "In progress for more than a day: 1.",
        "Traces that are not counted: 1 of evaluation.",
        "100% of the traces took longer than the last bucket of buckets.duration_seconds",
    ):
        assert any(words in line for line in advice), (words, shown)
    assert not any("no environment" in line for line in advice)


def test_traces_without_a_duration_are_in_no_histogram(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    traces = [Trace(now_ms() - at * 1_000, ms, tags=GOOD, metadata=KNOWN) for at, ms in enumerate((None, 0, 5, -1))]
    mlflow.insert(experiment, traces)
    shown = said(mlflow, tmp_path, experiment)
    assert "session 100%, duration 50%" in shown, "one that took no time has one, and one that ended first has none"
    assert "- 50% of the traces have no duration. They are counted, but not in the duration histogram" in shown


def test_where_cached_tokens_are_not_part_of_the_input_it_is_told(mlflow: Mlflow, tmp_path: Path) -> None:
    usages = [
        {"input_tokens": 7, "output_tokens": 2, "cache_read_input_tokens": 15_000},
        {"input_tokens": 7, "output_tokens": 2, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 4},
        {"input_tokens": 7, "output_tokens": 2, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3},
        {"input_tokens": 7, "output_tokens": 2},
        {},
    ]
    experiment = mlflow.experiment()
    metadata = [{**KNOWN, "mlflow.trace.tokenUsage": json.dumps(usage)} for usage in usages]
    mlflow.insert(experiment, [Trace(now_ms() - 1_000, tags=GOOD, metadata=each) for each in metadata])
    (line,) = [each for each in said(mlflow, tmp_path, experiment).splitlines() if each.startswith("cache ")]
    assert line.startswith(
        "cache        40% of the traces have more cached tokens than input tokens: their integration"
    )
    assert "mlflow.claude_code" in line
    mlflow.insert(other := mlflow.experiment(), [Trace(now_ms() - 1_000, tags=GOOD, metadata=metadata[2])])
    assert "\ncache" not in said(mlflow, tmp_path, other)


def test_what_mlflow_never_ends_is_told(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment, at_ms = mlflow.experiment(), now_ms() - ORPHAN_MS
    ends = {"an orphan": (60_000, 10), "may go on": (-600_000, 10), "running": (60_000, None)}
    traces = [Trace(at_ms - ago - (ms or 0), ms, "IN_PROGRESS", tags=GOOD, metadata=KNOWN) for ago, ms in ends.values()]
    mlflow.insert(experiment, [*traces, Trace(at_ms, tags=GOOD, metadata=KNOWN)])
    shown = said(mlflow, tmp_path, experiment)
    assert "4 traces" in shown
    assert "2 counted, 2 in progress" in shown
    (line,) = [each for each in shown.splitlines() if each.startswith("- ")]
    assert line.startswith(
        "- In progress with a duration, and ended more than 15 minutes ago: 1. The parent of their root"
    )
    assert "They are counted as ok" in line


def test_values_are_shown_in_their_own_script(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, [Trace(now_ms(), tags={"environment": "本番　環境"})])
    shown = said(mlflow, tmp_path, experiment, objectives=[{"environment": "本番　環境", "error_ratio": "5%"}])
    assert "tag environment: 1 value (本番　環境)\n" in shown
    assert "No objective" not in shown
    assert "No team" not in shown, "nobody has one"


def test_applications_without_an_owner_and_objectives_that_are_never_used_are_told(
    mlflow: Mlflow, tmp_path: Path
) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, [Trace(now_ms(), tags={"environment": each}) for each in ("lab", "production")])
    everywhere = {"experiment": experiment, "environment": "production", "error_ratio": "5%", "team": "search"}
    twice = {"experiment": experiment, "environment": "production", "error_ratio": "1%"}
    shown = said(mlflow, tmp_path, experiment, objectives=[everywhere, twice])
    assert f"- No team for {experiment} in lab: " in shown
    assert f"- No objective for {experiment} in lab: " in shown
    assert shown.startswith("config       warning: line 1, objectives.1: is never used, because line 1, objectives.0")


def test_the_latest_traces_are_looked_at(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment, at_ms = mlflow.experiment(), now_ms()
    mlflow.insert(experiment, [Trace(at_ms - at * 1_000, tags={"number": str(at)}) for at in range(10)])
    shown = said(mlflow, tmp_path, experiment, "--sample=3")
    assert "sample       3 traces" in shown
    assert "tag number: 3 values (0, 1, 2)" in shown


def test_without_traces_it_says_where_to_look(mlflow: Mlflow, tmp_path: Path) -> None:
    shown = said(mlflow, tmp_path, mlflow.experiment())
    assert "sample       no traces" in shown
    assert "\n- There are no traces. Does the application send traces" in shown


def test_what_mlflow_sets_itself_is_one_line_and_all_else_has_its_own(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    internal = {f"mlflow.internal.{number:02}": "x" for number in range(20)}
    own = {f"team-{number:02}": "x" for number in range(40)}
    metadata = {**KNOWN, **internal, "mlflow.modelId": "m-1", "mlflow.source.name": "app.py"}
    mlflow.insert(experiment, [Trace(now_ms(), tags={**GOOD, **own, "mlflow.note": "n"}, metadata=metadata)])
    labels = {"environment": ["tag.environment"], "extra": {"app": "metadata.mlflow.source.name"}}
    shown = said(mlflow, tmp_path, experiment, labels=labels)
    lines = shown.splitlines()
    details = lines[lines.index("", lines.index("") + 1) + 1 :]
    assert not any(line.startswith("- ") for line in details), "advice comes first"
    for key in ("mlflow.modelId", "mlflow.source.name", "mlflow.trace.user", "mlflow.trace.session"):
        assert any(line.startswith(f"metadata {key}: 1 value") for line in details), (key, shown)
    (line,) = [line for line in details if line.startswith("mlflow.*")]
    assert "keys of MLflow's own: mlflow.internal.00, mlflow.internal.01" in line
    assert shown.count("mlflow.internal") == 5
    assert "tag team-00: 1 value (x)" in details
    assert any(line.startswith("and ") and line.endswith(" more tags and metadata") for line in details)


def test_what_users_wrote_is_not_printed(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(
        experiment, [Trace(now_ms(), tags={**GOOD, "note": "a secret " * 10, "odd": "\x1b[31mred", "a\nkey\x1b": "1"})]
    )
    shown = said(mlflow, tmp_path, experiment)
    assert "tag note: 1 value\n" in shown
    assert "\x1b" not in shown


def test_where_serve_would_not_work_it_ends_with_2(mlflow: Mlflow, tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("mlflow: {experiments: [nowhere]}\n")
    assert "selects none of" in complaint("doctor", f"--config.file={file}", MLFLOW_TRACKING_URI=mlflow.uri)


def test_what_a_change_would_make_is_told_before_it_is_made(mlflow: Mlflow, tmp_path: Path) -> None:
    """The ledger is that of an exporter that runs."""
    experiment = mlflow.experiment(f"bot-prod-{now_ms()}")
    mlflow.client.set_experiment_tag(mlflow.experiment_id(experiment), "team", "search")
    at_ms = now_ms() - 3_600_000
    mlflow.insert(experiment, [Trace(at_ms, tags=GOOD, metadata=KNOWN) for _ in range(3)])
    mlflow.insert(experiment, [Trace(at_ms, tags={"app_version": "1.4.0"}, metadata=KNOWN)])
    settings = {"poll": {"start": "2h", "interval": "1s"}}
    served = {"mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment}, **settings}
    with Exporter(tmp_path, served).running() as exporter:
        series = int(exporter.after_next_poll()["mlflow_trace_exporter_series"])
        same = told(mlflow, tmp_path, experiment).splitlines()
        by_name = {"from": "experiment.name", "regex": ".+-(prod|stag)-.*"}
        mapped = {"environment": ["tag.environment", by_name], "map": {"environment": {"prod": "production-eu"}}}
        changed = told(mlflow, tmp_path, experiment, labels=mapped).splitlines()
        other = told(
            mlflow, tmp_path, experiment, labels={"trace_name": False, "extra": {"team": "experiment_tag.team"}}
        )
    limit = "of at most 100,000"
    assert f"ledger       {series:,} series are exposed now; with 0 label sets more they are {series:,} {limit}" in same
    assert not any(line.endswith("new") for line in same)
    place = "  ".join(("experiment".ljust(len(experiment)), "environment".ljust(13), "version", "trace_name"))
    at = changed.index(f"traces  {place}")
    assert [line.split() for line in changed[at + 1 :]] == [
        ["3", experiment, "production", "1.4.0", "support"],
        ["1", experiment, "production-eu", "1.4.0", "support", "new"],
    ]
    (line,) = [line for line in changed if line.startswith("ledger       ") and "exposed now" in line]
    assert line.startswith(f"ledger       {series:,} series are exposed now; with 1 label set more they are ")
    assert "experiment_tag team: 1 value (search)" in other
    assert (
        "ledger       its labels are experiment, environment, version, trace_name: with experiment, environment,"
        " version, team all series about traces start at 0, and those of now end\n" in other
    )


def test_what_alerts_need_is_told_if_it_is_left_out(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, [Trace(now_ms() - 1_000, tags=GOOD, metadata=KNOWN)])
    everything = said(mlflow, tmp_path, experiment)
    less = said(mlflow, tmp_path, experiment, metrics={"exclude": ["mlflow_tokens_per_trace", "mlflow_trace_cache_*"]})
    warnings = [line.strip() for line in less.splitlines() if "metrics.exclude" in line]
    assert warnings == [
        "config       warning: metrics.exclude: without mlflow_tokens_per_trace these alerts cannot fire:"
        " MlflowVersionUsesMoreTokens"
    ]
    histogram, counters = 2 * (11 + 3), 2
    assert _series(everything) - _series(less) == histogram + counters


def _series(shown: str) -> int:
    (line,) = [line for line in shown.splitlines() if line.startswith("series ")]
    return int(line.split(", ")[1].split()[0].replace(",", ""))
