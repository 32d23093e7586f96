"""`doctor`: a dry run over the latest traces, with advice on what to change. Runs `check` first."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.horizon import AHEAD_MS, Window
from mlflow_trace_exporter.domain.labels import UNKNOWN, clean
from mlflow_trace_exporter.domain.moments import text
from mlflow_trace_exporter.domain.trace import ORPHAN_MS, State, TraceRecord
from mlflow_trace_exporter.domain.traffic import Traffic, traffic_of
from mlflow_trace_exporter.domain.triage import Batch
from mlflow_trace_exporter.domain.usage import TokenUsage
from mlflow_trace_exporter.errors import PollError, UserError
from mlflow_trace_exporter.ledger.look import label_sets
from mlflow_trace_exporter.listed import few
from mlflow_trace_exporter.metrics.families import MISSING
from mlflow_trace_exporter.metrics.meter import Meter
from mlflow_trace_exporter.reports import label_set_table
from mlflow_trace_exporter.reports.check import look
from mlflow_trace_exporter.reports.doctor_parts import read_parts
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.settings.label_keys import PERSONAL
from mlflow_trace_exporter.shown import is_fit
from mlflow_trace_exporter.tracking.source import MlflowSource
from mlflow_trace_exporter.wiring import label_rules, ledger_place, ms, now_ms, open_meter, open_source

MAX_VALUES_SHOWN = 5
MAX_KEYS_SHOWN = 30
CLOCK_TOLERANCE_MS = 2_000
"""MLflow reports its time in whole seconds, and the response takes time."""

STUCK_MS = 24 * 3_600_000


@dataclass(slots=True)
class Sample:
    """Statistics about a sample of traces.

    ``values``: all values by kind of LabelSource and key. ``labels``: all values by label. ``places``: all experiments
    with their environments. ``missing``: the number of finished traces that lack a field, by the label of MISSING.
    ``orphans``: finished traces that MLflow reports as in progress. ``beyond_input``: traces with more cached tokens
    than input tokens. ``label_sets``: the number of counted traces by group.
    """

    traces: int = 0
    first_ms: int = 0
    last_ms: int = 0
    running: int = 0
    stuck: int = 0
    orphans: int = 0
    beyond_input: int = 0
    beyond_buckets: int = 0
    traffic: Counter[Traffic] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    values: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    labels: dict[str, set[str]] = field(default_factory=dict)
    places: set[tuple[str, str]] = field(default_factory=set)
    counted: list[TraceRecord] = field(default_factory=list)
    series: int = 0
    label_sets: Counter[Group] = field(default_factory=Counter)

    @property
    def ended(self) -> int:
        """The number of traces that would be counted."""
        return len(self.counted)

    def without(self, name: str) -> float:
        """The share of them without a field."""
        return self.missing[name] / self.ended


def doctor(settings: Config, most: int, say: Callable[[str], None]) -> None:
    """Run ``check``, read the ``most`` latest traces, and pass advice and findings to ``say``. Raises UserError as
    ``check`` does."""
    source, meter = open_source(settings, with_spans=True), open_meter(settings)
    look(source, settings, say)
    at_ms = now_ms()
    try:
        found = islice(source.newest(Window(0, at_ms + AHEAD_MS)), most)
        sample = examine(found, meter, max(settings.buckets.duration_seconds), at_ms)
        parts = list(read_parts(source, sample.counted, settings))
        off_ms = _clock_difference_ms(source)
    except PollError as error:
        raise UserError(str(error)) from None
    say("")
    about_parts = (line for part in parts for line in part.advice)
    for line in [*advice(sample, settings, off_ms), *about_parts] or ["nothing needs to change"]:
        say(f"- {line}")
    say("")
    for line in findings(sample, settings, off_ms):
        say(line)
    for part in parts:
        say("")
        for line in part.findings:
            say(line)
    if sample.ended:
        say("")
        for line in label_set_table.series(sample.label_sets, sample.series, meter, label_sets(ledger_place(settings))):
            say(line)


def examine(found: Iterable[TraceRecord], meter: Meter, last_edge_s: float, at_ms: int) -> Sample:
    """Collect statistics about traces at the time ``at_ms`` (Unix ms), measured by a meter."""
    sample = Sample()
    for record in found:
        sample.traces += 1
        sample.first_ms = min(sample.first_ms or record.start_ms, record.start_ms)
        sample.last_ms = max(sample.last_ms, record.start_ms)
        pairs_of = {"tag": record.tags, "metadata": record.metadata, "experiment_tag": record.experiment_tags}
        for kind, pairs in pairs_of.items():
            for key, value in pairs.items():
                sample.values.setdefault((kind, key), set()).add(value)
        if not record.ended():
            sample.running += 1
            sample.stuck += at_ms - record.start_ms > STUCK_MS
            continue
        sample.traffic[traffic_of(record)] += 1
        if traffic_of(record) in meter.traffic:
            _look_at(record, sample, meter, last_edge_s)
    admission = meter.admission(())
    increments = meter.measure(Batch(counted=tuple(sample.counted)), admission)
    for cell, amount in increments.amounts.items():
        if cell.family == MISSING:
            sample.missing[cell.labels[-1]] += int(amount)
    sample.series = admission.series
    sample.label_sets.update(increments.group_of.values())
    return sample


def _look_at(record: TraceRecord, sample: Sample, meter: Meter, last_edge_s: float) -> None:
    labels = meter.rules.values(record)
    sample.counted.append(record)
    sample.beyond_buckets += record.duration_s is not None and record.duration_s > last_edge_s
    sample.orphans += record.state is State.IN_PROGRESS
    sample.beyond_input += record.usage is not None and _is_beyond_input(record.usage)
    for name in meter.rules.names:
        sample.labels.setdefault(name, set()).add(labels[name])
    sample.places.add((labels["experiment"], labels["environment"]))


def _is_beyond_input(usage: TokenUsage) -> bool:
    """Whether the input tokens cannot include all cached tokens."""
    return usage.input is not None and (usage.cache_read_input or 0) + (usage.cache_creation_input or 0) > usage.input


def _clock_difference_ms(source: MlflowSource) -> int | None:
    """How far MLflow's clock is ahead of ours; 0 within the tolerance, None if MLflow does not report its time."""
    server_ms = source.client.server_ms()
    if server_ms is None:
        return None
    off_ms = server_ms - now_ms()
    return off_ms if abs(off_ms) > CLOCK_TOLERANCE_MS else 0


def findings(sample: Sample, settings: Config, off_ms: int | None) -> Iterator[str]:
    """The facts behind the advice, one per line."""
    if not sample.traces:
        yield "sample       no traces"
        return
    yield (
        f"sample       {sample.traces:,} traces, {text(sample.first_ms)} to {text(sample.last_ms)} UTC:"
        f" {sample.ended:,} counted, {sample.running:,} in progress,"
        f" {sample.traces - sample.ended - sample.running:,} of traffic that is not counted"
    )
    yield from _keys(sample, settings)
    if sample.ended:
        yield "have         " + ", ".join(f"{_words(name)} {1 - sample.without(name):.0%}" for name in _REMEDIES)
    if sample.beyond_input:
        yield (
            f"cache        {_share(sample.beyond_input / sample.ended)} of the traces have more cached tokens than"
            " input tokens: their integration does not count cached tokens as input (mlflow.claude_code; Bedrock before"
            " MLflow 3.16.1), so their input tokens include only uncached tokens"
        )
    yield f"clock        {_clock(off_ms)}"


def _keys(sample: Sample, settings: Config) -> Iterator[str]:
    """The tags and metadata that applications set or that become labels, one per line, and MLflow's own in one line."""
    read = {(source.kind, source.key) for _, sources in label_rules(settings).sources for source in sources}
    shown = [each for each in sorted(sample.values) if each in read or each[1] in _RESERVED or not _is_mlflows(each[1])]
    for kind, key in shown[:MAX_KEYS_SHOWN]:
        yield f"{kind} {clean(key)}: {_values(sample.values[kind, key], key in PERSONAL)}"
    if more := len(shown[MAX_KEYS_SHOWN:]):
        yield f"and {more:,} more tags and metadata"
    if internal := sorted({key for _, key in sample.values if _is_mlflows(key)} - {key for _, key in shown}):
        yield f"mlflow.*     {len(internal):,} keys of MLflow's own: {few(map(clean, internal), MAX_VALUES_SHOWN)}"


_RESERVED = ("mlflow.trace.user", "mlflow.trace.session")
"""Metadata keys that MLflow reserves for applications to set."""


def _is_mlflows(key: str) -> bool:
    return key.startswith("mlflow.")


def _clock(off_ms: int | None) -> str:
    if off_ms is None:
        return "MLflow does not report its time"
    if off_ms == 0:
        return "MLflow's clock and this machine's agree within 2 s"
    return f"MLflow's clock is {abs(off_ms) / 1000:.0f} s {'ahead of' if off_ms > 0 else 'behind'} this machine's"


def _values(values: set[str], personal: bool) -> str:
    """The number of values, and the values themselves if they are few, short and not personal."""
    count = f"{len(values):,} value{'s' if len(values) > 1 else ''}"
    if personal or len(values) > MAX_VALUES_SHOWN or any(len(value) > 40 or not is_fit(value) for value in values):
        return count
    return f"{count} ({', '.join(sorted(values))})"


def advice(sample: Sample, settings: Config, off_ms: int | None) -> Iterator[str]:
    """What to change: one or two sentences per item."""
    if not sample.traces:
        yield "There are no traces. Does the application send traces, to an experiment that mlflow.experiments selects?"
        return
    if not sample.ended:
        yield "None of the traces is counted: they are in progress, or of traffic that mlflow.traffic does not include."
        return
    yield from _about_fields(sample)
    yield from _about_labels(sample, settings)
    yield from _about_objectives(sample, settings)
    yield from _about_traces(sample, settings)
    if off_ms and abs(off_ms) > ms(settings.poll.margin):
        yield "The clocks of MLflow and this machine differ by more than poll.margin. Synchronize both with NTP."


_REMEDIES: Mapping[str, str] = {
    "token_usage": "Trace LLM calls with one of MLflow's autolog functions, such as mlflow.openai.autolog().",
    "cost": "MLflow (3.10 or newer) computes it from the model and the token usage, if it knows the price of the"
    " model.",
    "environment": "Set it in the application: mlflow.update_current_trace(tags={'environment': 'production'}), or"
    " name its source in labels.environment.",
    "version": "Set it in the application: mlflow.update_current_trace(tags={'app_version': '1.4.0'}), or name its"
    " source in labels.version.",
    "user": "Without the metadata mlflow.trace.user you cannot see which users a problem affects.",
    "session": "Without the metadata mlflow.trace.session you cannot see which conversations a problem affects.",
    "duration": "They are counted, but not in the duration histogram: MLflow has no end time for them, or one before"
    " their start.",
}


def _about_fields(sample: Sample) -> Iterator[str]:
    for name, remedy in _REMEDIES.items():
        if sample.missing[name]:
            yield f"{_share(sample.without(name))} of the traces have no {_words(name)}. {remedy}"


def _about_labels(sample: Sample, settings: Config) -> Iterator[str]:
    cap = settings.labels.max_values
    for name, values in sample.labels.items():
        if len(values) > cap / 2:
            yield (
                f"The label {name} has {len(values):,} values in this sample alone, each with its own series. Beyond"
                f" {cap:,} (labels.max_values) they are counted as `other`. Do not use a source that changes with each"
                " call."
            )
    if sample.series > settings.series.limit / 2:
        yield f"This sample alone creates {sample.series:,} of {settings.series.limit:,} series (series.limit)."


def _about_objectives(sample: Sample, settings: Config) -> Iterator[str]:
    """The applications that alerts do not cover, and, if others have a team, those without one."""
    objectives = settings.all_objectives
    known = {place: objectives.of(*place) for place in sorted(sample.places) if place[1] != UNKNOWN}
    without = [" in ".join(place) for place, objective in known.items() if not objective.has_threshold]
    if without:
        yield f"No objective for {few(without, MAX_VALUES_SHOWN)}: no alert covers this. Set one under objectives."
    unowned = [" in ".join(place) for place, objective in known.items() if not objective.team]
    if unowned and any(each.team for each in objectives.all):
        yield (
            f"No team for {few(unowned, MAX_VALUES_SHOWN)}: their alerts have an empty team. Name it under objectives."
        )


def _about_traces(sample: Sample, settings: Config) -> Iterator[str]:
    if sample.stuck:
        yield f"In progress for more than a day: {sample.stuck:,}. Their application exited before they ended."
    if sample.orphans:
        yield (
            f"In progress with a duration, and ended more than {ORPHAN_MS // 60_000} minutes ago: {sample.orphans:,}."
            " The parent of their root span is in a service that does not trace to MLflow, so MLflow does not end them."
            " They are counted as ok, because MLflow does not report their state. If possible, let that service trace"
            " to MLflow too."
        )
    others = {each: count for each, count in sample.traffic.items() if each not in settings.mlflow.traffic}
    if others:
        kinds = ", ".join(f"{count:,} of {each.value}" for each, count in others.items())
        yield f"Traces that are not counted: {kinds}. Set mlflow.traffic to count them."
    if sample.beyond_buckets > sample.ended / 100:
        share = _share(sample.beyond_buckets / sample.ended)
        yield f"{share} of the traces took longer than the last bucket of buckets.duration_seconds. Add higher buckets."


def _words(name: str) -> str:
    return name.replace("_", " ")


def _share(part: float) -> str:
    return f"{part:.0%}" if part >= 0.01 else "Less than 1%"
