"""What the demo makes of the rules and routes."""

from typing import Any

import pytest
import yaml

from mlflow_trace_exporter.bundled import packaged, rules
from mlflow_trace_exporter.demo.monitoring import shortened


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("increase(x[1h])", "increase(x[2m])"),
        ("increase(x[5m] offset 1d)", "increase(x[10s] offset 48m)"),
        ("        for: 15m", "        for: 30s"),
        ("        for: 1s", "        for: 1s"),
        ("          long_window: 6h", "          long_window: 12m"),
        ("time() - x > 900 + 3 * mlflow_trace_exporter_poll_interval_seconds", None),
        ("a trace within 5s", "a trace within 5s"),
        ("environment:mlflow_traces:increase1h > 30", "environment:mlflow_traces:increase1h > 30"),
    ],
)
def test_durations_are_divided_and_nothing_else_is(text: str, expected: str | None) -> None:
    assert shortened(text, 30) == (expected or text.replace("900", "30"))


def test_no_duration_of_the_rules_is_left_out() -> None:
    """Divided by 1 and by 60 they differ in every range, offset and pause, and in nothing that a rule is called."""

    def facts(by: int) -> list[dict[str, Any]]:
        groups = yaml.safe_load(shortened(rules.for_prometheus(rules.Links()), by))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    for whole, short in zip(facts(1), facts(60), strict=True):
        assert whole.get("record") == short.get("record")
        assert "[" not in whole["expr"] or whole["expr"] != short["expr"]
        for key in ("for", "keep_firing_for"):
            assert whole.get(key) is None or whole[key] != short[key]


def test_routes_are_divided() -> None:
    routes = yaml.safe_load(shortened(packaged.prometheus("alertmanager.yml").read_text(), 30))["route"]
    assert (routes["group_wait"], routes["group_interval"], routes["repeat_interval"]) == ("1s", "10s", "24m")
