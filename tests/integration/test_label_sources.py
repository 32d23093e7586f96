"""Labels from every source, with a real MLflow: in metrics, reports and the list of traces."""

from pathlib import Path
from typing import Any

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from mlflow_trace_exporter import make_report
from tests.integration.test_trace_list import ids
from tests.support.commands import config_file, invoke
from tests.support.real import Exporter, Mlflow, Trace, eventually, now_ms
from tests.support.waiting import HANG_S


def attributes(**texts: str) -> list[KeyValue]:
    return [KeyValue(key=key.replace("__", "."), value=AnyValue(string_value=text)) for key, text in texts.items()]


def send(mlflow: Mlflow, experiment: str, resource: list[KeyValue], root: list[KeyValue], number: int) -> None:
    """Send a trace of two spans over OTLP, as an application does that knows nothing of MLflow."""
    trace_id, ended_ms = f"{number:016}".encode(), now_ms() - 60_000
    spans = [
        Span(trace_id=trace_id, span_id=b"root" * 2, name="handle_question", attributes=root),
        Span(trace_id=trace_id, span_id=b"call" * 2, parent_span_id=b"root" * 2, name="call"),
    ]
    for span in spans:
        span.start_time_unix_nano, span.end_time_unix_nano = (ended_ms - 1_000) * 1_000_000, ended_ms * 1_000_000
    sent = ResourceSpans(resource=Resource(attributes=resource), scope_spans=[ScopeSpans(spans=spans)])
    headers = {"Content-Type": "application/x-protobuf", "x-mlflow-experiment-id": mlflow.experiment_id(experiment)}
    body = ExportTraceServiceRequest(resource_spans=[sent]).SerializeToString()
    requests.post(f"{mlflow.uri}/v1/traces", data=body, headers=headers, timeout=HANG_S).raise_for_status()


def rows(file: Path, *by: str, **asked: Any) -> list[tuple[str, ...]]:
    """The label values of the report, and how many traces have them."""
    found = make_report(since="1h", by=by, config=file, **asked).rows
    return sorted((*(row.key[name] for name in by), str(row.traces)) for row in found)


def test_applications_that_send_otlp_have_labels_by_default(mlflow: Mlflow, tmp_path: Path) -> None:
    """MLflow stores resource attributes as tags. It stores the name of the root span nowhere that a search returns; an
    attribute of that span sets the name of the trace."""
    experiment = mlflow.experiment()
    now = attributes(service__version="2.0", deployment__environment__name="production", deployment__environment="x")
    send(mlflow, experiment, now, [], number=now_ms())
    before = attributes(service__version="1.0", deployment__environment="staging")
    send(mlflow, experiment, before, attributes(mlflow__traceTag__mlflow__traceName="support"), number=now_ms() + 1)
    own = {"environment": "test", "app_version": "3.0", "deployment.environment.name": "y", "service.version": "z"}
    mlflow.insert(experiment, [Trace(now_ms() - 60_000, tags=own)])
    file = config_file(tmp_path, mlflow, experiment)
    assert rows(file, "environment", "version", "trace_name") == [
        ("production", "2.0", "unknown", "1"),
        ("staging", "1.0", "support", "1"),
        ("test", "3.0", "support", "1"),
    ]
    assert rows(file, "version", environment="staging") == [("1.0", "1")], "each source is searched"
    assert rows(file, "version", version="3.0") == [("3.0", "1")]


STAGE = {"from": "experiment.name", "regex": ".+-(?P<stage>prod|stag)-.*", "value": "${stage}"}
LABELS = {
    "environment": ["tag.stage", STAGE],
    "version": {"from": "tag.image", "regex": "(?:.*/)?bot:v?(.+)"},
    "extra": {"team": ["experiment_tag.team", "metadata.team"]},
    "trace_name": False,
    "defaults": {"version": "none", "team": "nobody"},
    "map": {"environment": {"prod": "production", "live": "production", "stag": "staging"}},
}


@pytest.fixture(scope="module")
def made(mlflow: Mlflow) -> dict[str, str]:
    """Experiments for two environments of an application, with traces; their ids by name."""
    at_ms, suffix = now_ms() - 300_000, f"-{now_ms()}"
    mlflow.client.set_experiment_tag(mlflow.experiment_id(mlflow.experiment(f"bot-prod{suffix}")), "team", "search")
    mlflow.experiment(f"bot-stag{suffix}")
    mlflow.experiment(f"bot{suffix}")
    traces = {
        "by name": (f"bot-prod{suffix}", Trace(at_ms, tags={"image": "registry/bot:v1.5"})),
        "tag first": (f"bot-prod{suffix}", Trace(at_ms + 1, tags={"stage": "stag", "image": "other:1.5"})),
        "staging": (f"bot-stag{suffix}", Trace(at_ms + 2, tags={"image": "bot:1.5"}, metadata={"team": "ads"})),
        "live": (f"bot-stag{suffix}", Trace(at_ms + 3, tags={"stage": " live "})),
        "neither": (f"bot{suffix}", Trace(at_ms + 4, tags={"image": "x/bot:v1.6"})),
        "its own": (f"bot{suffix}", Trace(at_ms + 5, tags={"stage": "production"})),
    }
    found = {name: mlflow.log(experiment, trace)[0] for name, (experiment, trace) in traces.items()}
    return {**found, "experiments": f"bot*{suffix}"}


EXPECTED = {
    ("production", "1.5", "search"): ["by name"],
    ("staging", "none", "search"): ["tag first"],
    ("staging", "1.5", "ads"): ["staging"],
    ("production", "none", "nobody"): ["its own", "live"],
    ("unknown", "1.6", "nobody"): ["neither"],
}


def test_reports_have_the_labels_of_every_source(mlflow: Mlflow, tmp_path: Path, made: dict[str, str]) -> None:
    file = config_file(tmp_path, mlflow, made["experiments"], labels=LABELS)
    labels = ("environment", "version", "team")
    assert rows(file, *labels) == sorted((*each, str(len(names))) for each, names in EXPECTED.items())
    of_production = [(*each, str(len(names))) for each, names in EXPECTED.items() if each[0] == "production"]
    assert rows(file, *labels, environment="production") == sorted(of_production)
    assert rows(file, "trace_name") == [("support", "6")], "a report can use what is no label"
    shown = invoke("report", f"--config.file={file}", "--environment=productoin", "--since=1h").stderr
    assert "no trace has 'productoin'; did you mean production?" in shown


def test_a_page_has_exactly_the_traces_of_a_label(mlflow: Mlflow, tmp_path: Path, made: dict[str, str]) -> None:
    settings = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": made["experiments"]},
        "poll": {"interval": "1s", "start": "1h"},
        "labels": LABELS,
        "metrics": {"exclude": "mlflow_trace_cache_*"},
    }
    with Exporter(tmp_path, settings).running() as served:

        def listed(**query: str) -> list[str]:
            return ids(served.traces_page(**query))

        def counted() -> dict[str, float]:
            found = {key: value for key, value in served.samples().items() if key.startswith("mlflow_traces_total{")}
            return found if sum(found.values()) == 6 else {}

        series = eventually(counted, "they are counted")
        for (environment, version, team), names in EXPECTED.items():
            of_it = listed(environment=environment, version=version, team=team, since="1h")
            assert set(of_it) == {made[name] for name in names}
            labels = f'environment="{environment}"', f'team="{team}",version="{version}"}}'
            assert sum(count for key, count in series.items() if all(each in key for each in labels)) == len(names)
        assert not any("trace_name" in key for key in series)
        for at, label in enumerate(("environment", "version", "team")):
            for value in {each[at] for each in EXPECTED}:
                expected = {made[name] for each, names in EXPECTED.items() if each[at] == value for name in names}
                assert set(listed(**{label: value, "since": "1h"})) == expected, (label, value)
        assert listed(environment="prod", since="1h") == [], "that became production"
        assert set(listed(missing="version", since="1h")) == {made[each] for each in ("tag first", "its own", "live")}
        assert len(listed(trace_name="support", since="1h")) == 6
        found = served.samples()
    missing = {key: count for key, count in found.items() if key.startswith("mlflow_traces_missing_total{") and count}
    of_version = {key: count for key, count in missing.items() if 'field="version"' in key}
    assert sum(of_version.values()) == 3, "a default is no value of the trace"
    assert all('version="none"' in key for key in of_version)
    assert not any(key.startswith("mlflow_trace_cache_") for key in found)
    assert any(key.startswith("mlflow_trace_input_tokens_total{") for key in found)


def test_a_default_does_not_hide_that_a_label_is_missing(mlflow: Mlflow, tmp_path: Path, made: dict[str, str]) -> None:
    file = config_file(tmp_path, mlflow, made["experiments"], labels=LABELS)
    shown = invoke("doctor", f"--config.file={file}").stdout
    assert "50% of the traces have no version." in shown
    assert "17% of the traces have no environment." in shown
