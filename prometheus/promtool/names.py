"""Names in any script and with any sign."""

from prometheus.promtool.case import Case, CaseFile, Fired, Target, fires

A = Target(job="exporter")

NAME = '本番\u3000環境\u200d"\\'
"""With an ideographic space, a zero-width joiner, a quote and a backslash."""

QUOTED = "%E6%9C%AC%E7%95%AA%E3%80%80%E7%92%B0%E5%A2%83%E2%80%8D%22%5C"
"""The name in a URL."""

FILE = CaseFile(
    "names.yml",
    "Names in any script and with any sign: an objective matches its application, and links contain the name.",
    "1m",
    (
        Case(
            "a tenth of an environment fails whose name has an ideographic space, a joiner, a quote and a backslash",
            "1m",
            [
                A.objective(NAME, 40, "e\u00a0f", error_ratio=0.05, min_traces=20),
                A.version(NAME, "1", "e\u00a0f", traces="0+10x40", errors="0+1x40"),
            ],
            (
                fires(
                    "MlflowErrorRatioHigh",
                    "40m",
                    Fired(
                        {
                            "data": "traces",
                            "environment": NAME,
                            "experiment": "e\u00a0f",
                            "job": "exporter",
                            "objective": "errors",
                            "severity": "warning",
                        },
                        summary="More traces fail than the objective allows.",
                        description=(
                            f"In {NAME} of e\u00a0f, 10% of the traces of the last half hour failed; the objective "
                            "allows 5%. Worst: version 1, 10%."
                        ),
                        dashboard=f"mlflow-overview?var-job=exporter&var-experiment=e%C2%A0f&var-environment={QUOTED}",
                        traces=f"experiment=e%C2%A0f&environment={QUOTED}&status=error&since=600",
                        search=(
                            f"trace.status = 'ERROR' AND tag.environment = '{NAME}' AND trace.end_time_ms > 600000 "
                            "AND trace.timestamp_ms > -604200000"
                        ),
                    ),
                ),
            ),
        ),
    ),
)
