"""Alerts on the exporter itself."""

from prometheus import templates
from prometheus.promql import Level
from prometheus.rule import Alert, File, Group, Severity
from prometheus.templates import MOMENT, WHOLE, asked, each, label, own, value

HEAD = """Alerts on the exporter itself: can its numbers be trusted? The name of its job has to contain
mlflow-trace-exporter. None is critical: nobody needs to be woken because the monitoring is blind; in the meantime
MlflowTracesStale keeps alerts silent that would speak without knowing."""

INSTANCE = Level(("instance",))
JOB = Level(())

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
CREATED = "mlflow_experiment_created_timestamp_seconds"

PATIENCE = f"120 + 3 * {INTERVAL}"
"""How many seconds after the last successful poll numbers are still fresh."""

IT = label("instance")

WHICH_TARGET = (
    f"{{{{ if $labels.job }}}}of job {label('job')} any more{{{{ else }}}}whose job contains mlflow-trace-exporter"
    "{{ end }}"
)

REASONS = each(
    f"increase({own(POLL_ERRORS, INSTANCE)}[15m]) > 0",
    INSTANCE,
    f"{{{{ $each.Labels.reason }}}} ({{{{ $each.Value | {WHOLE} }}}} times)",
    sort=' | sortByLabel "reason"',
)


def _own(series: str, how: str, known: str = "", unknown: str = "") -> str:
    return asked(own(series, INSTANCE), INSTANCE, how, known, unknown)


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
    return f"{INSTANCE.sum(f'increase({counter}[{window}])')}"


RULES = (
    _alert(
        "MlflowTracesStale",
        f"""\
group by (job) (max_over_time({UP}[1d]))
unless on (job) (
  time() - {LAST_POLL}
  < {PATIENCE}
  unless {CATCHING_UP} == 1
)
or absent_over_time({UP}[1d])""",
        "No exporter has fresh numbers.",
        "Alerts that depend on fresh numbers of traces are inhibited{{ with $labels.job }} for job {{ . }}{{ end }}.",
        keep="5m",
        severity="none",
        comment="""Not for people: Alertmanager inhibits what has `data: traces` while it fires. Fresh is a job of
which at least one exporter has polled MLflow with success lately and is not reading what it has missed, which would
be taken for the present for as long as it is in the shortest window. The other one of a pair may be down.""",
    ),
    _alert(
        "MlflowTraceExporterDown",
        f"""\
{UP} == 0
or
group by (job) (max_over_time({UP}[1d]))
unless on (job) {UP}
or
absent_over_time({UP}[1d])""",
        "The exporter cannot be scraped.",
        f"""\
{{{{ if $labels.instance }}}}Prometheus cannot scrape {IT} of job {label("job")}.{{{{ else }}}}Prometheus has no target
{WHICH_TARGET}.{{{{ end }}}}
Traces are not lost: they are counted when it runs again.""",
        hold="5m",
    ),
    _alert(
        "MlflowUnreachable",
        "mlflow_up == 0",
        "The exporter cannot read MLflow.",
        f"""\
{IT} has had no good answer from MLflow for five minutes. Reasons in the last quarter of an
hour:{REASONS}.
Traces are not lost as long as MLflow keeps them: they are counted when it answers again.""",
        hold="5m",
        keep="5m",
    ),
    _alert(
        "MlflowTraceExporterPollsFailing",
        f"{_sum(POLL_ERRORS, '15m')}\n> 0.5 * {_sum(POLLS, '15m')}",
        "More than half of the polls of MLflow fail.",
        f"""\
{IT}, in the last quarter of an hour:{REASONS}. A page that fails is read again, so nothing is lost.""",
        hold="5m",
    ),
    _alert(
        "MlflowTraceExporterClockWrong",
        f"""\
abs({CLOCK_DIFFERENCE}) > 300
or {LAST_POLL} - time() > 300
or {_sum(f'{POLL_ERRORS}{{reason="clock"}}', "15m")} > 0""",
        "The clock of the exporter or of MLflow is wrong.",
        f"""\
MLflow's clock is {_own(CLOCK_DIFFERENCE, WHOLE, " s ahead of", "not known beside")} that of
{IT}, and this one is {
            asked(
                f"{own(LAST_POLL, INSTANCE)} - time()",
                INSTANCE,
                WHOLE,
                " s ahead of Prometheus' clock as of the last good poll",
                "not known yet",
            )
        }.
No trace is counted twice, and what is not counted meanwhile is counted when the clocks are right.""",
        hold="2m",
        comment="""Prometheus' own clock is the third: it is the only one that can tell if those of the exporter and
of MLflow are wrong together.""",
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
        "The exporter runs and does not get on.",
        f"""\
{IT} had its last successful poll
{asked(f"time() - {own(LAST_POLL, INSTANCE)}", INSTANCE, templates.DURATION, " ago", "before it can say")},
and what it has is complete up to {_own(COMPLETE_UNTIL, MOMENT)}.""",
        hold="15m",
        comment="""As long as MlflowTracesStale waits, so that somebody is told if it lasts. Catching up has an alert
of its own.""",
    ),
    _alert(
        "MlflowTraceExporterCatchingUp",
        f"min_over_time({CATCHING_UP}[15m]) == 1",
        "The exporter has been reading what it has missed for an hour.",
        f"""\
{IT} is complete up to {_own(COMPLETE_UNTIL, MOMENT)}.
Until it is done, rates show more traces than there are now.""",
        hold="45m",
    ),
    _alert(
        "MlflowTraceExporterUnaccountedTraces",
        "mlflow_trace_exporter_unaccounted_traces > 0",
        "MLflow has traces that the counters do not.",
        f"""\
{IT} misses {value()} traces that MLflow counts, after it has read them again: they became visible later than
poll.audit_horizon after their start.""",
        hold="15m",
    ),
    _alert(
        "MlflowTraceExporterSeveralServers",
        f"""\
max without (instance, pod) ({CREATED})
!= min without (instance, pod) ({CREATED})""",
        "Exporters of one job read different MLflow servers.",
        f"""\
Under job {label("job")} there are experiments of different MLflow servers that are called {label("experiment")}:{
            each(
                own(CREATED, Level(("experiment",))),
                Level(("experiment",)),
                "that of {{ $each.Labels.instance }} was created {{ $each.Value | humanizeTimestamp }}",
                sort=' | sortByLabel "instance"',
            )
        }. Of their numbers the higher one counts, and not the sum.""",
        hold="15m",
        comment="""The exporters of a job are taken for a pair that counts the same traces, and of those the higher
number counts. MLflow keeps when an experiment was created, so for a pair it is the same.""",
    ),
    _alert(
        "MlflowTraceExporterLateTraces",
        "increase(mlflow_trace_exporter_late_traces_total[1h]) > 0",
        "Traces became visible later than the exporter expects.",
        f"""\
{IT} has counted about {value(WHOLE)} traces in the last hour that became visible later than
poll.lateness after their start. They are in the counters, at the time at which they were found.""",
        severity="info",
    ),
    _alert(
        "MlflowTraceExporterLabelOverflow",
        "increase(mlflow_trace_exporter_label_overflow_total[1h]) > 0",
        "A label has more values than it may, and new ones are counted as other.",
        f"""\
{IT} has counted about {value(WHOLE)} traces in the last hour with the value `other` of
{label("label")}, for there are more values than labels.max_values or series.limit admit.""",
        keep="15m",
    ),
    _alert(
        "MlflowTraceExporterNearSeriesLimit",
        "mlflow_trace_exporter_series / mlflow_trace_exporter_series_limit > 0.8",
        "The exporter is near its limit of series.",
        f"""\
{IT} exposes {value(templates.PERCENT)} of series.limit. Beyond it all labels of new label sets are
`other`.""",
        hold="15m",
    ),
    _alert(
        "MlflowTraceExporterLedgerReset",
        f"""\
increase({RESETS}[1h]) > 0
or {RESETS} > 0 unless last_over_time({RESETS}[30d] offset 1h)""",
        "The ledger was damaged and all counters have begun again at zero.",
        f"""\
{IT} has set its ledger aside in the last hour.
Increases over that moment are wrong; the log names the file.""",
        comment="""A ledger that is set aside makes the process begin with a new one, in which the counter is 1 from
the start; so a counter that is new counts, too, unless it was only away.""",
    ),
    _alert(
        "MlflowTraceExporterConfigReloadFailed",
        "mlflow_trace_exporter_config_last_reload_successful == 0",
        "The configuration file cannot be used.",
        f"""\
{IT} goes on with the configuration that it read
{_own(RELOADED, MOMENT)}.
The log says what is wrong, and where.""",
        hold="1m",
    ),
)

FILE = File("mlflow-exporter-alerts.yml", HEAD, (Group("mlflow-exporter-alerts", RULES),))
