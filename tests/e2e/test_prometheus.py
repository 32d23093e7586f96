"""What a real Prometheus makes of the metrics."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.real import Exporter, Mlflow, Prometheus, Trace, eventually

LONG_AGO_MS = 1_790_000_000_000
"""Traces of then are final at first sight."""


def _scrapes_of_7(prometheus: Prometheus, job: str) -> bool:
    return (prometheus.value(f'count_over_time((mlflow_traces_total{{job="{job}"}} == 7)[5m:1s])') or 0) >= 5


def test_first_increments_are_seen_with_the_hold_and_not_without(mlflow: Mlflow, tmp_path: Path) -> None:
    """Series that are born with 7 traces: increase() over their life is 7, within what Prometheus extrapolates."""
    experiment = mlflow.experiment()
    mlflow.log(experiment, *[Trace(LONG_AGO_MS, tags={"environment": "production"})] * 7)
    exporters = {}
    for job, hold in (("held", "4s"), ("at_once", "0s")):
        (tmp_path / job).mkdir()
        settings = {
            "mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment},
            "poll": {"interval": "1h", "start": "earliest"},  # what is held is shown without another poll
            "series": {"zero_hold": hold},
        }
        exporters[job] = Exporter(tmp_path / job, settings)
    prometheus = Prometheus(tmp_path, {job: exporter.url for job, exporter in exporters.items()})
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
        for series in (
            'mlflow_traces_total{job="%s"}',
            'mlflow_trace_duration_seconds_count{job="%s",status="ok"}',
            'mlflow_trace_duration_seconds_bucket{job="%s",status="ok",le="0.1"}',
        ):
            held = seen.value(f"increase({series % 'held'}[5m])")
            assert held is not None
            assert 7 <= held < 8
            assert seen.value(f"increase({series % 'at_once'}[5m])") == 0
        assert seen.value('mlflow_trace_errors_total{job="held"}') == 0, "it is there before the first error"
