"""A version that is worse than the others of its application."""

from prometheus.promtool.case import Case, CaseFile, Fired, Target, ask, fires, one

A = Target(job="exporter")

FIRING = 'count by (alertname, environment, version) (ALERTS{alertstate="firing",alertname=~"MlflowVersion.*"})'
FAILING_VERSIONS = 'count by (version) (ALERTS{alertname="MlflowVersionFailsMore",alertstate="firing"})'

FILE = CaseFile(
    "versions.yml",
    "A version that is worse than the others of its application.",
    "2m",
    (
        Case(
            (
                "1.5.0 fails more, is slower and uses more tokens in production; in staging it is alone; "
                "elsewhere all versions are as bad"
            ),
            "1m",
            [
                A.version(
                    "production",
                    "1.4.0",
                    traces="0+10x120",
                    errors="0+0.2x120",
                    tokens={"input": "0+5000x120"},
                    traces_with_tokens={"input": "0+10x120"},
                    buckets={"1.0": "0+5x120", "5.0": "0+9.5x120", "10.0": "0+10x120", "+Inf": "0+10x120"},
                ),
                A.version(
                    "production",
                    "1.5.0",
                    traces="0+5x120",
                    errors="0+1x120",
                    tokens={"input": "0+4500x120"},
                    traces_with_tokens={"input": "0+5x120"},
                    buckets={"1.0": "0+0.5x120", "5.0": "0+2.5x120", "10.0": "0+5x120", "+Inf": "0+5x120"},
                ),
                A.version(
                    "staging",
                    "1.5.0",
                    traces="0+5x120",
                    errors="0+1x120",
                    tokens={"input": "0+4500x120"},
                    traces_with_tokens={"input": "0+5x120"},
                    buckets={"1.0": "0+0.5x120", "5.0": "0+2.5x120", "10.0": "0+5x120", "+Inf": "0+5x120"},
                ),
                A.version(
                    "equal",
                    "1.4.0",
                    traces="0+10x120",
                    errors="0+2x120",
                    tokens={"input": "0+9000x120"},
                    traces_with_tokens={"input": "0+10x120"},
                    buckets={"1.0": "0+1x120", "5.0": "0+5x120", "10.0": "0+10x120", "+Inf": "0+10x120"},
                ),
                A.version(
                    "equal",
                    "1.5.0",
                    traces="0+10x120",
                    errors="0+2x120",
                    tokens={"input": "0+9000x120"},
                    traces_with_tokens={"input": "0+10x120"},
                    buckets={"1.0": "0+1x120", "5.0": "0+5x120", "10.0": "0+10x120", "+Inf": "0+10x120"},
                ),
            ],
            (
                ask(
                    FIRING,
                    "120m",
                    one(alertname="MlflowVersionFailsMore", environment="production", version="1.5.0"),
                    one(alertname="MlflowVersionSlower", environment="production", version="1.5.0"),
                    one(alertname="MlflowVersionUsesMoreTokens", environment="production", version="1.5.0"),
                ),
                fires(
                    "MlflowVersionFailsMore",
                    "120m",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "severity": "warning",
                            "version": "1.5.0",
                        },
                        summary="A version fails more often than the others of its application.",
                        description=(
                            "Version 1.5.0 of chatbot in production: 20% of its 300 traces of the last hour failed, "
                            "compared with 2% for the other versions."
                        ),
                        dashboard=(
                            "mlflow-versions?var-job=exporter&var-experiment=chatbot&var-environment=production"
                            "&var-candidate=1.5.0"
                        ),
                        traces="experiment=chatbot&environment=production&version=1.5.0&status=error&since=3600",
                        search=(
                            "trace.status = 'ERROR' AND tag.environment = 'production' AND tag.app_version = '1.5.0' "
                            "AND trace.end_time_ms > 3600000 AND trace.timestamp_ms > -601200000"
                        ),
                    ),
                ),
                fires(
                    "MlflowVersionSlower",
                    "120m",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "quantile": "0.95",
                            "severity": "warning",
                            "version": "1.5.0",
                        },
                        summary="A version is slower than the others of its application.",
                        description=(
                            "Version 1.5.0 of chatbot in production: the p95 of its 300 traces of the last hour is "
                            "9.5s, compared with 5s for the other versions."
                        ),
                        dashboard=(
                            "mlflow-versions?var-job=exporter&var-experiment=chatbot&var-environment=production"
                            "&var-candidate=1.5.0"
                        ),
                        traces=(
                            "experiment=chatbot&environment=production&version=1.5.0&duration_above=5.000&since=3600"
                        ),
                        search=(
                            "trace.execution_time_ms > 5000 AND tag.environment = 'production' AND tag.app_version = "
                            "'1.5.0' AND trace.end_time_ms > 3600000 AND trace.timestamp_ms > -601200000"
                        ),
                    ),
                ),
                fires(
                    "MlflowVersionUsesMoreTokens",
                    "120m",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "severity": "warning",
                            "version": "1.5.0",
                        },
                        summary="A version uses more tokens per trace than the others of its application.",
                        description=(
                            "Version 1.5.0 of chatbot in production used 900 tokens per trace in the last hour, "
                            "compared with 500 for the other versions."
                        ),
                        dashboard=(
                            "mlflow-versions?var-job=exporter&var-experiment=chatbot&var-environment=production"
                            "&var-candidate=1.5.0"
                        ),
                        traces="experiment=chatbot&environment=production&version=1.5.0&tokens_above=500&since=3600",
                    ),
                ),
            ),
        ),
        Case(
            (
                "what must not fire - a little worse; much worse in a few traces; another experiment; a "
                "value that is no version"
            ),
            "1m",
            [
                A.version(
                    "a little",
                    "1.4.0",
                    traces="0+10x120",
                    errors="0+0.2x120",
                    tokens={"input": "0+5000x120"},
                    traces_with_tokens={"input": "0+10x120"},
                    buckets={"1.0": "0+5x120", "5.0": "0+9.5x120", "10.0": "0+10x120", "+Inf": "0+10x120"},
                ),
                A.version(
                    "a little",
                    "1.5.0",
                    traces="0+10x120",
                    errors="0+0.25x120",
                    tokens={"input": "0+7000x120"},
                    traces_with_tokens={"input": "0+10x120"},
                    buckets={"1.0": "0+5x120", "5.0": "0+9.5x120", "10.0": "0+10x120", "+Inf": "0+10x120"},
                ),
                A.version(
                    "few",
                    "1.4.0",
                    traces="0+10x120",
                    errors="0+0.2x120",
                    tokens={"input": "0+5000x120"},
                    traces_with_tokens={"input": "0+10x120"},
                    buckets={"1.0": "0+5x120", "5.0": "0+9.5x120", "10.0": "0+10x120", "+Inf": "0+10x120"},
                ),
                A.version(
                    "few",
                    "1.5.0",
                    traces="0+0.4x120",
                    errors="0+0.4x120",
                    tokens={"input": "0+2000.0x120"},
                    traces_with_tokens={"input": "0+0.4x120"},
                    buckets={"1.0": "0+0.04x120", "5.0": "0+0.2x120", "10.0": "0+0.4x120", "+Inf": "0+0.4x120"},
                ),
                A.version(
                    "two experiments",
                    "1.4.0",
                    traces="0+10x120",
                    errors="0+0.2x120",
                    tokens={"input": "0+5000x120"},
                    traces_with_tokens={"input": "0+10x120"},
                    buckets={"1.0": "0+5x120", "5.0": "0+9.5x120", "10.0": "0+10x120", "+Inf": "0+10x120"},
                ),
                A.version(
                    "two experiments",
                    "2.0.0",
                    "search",
                    traces="0+10x120",
                    errors="0+9x120",
                    tokens={"input": "0+50000x120"},
                    traces_with_tokens={"input": "0+10x120"},
                    buckets={"1.0": "0+1x120", "5.0": "0+5x120", "10.0": "0+10x120", "+Inf": "0+10x120"},
                ),
                A.version(
                    "unknown",
                    "1.4.0",
                    traces="0+10x120",
                    errors="0+0.2x120",
                    tokens={"input": "0+5000x120"},
                    traces_with_tokens={"input": "0+10x120"},
                    buckets={"1.0": "0+5x120", "5.0": "0+9.5x120", "10.0": "0+10x120", "+Inf": "0+10x120"},
                ),
                A.version(
                    "unknown",
                    "unknown",
                    traces="0+10x120",
                    errors="0+9x120",
                    tokens={"input": "0+50000x120"},
                    traces_with_tokens={"input": "0+10x120"},
                    buckets={"1.0": "0+1x120", "5.0": "0+5x120", "10.0": "0+10x120", "+Inf": "0+10x120"},
                ),
                A.version(
                    "unknown",
                    "other",
                    traces="0+10x120",
                    errors="0+9x120",
                    tokens={"input": "0+50000x120"},
                    traces_with_tokens={"input": "0+10x120"},
                    buckets={"1.0": "0+1x120", "5.0": "0+5x120", "10.0": "0+10x120", "+Inf": "0+10x120"},
                ),
                A.version(
                    "asleep",
                    "1.4.0",
                    traces="0+0x120",
                    errors="0+0x120",
                    tokens={"input": "0+0x120"},
                    traces_with_tokens={"input": "0+0x120"},
                    buckets={"1.0": "0+0x120", "5.0": "0+0x120", "10.0": "0+0x120", "+Inf": "0+0x120"},
                ),
                A.version(
                    "asleep",
                    "1.5.0",
                    traces="0+0x120",
                    errors="0+0x120",
                    tokens={"input": "0+0x120"},
                    traces_with_tokens={"input": "0+0x120"},
                    buckets={"1.0": "0+0x120", "5.0": "0+0x120", "10.0": "0+0x120", "+Inf": "0+0x120"},
                ),
            ],
            (ask(FIRING, "120m"),),
        ),
        Case(
            "chance is not a worse version - 4 of 40 failed against 1 of 40, then 20 of 40",
            "1m",
            [
                A.version("production", "1.4.0", traces="0x59 0+1x40 40x21 40+1x40", errors="0x59 1x101"),
                A.version("production", "1.5.0", traces="0x59 0+1x40 40x21 40+1x40", errors="0x59 4x61 4+0.5x40"),
            ],
            (
                ask('count_over_time(ALERTS{alertname="MlflowVersionFailsMore"}[2h])', "120m"),
                ask(
                    'count by (version) (ALERTS{alertstate="firing",alertname="MlflowVersionFailsMore"})',
                    "160m",
                    one(version="1.5.0"),
                ),
            ),
        ),
        Case(
            (
                "a small canary without errors does not incriminate the others - 10 of 1000 failed; nor do 4 "
                "of 40 against none of 1000"
            ),
            "1m",
            [
                A.version("big", "1.4.0", traces="0x60 0+17x60", errors="0x60 0+0.17x60"),
                A.version("big", "1.5.0", traces="0x60 0+0.7x60", errors="0x120"),
                A.version("small", "1.4.0", traces="0x60 0+17x60", errors="0x120"),
                A.version("small", "1.5.0", traces="0x60 0+0.7x60", errors="0x60 0+0.07x60"),
            ],
            (ask('ALERTS{alertname="MlflowVersionFailsMore"}', "120m"),),
        ),
        Case(
            "a version that was rolled back is out of the way, although its failures are still in the window",
            "1m",
            [
                A.version("production", "1.4.0", traces="0+10x120", errors="0x120"),
                A.version("production", "1.5.0", traces="0x30 0+5x60 300x30", errors="0x30 0+2x60 120x30"),
            ],
            (
                ask(FAILING_VERSIONS, "85m", one(version="1.5.0")),
                ask(FAILING_VERSIONS, "110m"),
            ),
        ),
    ),
)
