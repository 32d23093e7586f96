"""What a real Prometheus makes of the metrics."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import bcrypt
import yaml

from mlflow_trace_exporter.domain.labels import clean
from tests.integration.test_names import RAW
from tests.support.certificates import make_certificates
from tests.support.real import Exporter, Mlflow, Prometheus, Trace, eventually, now_ms

LONG_AGO_MS = 1_790_000_000_000
"""Traces of then are final at first sight."""


def _scrapes_of_7(prometheus: Prometheus, job: str) -> bool:
    return (prometheus.value(f'count_over_time((mlflow_traces_total{{job="{job}"}} == 7)[5m:1s])') or 0) >= 5


def test_first_increments_are_seen_with_the_hold_and_not_without(mlflow: Mlflow, tmp_path: Path) -> None:
    """Series that are born with 7 traces: increase() over their life is 7, within what Prometheus extrapolates.

    It needs a scrape within the hold, for which some machine may once stand still.
    """
    folders = (tmp_path / f"{number}" for number in range(5))
    assert any(_first_increments_are_seen(mlflow, each) for each in folders)


def _first_increments_are_seen(mlflow: Mlflow, folder: Path) -> bool:
    """Whether they are with the hold. Fails the test if they are without it."""
    experiment = mlflow.experiment()
    mlflow.log(experiment, *[Trace(LONG_AGO_MS, tags={"environment": "production"})] * 7)
    exporters = {}
    for job, hold in (("held", "4s"), ("at_once", "0s")):
        (folder / job).mkdir(parents=True)
        settings = {
            "mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment},
            "poll": {"interval": "1h", "start": "earliest"},  # what is held is shown without another poll
            "series": {"zero_hold": hold},
        }
        exporters[job] = Exporter(folder / job, settings)
    prometheus = Prometheus(folder, {job: exporter.url for job, exporter in exporters.items()})
    with ExitStack() as running:
        seen = running.enter_context(prometheus.running())
        eventually(lambda: seen.value("count(up)") == len(exporters), "it scrapes")
        for exporter in exporters.values():
            running.enter_context(exporter.running())
        for job in exporters:
            eventually(
                partial(_scrapes_of_7, seen, job),
                f"five scrapes of 7 by {job}",
            )
        is_seen = seen.value('min_over_time(mlflow_traces_total{job="held"}[5m])') == 0
        for series in (
            'mlflow_traces_total{job="%s"}',
            'mlflow_trace_duration_seconds_count{job="%s",status="ok"}',
            'mlflow_trace_duration_seconds_bucket{job="%s",status="ok",le="0.1"}',
        ):
            held = seen.value(f"increase({series % 'held'}[5m])")
            assert held is not None
            assert not is_seen or 7 <= held < 8
            assert seen.value(f"increase({series % 'at_once'}[5m])") == 0
        assert seen.value('mlflow_trace_errors_total{job="held"}') == 0, "it is there before the first error"
        return is_seen


def test_an_objective_joins_the_traces_of_its_environment_whatever_that_is_called(
    mlflow: Mlflow, tmp_path: Path
) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, [Trace(LONG_AGO_MS, tags={"environment": raw}) for raw in RAW.values()])
    settings = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment},
        "poll": {"interval": "1h", "start": "earliest"},
        "objectives": [{"environment": raw, "error_ratio": 0.05} for raw in RAW.values()],
    }
    exporter = Exporter(tmp_path, settings)
    with exporter.running(), Prometheus(tmp_path, {"mlflow": exporter.url}).running() as seen:
        joined = "count(mlflow_traces_total == 1 and on (job, environment) mlflow_objective_error_ratio)"
        eventually(lambda: seen.value(joined) == len(RAW), "all of them join")
        quoted = clean(RAW["quoted"]).replace("\\", "\\\\").replace('"', '\\"')
        for label in (RAW["ideographic space"], RAW["joiner"], quoted):
            assert seen.value(f'mlflow_traces_total{{environment="{label}"}}') == 1


def test_it_scrapes_over_tls_with_a_password_and_keeps_exemplars(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    certificates = make_certificates(tmp_path)
    users = {"prometheus": bcrypt.hashpw(b"word", bcrypt.gensalt(4)).decode()}
    tls = {"cert_file": "server.pem", "key_file": "server.key"}
    (tmp_path / "web.yml").write_text(yaml.safe_dump({"tls_server_config": tls, "basic_auth_users": users}))
    settings = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment},
        "poll": {"interval": "1s", "start": "earliest"},
    }
    exporter = Exporter(tmp_path, settings, f"--web.config.file={tmp_path / 'web.yml'}", scheme="https")
    prometheus = Prometheus(
        tmp_path,
        {"mlflow": exporter.url},
        basic_auth={"username": "prometheus", "password": "word"},
        tls_config={"ca_file": certificates.ca},
    )
    with exporter.running(), prometheus.running() as seen:
        eventually(lambda: seen.value("up") == 1, "it scrapes")
        made = {}
        for seconds in (1, 2):  # one after the other, in the same bucket
            started_ms = now_ms() - 20_000
            (trace_id,) = mlflow.log(experiment, Trace(started_ms, duration_ms=1_000 * seconds))
            made[trace_id] = (seconds, (started_ms + 1_000 * seconds) / 1000)
            eventually(lambda: (seen.value("mlflow_traces_total") or 0) == len(made), "it is counted")
        buckets = "mlflow_trace_duration_seconds_bucket"
        eventually(lambda: len(seen.exemplars(buckets)) == len(made), "the exemplars are stored")
        found = {
            each["labels"]["trace_id"]: (float(each["value"]), each["timestamp"]) for each in seen.exemplars(buckets)
        }
        assert found == made
        other = {"bob": users["prometheus"]}
        (tmp_path / "web.yml").write_text(yaml.safe_dump({"tls_server_config": tls, "basic_auth_users": other}))
        eventually(lambda: seen.value("up") == 0, "it is not let in any more")
    assert "Traceback" not in exporter.log()
