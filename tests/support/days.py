"""A day of an application, as a report on it: enough of everything that a report can show."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

from mlflow_trace_exporter.domain.moments import unix_ms
from mlflow_trace_exporter.domain.spans import Call, Inside
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.reports.report import Report, Wanted, summarize
from mlflow_trace_exporter.tracking.mlflow_pages import MlflowPages
from mlflow_trace_exporter.tracking.query import Query
from tests.support.builders import RULES, record

UNTIL_MS = unix_ms("2026-11-26T14:30:00", 0)
DAY_MS = 86_400_000
MLFLOW = "http://mlflow:5000"
MODELS = {"gpt-5-mini": (0.25e-6, 2e-6), "claude-haiku-4-5": (1e-6, 5e-6)}
"""USD per input token, and per output token."""


def day(traces: int = 2_000) -> Iterator[TraceRecord]:
    """Traces of 24 hours, fewer at night, with an incident in the morning that the provider of one model causes."""
    dice = Random(5)
    for number in range(traces):
        hour = 24 * dice.random()
        if dice.random() > 0.25 + 0.75 * math.sin(hour / 24 * math.pi + 2.6) ** 2:
            continue
        model = dice.choice(list(MODELS))
        incident = 17.4 < hour < 18.6 and model == "gpt-5-mini"
        usage = TokenUsage(input=200 + int(900 * dice.random()), output=60 + int(250 * dice.random()))
        usd = MODELS[model]
        cost = Cost(input_usd=(usage.input or 0) * usd[0], output_usd=(usage.output or 0) * usd[1])
        version = "1.5.0" if dice.random() < hour / 30 else "1.4.0"
        yield record(
            trace_id=f"tr-{number:032x}",
            state=State.ERROR if dice.random() < (0.4 if incident else 0.01) else State.OK,
            start_ms=UNTIL_MS - DAY_MS + int(hour * 3_600_000),
            seen_ms=UNTIL_MS,
            duration_ms=int(dice.lognormvariate(7.1, 0.6) * (5 if incident else 1)),
            name="answer",
            usage=usage,
            cost=cost,
            tags={"environment": "production", "app_version": version},
            inside=Inside(calls=(Call("1", "p", model, usage=usage, cost=cost),)),
        )


def report_on(traces: Iterable[TraceRecord], since_ms: int = UNTIL_MS - DAY_MS, **wanted: Any) -> Report:
    """A report on these traces."""
    found = ((each, RULES.values(each)) for each in traces)
    made = summarize(found, Query(since_ms, UNTIL_MS), Wanted(**wanted), MlflowPages(MLFLOW).trace)
    return replace(made, server=MLFLOW, selection={"environment": "production"})
