"""Missing token usage, traces that do not end, durations beyond the buckets."""

from prometheus.promtool.case import Case, CaseFile, Fired, Target, ask, fires, one

A = Target(job="exporter")


FILE = CaseFile(
    "traces.yml",
    "Missing token usage, traces that do not end, durations beyond the buckets.",
    "5m",
    (
        Case(
            (
                "token usage disappears from production while traffic continues; one environment never has "
                "any, one has no traffic"
            ),
            "5m",
            [
                A.version(
                    "production",
                    "1.4.0",
                    traces="0+20x600",
                    missing={"token_usage": "0+1x300 300+20x300", "cost": "0+20x600"},
                ),
                A.version("embedding", "1.4.0", traces="0+20x600", missing={"token_usage": "0+20x600"}),
                A.version("asleep", "1.4.0", traces="0+20x300 6000x300", missing={"token_usage": "0+0x600"}),
                A.version("few", "1.4.0", traces="0+20x300 6000+1x300", missing={"token_usage": "0x300 0+1x300"}),
            ],
            (
                ask('count by (environment) (ALERTS{alertname="MlflowTokenUsageMissing"})', "25h"),
                ask(
                    'count by (environment) (ALERTS{alertstate="firing",alertname="MlflowTokenUsageMissing"})',
                    "27h",
                    one(environment="production"),
                ),
                fires(
                    "MlflowTokenUsageMissing",
                    "27h",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "severity": "warning",
                        },
                        summary="Token usage has stopped arriving.",
                        description=(
                            "In production of chatbot, 100% of the 120 traces of the last half hour have no token "
                            "usage, compared with 12.6% over the last day. Token and cost counters have been too low "
                            "since then."
                        ),
                        dashboard="mlflow-cost?var-job=exporter&var-experiment=chatbot&var-environment=production",
                        traces="experiment=chatbot&environment=production&missing=token_usage&since=95400",
                    ),
                ),
            ),
        ),
        Case(
            (
                "traces are stuck in progress in production; elsewhere as many end, or few are in progress, "
                "or only now and then, or only for the last 15 minutes"
            ),
            "5m",
            [
                A.application("production", in_progress="8x100"),
                A.application("busy", in_progress="8x100"),
                A.version("busy", "1.4.0", traces="0+1x100"),
                A.application("few", in_progress="4x100"),
                A.application("waves", in_progress="50x5 0 50x5 0 50x5 0 50x5 0 50x5 0 50x5 0 50x5 0 50x5 0"),
                A.application("young", in_progress="_x39 8x3"),
            ],
            (
                ask(
                    'count by (environment) (ALERTS{alertstate="firing",alertname="MlflowTracesStuckInProgress"})',
                    "210m",
                    one(environment="production"),
                ),
                fires(
                    "MlflowTracesStuckInProgress",
                    "210m",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "severity": "warning",
                        },
                        summary="Traces are stuck in progress.",
                        description=(
                            "In production of chatbot, at least 8 traces were in progress throughout the last hour, "
                            "and fewer ended in that time. No other metric counts them until they end. After a week "
                            "the exporter gives up on them."
                        ),
                        dashboard="mlflow-overview?var-job=exporter&var-experiment=chatbot&var-environment=production",
                        traces="experiment=chatbot&environment=production&status=in_progress&start=0&end=9000",
                        search=(
                            "trace.status != 'OK' AND trace.status != 'ERROR' AND tag.environment = 'production' AND "
                            "trace.timestamp_ms < 9000000"
                        ),
                    ),
                ),
            ),
        ),
        Case(
            "traces are abandoned in one environment",
            "5m",
            [
                A.application("production", abandoned="0x20 3x80"),
                A.application("staging", abandoned="7x100"),
            ],
            (
                ask('count by (environment) (ALERTS{alertname="MlflowTracesAbandoned"})', "95m"),
                ask(
                    'count by (environment) (ALERTS{alertstate="firing",alertname="MlflowTracesAbandoned"})',
                    "3h",
                    one(environment="production"),
                ),
                fires(
                    "MlflowTracesAbandoned",
                    "3h",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "severity": "info",
                        },
                        summary="Traces were abandoned because they did not end within a week.",
                        description=(
                            "In production of chatbot, about 3 traces were abandoned in the last day. They are not "
                            "counted, even if they end now."
                        ),
                        dashboard="mlflow-overview?var-job=exporter&var-experiment=chatbot&var-environment=production",
                        traces="experiment=chatbot&environment=production&status=in_progress&start=0&end=-594000",
                    ),
                ),
            ),
        ),
        Case(
            "5 % of production are beyond the last bucket; elsewhere less than 1 %, or too few traces to tell",
            "5m",
            [
                A.version(
                    "production",
                    "1.4.0",
                    traces="0+100x100",
                    buckets={"1.0": "0+50.0x100", "600.0": "0+95.0x100", "+Inf": "0+100x100"},
                ),
                A.version(
                    "less",
                    "1.4.0",
                    traces="0+100x100",
                    buckets={"1.0": "0+50.0x100", "600.0": "0+99.1x100", "+Inf": "0+100x100"},
                ),
                A.version(
                    "few",
                    "1.4.0",
                    traces="0+5x100",
                    buckets={"1.0": "0+2.5x100", "600.0": "0+2.5x100", "+Inf": "0+5x100"},
                ),
                A.version(
                    "none",
                    "1.4.0",
                    traces="0+0x100",
                    buckets={"1.0": "0+0.0x100", "600.0": "0+0x100", "+Inf": "0+0x100"},
                ),
            ],
            (
                ask(
                    'count by (environment) (ALERTS{alertstate="firing",alertname="MlflowDurationBeyondBuckets"})',
                    "300m",
                    one(environment="production"),
                ),
                fires(
                    "MlflowDurationBeyondBuckets",
                    "300m",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "severity": "info",
                        },
                        summary="Many traces exceed the last histogram bucket.",
                        description=(
                            "In production of chatbot, 5% of the traces of the last hour took longer than the highest "
                            "bound in buckets.duration_seconds. Higher quantiles show that bound, not the true value."
                        ),
                        dashboard="mlflow-overview?var-job=exporter&var-experiment=chatbot&var-environment=production",
                        traces="experiment=chatbot&environment=production&duration_above=600.000&since=14400",
                    ),
                ),
            ),
        ),
    ),
)
