"""Each application is judged by itself, and its alerts have its name and its team."""

from prometheus.promtool.case import Case, CaseFile, Fired, Target, ask, fires, one, sample

A = Target(job="exporter")
B = Target(job="exporter", instance="b")

PAGES = 'group by (alertname, experiment, team) (ALERTS{alertstate="firing",severity="critical"})'
FIRING = 'group by (experiment) (ALERTS{alertstate="firing",data="traces"})'
MOST_FAIL = 'group by (team) (ALERTS{alertstate="firing",alertname="MlflowMostTracesFail"})'
TEAMS = "experiment_environment:mlflow_objective_info:max"
CHATBOT = {"__name__": TEAMS, "job": "exporter", "experiment": "chatbot", "environment": "production"}

FILE = CaseFile(
    "applications.yml",
    "Each application is judged by itself, and its alerts have its name and its team.",
    "2m",
    (
        Case(
            "an application with 10 of 1,010 traces a minute fails wholly beside a big one that is healthy",
            "1m",
            [
                A.objective("production", 190, "checkout-bot", "checkout", error_ratio=0.05, min_traces=20),
                A.objective("production", 190, "search", "discovery", error_ratio=0.05, min_traces=20),
                A.version("production", "1.4.0", "checkout-bot", traces="0+10x190", errors="0x120 0+10x70"),
                A.version("production", "1.4.0", "search", traces="0+1000x190", errors="0+1x190"),
            ],
            (
                ask(PAGES, "125m"),
                ask(PAGES, "134m", one(alertname="MlflowMostTracesFail", experiment="checkout-bot", team="checkout")),
                ask(
                    PAGES,
                    "190m",
                    one(alertname="MlflowMostTracesFail", experiment="checkout-bot", team="checkout"),
                    one(alertname="MlflowErrorBudgetBurn", experiment="checkout-bot", team="checkout"),
                ),
                ask(FIRING, "190m", one(experiment="checkout-bot")),
                # what an environment shows of it
                ask(
                    "round(environment:mlflow_trace_errors:ratio_increase1h, 0.0001)",
                    "190m",
                    sample(0.0109, job="exporter", environment="production"),
                ),
                fires(
                    "MlflowMostTracesFail",
                    "134m",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "checkout-bot",
                            "job": "exporter",
                            "objective": "errors",
                            "severity": "critical",
                            "team": "checkout",
                        },
                        summary="Most traces fail.",
                        description=(
                            "In production of checkout-bot, 100% of the traces of the last five minutes failed, and "
                            "this has lasted for at least five minutes. Worst: version 1.4.0, 100%."
                        ),
                        dashboard=(
                            "mlflow-overview?var-job=exporter&var-experiment=checkout-bot&var-environment=production"
                        ),
                        traces="experiment=checkout-bot&environment=production&status=error&since=7440",
                        search=(
                            "trace.status = 'ERROR' AND tag.environment = 'production' AND trace.end_time_ms > 7440000 "
                            "AND trace.timestamp_ms > -597360000"
                        ),
                    ),
                ),
            ),
        ),
        Case(
            "a tenth fails and is slow, against a strict objective, a generous one, and none",
            "1m",
            [
                A.objective(
                    "production", 100, "strict", error_ratio=0.01, latency_seconds=5, latency_ratio=0.99, min_traces=20
                ),
                A.objective(
                    "production", 100, "generous", error_ratio=0.4, latency_seconds=60, latency_ratio=0.6, min_traces=20
                ),
                A.application("production", "none", info={"": "1x100"}),
                *(
                    A.version("production", "1", name, traces="0+100x100", errors="0+10x100", slow="0+10x100")
                    for name in ("strict", "generous", "none")
                ),
            ],
            (ask(FIRING, "100m", one(experiment="strict")),),
        ),
        Case(
            "little traffic is judged by the objective of each application - six traces an hour, and all fail",
            "1m",
            [
                A.objective("production", 180, "few are enough", error_ratio=0.05, min_traces=6),
                A.objective("production", 180, "few are chance", error_ratio=0.05, min_traces=100),
                A.objective("production", 180, "busy", error_ratio=0.05, min_traces=100),
                A.version("production", "1", "few are enough", traces="0+0.1x180", errors="0+0.1x180"),
                A.version("production", "1", "few are chance", traces="0+0.1x180", errors="0+0.1x180"),
                A.version("production", "1", "busy", traces="0+100x180", errors="0x180"),
            ],
            (
                ask(
                    PAGES,
                    "180m",
                    one(alertname="MlflowErrorBudgetBurn", experiment="few are enough"),
                ),
            ),
        ),
        Case(
            "the same versions in two applications - 1.5.0 is worse in one of them, and better in the other",
            "1m",
            [
                A.application("production", "checkout-bot", info={"checkout": "1x120"}),
                A.application("production", "search", info={"discovery": "1x120"}),
                A.version("production", "1.4.0", "checkout-bot", traces="0+10x120", errors="0x120"),
                A.version("production", "1.5.0", "checkout-bot", traces="0+10x120", errors="0+2x120"),
                A.version("production", "1.4.0", "search", traces="0+100x120", errors="0+5x120"),
                A.version("production", "1.5.0", "search", traces="0+100x120", errors="0x120"),
            ],
            (
                ask(
                    "group by (alertname, experiment, version, team)"
                    ' (ALERTS{alertstate="firing",alertname="MlflowVersionFailsMore"})',
                    "120m",
                    one(
                        alertname="MlflowVersionFailsMore", experiment="checkout-bot", version="1.5.0", team="checkout"
                    ),
                    one(alertname="MlflowVersionFailsMore", experiment="search", version="1.4.0", team="discovery"),
                ),
            ),
        ),
        Case(
            "an older exporter has no teams, and objectives by environment; they apply to each of its applications",
            "1m",
            [
                A.objective_of_older("production", 100, error_ratio=0.05, min_traces=20),
                A.version("production", "1", "failing", traces="0+10x100", errors="0+10x100"),
                A.version("production", "1", "healthy", traces="0+1000x100", errors="0x100"),
                A.version("staging", "1", "failing", traces="0+10x100", errors="0+10x100"),
                A.application("staging", "stuck", in_progress="8x100"),
            ],
            (
                ask(
                    'group by (alertname, experiment, environment) (ALERTS{alertstate="firing",severity="critical"})',
                    "100m",
                    one(alertname="MlflowErrorBudgetBurn", experiment="failing", environment="production"),
                    one(alertname="MlflowMostTracesFail", experiment="failing", environment="production"),
                ),
                ask(
                    'group by (experiment, environment) (ALERTS{alertstate="firing",alertname=~".*Stuck.*"})',
                    "100m",
                    one(experiment="stuck", environment="staging"),
                ),
                ask(
                    TEAMS,
                    "100m",
                    *(
                        one(**CHATBOT | {"experiment": experiment, "environment": environment})
                        for experiment, environment in (
                            ("failing", "production"),
                            ("healthy", "production"),
                            ("failing", "staging"),
                            ("stuck", "staging"),
                        )
                    ),
                ),
            ),
        ),
        Case(
            "the exporter's own objectives win over those by environment of an older one beside it",
            "1m",
            [
                A.objective_of_older("production", 60, error_ratio=0.05, min_traces=20),
                B.objective("production", 60, error_ratio=0.5, min_traces=20),
                A.version("production", "1", traces="0+10x60", errors="0+2x60"),
                B.version("production", "1", traces="0+10x60", errors="0+2x60"),
            ],
            (ask('ALERTS{alertname=~"MlflowError.*|MlflowMost.*"}', "60m"),),
        ),
        Case(
            "a pair of exporters disagrees about the team until the second is reloaded, too",
            "1m",
            [
                A.objective("production", 60, error_ratio=0.05, min_traces=20),
                A.application("production", info={"a": "1x20 stale", "b": "_x20 1x40"}),
                B.application("production", info={"a": "1x40 stale", "b": "_x40 1x20"}),
                A.application("production", "back and forth", info={"a": "1x4 stale _x15 1x40", "b": "_x5 1x15 stale"}),
                B.application("production", "back and forth", info={"b": "_x5 1x35 stale", "a": "1x4 stale _x35 1x20"}),
                A.application("production", "named by one", info={"": "1x60"}),
                B.application("production", "named by one", info={"c": "1x60"}),
                A.version("production", "1", traces="0+10x60", errors="0+10x60"),
            ],
            (
                *(
                    ask(f'{TEAMS}{{experiment="chatbot"}}', at, one(**CHATBOT, team=team))
                    for at, team in (("19m", "a"), ("30m", "a"), ("40m", "a"), ("42m", "b"), ("60m", "b"))
                ),
                ask(
                    f'{TEAMS}{{experiment="back and forth"}}',
                    "30m",
                    one(**CHATBOT | {"experiment": "back and forth"}, team="b"),
                ),
                ask(
                    f'{TEAMS}{{experiment="named by one"}}',
                    "60m",
                    one(**CHATBOT | {"experiment": "named by one"}, team="c"),
                ),
                ask(MOST_FAIL, "40m", one(team="a")),
                ask(MOST_FAIL, "60m", one(team="b")),
            ),
        ),
        Case(
            "the team has changed while Prometheus restarted, and both are recorded for a moment",
            "1m",
            [
                A.objective("production", 60, team="new", error_ratio=0.05, min_traces=20),
                A.application("production", recorded_info={"old": "1x60"}),
                A.version("production", "1", traces="0+10x60", errors="0+10x60"),
            ],
            (ask('count(ALERTS{alertstate="firing",alertname="MlflowMostTracesFail"})', "60m", one()),),
        ),
    ),
)
