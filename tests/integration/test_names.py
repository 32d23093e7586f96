"""Names in every script, and odd ones, through the whole program: what a trace says, what somebody asks for and what is
published are one label."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from mlflow_trace_exporter import check_health, make_report
from mlflow_trace_exporter.domain.labels import clean
from mlflow_trace_exporter.domain.trace import ORPHAN_MS
from tests.integration.test_trace_list import ids
from tests.support.commands import config_file, invoke
from tests.support.real import Exporter, Mlflow, Samples, Trace, eventually, now_ms
from tests.support.waiting import HANG_S

RAW = {
    "ideographic space": "本番　環境",
    "no-break space": "avant\N{NO-BREAK SPACE}prod",
    "non-joiner": "می\N{ZERO WIDTH NON-JOINER}خواهم",
    "joiner": "👩\N{ZERO WIDTH JOINER}💻",
    "line separator": "a\N{LINE SEPARATOR}b",
    "private use": "\ue000",
    "padded": " padded\u3000",
    "long": "x" * 127 + "/y/z",
    "controlled": "con\x01trol\x85led",
    "quoted": 'it\'s "50%_of`it\\"',
    "a label that is cut": "y" * 127 + " z",
}
"""Values as an application may set them; each is another label."""

names = pytest.mark.parametrize("raw", RAW.values(), ids=RAW.keys())


@pytest.fixture(scope="module", autouse=True)
def _traces(mlflow: Mlflow) -> None:
    """Three failed traces of each environment, version and user, and some of another that the names are not."""
    mlflow.experiment("names")
    for raw in (*RAW.values(), "elsewhere"):
        tags, metadata = {"environment": raw, "app_version": raw}, {"mlflow.trace.user": raw}
        mlflow.insert("names", [Trace(now_ms() - 60_000, 100, "ERROR", tags=tags, metadata=metadata)] * 3)


def judged(mlflow: Mlflow, directory: Path, name: str, *arguments: str, **settings: Any) -> tuple[int, str]:
    file = config_file(directory, mlflow, "names", **settings)
    done = invoke("health", f"--config.file={file}", f"--environment={name}", *arguments)
    return done.exit_code, done.stdout


@names
def test_health_finds_an_environment_as_it_is_set_and_as_it_is_shown(mlflow: Mlflow, tmp_path: Path, raw: str) -> None:
    for name in (raw, clean(raw), f"  {raw}\t"):
        code, shown = judged(mlflow, tmp_path, name, "--error-rate=5%", "--min-traces=3")
        assert (code, "3 finished traces" in shown) == (1, True), shown
        assert f"breached: names in {clean(raw)}: error rate 100%" in shown


@names
def test_health_finds_the_objective_of_an_environment(mlflow: Mlflow, tmp_path: Path, raw: str) -> None:
    objective = {"environment": f" {raw}", "error_ratio": 0.05, "min_traces": 3}
    assert judged(mlflow, tmp_path, raw, objectives=[objective])[0] == 1
    file = config_file(tmp_path, mlflow, "names", objectives=[objective])
    assert invoke("health", f"--config.file={file}").exit_code == 1, "the environments that objectives name"


@names
def test_reports_are_of_what_is_asked_for(mlflow: Mlflow, tmp_path: Path, raw: str) -> None:
    file = config_file(tmp_path, mlflow, "names")
    for name in (raw, clean(raw)):
        for asked in ({"environment": name}, {"version": name}, {"user": name}):
            by = next(iter(asked))
            report = make_report(since="1h", by=by, config=file, **asked)  # type: ignore[arg-type]  # names
            assert [(row.key[by], row.traces) for row in report.rows] == [(clean(raw), 3)]


@pytest.mark.parametrize("asked", [{"environment": ""}, {"version": " "}, {"user": "\u3000"}])
def test_nothing_is_not_taken_for_unknown(mlflow: Mlflow, tmp_path: Path, asked: dict[str, str]) -> None:
    """A variable of a script that is not set, say."""
    file = config_file(tmp_path, mlflow, "names")
    (flag, value), *_ = asked.items()
    done = invoke("report", f"--config.file={file}", f"--{flag}={value}")
    assert (done.exit_code, f"{flag}: is empty" in done.stderr) == (2, True), done.output
    assert invoke("health", f"--config.file={file}", "--environment=", "--error-rate=5%").exit_code == 2


def samples_with(served: Exporter, name: str, value: float) -> Samples | None:
    """What is exposed, once one sample has this value."""
    found = served.samples()
    return found if found.get(name) == value else None


def test_objectives_and_traces_have_one_spelling_and_alerts_lead_to_their_traces(
    mlflow: Mlflow, tmp_path: Path
) -> None:
    settings = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": "names"},
        "poll": {"interval": "1s", "start": "1h"},
        "objectives": [{"environment": raw, "error_ratio": 0.05, "latency": "50ms"} for raw in RAW.values()],
    }
    file = config_file(tmp_path, mlflow, "names", objectives=settings["objectives"])
    assert (
        "No objective for names in elsewhere: no alert covers this." in invoke("doctor", f"--config.file={file}").stdout
    )
    with Exporter(tmp_path, settings).running() as served:
        for raw in RAW.values():
            label = clean(raw)
            of_it = f'{{environment="{label}",experiment="names",trace_name="support",version="{label}"}}'
            errors = f"mlflow_trace_errors_total{of_it}"
            found = eventually(partial(samples_with, served, errors, 3), "they are counted")
            assert found[f'mlflow_objective_error_ratio{{environment="{label}",experiment="names"}}'] == 0.05
            assert found[f"mlflow_trace_slow_total{of_it}"] == 3
            for name in (raw, label):
                asked = {"environment": name, "version": name, "status": "error", "start": "0"}
                page = served.traces_page(**asked)
                assert len(ids(page)) == 3, name


def test_the_traces_of_an_experiment_whatever_it_is_called(mlflow: Mlflow, tmp_path: Path) -> None:
    called = ["本番　実験", " padded experiment ", "e" * 300, "e" * 128 + " and another", "tab\texperiment"]
    made = {name: mlflow.log(mlflow.experiment(name), Trace(now_ms() - 5_000, name="t"))[0] for name in called}
    mlflow.log("names", Trace(now_ms() - 5_000, name="t"))
    settings = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": [*called, "names"]},
        "poll": {"interval": "1s", "start": "1h"},
    }
    with Exporter(tmp_path, settings).running() as served:
        eventually(lambda: served.text().count("mlflow_traces_total{") > 4, "traces are counted")
        labels = {
            key.split('experiment="')[1].split('"')[0] for key in served.samples() if "mlflow_traces_total{" in key
        }
        assert labels >= {clean(name) for name in called}
        for name in called:
            expected = {trace for other, trace in made.items() if clean(other) == clean(name)}
            for asked in (name, clean(name)):
                page = served.traces_page(experiment=asked)
                assert set(ids(page)) == expected, asked
        assert len(ids(served.traces_page(experiment="other"))) > 40, "any"
    assert "Traceback" not in served.log()
    assert "本番　実験" in served.log(), "people can read what is selected"
    shown = invoke("check", f"--config.file={tmp_path}/exporter.yml").stdout
    assert "本番　実験" in shown
    assert "tab\N{REPLACEMENT CHARACTER}experiment" in shown


@pytest.mark.parametrize(
    "key",
    ["name", "Prompt", "run_id", "text", "timestamp", "end_time", "stage of (it)", "a'b", 'a"b', "a.b/c", "ステージ"],
)
def test_an_environment_may_come_from_a_tag_of_any_name(mlflow: Mlflow, tmp_path: Path, key: str) -> None:
    """Some of which MLflow's search takes for other things."""
    experiment = mlflow.experiment()
    mlflow.insert(experiment, [Trace(now_ms() - 60_000, tags={key: value}) for value in ("production", "staging")])
    file = config_file(tmp_path, mlflow, experiment, labels={"environment": f"tag.{key}"})
    assert make_report(since="1h", environment="production", config=file).total.traces == 1


def test_an_environment_may_be_the_name_of_a_trace(mlflow: Mlflow, tmp_path: Path) -> None:
    """Which MLflow 3.17 keeps elsewhere than tags."""
    experiment = mlflow.experiment()
    mlflow.log(experiment, *(Trace(now_ms() - 60_000, name=name) for name in ("support", "billing")))
    file = config_file(tmp_path, mlflow, experiment, labels={"environment": "tag.mlflow.traceName"})
    assert make_report(since="1h", environment="support", config=file).total.traces == 1


def test_a_span_with_a_remote_parent_makes_a_trace_that_mlflow_never_ends(mlflow: Mlflow, tmp_path: Path) -> None:
    """As an application sends it whose caller does not trace to MLflow."""
    experiment, ended_ms = mlflow.experiment(), now_ms() - ORPHAN_MS - 60_000  # MLflow's clock may be behind
    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, parent_span_id=b"p" * 8, name="POST /chat")
    span.start_time_unix_nano, span.end_time_unix_nano = (ended_ms - 1_250) * 1_000_000, ended_ms * 1_000_000
    body = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])])
    headers = {"Content-Type": "application/x-protobuf", "x-mlflow-experiment-id": mlflow.experiment_id(experiment)}
    requests.post(
        f"{mlflow.uri}/v1/traces", data=body.SerializeToString(), headers=headers, timeout=HANG_S
    ).raise_for_status()
    (found,) = mlflow.client.search_traces(locations=[mlflow.experiment_id(experiment)], include_spans=False)
    assert found.info.state.value == "IN_PROGRESS"
    report = make_report(since="1h", status="ok", config=config_file(tmp_path, mlflow, experiment))
    assert (report.total.traces, report.total.max_s) == (1, 1.25)


def test_a_trace_with_a_remote_parent_is_reported_once_it_has_come_to_rest(mlflow: Mlflow, tmp_path: Path) -> None:
    at_ms, experiment = now_ms() - ORPHAN_MS, mlflow.experiment()
    tags = {"environment": "production"}
    mlflow.insert(
        experiment,
        [
            Trace(at_ms - 100_000, 8_000, "IN_PROGRESS", tags=tags),
            Trace(at_ms, 600_000, "IN_PROGRESS", tags=tags),
            Trace(at_ms - 100_000, None, "IN_PROGRESS", tags=tags),
            Trace(at_ms - 50_000, 10, "OK", tags=tags),
            Trace(at_ms - 50_000, 10, "ERROR", tags=tags),
        ],
    )
    file = config_file(tmp_path, mlflow, experiment)
    found = make_report(since="1h", slowest=1, config=file)
    assert (found.total.traces, found.total.errors, found.slowest[0].state) == (3, 1, "OK")
    assert make_report(since="1h", status="ok", config=file).total.traces == 2
    assert make_report(since="1h", status="error", config=file).total.traces == 1
    health = check_health(lookback="1h", error_rate=0.5, p95_s=1, min_traces=3, config=file)
    assert [each.traces for each in health.environments] == [3]
