"""Traffic that stops."""

from prometheus.promtool.case import Case, CaseFile, Fired, Target, ask, fires, one

A = Target(job="exporter")
OTHER = Target(job="other", instance="b")
REMOVED = Target(job="removed")

NO_TRACES = 'count by (environment) (ALERTS{alertname="MlflowNoTraces"})'
FIRING = 'count by (environment) (ALERTS{alertstate="firing",alertname="MlflowNoTraces"})'
FILE = CaseFile(
    "no-traces.yml",
    "Traffic that stops.",
    "20m",
    (
        Case(
            (
                "environments that usually have traces at this time of day have none; others are quiet at "
                "weekends, steady or rare"
            ),
            "5m",
            [
                A.series(mlflow_up="1x2160"),
                OTHER.series(mlflow_up="1x2160"),
                A.version("production", "1.4.0", traces="0+10x2050 20500x110"),
                A.version("gone", "1.4.0", traces="0+10x1900 stale"),
                A.version("weekly", "1.4.0", traces="0x100 0+10x1900 19000x160"),
                A.version("steady", "1.4.0", traces="0+10x2160"),
                A.version("rare", "1.4.0", traces="0+0.1x2050 205x110"),
                REMOVED.version("moved", "1.4.0", traces="0+10x2050 20500x110"),
            ],
            (
                ask(NO_TRACES, "158h"),
                ask(FIRING, "172h", one(environment="production"), one(environment="gone")),
                fires(
                    "MlflowNoTraces",
                    "172h",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "gone",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "severity": "warning",
                        },
                        summary="An application has no traces, although it usually has some at this time of day.",
                        description=(
                            "chatbot had no traces in gone in the last half hour; a day ago it had 60 in half an hour. "
                            "Either there are no requests, or the application has stopped, or it no longer sends its "
                            "traces."
                        ),
                        dashboard="mlflow-overview?var-job=exporter&var-experiment=chatbot&var-environment=gone",
                        traces="experiment=chatbot&environment=gone&since=529200",
                    ),
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "severity": "warning",
                        },
                        summary="An application has no traces, although it usually has some at this time of day.",
                        description=(
                            "chatbot had no traces in production in the last half hour; a day ago it had 60 in half an "
                            "hour. Either there are no requests, or the application has stopped, or it no longer sends "
                            "its traces."
                        ),
                        dashboard="mlflow-overview?var-job=exporter&var-experiment=chatbot&var-environment=production",
                        traces="experiment=chatbot&environment=production&since=529200",
                    ),
                ),
            ),
        ),
        Case(
            "on the first days the only reference is yesterday",
            "5m",
            [
                A.series(mlflow_up="1x700"),
                A.version("production", "1.4.0", traces="0+10x400 stale"),
            ],
            (
                ask(FIRING, "35h", one(environment="production")),
                ask(NO_TRACES, "58h"),
            ),
        ),
    ),
)
