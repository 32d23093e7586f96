"""The parts, as a configuration describes them."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.metrics.exposition import Exposition, Format
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.settings.values import EXCLUDABLE
from mlflow_trace_exporter.wiring import excluded, open_meter, poll_settings, warnings_about
from tests.support.builders import record
from tests.support.rig import Rig
from tests.support.simulated import SimulatedMlflow

TRACES, TOKENS = "mlflow_traces_total", "mlflow_trace_input_tokens_total"


def excluding(*names: str) -> Config:
    return Config.model_validate({"metrics": {"exclude": list(names)}})


def exposed(rig: Rig) -> str:
    exposition = Exposition()
    exposition.publish(rig.published[-1])
    return exposition.render((Format.TEXT, False)).decode()


def test_what_is_left_out_is_counted_and_right_when_it_is_back(
    mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(mlflow)
    for number, settings in enumerate((Config(), excluding(TRACES, "mlflow_trace_*_tokens_total"), Config())):
        rig.reload(open_meter(settings))
        mlflow.add(record(trace_id=f"tr-{number}", start_ms=mlflow.clock_ms))
        rig.settle()
        is_there = number != 1
        assert (f"{TRACES}{{" in exposed(rig), f"{TOKENS}{{" in exposed(rig)) == (is_there, is_there)
        assert "# TYPE mlflow_trace_errors_total counter" in exposed(rig)
        assert (f"# TYPE {TRACES} counter" in exposed(rig)) is is_there
    assert rig.traces == 3
    assert rig.total(TOKENS) == 300


def test_the_name_of_a_trace_can_be_left_out_and_put_back_by_a_reload(
    mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]
) -> None:
    rig, of_all = make_rig(mlflow), []
    for number, has_name in enumerate((True, False, True)):
        rig.reload(open_meter(Config.model_validate({"labels": {"trace_name": has_name}})))
        mlflow.add(record(trace_id=f"tr-{number}", start_ms=mlflow.clock_ms, name="support"))
        rig.settle()
        of_all.append((rig.labels(), rig.traces))
        assert ('trace_name="' in exposed(rig)) is has_name
    version = ("chatbot", "production", "1.4.0")
    assert of_all == [({(*version, "support")}, 1), ({version}, 1), ({(*version, "support")}, 2)]


def test_series_that_are_left_out_do_not_use_up_the_limit(
    mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]
) -> None:
    mlflow.add(record(start_ms=mlflow.clock_ms))
    series = []
    rig = make_rig(mlflow)
    for settings in (Config(), excluding("mlflow_trace_duration_seconds")):
        meter = open_meter(settings)
        rig.reload(meter)
        rig.settle()
        assert rig.reading.series == meter.admission(rig.ledger.totals.groups()).series
        series.append(rig.reading.series)
    assert series[0] - series[1] == 2 * (14 + 3), "of two states"


def test_alerts_that_cannot_fire_are_named() -> None:
    (warning,) = warnings_about(excluding("mlflow_trace_slow_*"))
    assert warning.startswith("metrics.exclude: without mlflow_trace_slow_total these alerts cannot fire: Mlflow")
    assert "MlflowLatencyBudgetBurn" in warning, "which uses what is recorded from it"
    assert "MlflowErrorBudgetBurn" not in warning
    (warning,) = warnings_about(excluding("mlflow_tokens_per_trace"))
    assert "MlflowVersionUsesMoreTokens" in warning, "a histogram"
    assert list(warnings_about(excluding("mlflow_trace_cache_*"))) == []
    assert list(warnings_about(Config())) == []


def test_only_metrics_about_traces_can_be_left_out() -> None:
    assert excluded(excluding("*")) == {*EXCLUDABLE}
    assert "mlflow_trace_exporter_late_traces_total" not in EXCLUDABLE


def counting_users(enabled: bool) -> Config:
    return Config.model_validate({"active_users": {"enabled": enabled}})


@pytest.mark.parametrize("enabled", [False, True])
def test_active_users_are_counted_if_the_configuration_says_so(enabled: bool) -> None:
    assert open_meter(counting_users(enabled)).with_active is enabled


def test_what_active_users_need_is_only_missed_if_they_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    poll_settings(counting_users(True))
    monkeypatch.setitem(sys.modules, "datasketches", None)
    poll_settings(counting_users(False))
    with pytest.raises(UserError, match=r"pip install 'mlflow-trace-exporter\[users\]'"):
        poll_settings(counting_users(True))


def test_what_active_users_need_is_not_loaded_without_them() -> None:
    """It loads NumPy."""
    script = """
import sys
from mlflow_trace_exporter.commands import serve
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.wiring import open_meter, poll_settings
open_meter(Config()), poll_settings(Config())
sys.exit("datasketches" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
