"""The dashboard of models and tools, in promtool: the numbers of known calls and spans."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.panels import PANELS, Panel, column
from tests.unit.bundled.test_many_applications import check, over_an_hour, series

UID = "mlflow-models"
PLACE = {"experiment": "chatbot", "environment": "production", "version": "1"}
PANELS_OF_MODELS = [panel for panel in PANELS if panel.uid == UID]


def counted(duration: str, labels: dict[str, str], ok: float, failed: float, each_s: float) -> Iterator[dict[str, str]]:
    """Durations that are all the same, as a histogram; the rates are per minute."""
    for status, rate in (("ok", ok), ("error", failed)):
        own = {**PLACE, **labels, "status": status}
        yield series(f"{duration}_count", rate, **own)
        yield series(f"{duration}_sum", rate * each_s, **own)
        for edge in ("0.5", "1", "2.5", "+Inf"):
            yield series(f"{duration}_bucket", rate if float(edge) >= each_s else 0, **own, le=edge)


def of_calls_and_tools() -> Iterator[dict[str, str]]:
    """Ten traces of six seconds per minute, each with two calls of large, one of small, a tool and a retriever."""
    yield from counted("mlflow_trace_duration_seconds", {"trace_name": "t"}, 10, 0, 6)
    for model, ok, failed, each_s, cost in (("large", 15, 5, 1, 0.5), ("small", 10, 0, 0.5, 0.25)):
        labels = {"provider": "openai", "model": model}
        yield from counted("mlflow_llm_call_duration_seconds", labels, ok, failed, each_s)
        for name, rate in (
            ("input_tokens", 100),
            ("output_tokens", 20),
            ("input_cost_usd", cost),
            ("output_cost_usd", 1),
        ):
            yield series(f"mlflow_llm_{name}_total", rate, **PLACE, **labels)
        for edge, rate in (("0.5", ok * 0.9), ("1", ok), ("+Inf", ok)):
            yield series("mlflow_llm_time_to_first_chunk_seconds_bucket", rate, **PLACE, **labels, le=edge)
    for span_type, name, ok, failed in (
        ("TOOL", "search", 6, 4),
        ("RETRIEVER", "docs", 10, 0),
        ("AGENT", "agent", 6, 4),
    ):
        labels = {"span_type": span_type, "span_name": name}
        yield from counted("mlflow_span_duration_seconds", labels, ok, failed, 0.5)
    yield series("mlflow_objective_first_chunk_seconds", 2, experiment="chatbot", environment="production")


def exactly(expr: str, by: str, **expected: float) -> dict[str, Any]:
    """What promtool has to find: the values of a query by one of its labels."""
    samples = [{"labels": f'{{{by}="{name}"}}', "value": value} for name, value in expected.items()]
    return {"expr": f"round(sum by ({by}) ({over_an_hour(expr)}), 1e-6)", "exp_samples": samples}


def panel_of(title: str) -> Panel:
    (found,) = [panel for panel in PANELS_OF_MODELS if panel.title == title]
    return found


def test_every_query_shows_something(tmp_path: Path) -> None:
    queries = [query for panel in PANELS_OF_MODELS for query in panel.queries.values()]
    one = [{"labels": "{}", "value": 1}]
    some = [{"expr": f"count({over_an_hour(query)}) >= bool 1", "exp_samples": one} for query in queries]
    check(tmp_path, of_calls_and_tools(), some)


def test_the_numbers_of_models(tmp_path: Path) -> None:
    columns: dict[str, tuple[float, float]] = {
        "Cost": (90, 75),
        "Cost per 1,000 calls": (75, 125),
        "Calls": (1_200, 600),
        "Failed": (0.25, 0),
        "First chunk": (0.75, 0.75),
        "Input tokens": (6_000, 6_000),
        "Output tokens": (1_200, 1_200),
    }
    check(
        tmp_path,
        of_calls_and_tools(),
        [
            exactly(column(UID, "Models", name), "model", large=large, small=small)
            for name, (large, small) in columns.items()
        ],
    )


def test_the_numbers_of_tools_and_agents(tmp_path: Path) -> None:
    columns: dict[str, tuple[float, float]] = {
        "Failures": (240, 0),
        "Failed": (0.4, 0),
        "Spans": (600, 600),
        "Time": (300, 300),
    }
    check(
        tmp_path,
        of_calls_and_tools(),
        [
            exactly(column(UID, "Tools and other spans", name), "span_name", search=search, agent=search, docs=docs)
            for name, (search, docs) in columns.items()
        ],
    )


def test_where_the_time_of_a_trace_goes(tmp_path: Path) -> None:
    """Of six seconds 2.5 are spent in calls, and half a second in each tool and each retriever. An agent has no share
    of its own, because it contains the others."""
    queries = panel_of("Where a trace's time goes").queries.values()
    shares_s = (2.5, 0.5, 0.5, 2.5)
    asked = [exactly(expr, "job", j=share_s) for expr, share_s in zip(queries, shares_s, strict=True)]
    check(tmp_path, of_calls_and_tools(), asked)


def test_agents_do_not_fail_beside_their_tools(tmp_path: Path) -> None:
    failures = exactly(panel_of("Failures of tools").queries["A"], "span_name", search=4, docs=0)
    check(tmp_path, of_calls_and_tools(), [failures])
