"""Tools that fail, and the time to the first chunk."""

from prometheus.promtool.case import Case, CaseFile, Fired, Target, ask, fires, one

A = Target(job="exporter")

FIRING = 'count by (alertname, experiment, span_name) (ALERTS{alertstate="firing"})'


def _fired(description: str, experiment: str, since: int, search: str = "", inside: str = "", **labels: str) -> Fired:
    return Fired(
        {
            "data": "traces",
            "environment": "production",
            "experiment": experiment,
            "job": "exporter",
            "severity": "warning",
            **labels,
        },
        summary="A tool fails."
        if search
        else "Streamed calls take longer to their first chunk than the objective allows.",
        description=description,
        dashboard=f"mlflow-models?var-job=exporter&var-experiment={experiment}&var-environment=production",
        traces=f"experiment={experiment}&environment=production&{inside}since={since}",
        search=search,
    )


def _tool(name: str, description: str) -> Fired:
    search = (
        f"span.status = 'ERROR' AND span.name = '{name}' AND tag.environment = 'production' AND trace.end_time_ms > "
        "11700000 AND trace.timestamp_ms > -593100000"
    )
    inside = f"span_type=TOOL&span_name={name}&"
    return _fired(description, "chatbot", 11_700, search, inside, span_name=name, span_type="TOOL", team="search")


FILE = CaseFile(
    "inside.yml",
    "Tools that fail, and the time to the first chunk.",
    "5m",
    (
        Case(
            "a tool fails in production, another has always failed, one fails rarely, and so does an agent",
            "5m",
            [
                A.application("production", recorded_info={"search": "1x48"}),
                A.span("search_web", spans={"ok": "0+4x36 144+2x12", "error": "0x36 0+2x12"}),
                A.span("new", spans={"ok": "_x40 0x8", "error": "_x40 0+2x8"}),
                A.span("flaky", spans={"ok": "0+2x48", "error": "0+2x48"}),
                A.span("rare", spans={"ok": "0x48", "error": "0x40 0 1x4 2x3"}),
                A.span("mostly well", spans={"ok": "0+16x48", "error": "0x36 0+4x12"}),
                A.span("agent", "AGENT", spans={"ok": "0+4x36 144+2x12", "error": "0x36 0+2x12"}),
            ],
            (
                ask(FIRING, "180m"),
                ask(
                    FIRING,
                    "225m",
                    *(
                        one(alertname="MlflowToolFails", experiment="chatbot", span_name=name)
                        for name in ("search_web", "new")
                    ),
                ),
                fires(
                    "MlflowToolFails",
                    "225m",
                    _tool(
                        "new",
                        "In production of chatbot, 100% of the 10 TOOL spans named new of the last half hour failed.",
                    ),
                    _tool(
                        "search_web",
                        "In production of chatbot, 50% of the 24 TOOL spans named search_web of the last half hour "
                        "failed (the day before: 0%).",
                    ),
                ),
            ),
        ),
        Case(
            "the first chunk comes late in an application; in others 5 % are late, few calls, or no objective",
            "5m",
            [
                *(
                    A.application(
                        "production",
                        name,
                        recorded_info={"": "1x48"},
                        recorded_first_chunk_seconds="2x48",
                        recorded_min_traces="20x48",
                    )
                    for name in ("late", "exact", "few")
                ),
                A.application("production", "free", recorded_info={"": "1x48"}),
                *(
                    A.model(
                        "gpt-4o",
                        experiment=name,
                        first_chunk_buckets={"2.0": f"0+{within}x48", "4.0": f"0+{whole}x48", "+Inf": f"0+{whole}x48"},
                        streamed_calls=f"0+{whole}x48",
                    )
                    for name, within, whole in (("late", 90, 100), ("exact", 95, 100), ("few", 0, 3), ("free", 0, 100))
                ),
            ],
            (
                ask(FIRING, "60m", one(alertname="MlflowFirstChunkLate", experiment="late")),
                fires(
                    "MlflowFirstChunkLate",
                    "60m",
                    _fired(
                        "In production of late, the p95 of the time to the first chunk in the last half hour was 3s; "
                        "the objective is 2s.",
                        "late",
                        1_800,
                        objective="first_chunk",
                    ),
                ),
            ),
        ),
    ),
    rules="mlflow-models.yml",
)
