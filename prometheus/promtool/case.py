"""Input series, expectations and test files, and their YAML.

Values are in the series notation of promtool: ``0+5x480`` is 0, 5, 10, … with 480 steps, ``_`` is a missing sample.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from prometheus.templates import EXPORTER_URL, GRAFANA_URL, runbook

Series = Mapping[str, str]
Values = str | Mapping[str, str]
"""The values of a series, or those of several by the value of its own label."""

_EXPORTER = "mlflow_trace_exporter"
_METRICS = {
    "up": ("up", ""),
    "mlflow_up": ("mlflow_up", ""),
    "created": ("mlflow_experiment_created_timestamp_seconds", ""),
    "last_poll": (f"{_EXPORTER}_last_successful_poll_timestamp_seconds", ""),
    "poll_interval": (f"{_EXPORTER}_poll_interval_seconds", ""),
    "catching_up": (f"{_EXPORTER}_catching_up", ""),
    "complete_until": (f"{_EXPORTER}_complete_until_timestamp_seconds", ""),
    "polls": (f"{_EXPORTER}_polls_total", ""),
    "poll_errors": (f"{_EXPORTER}_poll_errors_total", "reason"),
    "unaccounted": (f"{_EXPORTER}_unaccounted_traces", ""),
    "late": (f"{_EXPORTER}_late_traces_total", ""),
    "label_overflow": (f"{_EXPORTER}_label_overflow_total", "label"),
    "series": (f"{_EXPORTER}_series", ""),
    "series_limit": (f"{_EXPORTER}_series_limit", ""),
    "ledger_resets": (f"{_EXPORTER}_ledger_resets_total", ""),
    "leader": (f"{_EXPORTER}_leader", ""),
    "reload_successful": (f"{_EXPORTER}_config_last_reload_successful", ""),
    "reloaded": (f"{_EXPORTER}_config_last_reload_success_timestamp_seconds", ""),
    "clock_difference": (f"{_EXPORTER}_clock_difference_seconds", ""),
    "error_ratio": ("mlflow_objective_error_ratio", ""),
    "latency_seconds": ("mlflow_objective_latency_seconds", ""),
    "latency_ratio": ("mlflow_objective_latency_ratio", ""),
    "cost_usd_per_day": ("mlflow_objective_cost_usd_per_day", ""),
    "min_traces": ("mlflow_objective_min_traces", ""),
    "info": ("mlflow_objective_info", "team"),
    "recorded_info": ("experiment_environment:mlflow_objective_info:max", "team"),
    "traces": ("mlflow_traces_total", ""),
    "errors": ("mlflow_trace_errors_total", ""),
    "slow": ("mlflow_trace_slow_total", ""),
    "input_cost": ("mlflow_trace_input_cost_usd_total", ""),
    "output_cost": ("mlflow_trace_output_cost_usd_total", ""),
    "missing": ("mlflow_traces_missing_total", "field"),
    "tokens": ("mlflow_tokens_per_trace_sum", "kind"),
    "traces_with_tokens": ("mlflow_tokens_per_trace_count", "kind"),
    "buckets": ("mlflow_trace_duration_seconds_bucket", "le"),
    "in_progress": ("mlflow_traces_in_progress", ""),
    "abandoned": ("mlflow_traces_abandoned_total", ""),
    "calls": ("mlflow_llm_call_duration_seconds_count", "status"),
    "call_buckets": ("mlflow_llm_call_duration_seconds_bucket", "le"),
    "failed_call_buckets": ("mlflow_llm_call_duration_seconds_bucket", "le"),
    "call_errors": ("mlflow_llm_call_errors_total", "error_type"),
    "first_chunk_buckets": ("mlflow_llm_time_to_first_chunk_seconds_bucket", "le"),
    "streamed_calls": ("mlflow_llm_time_to_first_chunk_seconds_count", ""),
    "spans": ("mlflow_span_duration_seconds_count", "status"),
    "assessment_ratio": ("mlflow_objective_assessment_ratio", "assessment"),
    "ratings": ("mlflow_trace_assessment_ratings_total", "rating"),
    "assessments": ("mlflow_trace_assessments_total", "value"),
    "scores": ("mlflow_trace_assessment_score_count", ""),
    "assessment_errors": ("mlflow_trace_assessment_errors_total", ""),
    "alerts": ("ALERTS", "alertname"),
    "recorded_traces_5m": ("experiment_environment_version:mlflow_traces:increase5m", ""),
    "recorded_traces_6h": ("experiment_environment:mlflow_traces:increase6h", ""),
    "recorded_error_ratio": ("experiment_environment:mlflow_objective_error_ratio:max", ""),
    "recorded_first_chunk_seconds": ("experiment_environment:mlflow_objective_first_chunk_seconds:max", ""),
    "recorded_min_traces": ("experiment_environment:mlflow_objective_min_traces:max", ""),
}
"""Metrics by their names in these tests, and the label that is the metric's own."""

_STATUS = {"buckets": "ok", "call_buckets": "ok", "failed_call_buckets": "error"}
"""The label `status` of metrics that have a further one."""


@dataclass(frozen=True)
class Target:
    """A scraped exporter; its labels are on all of its series."""

    job: str = "mlflow-trace-exporter"
    instance: str = "a"
    more: Mapping[str, str] = field(default_factory=dict)

    def exporter(self, samples: int, *but: str, **values: Values) -> Iterator[Series]:
        """The metrics of an exporter that polls successfully and is scraped every minute, with other values where they
        are given, and without those in ``but``."""
        healthy: dict[str, Values] = {
            "up": f"1x{samples}",
            "mlflow_up": f"1x{samples}",
            "last_poll": f"0+60x{samples}",
            "poll_interval": f"15x{samples}",
            "catching_up": f"0x{samples}",
        }
        yield from self._series({}, {name: each for name, each in {**healthy, **values}.items() if name not in but})

    def series(self, **values: Values) -> Iterator[Series]:
        """Metrics of the target itself, and nothing else."""
        return self._series({}, values)

    def objective(
        self, environment: str, samples: int, experiment: str = "chatbot", team: str = "", **levels: float | str
    ) -> Iterator[Series]:
        """The objectives of an application, and its team; a number is a level that stays the same."""
        info = {team: f"1x{samples}"}
        yield from self.application(environment, experiment, **_constant(samples, levels), info=info)

    def objective_of_older(self, environment: str, samples: int, **levels: float | str) -> Iterator[Series]:
        """The objectives of an exporter that has them by environment only, and does not know teams."""
        return self._series({"environment": environment}, _constant(samples, levels))

    def application(self, environment: str, experiment: str = "chatbot", **values: Values) -> Iterator[Series]:
        """What is counted, or configured, by experiment and environment."""
        return self._series({"experiment": experiment, "environment": environment}, values)

    def version(
        self, environment: str, version: str, experiment: str = "chatbot", trace_name: str = "", **values: Values
    ) -> Iterator[Series]:
        """What is counted by version, and by trace name where there is one."""
        labels = {"experiment": experiment, "environment": environment, "version": version}
        return self._series(labels | ({"trace_name": trace_name} if trace_name else {}), values)

    def model(
        self,
        model: str,
        provider: str = "openai",
        experiment: str = "chatbot",
        environment: str = "production",
        **values: Values,
    ) -> Iterator[Series]:
        """What is counted by provider and model."""
        labels = {"experiment": experiment, "environment": environment, "version": "1"}
        return self._series({**labels, "provider": provider, "model": model}, values)

    def span(
        self, span_name: str, span_type: str = "TOOL", experiment: str = "chatbot", **values: Values
    ) -> Iterator[Series]:
        """What is counted by type and name of a span."""
        labels = {"experiment": experiment, "environment": "production", "version": "1"}
        return self._series({**labels, "span_type": span_type, "span_name": span_name}, values)

    def assessed(
        self,
        assessment: str,
        experiment: str = "chatbot",
        version: str = "1",
        source: str = "",
        environment: str = "production",
        **values: Values,
    ) -> Iterator[Series]:
        """What is counted by name of the assessment, and by source where there is one."""
        labels = {"experiment": experiment, "environment": environment, "version": version, "assessment": assessment}
        return self._series(labels | ({"source": source} if source else {}), values)

    def experiment(self, experiment: str, created: str) -> Iterator[Series]:
        """When an experiment was created."""
        return self._series({"experiment": experiment}, {"created": created})

    def _series(self, labels: Mapping[str, str], values: Mapping[str, Values]) -> Iterator[Series]:
        own = {"job": self.job, "instance": self.instance, **self.more}
        for name, each in values.items():
            metric, label = _METRICS[name]
            status = {"status": _STATUS[name]} if name in _STATUS else {}
            for key, text in {"": each}.items() if isinstance(each, str) else each.items():
                more = {label: key} if label else {}
                yield {"series": f"{metric}{_selector({**own, **labels, **more, **status})}", "values": text}


@dataclass(frozen=True)
class Sample:
    """A sample of a result."""

    value: float
    labels: Mapping[str, str]


def one(**labels: str) -> Sample:
    """A sample with the value 1, such as an alert that fires."""
    return Sample(1, labels)


def sample(value: float, **labels: str) -> Sample:
    """A sample with any value."""
    return Sample(value, labels)


@dataclass(frozen=True)
class Ask:
    """What an expression has to return at a time."""

    expr: str
    at: str
    samples: tuple[Sample, ...]


def ask(expr: str, at: str, *samples: Sample) -> Ask:
    """The expression returns these samples and no others."""
    return Ask(expr, at, samples)


@dataclass(frozen=True)
class Fired:
    """An alert that fires, with all that it says; the links are given without their address."""

    labels: Mapping[str, str]
    summary: str
    description: str
    dashboard: str
    traces: str = ""
    search: str = ""


@dataclass(frozen=True)
class Fires:
    """The alerts of a rule that have to fire at a time."""

    alert: str
    at: str
    fired: tuple[Fired, ...]


def fires(alert: str, at: str, *fired: Fired) -> Fires:
    """The rule has these alerts and no others."""
    return Fires(alert, at, fired)


@dataclass(frozen=True)
class Case:
    """A test: series, and what the rules make of them."""

    name: str
    interval: str
    series: Iterable[Iterator[Series]]
    expect: tuple[Ask | Fires, ...]


@dataclass(frozen=True)
class CaseFile:
    """A file for `promtool test rules`."""

    name: str
    head: str
    evaluation_interval: str
    cases: tuple[Case, ...]
    rules: str = "mlflow-[^mq]*.yml"
    """The files of rules that are evaluated: by default all but those about the inside of traces and about assessments.
    Most cases have no such series, and an evaluation takes as long for a rule without series as for others."""

    def text(self, groups: Iterable[str]) -> str:
        """The file as YAML; rules are evaluated in the order of the ``groups``."""
        head = {
            "rule_files": [f"../rules/{self.rules}"],
            "evaluation_interval": self.evaluation_interval,
            "group_eval_order": _Block(groups),
        }
        tests = "\n".join(_dumped([_as_yaml(case)]) for case in self.cases)
        return f"# {self.head}\n# Written by `python -m prometheus`.\n{_dumped(head)}tests:\n{tests}"


def _constant(samples: int, levels: Mapping[str, float | str]) -> Mapping[str, str]:
    """Numbers as series of that number."""
    return {name: level if isinstance(level, str) else f"{level}x{samples}" for name, level in levels.items()}


def _selector(labels: Mapping[str, str]) -> str:
    return f"{{{','.join(f'{name}={json.dumps(value, ensure_ascii=False)}' for name, value in labels.items())}}}"


def _as_yaml(case: Case) -> dict[str, Any]:
    asked = [
        {
            "expr": each.expr,
            "eval_time": each.at,
            "exp_samples": [{"labels": _selector(found.labels), "value": found.value} for found in each.samples],
        }
        for each in case.expect
        if isinstance(each, Ask)
    ]
    fired = [
        {"alertname": each.alert, "eval_time": each.at, "exp_alerts": [_alert(each.alert, one) for one in each.fired]}
        for each in case.expect
        if isinstance(each, Fires)
    ]
    return {
        "name": case.name,
        "interval": case.interval,
        "input_series": [dict(series) for several in case.series for series in several],
        **({"promql_expr_test": asked} if asked else {}),
        **({"alert_rule_test": fired} if fired else {}),
    }


def _alert(alert: str, fired: Fired) -> dict[str, Any]:
    annotations = {
        "summary": fired.summary,
        "description": fired.description,
        "runbook_url": runbook(alert),
        "dashboard_url": f"{GRAFANA_URL}/d/{fired.dashboard}",
        "traces_url": f"{EXPORTER_URL}/traces?{fired.traces}" if fired.traces else "",
        "search_traces": fired.search,
    }
    said = {name: text for name, text in annotations.items() if text}
    return {"exp_labels": dict(fired.labels), "exp_annotations": _BlockOfPairs(said)}


class _Block(list[str]):
    """A list with a line for each item."""


class _BlockOfPairs(dict[str, str]):
    """A mapping with a line for each pair."""


class _Dumper(yaml.SafeDumper):
    """Writes the innermost lists and mappings on one line."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


_Dumper.add_representer(
    _Block, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=False)
)
_Dumper.add_representer(
    _BlockOfPairs, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=False)
)


def _dumped(data: object) -> str:
    return str(
        yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=sys.maxsize, allow_unicode=True)
    )
