"""Several exporters: pairs that count the same traces, and exporters of different MLflow servers."""

from prometheus.promtool.case import Case, CaseFile, Fired, Sample, Target, ask, fires, one, sample

A = Target()
B = Target(instance="b")
A_POD = Target(more={"pod": "a-0"})
B_POD = Target(instance="b", more={"pod": "b-0"})
EU = Target(job="mlflow-trace-exporter-eu")
US = Target(job="mlflow-trace-exporter-us", instance="b")
C_ONE = Target(instance="c", more={"namespace": "one"})
D_TWO = Target(instance="d", more={"namespace": "two"})

TRACES_30M = "environment:mlflow_traces:increase30m"
FIRED_IN_1H = 'count_over_time(ALERTS{alertstate="firing"}[1h])'


def _traces(number: int, job: str = A.job) -> Sample:
    """So many traces of production in 30 minutes."""
    return sample(number, __name__=TRACES_30M, job=job, environment="production")


FILE = CaseFile(
    "several-exporters.yml",
    "Several exporters: pairs that count the same traces, and exporters of different MLflow servers.",
    "1m",
    (
        Case(
            "two MLflow servers under one job - the higher number counts, and an alert fires",
            "1m",
            [
                A.exporter(60, "mlflow_up"),
                A.experiment("chatbot", "1700000000x60"),
                A.version("production", "1", trace_name="support", traces="0+10x60"),
                B.exporter(60, "mlflow_up"),
                B.experiment("chatbot", "1700000060x60"),
                B.version("production", "1", trace_name="support", traces="0+7x60"),
            ],
            (
                ask(
                    TRACES_30M,
                    "60m",
                    _traces(300),
                ),
                ask(
                    'count by (alertname) (ALERTS{alertstate="firing"})',
                    "60m",
                    one(alertname="MlflowTraceExporterSeveralServers"),
                ),
                fires("MlflowTraceExporterSeveralServers", "14m"),
                fires(
                    "MlflowTraceExporterSeveralServers",
                    "60m",
                    Fired(
                        {"job": "mlflow-trace-exporter", "experiment": "chatbot", "severity": "warning"},
                        summary="Exporters of one job read different MLflow servers.",
                        description=(
                            "Job mlflow-trace-exporter has exporters of different MLflow servers, each with an "
                            "experiment named chatbot: the one of a was created at 2023-11-14 22:13:20 +0000 UTC; the "
                            "one of b was created at 2023-11-14 22:14:20 +0000 UTC. Rules and dashboards "
                            "cannot tell their traces apart."
                        ),
                        dashboard="mlflow-exporter?var-job=mlflow-trace-exporter",
                    ),
                ),
            ),
        ),
        Case(
            "a pair on one MLflow server, one of which learns of a new experiment a little later",
            "1m",
            [
                A_POD.exporter(60, "mlflow_up"),
                A_POD.experiment("chatbot", "1600000000x20 1700000000x40"),
                A_POD.version("production", "1", trace_name="support", traces="0+10x60"),
                B_POD.exporter(60, "mlflow_up"),
                B_POD.experiment("chatbot", "1600000000x24 1700000000x36"),
                B_POD.version("production", "1", trace_name="support", traces="0+10x60"),
            ],
            (
                ask(
                    TRACES_30M,
                    "60m",
                    _traces(300),
                ),
                ask(FIRED_IN_1H, "60m"),
            ),
        ),
        Case(
            "two MLflow servers with their own jobs are added up, and so are two that differ by another target label",
            "1m",
            [
                EU.exporter(60, "mlflow_up"),
                EU.experiment("chatbot", "1600000000x60"),
                EU.version("production", "1", trace_name="support", traces="0+10x60"),
                US.exporter(60, "mlflow_up"),
                US.experiment("chatbot", "1700000000x60"),
                US.version("production", "1", trace_name="support", traces="0+7x60"),
                C_ONE.exporter(60, "mlflow_up"),
                C_ONE.experiment("chatbot", "1600000000x60"),
                C_ONE.version("production", "1", trace_name="support", traces="0+10x60"),
                D_TWO.exporter(60, "mlflow_up"),
                D_TWO.experiment("chatbot", "1700000000x60"),
                D_TWO.version("production", "1", trace_name="support", traces="0+7x60"),
            ],
            (
                ask(
                    TRACES_30M,
                    "60m",
                    _traces(300, "mlflow-trace-exporter-eu"),
                    _traces(210, "mlflow-trace-exporter-us"),
                    _traces(510),
                ),
                ask(FIRED_IN_1H, "60m"),
            ),
        ),
    ),
)
