"""An application that vanishes."""

from prometheus.promtool.case import Case, CaseFile, Target, ask, one

A = Target(job="exporter")

FIRING = 'ALERTS{alertstate="firing",alertname="MlflowNoTraces"}'

FILE = CaseFile(
    "vanished.yml",
    "An application that vanishes.",
    "4m",
    (
        Case(
            (
                "an application vanishes beside a busy one, and its exporter soon forgets it - the alert has its team;"
                " an application of an older exporter has no team"
            ),
            "4m",
            [
                A.series(mlflow_up="1x900"),
                A.application("production", "gone", info={"checkout": "1x460 stale"}),
                A.application("production", "busy", info={"discovery": "1x900"}),
                A.version("production", "1.4.0", "gone", traces="0+10x450 4500x10 stale"),
                A.version("production", "1.4.0", "busy", traces="0+1000x900"),
                A.version("production", "1.4.0", "of an older one", traces="0+10x450 stale"),
            ],
            (
                *(
                    ask(
                        f"group by (experiment, team) ({FIRING})",
                        at,
                        one(experiment="gone", team="checkout"),
                        one(experiment="of an older one"),
                    )
                    for at in ("31h", "53h")
                ),
                ask(FIRING, "56h"),
            ),
        ),
    ),
)
