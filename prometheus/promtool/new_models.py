"""Models that an application uses for the first time."""

from prometheus.promtool.case import Case, CaseFile, Fired, Target, ask, fires, one

A = Target(job="exporter")

MODELS = 'count by (experiment, model) (ALERTS{alertname="MlflowNewModel"})'

FILE = CaseFile(
    "new-models.yml",
    "New models.",
    "30m",
    (
        Case(
            "an application uses a model for the first time; others are known for too short a time, or used it before",
            "5m",
            [
                *(
                    A.application("production", name, recorded_info={"search": "1x2400"})
                    for name in ("chatbot", "young", "returning", "many")
                ),
                A.model("gpt-4o", experiment="chatbot", calls={"ok": "0+10x2400"}),
                A.model("gpt-5", experiment="chatbot", calls={"ok": "_x2200 0+10x200"}),
                A.model("gpt-4o", experiment="young", calls={"ok": "_x1200 0+10x1200"}),
                A.model("gpt-5", experiment="young", calls={"ok": "_x2200 0+10x200"}),
                A.model("gpt-4o", experiment="returning", calls={"ok": "0+10x2400"}),
                A.model("gpt-5", experiment="returning", calls={"ok": "0x1200 0+10x20 200x980 200+10x200"}),
                A.model("gpt-4o", experiment="many", calls={"ok": "0+10x2400"}),
                A.model("other", experiment="many", calls={"ok": "_x2200 0+10x200"}),
            ],
            (
                ask(MODELS, "183h"),
                ask(MODELS, "184h", one(experiment="chatbot", model="gpt-5")),
                ask(MODELS, "190h"),
                fires(
                    "MlflowNewModel",
                    "184h",
                    Fired(
                        {
                            "data": "traces",
                            "environment": "production",
                            "experiment": "chatbot",
                            "job": "exporter",
                            "model": "gpt-5",
                            "provider": "openai",
                            "severity": "info",
                            "team": "search",
                        },
                        summary="An application uses a model that it did not use in the week before.",
                        description="chatbot in production calls model gpt-5 of provider openai.",
                        dashboard=(
                            "mlflow-models?var-job=exporter&var-experiment=chatbot&var-environment=production"
                            "&var-provider=openai&var-model=gpt-5"
                        ),
                        traces="experiment=chatbot&environment=production&provider=openai&model=gpt-5&since=661800",
                    ),
                ),
            ),
        ),
    ),
    rules="mlflow-models.yml",
)
