"""The exporter itself."""

from prometheus.promtool.case import Case, CaseFile, Fired, Target, ask, fires, one, sample

A = Target()
NODE = Target(job="node")
B = Target(instance="b")
C = Target(instance="c")
OTHER = Target(job="mlflow-trace-exporter-b", instance="b")

FIRING = 'count by (alertname, instance) (ALERTS{alertstate="firing"})'
FIRING_FOR_PEOPLE = 'count by (alertname, instance) (ALERTS{alertstate="firing",severity!="none"})'
ALL_FIRING = 'ALERTS{alertstate="firing"}'
FIRING_NAMES = 'group by (alertname) (ALERTS{alertstate="firing"})'
CLOCK_WRONG = 'count(ALERTS{alertname="MlflowTraceExporterClockWrong",alertstate="firing"})'


def _alert(instance: str, *, summary: str, description: str, severity: str = "warning") -> Fired:
    """An alert on one exporter."""
    job = "mlflow-trace-exporter"
    labels = {"instance": instance, "job": job, "severity": severity}
    return Fired(labels, summary=summary, description=description, dashboard=f"mlflow-exporter?var-job={job}")


FILE = CaseFile(
    "exporter.yml",
    "The exporter itself. It has counted nothing, so there are no series for the rules on traces, which are left out.",
    "1m",
    (
        Case(
            "the exporter cannot be scraped, and comes back",
            "1m",
            [
                A.exporter(
                    179,
                    "catching_up",
                    up="1x60 0x60 1x60",
                    mlflow_up="1x60 stale _x59 1x60",
                    last_poll="0+60x60 stale _x59 7320+60x59",
                    poll_interval="15x60 stale _x59 15x60",
                ),
            ],
            (
                ask(FIRING, "60m"),
                ask(FIRING, "63m", one(alertname="MlflowTracesStale")),
                ask(
                    FIRING,
                    "70m",
                    one(alertname="MlflowTracesStale"),
                    one(alertname="MlflowTraceExporterDown", instance="a"),
                ),
                ask(FIRING, "130m"),
                fires("MlflowTraceExporterDown", "64m"),
                fires(
                    "MlflowTraceExporterDown",
                    "70m",
                    _alert(
                        "a",
                        summary="The exporter cannot be scraped.",
                        description=(
                            "Prometheus cannot scrape a of job mlflow-trace-exporter. No traces are lost: they are "
                            "counted when the exporter runs again."
                        ),
                    ),
                ),
                fires(
                    "MlflowTracesStale",
                    "63m",
                    Fired(
                        {"job": "mlflow-trace-exporter", "severity": "none"},
                        summary="No exporter has fresh data.",
                        description=(
                            "Alerts that need fresh data about traces are inhibited for job mlflow-trace-exporter."
                        ),
                        dashboard="mlflow-exporter?var-job=mlflow-trace-exporter",
                    ),
                ),
            ),
        ),
        Case(
            "there is no exporter at all",
            "1m",
            [
                NODE.series(up="1x60"),
            ],
            (
                ask(FIRING, "30m", one(alertname="MlflowTracesStale"), one(alertname="MlflowTraceExporterDown")),
                fires(
                    "MlflowTraceExporterDown",
                    "30m",
                    Fired(
                        {"severity": "warning"},
                        summary="The exporter cannot be scraped.",
                        description=(
                            "Prometheus has no target whose job contains mlflow-trace-exporter. No traces are lost: "
                            "they are counted when the exporter runs again."
                        ),
                        dashboard="mlflow-exporter?var-job=",
                    ),
                ),
                fires(
                    "MlflowTracesStale",
                    "30m",
                    Fired(
                        {"severity": "none"},
                        summary="No exporter has fresh data.",
                        description="Alerts that need fresh data about traces are inhibited.",
                        dashboard="mlflow-exporter?var-job=",
                    ),
                ),
            ),
        ),
        Case(
            "one exporter of a pair is down - the data of the job is still fresh",
            "1m",
            [
                B.exporter(120),
                A.exporter(
                    60,
                    "mlflow_up",
                    "catching_up",
                    up="1x60 0x60",
                    last_poll="0+60x60 stale",
                    poll_interval="15x60 stale",
                ),
            ],
            (ask(FIRING, "100m", one(alertname="MlflowTraceExporterDown", instance="a")),),
        ),
        Case(
            "MLflow cannot be reached for half an hour, and for one poll",
            "1m",
            [
                B.exporter(200, "catching_up"),
                A.exporter(
                    200,
                    "catching_up",
                    mlflow_up="1x20 0 1x39 0x30 1x110",
                    last_poll="0+60x60 3600x30 5460+60x109",
                    poll_errors={"unreachable": "0x20 1x40 1+1x30 31x110", "timeout": "0x200"},
                    polls="0+4x60 241+1x30 271+4x110",
                ),
            ],
            (
                ask(FIRING, "55m"),
                ask(FIRING, "70m", one(alertname="MlflowUnreachable", instance="a")),
                ask(
                    FIRING,
                    "85m",
                    one(alertname="MlflowUnreachable", instance="a"),
                    one(alertname="MlflowTraceExporterPollsFailing", instance="a"),
                    one(alertname="MlflowTraceExporterNoProgress", instance="a"),
                ),
                ask(FIRING, "110m"),
                fires(
                    "MlflowUnreachable",
                    "70m",
                    _alert(
                        "a",
                        summary="The exporter cannot read MLflow.",
                        description=(
                            "a has had no valid response from MLflow for five minutes. Reasons in the last 15 "
                            "minutes: unreachable (9 times). No traces are lost as long as MLflow keeps them: they "
                            "are counted when it responds again."
                        ),
                    ),
                ),
            ),
        ),
        Case(
            "MLflow cannot be reached by the only exporter - data is stale before anything else fires",
            "1m",
            [
                A.exporter(120, "catching_up", mlflow_up="1x60 0x60", last_poll="0+60x60 3600x60"),
            ],
            (
                ask(FIRING, "62m"),
                ask(FIRING, "64m", one(alertname="MlflowTracesStale")),
                ask(
                    FIRING, "67m", one(alertname="MlflowTracesStale"), one(alertname="MlflowUnreachable", instance="a")
                ),
                fires(
                    "MlflowTracesStale",
                    "64m",
                    Fired(
                        {"job": "mlflow-trace-exporter", "severity": "none"},
                        summary="No exporter has fresh data.",
                        description=(
                            "Alerts that need fresh data about traces are inhibited for job mlflow-trace-exporter."
                        ),
                        dashboard="mlflow-exporter?var-job=mlflow-trace-exporter",
                    ),
                ),
            ),
        ),
        Case(
            "an hourly poll does not make data stale",
            "1m",
            [
                A.exporter(
                    300, "catching_up", last_poll="0x60 3600x60 7200x60 10800x60 14400x60", poll_interval="3600x300"
                ),
            ],
            (ask("count_over_time(ALERTS[5h])", "300m"),),
        ),
        Case(
            "two of three polls fail, one in three",
            "1m",
            [
                A.exporter(120, poll_errors={"bad_answer": "0+2x120", "timeout": "0+0.5x120"}, polls="0+4x120"),
                B.exporter(120, poll_errors={"timeout": "0+1x120"}, polls="0+3x120"),
            ],
            (
                ask(FIRING, "100m", one(alertname="MlflowTraceExporterPollsFailing", instance="a")),
                fires(
                    "MlflowTraceExporterPollsFailing",
                    "100m",
                    _alert(
                        "a",
                        summary="More than half of the polls fail.",
                        description=(
                            "Errors of a in the last 15 minutes: bad_answer (30 times); timeout (8 times). A failed "
                            "page is read again, so nothing is lost."
                        ),
                    ),
                ),
            ),
        ),
        Case(
            (
                "the last successful poll is long ago although MLflow responds; this is normal while an "
                "exporter catches up"
            ),
            "1m",
            [
                B.exporter(120, up="1x60", mlflow_up="1x60", last_poll="0+60x60 3600x60", catching_up="0x60 1x60"),
                A.exporter(120, last_poll="0+60x60 3600x60", complete_until="0+60x60 3600x60"),
            ],
            (
                ask(FIRING_FOR_PEOPLE, "75m"),
                ask(FIRING_FOR_PEOPLE, "90m", one(alertname="MlflowTraceExporterNoProgress", instance="a")),
                fires("MlflowTraceExporterNoProgress", "75m"),
                fires(
                    "MlflowTraceExporterNoProgress",
                    "90m",
                    _alert(
                        "a",
                        summary="The exporter is running but making no progress.",
                        description=(
                            "The last successful poll of a was 30m 0s ago, and its data is complete up to 1970-01-01 "
                            "01:00:00 +0000 UTC."
                        ),
                    ),
                ),
            ),
        ),
        Case(
            (
                "polls succeed but the complete time does not move; on the other exporter it moves in "
                "steps of ten minutes"
            ),
            "1m",
            [
                A.exporter(800, complete_until="0+60x60 3600x740"),
                B.exporter(800, complete_until="600x100 1200x100 1800x100 2400x100 3000x100 3600x100 4200x200"),
            ],
            (
                ask(FIRING, "400m"),
                ask(FIRING, "440m", one(alertname="MlflowTraceExporterNoProgress", instance="a")),
            ),
        ),
        Case(
            "one has been catching up for an hour, the other for 15 minutes - from then on nothing is fresh",
            "1m",
            [
                A.exporter(200, catching_up="0x30 1x170", complete_until="0+60x200"),
                B.exporter(200, catching_up="0x30 1x5 0x43 1x120"),
            ],
            (
                ask(FIRING, "31m", one(alertname="MlflowTracesStale")),
                ask(FIRING, "50m"),
                ask(FIRING, "75m"),
                ask(FIRING, "85m", one(alertname="MlflowTracesStale")),
                ask(
                    FIRING,
                    "100m",
                    one(alertname="MlflowTracesStale"),
                    one(alertname="MlflowTraceExporterCatchingUp", instance="a"),
                ),
                fires(
                    "MlflowTraceExporterCatchingUp",
                    "100m",
                    _alert(
                        "a",
                        summary="The exporter has been catching up for an hour.",
                        description=(
                            "a is complete up to 1970-01-01 01:40:00 +0000 UTC. Until it has caught up, rates show "
                            "more traces than there are now."
                        ),
                    ),
                ),
            ),
        ),
        Case(
            "MLflow has traces that are not counted",
            "1m",
            [
                A.exporter(60, unaccounted="0x30 3x30"),
                B.exporter(60, unaccounted="0x30 3x10 0x20"),
            ],
            (
                ask(FIRING, "40m"),
                ask(FIRING, "50m", one(alertname="MlflowTraceExporterUnaccountedTraces", instance="a")),
                fires("MlflowTraceExporterUnaccountedTraces", "40m"),
                fires(
                    "MlflowTraceExporterUnaccountedTraces",
                    "50m",
                    _alert(
                        "a",
                        summary="MLflow has traces that the exporter has not counted.",
                        description=(
                            "a has not counted 3 traces that MLflow has, even after reading them again. They became "
                            "visible later than poll.audit_horizon after their start."
                        ),
                    ),
                ),
            ),
        ),
        Case(
            "traces become visible late",
            "1m",
            [
                A.exporter(60, late="0x30 12x30"),
                B.exporter(60, late="12x60"),
            ],
            (
                ask(FIRING, "30m"),
                ask(FIRING, "40m", one(alertname="MlflowTraceExporterLateTraces", instance="a")),
                fires("MlflowTraceExporterLateTraces", "30m"),
                fires(
                    "MlflowTraceExporterLateTraces",
                    "40m",
                    _alert(
                        "a",
                        summary="Traces became visible later than the exporter expects.",
                        description=(
                            "In the last hour a counted about 12 traces that became visible later than poll.lateness "
                            "after their start. They are included in the counters, at the time they were found."
                        ),
                        severity="info",
                    ),
                ),
            ),
        ),
        Case(
            "a label has too many values",
            "1m",
            [
                A.exporter(60, label_overflow={"version": "0x30 0+2x30", "experiment": "0x30 0+2x30"}),
                B.exporter(60, label_overflow={"version": "5x60"}),
            ],
            (
                ask(FIRING, "30m"),
                ask(FIRING, "50m", sample(2, alertname="MlflowTraceExporterLabelOverflow", instance="a")),
                fires("MlflowTraceExporterLabelOverflow", "30m"),
                fires(
                    "MlflowTraceExporterLabelOverflow",
                    "50m",
                    Fired(
                        {"instance": "a", "job": "mlflow-trace-exporter", "label": "experiment", "severity": "warning"},
                        summary="A label has too many values, and new ones are counted as other.",
                        description=(
                            "In the last hour a counted about 38 traces with the value `other` of experiment, because "
                            "there are more values than labels.max_values or series.limit allow. Objectives and alerts "
                            "on the application `other` are about several applications at once."
                        ),
                        dashboard="mlflow-exporter?var-job=mlflow-trace-exporter",
                    ),
                    Fired(
                        {"instance": "a", "job": "mlflow-trace-exporter", "label": "version", "severity": "warning"},
                        summary="A label has too many values, and new ones are counted as other.",
                        description=(
                            "In the last hour a counted about 38 traces with the value `other` of version, because "
                            "there are more values than labels.max_values or series.limit allow."
                        ),
                        dashboard="mlflow-exporter?var-job=mlflow-trace-exporter",
                    ),
                ),
            ),
        ),
        Case(
            "90 % of the series limit are used, and exactly 80 %",
            "1m",
            [
                A.exporter(60, series="90000x60", series_limit="100000x60"),
                B.exporter(60, series="80000x60", series_limit="100000x60"),
            ],
            (
                ask(FIRING, "10m"),
                ask(FIRING, "30m", one(alertname="MlflowTraceExporterNearSeriesLimit", instance="a")),
                fires(
                    "MlflowTraceExporterNearSeriesLimit",
                    "30m",
                    _alert(
                        "a",
                        summary="The exporter is close to its series limit.",
                        description=(
                            "a exposes 90% of series.limit. Beyond it, all labels of new label sets become `other`."
                        ),
                    ),
                ),
            ),
        ),
        Case(
            (
                "a ledger is reset while Prometheus scrapes, another before the first scrape; a third was "
                "reset long ago, and its exporter was away"
            ),
            "1m",
            [
                A.exporter(300, ledger_resets="0x150 _x2 1x148"),
                B.exporter(300, ledger_resets="_x150 1x150"),
                C.exporter(300, ledger_resets="1x60 _x80 1x160"),
            ],
            (
                ask(FIRING, "149m"),
                ask(
                    FIRING,
                    "160m",
                    one(alertname="MlflowTraceExporterLedgerReset", instance="a"),
                    one(alertname="MlflowTraceExporterLedgerReset", instance="b"),
                ),
                ask(FIRING, "250m"),
                fires(
                    "MlflowTraceExporterLedgerReset",
                    "160m",
                    _alert(
                        "a",
                        summary="The ledger was damaged, and all counters restarted at zero.",
                        description=(
                            "a set its ledger aside in the last hour. Increases across that moment are wrong. The log "
                            "names the file."
                        ),
                    ),
                    _alert(
                        "b",
                        summary="The ledger was damaged, and all counters restarted at zero.",
                        description=(
                            "b set its ledger aside in the last hour. Increases across that moment are wrong. The log "
                            "names the file."
                        ),
                    ),
                ),
            ),
        ),
        Case(
            "the configuration file is invalid",
            "1m",
            [
                A.exporter(60, reload_successful="1x30 0x30", reloaded="1200x60"),
                B.exporter(60, reload_successful="1x60"),
            ],
            (
                ask(FIRING, "30m"),
                ask(FIRING, "40m", one(alertname="MlflowTraceExporterConfigReloadFailed", instance="a")),
                fires(
                    "MlflowTraceExporterConfigReloadFailed",
                    "40m",
                    _alert(
                        "a",
                        summary="The configuration file is invalid.",
                        description=(
                            "a continues with the configuration that it read at 1970-01-01 00:20:00 +0000 UTC. The log "
                            "reports the errors and where they are."
                        ),
                    ),
                ),
            ),
        ),
        Case(
            "one of two jobs no longer has a target",
            "1m",
            [
                A.exporter(60),
                OTHER.exporter(20),
            ],
            (
                ask(ALL_FIRING, "20m"),
                ask(
                    'group by (alertname, job) (ALERTS{alertstate="firing"})',
                    "40m",
                    one(alertname="MlflowTracesStale", job="mlflow-trace-exporter-b"),
                    one(alertname="MlflowTraceExporterDown", job="mlflow-trace-exporter-b"),
                ),
                fires(
                    "MlflowTraceExporterDown",
                    "40m",
                    Fired(
                        {"job": "mlflow-trace-exporter-b", "severity": "warning"},
                        summary="The exporter cannot be scraped.",
                        description=(
                            "Prometheus no longer has a target of job mlflow-trace-exporter-b. No traces are lost: "
                            "they are counted when the exporter runs again."
                        ),
                        dashboard="mlflow-exporter?var-job=mlflow-trace-exporter-b",
                    ),
                ),
            ),
        ),
        Case(
            "the clock of the exporter is five minutes late - an alert fires if inhibition lasts",
            "1m",
            [
                A.exporter(60, last_poll="-300+60x60"),
            ],
            (
                ask(FIRING_NAMES, "10m", one(alertname="MlflowTracesStale")),
                ask(
                    FIRING_NAMES,
                    "30m",
                    one(alertname="MlflowTracesStale"),
                    one(alertname="MlflowTraceExporterNoProgress"),
                ),
            ),
        ),
        Case(
            "data stays stale for five minutes after catching up, the length of the shortest window",
            "1m",
            [
                A.exporter(60, catching_up="0x20 1x10 0x30"),
            ],
            (
                ask(ALL_FIRING, "19m"),
                ask(FIRING_NAMES, "21m", one(alertname="MlflowTracesStale")),
                ask(FIRING_NAMES, "36m", one(alertname="MlflowTracesStale")),
                ask(ALL_FIRING, "38m"),
            ),
        ),
        Case(
            (
                "MLflow's clock is three days behind and is fixed, the exporter's is an hour ahead and is "
                "fixed, then both are behind"
            ),
            "1m",
            [
                A.exporter(
                    240,
                    "catching_up",
                    clock_difference="0x10 -259200x19 -1x209",
                    last_poll="0+60x90 9060+60x28 7200+60x119",
                    poll_errors={"clock": "0x180 4+4x9 40x49"},
                ),
            ],
            (
                ask(CLOCK_WRONG, "12m"),
                ask(CLOCK_WRONG, "14m", one()),
                ask(CLOCK_WRONG, "32m"),
                ask(CLOCK_WRONG, "95m", one()),
                ask(CLOCK_WRONG, "130m"),
                ask(CLOCK_WRONG, "185m", one()),
                ask(CLOCK_WRONG, "220m"),
                fires(
                    "MlflowTraceExporterClockWrong",
                    "20m",
                    _alert(
                        "a",
                        summary="The clock of the exporter or of MLflow is wrong.",
                        description=(
                            "MLflow's clock is -259200 s ahead of that of a. The exporter's clock was 0 s ahead of "
                            "Prometheus' clock at the last successful poll. No trace is counted twice. Traces that "
                            "are not counted now are counted once the clocks are right."
                        ),
                    ),
                ),
            ),
        ),
    ),
    rules="mlflow-exporter-alerts.yml",
)
