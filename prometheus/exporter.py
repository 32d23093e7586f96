"""Alerts on the exporter itself."""

from prometheus import templates
from prometheus.promql import JOB, SHARD, Level
from prometheus.rule import Alert, File, Group, Severity
from prometheus.templates import MOMENT, WHOLE, asked, each, label, own, value

HEAD = """Alerts on the exporter itself: can its numbers be trusted? The name of its job must contain
mlflow-trace-exporter. None is critical, because no trace is lost while the exporter is away. Meanwhile
MlflowTracesStale inhibits alerts that lack fresh data."""

INSTANCE = Level(("instance",))
EXPORTER = INSTANCE.with_label("shard")

UP = 'up{job=~".*mlflow-trace-exporter.*"}'
INTERVAL = "mlflow_trace_exporter_poll_interval_seconds"
LAST_POLL = "mlflow_trace_exporter_last_successful_poll_timestamp_seconds"
COMPLETE_UNTIL = "mlflow_trace_exporter_complete_until_timestamp_seconds"
CATCHING_UP = "mlflow_trace_exporter_catching_up"
POLLS = "mlflow_trace_exporter_polls_total"
POLL_ERRORS = "mlflow_trace_exporter_poll_errors_total"
CLOCK_DIFFERENCE = "mlflow_trace_exporter_clock_difference_seconds"
RESETS = "mlflow_trace_exporter_ledger_resets_total"
RELOADED = "mlflow_trace_exporter_config_last_reload_success_timestamp_seconds"
LEADER = "mlflow_trace_exporter_leader"
CREATED = "mlflow_experiment_created_timestamp_seconds"

PATIENCE = f"120 + 3 * {INTERVAL}"
"""Seconds after the last successful poll until data is no longer fresh."""

FRESH = f"""\
time() - {LAST_POLL}
  < {PATIENCE}
  unless {CATCHING_UP} == 1"""
"""An exporter that has fresh data."""

CLOCKS_DIFFER_S = 300
"""The difference from which on a clock is wrong."""

OF_SHARD = "{{ with $labels.shard }} (shard {{ . }}){{ end }}"
IT = f"{label('instance')}{OF_SHARD}"

NO_TARGET = (
    f"{{{{ if $labels.job }}}}no longer has a target of job {label('job')}{OF_SHARD}"
    "{{ else }}has no target whose job contains mlflow-trace-exporter{{ end }}"
)

OF_SEVERAL_APPLICATIONS = (
    '{{ if eq $labels.label "experiment" }}. Objectives and alerts on the application `other`'
    " are about several applications at once{{ end }}"
)

REASONS = each(
    f"increase({own(POLL_ERRORS, INSTANCE)}[15m]) > 0",
    INSTANCE,
    f"{{{{ $each.Labels.reason }}}} ({{{{ $each.Value | {WHOLE} }}}} times)",
    sort=' | sortByLabel "reason"',
)


def _own(series: str, how: str, text: str = "{}", unknown: str = "") -> str:
    return asked(own(series, INSTANCE), INSTANCE, how, text, unknown)


AHEAD_OF_PROMETHEUS = asked(
    f"{own(LAST_POLL, INSTANCE)} - time()",
    INSTANCE,
    WHOLE,
    "was {} s ahead of Prometheus' clock at the last successful poll",
    "could not be compared with Prometheus' clock",
)
LAST_POLL_WAS = asked(f"time() - {own(LAST_POLL, INSTANCE)}", INSTANCE, templates.DURATION, "was {} ago", "is unknown")


def _alert(  # noqa: PLR0913 - one argument for each key of the rule
    alert: str,
    expr: str,
    summary: str,
    description: str,
    *,
    hold: str = "",
    keep: str = "",
    severity: Severity = "warning",
    comment: str = "",
) -> Alert:
    return Alert(
        comment=comment,
        alert=alert,
        expr=expr,
        hold=hold,
        keep=keep,
        severity=severity,
        annotations={
            "summary": summary,
            "description": description,
            "runbook_url": templates.runbook(alert),
            "dashboard_url": templates.dashboard("mlflow-exporter", JOB),
        },
    )


def _sum(counter: str, window: str) -> str:
    return f"{EXPORTER.sum(f'increase({counter}[{window}])')}"


RULES = (
    _alert(
        "MlflowTracesStale",
        f"""\
group by ({SHARD.by}) (max_over_time({UP}[1d]))
unless {SHARD.on} (
  {FRESH}
)
or
group by ({JOB.by}) (max_over_time({UP}[1d]))
unless {JOB.on} (
  {FRESH}
)
or absent_over_time({UP}[1d])""",
        "No exporter has fresh data.",
        "Alerts that need fresh data about traces are inhibited{{ with $labels.job }} for job {{ . }}{{ end }}"
        f"{OF_SHARD}.",
        keep="5m",
        severity="none",
        comment="""Not for people: while it fires, Alertmanager inhibits all alerts with `data: traces`. A job has
fresh data if at least one of its exporters has polled MLflow successfully of late and is not catching up. While
an exporter catches up, old traces would appear as current ones until they leave the shortest window. The other
exporter of a pair may be down.

Each shard has an alert of its own, which inhibits those on the applications that it counts. The alert without a shard
fires if no shard has fresh data. It inhibits those that are about several applications.""",
    ),
    _alert(
        "MlflowTraceExporterDown",
        f"""\
{UP} == 0
or
group by ({SHARD.by}) (max_over_time({UP}[1d]))
unless {SHARD.on} {UP}
or
absent_over_time({UP}[1d])""",
        "The exporter cannot be scraped.",
        f"""\
{{{{ if $labels.instance }}}}Prometheus cannot scrape {label("instance")} of job {label("job")}{OF_SHARD}.\
{{{{ else }}}}Prometheus
{NO_TARGET}.{{{{ end }}}}
No traces are lost: they are counted when the exporter runs again.""",
        hold="5m",
    ),
    _alert(
        "MlflowUnreachable",
        "mlflow_up == 0",
        "The exporter cannot read MLflow.",
        f"""\
{IT} has had no valid response from MLflow for five minutes. Reasons in the last 15
minutes:{REASONS}.
No traces are lost as long as MLflow keeps them: they are counted when it responds again.""",
        hold="5m",
        keep="5m",
    ),
    _alert(
        "MlflowTraceExporterNoLeader",
        f"max by ({SHARD.by}) ({LEADER}) == 0",
        "No exporter is the leader, so no traces are counted.",
        f"""\
All exporters of job {label("job")}{OF_SHARD} that Prometheus can scrape have been waiting to become the leader for
two minutes. No traces are lost: they are counted when one of them is the leader.""",
        hold="2m",
        comment="""Exporters that share a ledger elect one of them, and the others wait. An exporter whose ledger is a
file has no such metric, or is always the leader.""",
    ),
    _alert(
        "MlflowTraceExporterPollsFailing",
        f"{_sum(POLL_ERRORS, '15m')}\n> 0.5 * {_sum(POLLS, '15m')}",
        "More than half of the polls fail.",
        f"""\
Errors of {IT} in the last 15 minutes:{REASONS}. A failed page is read again, so nothing is lost.""",
        hold="5m",
    ),
    _alert(
        "MlflowTraceExporterClockWrong",
        f"""\
abs({CLOCK_DIFFERENCE}) > {CLOCKS_DIFFER_S}
or {LAST_POLL} - time() > {CLOCKS_DIFFER_S}
or {_sum(f'{POLL_ERRORS}{{reason="clock"}}', "15m")} > 0""",
        "The clock of the exporter or of MLflow is wrong.",
        f"""\
MLflow's clock {_own(CLOCK_DIFFERENCE, WHOLE, "is {} s ahead of", "could not be compared with")}
that of {IT}. The exporter's clock {AHEAD_OF_PROMETHEUS}.
No trace is counted twice. Traces that are not counted now are counted once the clocks are right.""",
        hold="2m",
        comment="""Prometheus' clock is the third one. Only with it can a rule notice that the clocks of the
exporter and of MLflow are wrong together.""",
    ),
    _alert(
        "MlflowTraceExporterNoProgress",
        f"""\
(
  time() - {LAST_POLL}
  > {PATIENCE}
  or changes({COMPLETE_UNTIL}[6h]) == 0
  and {COMPLETE_UNTIL} offset 6h > 0
  and mlflow_up == 1
)
unless {CATCHING_UP} == 1""",
        "The exporter is running but making no progress.",
        f"""\
The last successful poll of {IT} {LAST_POLL_WAS},
and its data is complete up to {_own(COMPLETE_UNTIL, MOMENT)}.""",
        hold="15m",
        comment="""Its first condition is that of MlflowTracesStale, so that somebody is notified if it lasts.
Catching up has its own alert.""",
    ),
    _alert(
        "MlflowTraceExporterCatchingUp",
        f"min_over_time({CATCHING_UP}[15m]) == 1",
        "The exporter has been catching up for an hour.",
        f"""\
{IT} is complete up to {_own(COMPLETE_UNTIL, MOMENT)}.
Until it has caught up, rates show more traces than there are now.""",
        hold="45m",
    ),
    _alert(
        "MlflowTraceExporterUnaccountedTraces",
        "mlflow_trace_exporter_unaccounted_traces > 0",
        "MLflow has traces that the exporter has not counted.",
        f"""\
{IT} has not counted {value()} traces that MLflow has, even after reading them again. They became visible later
than poll.audit_horizon after their start.""",
        hold="15m",
    ),
    _alert(
        "MlflowTraceExporterSeveralServers",
        f"""\
max without (instance, pod, shard) ({CREATED})
!= min without (instance, pod, shard) ({CREATED})""",
        "Exporters of one job read different MLflow servers.",
        f"""\
Job {label("job")} has exporters of different MLflow servers, each with an experiment named {label("experiment")}:{
            each(
                own(CREATED, Level(("experiment",))),
                Level(("experiment",)),
                "the one of {{ $each.Labels.instance }} was created at {{ $each.Value | humanizeTimestamp }}",
                sort=' | sortByLabel "instance"',
            )
        }. Rules and dashboards cannot tell their traces apart.""",
        hold="15m",
        comment="""The exporters of a job are treated as a pair that counts the same traces, and the higher number
counts, or as shards of one server, and the sum counts.
MLflow stores when an experiment was created, so this time is the same for a pair.""",
    ),
    _alert(
        "MlflowTraceExporterLateTraces",
        "increase(mlflow_trace_exporter_late_traces_total[1h]) > 0",
        "Traces became visible later than the exporter expects.",
        f"""\
In the last hour {IT} counted about {value(WHOLE)} traces that became visible later than
poll.lateness after their start. They are included in the counters, at the time they were found.""",
        severity="info",
    ),
    _alert(
        "MlflowTraceExporterLabelOverflow",
        "increase(mlflow_trace_exporter_label_overflow_total[1h]) > 0",
        "A label has too many values, and new ones are counted as other.",
        f"""\
In the last hour {IT} counted about {value(WHOLE)} traces with the value `other` of {label("label")},
because there are more values than labels.max_values or series.limit allow{OF_SEVERAL_APPLICATIONS}.""",
        keep="15m",
    ),
    _alert(
        "MlflowTraceExporterNearSeriesLimit",
        "mlflow_trace_exporter_series / mlflow_trace_exporter_series_limit > 0.8",
        "The exporter is close to its series limit.",
        f"""\
{IT} exposes {value(templates.PERCENT)} of series.limit. Beyond it, all labels of new label sets become
`other`.""",
        hold="15m",
    ),
    _alert(
        "MlflowTraceExporterLedgerReset",
        f"""\
increase({RESETS}[1h]) > 0
or {RESETS} > 0 unless last_over_time({RESETS}[30d] offset 1h)""",
        "The ledger was damaged, and all counters restarted at zero.",
        f"""\
{IT} set its ledger aside in the last hour.
Increases across that moment are wrong. The log names the file.""",
        comment="""When a ledger is set aside, the process starts with a new one, and its counter is 1 from the
start. A counter that appears at 1 therefore also matters, unless it was only absent for a while.""",
    ),
    _alert(
        "MlflowTraceExporterConfigReloadFailed",
        "mlflow_trace_exporter_config_last_reload_successful == 0",
        "The configuration file is invalid.",
        f"""\
{IT} continues with the configuration that it read at
{_own(RELOADED, MOMENT)}.
The log reports the errors and where they are.""",
        hold="1m",
    ),
)

FILE = File("mlflow-exporter-alerts.yml", HEAD, (Group("mlflow-exporter-alerts", RULES),))
