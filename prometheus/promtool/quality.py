"""Bad ratings: the burn rates."""

from collections.abc import Iterator

from prometheus.promtool.case import Case, CaseFile, Fired, Series, Target, ask, fires, one, sample

A = Target(job="exporter")
B = Target(job="exporter", instance="b")
OTHER = Target(job="other", instance="b")

FIRING = 'count by (job, experiment, environment, assessment, severity, burn_rate) (ALERTS{alertstate="firing"})'
PAGES = 'count by (experiment, burn_rate) (ALERTS{alertstate="firing",severity="critical"})'
BURNING = 'count by (burn_rate) (ALERTS{alertstate="firing",assessment="correctness"})'
RATES = 'count by (experiment) (ALERTS{alertstate="firing",alertname="MlflowQualityBudgetBurn"})'


def _rated(
    experiment: str,
    good: str,
    bad: str,
    assessment: str = "correctness",
    least: int = 20,
    samples: int = 500,
) -> Iterator[Series]:
    """Ratings of an application with an objective of 90 %."""
    yield from A.assessed(assessment, experiment, ratings={"good": good, "bad": bad})
    yield from A.application(
        "production",
        experiment,
        assessment_ratio={assessment: f"0.9x{samples}"},
        recorded_min_traces=f"{least}x{samples}",
        recorded_info={"search": f"1x{samples}"},
    )


def _share(per_mille: int) -> Iterator[Series]:
    return _rated(f"{per_mille} of 1,000", f"0+{1000 - per_mille}x90", f"0+{per_mille}x90", samples=90)


def _burning(rate: str, long: str, short: str, severity: str, share: str, since: int) -> Fired:
    return Fired(
        {
            "assessment": "correctness",
            "burn_rate": rate,
            "data": "traces",
            "environment": "production",
            "experiment": "chatbot",
            "job": "exporter",
            "long_window": long,
            "objective": "quality",
            "severity": severity,
            "short_window": short,
            "team": "search",
        },
        summary="Assessments are bad so often that the quality budget will not last.",
        description=f"In production of chatbot, {share} of the correctness assessments that arrived in the last {long}"
        f" were bad; the objective allows 10%. The 30-day quality budget is burning at more than {rate} times the"
        " sustainable rate. Worst in the last day: version 1, 59.73%. The most frequent values in the last day: no"
        " (890 times); yes (600 times).",
        dashboard="mlflow-quality?var-job=exporter&var-experiment=chatbot&var-environment=production"
        "&var-assessment=correctness",
        traces=f"experiment=chatbot&environment=production&assessment=correctness&rating=bad&since={since}",
    )


FILE = CaseFile(
    "quality.yml",
    "Bad ratings: the burn rates.",
    "2m",
    (
        Case(
            "shares at the thresholds and just above them, where a tenth may be bad",
            "2m",
            [_share(each) for each in (100, 101, 300, 301, 600, 601, 775, 776)],
            (
                ask(
                    RATES,
                    "3h",
                    *(
                        sample(count, experiment=f"{share} of 1,000")
                        for share, count in ((101, 1), (300, 1), (301, 2), (600, 2), (601, 3), (775, 3), (776, 4))
                    ),
                ),
            ),
        ),
        Case(
            "all ratings are bad for three hours, and then good; another assessment is good",
            "2m",
            [
                _rated("chatbot", "0+10x60 600x90 600+10x350", "0x60 0+10x90 900x350"),
                A.assessed(
                    "correctness",
                    source="llm_judge",
                    assessments={"yes": "0+10x60 600x90 600+10x350", "no": "0x60 0+10x90 900x350"},
                ),
                _rated("chatbot", "0+10x500", "0x500", "relevance"),
            ],
            (
                ask(BURNING, "2h10m"),
                ask(BURNING, "2h50m", *(one(burn_rate=rate) for rate in ("1", "14.4"))),
                # they are good again from 5h on
                ask(BURNING, "5h8m", *(one(burn_rate=rate) for rate in ("1", "3", "14.4"))),
                ask(BURNING, "5h20m", *(one(burn_rate=rate) for rate in ("1", "3"))),
                ask(BURNING, "8h", one(burn_rate="1")),
                ask(BURNING, "12h"),
                fires("MlflowQualityBudgetBurn", "2h"),
                fires(
                    "MlflowQualityBudgetBurn",
                    "5h",
                    *(
                        _burning(*each)
                        for each in (
                            ("1", "3d", "6h", "warning", "59.73%", -846_000),
                            ("14.4", "1h", "5m", "critical", "100%", -590_400),
                            ("3", "1d", "2h", "warning", "59.73%", -673_200),
                        )
                    ),
                ),
            ),
        ),
        Case(
            "a batch of bad ratings with nothing after it; one that good ones follow; too few bad ones",
            "2m",
            [
                _rated("batch", "0x500", "0x60 30x440"),
                _rated("followed", "0x70 1x430", "0x60 30x440"),
                _rated("two", "0x500", "0x60 2x440"),
                _rated("few", "0x500", "0x60 9x440", least=100),
            ],
            (
                ask(PAGES, "2h"),
                ask(
                    PAGES,
                    "2h18m",
                    *(one(experiment=name, burn_rate=rate) for name in ("batch", "followed") for rate in ("6", "14.4")),
                ),
                ask(PAGES, "2h56m", *(one(experiment="batch", burn_rate=rate) for rate in ("6", "14.4"))),
                ask(PAGES, "7h50m", one(experiment="batch", burn_rate="6")),
                ask(RATES, "10h", sample(2, experiment="batch")),
            ),
        ),
        Case(
            "the same ratings against other objectives, in another environment, and without any objective",
            "2m",
            [
                *(
                    target.assessed("correctness", environment=environment, ratings={"good": "0+7x90", "bad": "0+3x90"})
                    for target, environment in (
                        (A, "production"),
                        (A, "staging"),
                        (A, "without objective"),
                        (OTHER, "production"),
                    )
                ),
                A.assessed("relevance", ratings={"good": "0+7x90", "bad": "0+3x90"}),
                *(
                    target.application(
                        environment,
                        assessment_ratio={"correctness": f"{ratio}x90", "relevance": "0.5x90"},
                        recorded_min_traces="20x90",
                        recorded_info={"": "1x90"},
                    )
                    for target, environment, ratio in (
                        (A, "production", 0.95),
                        (A, "staging", 0.6),
                        (OTHER, "production", 0.6),
                    )
                ),
            ],
            (
                ask(
                    'count by (job, environment, assessment) (ALERTS{alertstate="firing"})',
                    "3h",
                    sample(2, job="exporter", environment="production", assessment="correctness"),
                ),
            ),
        ),
        Case(
            "two exporters that count the same ratings count them once",
            "2m",
            [
                _rated("chatbot", "0x90", "0x45 2x45"),
                B.assessed("correctness", ratings={"good": "0x90", "bad": "0x45 2x45"}),
            ],
            (ask(FIRING, "3h"),),
        ),
        Case(
            "there is no fresh data in the middle of an incident",
            "2m",
            [
                _rated("chatbot", "0x30 stale", "0+10x30 stale", samples=200),
                A.series(alerts={"MlflowTracesStale": "_x29 1x90 stale"}),
            ],
            (
                ask(PAGES, "3h50m", *(one(experiment="chatbot", burn_rate=rate) for rate in ("14.4", "6"))),
                ask(PAGES, "5h", one(experiment="chatbot", burn_rate="6")),
                ask(PAGES, "8h"),
            ),
        ),
    ),
    rules="mlflow-quality.yml",
)
