"""Cost compared with the daily objective."""

from prometheus.promtool.case import Case, CaseFile, Fired, Target, ask, fires, one

A = Target(job="exporter")

FIRING = 'count by (alertname, environment) (ALERTS{alertstate="firing",data="traces"})'

FILE = CaseFile(
    "cost.yml",
    "Cost compared with the daily objective.",
    "10m",
    (
        Case(
            (
                "the objective is 100 USD per day - three times as much from the second day on, exactly "
                "as much, and no objective"
            ),
            "5m",
            [
                A.version(
                    "production",
                    "1.4.0",
                    input_cost="0+0.125x288 36+0.375x288",
                    output_cost="0+0.125x288 36+0.375x288",
                    traces="0+5x576",
                ),
                A.objective("production", 576, cost_usd_per_day=100, min_traces=20),
                A.version(
                    "exact", "1.4.0", input_cost="0+0.171875x576", output_cost="0+0.171875x576", traces="0+5x576"
                ),
                A.objective("exact", 576, cost_usd_per_day=99, min_traces=20),
                A.version("free", "1.4.0", input_cost="0+5x576", output_cost="0+5x576", traces="0+5x576"),
            ],
            (
                ask(FIRING, "24h"),
                ask(FIRING, "28h", one(alertname="MlflowCostAboveObjectiveSoon", environment="production")),
                ask(FIRING, "48h", one(alertname="MlflowCostAboveObjective", environment="production")),
                fires(
                    "MlflowCostAboveObjectiveSoon",
                    "28h",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "objective": "cost",
                            "severity": "warning",
                        },
                        summary="At the current pace, the daily cost will exceed the objective.",
                        description=(
                            "In production of chatbot, the last 24 hours cost 95.33 USD, and the pace of the last hour "
                            "is 216.00 USD per day. The objective is 100.00 USD per day. Highest cost in the last "
                            "hour: version 1.4.0, 9.00 USD."
                        ),
                        dashboard="mlflow-cost?var-job=exporter&var-experiment=chatbot&var-environment=production",
                        traces="experiment=chatbot&environment=production&cost_above=0&since=79200",
                    ),
                ),
                fires(
                    "MlflowCostAboveObjective",
                    "48h",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "objective": "cost",
                            "severity": "warning",
                        },
                        summary="The cost of the last 24 hours is above the daily objective.",
                        description=(
                            "In production of chatbot, the last 24 hours cost 216.00 USD, and the pace of the last "
                            "hour is 216.00 USD per day. The objective is 100.00 USD per day. Highest cost in the last "
                            "hour: version 1.4.0, 9.00 USD."
                        ),
                        dashboard="mlflow-cost?var-job=exporter&var-experiment=chatbot&var-environment=production",
                        traces="experiment=chatbot&environment=production&cost_above=0&since=86400",
                    ),
                ),
            ),
        ),
        Case(
            "what must not fire - a burst of an hour; no more requests; a few expensive traces",
            "5m",
            [
                A.version(
                    "burst",
                    "1.4.0",
                    input_cost="0+0.125x100 12.5+1x12 24.5+0.125x175",
                    output_cost="0x288",
                    traces="0+5x288",
                ),
                A.objective("burst", 288, cost_usd_per_day=100, min_traces=20),
                A.version("silent", "1.4.0", input_cost="0+0.25x100 25x188", output_cost="0x288", traces="0+0x288"),
                A.objective("silent", 288, cost_usd_per_day=40, min_traces=20),
                A.version("rare", "1.4.0", input_cost="0x288", output_cost="0x270 15x18", traces="0+0x288"),
                A.objective("rare", 288, cost_usd_per_day=50, min_traces=20),
            ],
            (
                ask(
                    'count_over_time(ALERTS{alertname=~"MlflowCost.*",alertstate="firing",environment="burst"}[1d])',
                    "24h",
                ),
                ask(
                    'count_over_time(ALERTS{alertname=~"MlflowCost.*",alertstate="firing",environment!="burst"}[1d])',
                    "24h",
                ),
            ),
        ),
        Case(
            "cost is compared with the objective of each application",
            "5m",
            [
                A.objective("production", 300, "cheap", "research", cost_usd_per_day=10, min_traces=20),
                A.objective("production", 300, "dear", "sales", cost_usd_per_day=100, min_traces=20),
                A.version("production", "1", "cheap", traces="0+5x300", input_cost="0+0.05x300", output_cost="0x300"),
                A.version("production", "1", "dear", traces="0+5x300", input_cost="0+0.3x300", output_cost="0x300"),
            ],
            (
                ask(
                    'group by (experiment, team) (ALERTS{alertstate="firing",alertname=~"MlflowCost.*"})',
                    "25h",
                    one(experiment="cheap", team="research"),
                ),
            ),
        ),
    ),
)
