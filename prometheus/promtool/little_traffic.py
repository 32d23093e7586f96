"""Failed traces with little traffic."""

from prometheus.promtool.case import Case, CaseFile, Target, ask, one

A = Target(job="exporter")


FILE = CaseFile(
    "little-traffic.yml",
    "Failed traces with little traffic.",
    "10m",
    (
        Case(
            "one trace in ten minutes is enough if all fail; one failure a day is not",
            "10m",
            [
                A.objective("all fail", 200, error_ratio=0.05, min_traces=20),
                A.objective("one failed", 200, error_ratio=0.05, min_traces=20),
                A.version("all fail", "1", traces="0+1x200", errors="0+1x200"),
                A.version("one failed", "1", traces="0x100 1x100", errors="0x100 1x100"),
            ],
            (
                ask(
                    (
                        "count by (alertname, environment) "
                        '(count_over_time(ALERTS{alertstate="firing",severity="critical"}[1d]))'
                    ),
                    "20h",
                    one(alertname="MlflowErrorBudgetBurn", environment="all fail"),
                ),
                ask('count_over_time(ALERTS{alertstate="firing",environment="one failed"}[2d])', "33h"),
            ),
        ),
    ),
)
