"""Failed traces: the burn rates, the plain thresholds, and what must not fire."""

from prometheus.promtool.case import Case, CaseFile, Fired, Target, ask, fires, one, sample

A = Target(job="exporter")
OTHER = Target(job="other", instance="b")
B = Target(job="exporter", instance="b")
EXPORTER = Target()

FIRING = 'count by (alertname, severity, burn_rate) (ALERTS{alertstate="firing",data="traces"})'
CRITICAL = 'ALERTS{alertstate="firing",severity="critical"}'
CRITICAL_BURNS = 'count by (alertname, burn_rate) (ALERTS{alertstate="firing",severity="critical"})'
ERRORS_5M = "environment:mlflow_trace_errors:ratio_increase5m"
FIRING_PAGES = (
    "group by (alertname, burn_rate) "
    '(ALERTS{alertstate="firing",alertname=~"MlflowErrorBudgetBurn|MlflowMostTracesFail|MlflowTracesStale",'
    'severity=~"critical|none"})'
)

FILE = CaseFile(
    "errors.yml",
    "Failed traces: the burn rates, the plain thresholds, and what must not fire.",
    "1m",
    (
        Case(
            "half of production fails, all of it in one version",
            "1m",
            [
                A.objective("production", 480, error_ratio=0.05, min_traces=20),
                A.version("production", "1.4.0", traces="0+5x480", errors="0x480"),
                A.version("production", "1.5.0", traces="0+5x480", errors="0x120 0+5x280 1400x80"),
            ],
            (
                ask('ALERTS{alertstate="firing"} and on (alertname) ALERTS{data="traces"}', "2h"),
                ask(
                    FIRING,
                    "180m",
                    one(alertname="MlflowErrorBudgetBurn", severity="warning", burn_rate="3"),
                    one(alertname="MlflowErrorBudgetBurn", severity="warning", burn_rate="1"),
                    one(alertname="MlflowErrorRatioHigh", severity="warning"),
                    one(alertname="MlflowVersionFailsMore", severity="warning"),
                ),
                ask(
                    FIRING,
                    "400m",
                    one(alertname="MlflowErrorBudgetBurn", severity="critical", burn_rate="6"),
                    one(alertname="MlflowErrorBudgetBurn", severity="warning", burn_rate="3"),
                    one(alertname="MlflowErrorBudgetBurn", severity="warning", burn_rate="1"),
                    one(alertname="MlflowErrorRatioHigh", severity="warning"),
                    one(alertname="MlflowVersionFailsMore", severity="warning"),
                ),
                # the cause was fixed at 400m
                ask('count by (alertname) (ALERTS{alertstate="firing",severity="critical"})', "425m"),
                fires("MlflowErrorBudgetBurn", "2h"),
                fires(
                    "MlflowErrorBudgetBurn",
                    "400m",
                    Fired(
                        {
                            "burn_rate": "1",
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "long_window": "3d",
                            "objective": "errors",
                            "severity": "warning",
                            "short_window": "6h",
                        },
                        summary="Traces fail so often that the error budget will not last.",
                        description=(
                            "In production of chatbot, 34.88% of the traces of the last 3d failed; the objective "
                            "allows 5%. The 30-day error budget is burning at more than 1 times the sustainable rate. "
                            "Worst in the last hour: version 1.5.0, 100%."
                        ),
                        dashboard="mlflow-objectives?var-job=exporter&var-experiment=chatbot&var-environment=production",
                        traces="experiment=chatbot&environment=production&status=error&since=-235200",
                        search=(
                            "trace.status = 'ERROR' AND tag.environment = 'production' AND trace.end_time_ms > "
                            "-235200000 AND trace.timestamp_ms > -840000000"
                        ),
                    ),
                    Fired(
                        {
                            "burn_rate": "3",
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "long_window": "1d",
                            "objective": "errors",
                            "severity": "warning",
                            "short_window": "2h",
                        },
                        summary="Traces fail so often that the error budget will not last.",
                        description=(
                            "In production of chatbot, 34.88% of the traces of the last 1d failed; the objective "
                            "allows 5%. The 30-day error budget is burning at more than 3 times the sustainable rate. "
                            "Worst in the last hour: version 1.5.0, 100%."
                        ),
                        dashboard="mlflow-objectives?var-job=exporter&var-experiment=chatbot&var-environment=production",
                        traces="experiment=chatbot&environment=production&status=error&since=-62400",
                        search=(
                            "trace.status = 'ERROR' AND tag.environment = 'production' AND trace.end_time_ms > "
                            "-62400000 AND trace.timestamp_ms > -667200000"
                        ),
                    ),
                    Fired(
                        {
                            "burn_rate": "6",
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "long_window": "6h",
                            "objective": "errors",
                            "severity": "critical",
                            "short_window": "30m",
                        },
                        summary="Traces fail so often that the error budget will not last.",
                        description=(
                            "In production of chatbot, 38.75% of the traces of the last 6h failed; the objective "
                            "allows 5%. The 30-day error budget is burning at more than 6 times the sustainable rate. "
                            "Worst in the last hour: version 1.5.0, 100%."
                        ),
                        dashboard="mlflow-objectives?var-job=exporter&var-experiment=chatbot&var-environment=production",
                        traces="experiment=chatbot&environment=production&status=error&since=2400",
                        search=(
                            "trace.status = 'ERROR' AND tag.environment = 'production' AND trace.end_time_ms > "
                            "2400000 AND trace.timestamp_ms > -602400000"
                        ),
                    ),
                ),
                fires(
                    "MlflowErrorRatioHigh",
                    "180m",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "objective": "errors",
                            "severity": "warning",
                        },
                        summary="More traces fail than the objective allows.",
                        description=(
                            "In production of chatbot, 50% of the traces of the last half hour failed; the objective "
                            "allows 5%. Worst: version 1.5.0, 100%."
                        ),
                        dashboard="mlflow-overview?var-job=exporter&var-experiment=chatbot&var-environment=production",
                        traces="experiment=chatbot&environment=production&status=error&since=9000",
                        search=(
                            "trace.status = 'ERROR' AND tag.environment = 'production' AND trace.end_time_ms > "
                            "9000000 AND trace.timestamp_ms > -595800000"
                        ),
                    ),
                ),
            ),
        ),
        Case(
            "everything fails for an hour, and then nothing",
            "1m",
            [
                A.objective("production", 300, error_ratio=0.05, min_traces=20),
                A.version("production", "1.4.0", traces="0+10x300", errors="0x120 0+10x60 600x120"),
            ],
            (
                ask(CRITICAL, "127m"),
                ask(CRITICAL_BURNS, "131m", one(alertname="MlflowMostTracesFail")),
                ask(
                    CRITICAL_BURNS,
                    "170m",
                    one(alertname="MlflowMostTracesFail"),
                    one(alertname="MlflowErrorBudgetBurn", burn_rate="14.4"),
                ),
                ask(CRITICAL, "215m"),
                fires(
                    "MlflowMostTracesFail",
                    "131m",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "objective": "errors",
                            "severity": "critical",
                        },
                        summary="Most traces fail.",
                        description=(
                            "In production of chatbot, 100% of the traces of the last five minutes failed, and this "
                            "has lasted for at least five minutes. Worst: version 1.4.0, 100%."
                        ),
                        dashboard="mlflow-overview?var-job=exporter&var-experiment=chatbot&var-environment=production",
                        traces="experiment=chatbot&environment=production&status=error&since=7260",
                        search=(
                            "trace.status = 'ERROR' AND tag.environment = 'production' AND trace.end_time_ms > "
                            "7260000 AND trace.timestamp_ms > -597540000"
                        ),
                    ),
                ),
            ),
        ),
        Case(
            "exactly the allowed share, and exactly 14.4 times that",
            "1m",
            [
                A.objective("allowed", 100, error_ratio=0.05, min_traces=20),
                A.objective("at 14.4", 100, error_ratio=0.05, min_traces=20),
                A.objective("above 14.4", 100, error_ratio=0.05, min_traces=20),
                A.version("allowed", "1", traces="0+100x100", errors="0+5x100"),
                A.version("at 14.4", "1", traces="0+100x100", errors="0+72x100"),
                A.version("above 14.4", "1", traces="0+100x100", errors="0+73x100"),
            ],
            (
                ask(
                    'count by (alertname, environment, burn_rate) (ALERTS{alertstate="firing",severity="critical"})',
                    "100m",
                    one(alertname="MlflowErrorBudgetBurn", environment="at 14.4", burn_rate="6"),
                    one(alertname="MlflowErrorBudgetBurn", environment="above 14.4", burn_rate="6"),
                    one(alertname="MlflowErrorBudgetBurn", environment="above 14.4", burn_rate="14.4"),
                    one(alertname="MlflowMostTracesFail", environment="above 14.4"),
                ),
                ask('ALERTS{alertstate="firing",environment="allowed"}', "100m"),
            ),
        ),
        Case(
            "the same errors against different objectives, side by side",
            "1m",
            [
                A.objective("production", 100, error_ratio=0.05, min_traces=20),
                A.objective("staging", 100, error_ratio=0.4, min_traces=20),
                OTHER.objective("production", 100, error_ratio=0.9, min_traces=20),
                A.version("production", "1", traces="0+100x100", errors="0+35x100"),
                A.version("staging", "1", traces="0+100x100", errors="0+35x100"),
                A.version("without objective", "1", traces="0+100x100", errors="0+35x100"),
                OTHER.version("production", "1", traces="0+100x100", errors="0+35x100"),
            ],
            (
                ask(
                    'group by (job, environment) (ALERTS{alertstate="firing",data="traces"})',
                    "100m",
                    one(job="exporter", environment="production"),
                ),
                # 14.4 times 40 % would be 576 %
                ask(
                    'round(experiment_environment:mlflow_objective_error_ratio:burn{job="exporter"}, 0.001)',
                    "100m",
                    sample(0.72, job="exporter", experiment="chatbot", environment="production", burn_rate="14.4"),
                    sample(0.3, job="exporter", experiment="chatbot", environment="production", burn_rate="6"),
                    sample(0.15, job="exporter", experiment="chatbot", environment="production", burn_rate="3"),
                    sample(0.05, job="exporter", experiment="chatbot", environment="production", burn_rate="1"),
                    sample(0.85, job="exporter", experiment="chatbot", environment="staging", burn_rate="14.4"),
                    sample(0.85, job="exporter", experiment="chatbot", environment="staging", burn_rate="6"),
                    sample(0.85, job="exporter", experiment="chatbot", environment="staging", burn_rate="3"),
                    sample(0.4, job="exporter", experiment="chatbot", environment="staging", burn_rate="1"),
                ),
            ),
        ),
        Case(
            "an objective whose 14.4-fold exceeds 100 % can still be missed",
            "1m",
            [
                A.objective("staging", 100, error_ratio=0.4, min_traces=20),
                A.version("staging", "1", traces="0+100x100", errors="0+86x100"),
            ],
            (
                ask(
                    CRITICAL_BURNS,
                    "100m",
                    one(alertname="MlflowErrorBudgetBurn", burn_rate="14.4"),
                    one(alertname="MlflowErrorBudgetBurn", burn_rate="6"),
                    one(alertname="MlflowMostTracesFail"),
                ),
            ),
        ),
        Case(
            "without traffic there is no ratio and no alert",
            "1m",
            [
                A.objective("production", 60, error_ratio=0.05, min_traces=20),
                A.version("production", "1", traces="500x60", errors="500x60"),
            ],
            (
                ask(ERRORS_5M, "60m"),
                ask('ALERTS{data="traces"}', "60m"),
            ),
        ),
        Case(
            "two exporters that count the same traces count them once",
            "1m",
            [
                A.version("production", "1", traces="0+10x60"),
                B.version("production", "1", traces="900+10x60"),
            ],
            (
                ask(
                    "environment:mlflow_traces:increase30m",
                    "60m",
                    sample(
                        300, __name__="environment:mlflow_traces:increase30m", job="exporter", environment="production"
                    ),
                ),
            ),
        ),
        Case(
            "the exporter goes away in the middle of an incident",
            "1m",
            [
                EXPORTER.exporter(
                    60,
                    "mlflow_up",
                    "catching_up",
                    up="1x60 0x60",
                    last_poll="0+60x60 stale",
                    poll_interval="15x60 stale",
                ),
                EXPORTER.objective("production", 60, error_ratio="0.05x60 stale", min_traces="20x60 stale"),
                EXPORTER.version("production", "1", traces="0+10x60 stale", errors="0+10x60 stale"),
            ],
            (
                ask(
                    'count by (alertname) (ALERTS{alertstate="firing",severity=~"critical|none"})',
                    "60m",
                    sample(2, alertname="MlflowErrorBudgetBurn"),
                    one(alertname="MlflowMostTracesFail"),
                ),
                # MlflowTracesStale makes Alertmanager inhibit the others
                ask(
                    'count by (alertname, job, severity) (ALERTS{alertstate="firing",severity=~"critical|none"})',
                    "62m",
                    one(alertname="MlflowTracesStale", job="mlflow-trace-exporter", severity="none"),
                    sample(2, alertname="MlflowErrorBudgetBurn", job="mlflow-trace-exporter", severity="critical"),
                    one(alertname="MlflowMostTracesFail", job="mlflow-trace-exporter", severity="critical"),
                ),
                # not 0, which would look healthy
                ask(ERRORS_5M, "75m"),
                ask(
                    'count by (alertname) (ALERTS{alertstate="firing"})',
                    "90m",
                    one(alertname="MlflowTracesStale"),
                    one(alertname="MlflowTraceExporterDown"),
                    sample(2, alertname="MlflowErrorBudgetBurn"),
                ),
            ),
        ),
        Case(
            (
                "MLflow goes away in the middle of an incident that ends in the meantime - the page stays "
                "until fresh data shows it, so that it can be resolved"
            ),
            "1m",
            [
                EXPORTER.exporter(135, last_poll="0+60x60 3600x34 5700+60x40"),
                EXPORTER.objective("production", 135, error_ratio=0.05, min_traces=20),
                EXPORTER.version(
                    "production", "1", traces="0+100x60 6000x34 6000+100x40", errors="0x10 100+100x49 5000x75"
                ),
            ],
            (
                ask(
                    FIRING_PAGES,
                    "60m",
                    one(alertname="MlflowErrorBudgetBurn", burn_rate="14.4"),
                    one(alertname="MlflowErrorBudgetBurn", burn_rate="6"),
                    one(alertname="MlflowMostTracesFail"),
                ),
                ask(
                    FIRING_PAGES,
                    "94m",
                    one(alertname="MlflowErrorBudgetBurn", burn_rate="14.4"),
                    one(alertname="MlflowErrorBudgetBurn", burn_rate="6"),
                    one(alertname="MlflowMostTracesFail"),
                    one(alertname="MlflowTracesStale"),
                ),
                ask(
                    FIRING_PAGES,
                    "98m",
                    one(alertname="MlflowErrorBudgetBurn", burn_rate="14.4"),
                    one(alertname="MlflowErrorBudgetBurn", burn_rate="6"),
                    one(alertname="MlflowMostTracesFail"),
                    one(alertname="MlflowTracesStale"),
                ),
                ask(FIRING_PAGES, "135m"),
            ),
        ),
        Case(
            "however strict the objective is, two failed traces page nobody - the third does",
            "1m",
            [
                A.objective("two", 120, error_ratio=0.001, min_traces=20),
                A.version("two", "1", traces="0+2x120", errors="0x115 1x1 2x4"),
                A.objective("three", 120, error_ratio=0.001, min_traces=20),
                A.version("three", "1", traces="0+2x120", errors="0x115 1x1 2x1 3x3"),
            ],
            (
                ask(
                    (
                        "group by (alertname, environment) "
                        '(ALERTS{alertstate="firing",alertname=~"Mlflow(ErrorBudgetBurn|MostTracesFail)",severity'
                        '="critical"})'
                    ),
                    "120m",
                    one(alertname="MlflowErrorBudgetBurn", environment="three"),
                ),
            ),
        ),
        Case(
            "MLflow cannot search for a value that is not in a tag, nor for one with a quote",
            "1m",
            [
                A.objective("unknown", 30, error_ratio=0.05, min_traces=20),
                A.version("unknown", "1", traces="0+20x30", errors="0+20x30"),
                A.objective("o'clock", 30, error_ratio=0.05, min_traces=20),
                A.version("o'clock", "1", traces="0+20x30", errors="0+20x30"),
            ],
            (
                fires(
                    "MlflowMostTracesFail",
                    "30m",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "o'clock",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "objective": "errors",
                            "severity": "critical",
                        },
                        summary="Most traces fail.",
                        description=(
                            "In o'clock of chatbot, 100% of the traces of the last five minutes failed, and this has "
                            "lasted for at least five minutes. Worst: version 1, 100%."
                        ),
                        dashboard="mlflow-overview?var-job=exporter&var-experiment=chatbot&var-environment=o%27clock",
                        traces="experiment=chatbot&environment=o%27clock&status=error&since=1200",
                        search=(
                            "trace.status = 'ERROR' AND trace.end_time_ms > 1200000 AND trace.timestamp_ms > -603600000"
                        ),
                    ),
                    Fired(
                        {
                            "data": "traces",
                            "environment": "unknown",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "objective": "errors",
                            "severity": "critical",
                        },
                        summary="Most traces fail.",
                        description=(
                            "In unknown of chatbot, 100% of the traces of the last five minutes failed, and this has "
                            "lasted for at least five minutes. Worst: version 1, 100%."
                        ),
                        dashboard="mlflow-overview?var-job=exporter&var-experiment=chatbot&var-environment=unknown",
                        traces="experiment=chatbot&environment=unknown&status=error&since=1200",
                        search=(
                            "trace.status = 'ERROR' AND trace.end_time_ms > 1200000 AND trace.timestamp_ms > -603600000"
                        ),
                    ),
                ),
            ),
        ),
    ),
)
