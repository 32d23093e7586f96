"""Slow traces: the burn rates and the plain threshold."""

from prometheus.promtool.case import Case, CaseFile, Fired, Target, ask, fires, one

A = Target(job="exporter")

FIRING = 'count by (alertname, severity, burn_rate) (ALERTS{alertstate="firing",data="traces"})'

FILE = CaseFile(
    "latency.yml",
    "Slow traces: the burn rates and the plain threshold.",
    "2m",
    (
        Case(
            "an eighth, and then three quarters of production are slow",
            "1m",
            [
                A.objective("production", 400, latency_seconds=5, latency_ratio=0.95, min_traces=20),
                A.version(
                    "production",
                    "1.4.0",
                    traces="0+100x400",
                    slow="0+12x200 2400+75x200",
                    buckets={"1.0": "0+20x400", "5.0": "0+80x400", "10.0": "0+100x400", "+Inf": "0+100x400"},
                ),
            ],
            (
                ask(
                    FIRING,
                    "190m",
                    one(alertname="MlflowLatencyBudgetBurn", severity="warning", burn_rate="1"),
                    one(alertname="MlflowLatencyHigh", severity="warning"),
                ),
                ask(
                    FIRING,
                    "400m",
                    one(alertname="MlflowLatencyBudgetBurn", severity="warning", burn_rate="1"),
                    one(alertname="MlflowLatencyBudgetBurn", severity="warning", burn_rate="3"),
                    one(alertname="MlflowLatencyBudgetBurn", severity="critical", burn_rate="6"),
                    one(alertname="MlflowLatencyBudgetBurn", severity="critical", burn_rate="14.4"),
                    one(alertname="MlflowLatencyHigh", severity="warning"),
                ),
                fires(
                    "MlflowLatencyBudgetBurn",
                    "190m",
                    Fired(
                        {
                            "burn_rate": "1",
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "long_window": "3d",
                            "objective": "latency",
                            "severity": "warning",
                            "short_window": "6h",
                        },
                        summary="Traces are slow so often that the latency budget will not last.",
                        description=(
                            "In production of chatbot, 12% of the traces of the last 3d were slower than the latency "
                            "objective; the objective allows 5%. The 30-day latency budget is burning at more than 1 "
                            "times the sustainable rate. Worst in the last hour: version 1.4.0, 12%."
                        ),
                        dashboard="mlflow-objectives?var-job=exporter&var-experiment=chatbot&var-environment=production",
                        traces="experiment=chatbot&environment=production&status=slow&since=-247800",
                        search=(
                            "trace.execution_time_ms > 5000 AND tag.environment = 'production' AND trace.end_time_ms "
                            "> -247800000 AND trace.timestamp_ms > -852600000"
                        ),
                    ),
                ),
                fires(
                    "MlflowLatencyHigh",
                    "190m",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "objective": "latency",
                            "severity": "warning",
                        },
                        summary="More traces are slow than the objective allows.",
                        description=(
                            "In production of chatbot, 12% of the traces of the last half hour took longer than 5s; "
                            "the objective allows 5%. The p95 is 8.75s. Worst: version 1.4.0, 12%."
                        ),
                        dashboard="mlflow-overview?var-job=exporter&var-experiment=chatbot&var-environment=production",
                        traces="experiment=chatbot&environment=production&status=slow&since=9600",
                        search=(
                            "trace.execution_time_ms > 5000 AND tag.environment = 'production' AND trace.end_time_ms "
                            "> 9600000 AND trace.timestamp_ms > -595200000"
                        ),
                    ),
                ),
            ),
        ),
        Case(
            "the objective is 95 % within 5 s - exactly 5 % are slower, a few more are, few are among few traces",
            "1m",
            [
                A.objective("exact", 100, latency_seconds=5, latency_ratio=0.95, min_traces=20),
                A.version("exact", "1.4.0", traces="0+100x100", slow="0+5x100"),
                A.objective("more", 100, latency_seconds=5, latency_ratio=0.95, min_traces=20),
                A.version("more", "1.4.0", traces="0+100x100", slow="0+6x100"),
                A.objective("patient", 100, latency_seconds=60, latency_ratio=0.9, min_traces=20),
                A.version("patient", "1.4.0", traces="0+100x100", slow="0+6x100"),
                A.objective("rare", 100, latency_seconds=5, latency_ratio=0.95, min_traces=20),
                A.version("rare", "1.4.0", traces="0+0x60 1x40", slow="0+0x60 1x40"),
                A.objective("asleep", 100, latency_seconds=5, latency_ratio=0.95, min_traces=20),
                A.version("asleep", "1.4.0", traces="70x100", slow="70x100"),
            ],
            (
                ask(
                    'count by (alertname, environment) (ALERTS{alertstate="firing",data="traces"})',
                    "100m",
                    one(alertname="MlflowLatencyBudgetBurn", environment="more"),
                    one(alertname="MlflowLatencyHigh", environment="more"),
                ),
                ask('environment:mlflow_trace_slow:ratio_increase30m{environment="asleep"}', "100m"),
            ),
        ),
    ),
)
