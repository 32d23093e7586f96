"""A version that is rated worse than the others of its application."""

from collections.abc import Iterator

from prometheus.promtool.case import Case, CaseFile, Fired, Series, Target, ask, fires, one

A = Target(job="exporter")

FIRING = 'count by (experiment, version, assessment) (ALERTS{alertstate="firing"})'


def _rated(
    experiment: str, *versions: tuple[str, float, float], assessment: str = "correctness", traces: str = "5x72"
) -> Iterator[Series]:
    """Versions of an application, and how many ratings of each are good and bad in six hours."""
    yield from A.application("production", experiment, recorded_info={"search": "1x72"})
    for version, good, bad in versions:
        ratings = {"good": f"0+{good / 72}x72", "bad": f"0+{bad / 72}x72"}
        yield from A.assessed(assessment, experiment, version, ratings=ratings)
        yield from A.version("production", version, experiment, recorded_traces_5m=traces)


def _worse(experiment: str, share: str, others: str) -> Fired:
    place = f"experiment={experiment}&environment=production".replace(" ", "+")
    return Fired(
        {
            "assessment": "correctness",
            "data": "traces",
            "environment": "production",
            "experiment": experiment,
            "job": "exporter",
            "severity": "warning",
            "team": "search",
            "version": "1.5.0",
        },
        summary="A version is rated worse than the others of its application.",
        description=(
            f"Version 1.5.0 of {experiment} in production: {share} correctness assessments that arrived in the last day"
            f" were bad, compared with {others} for the other versions."
        ),
        dashboard=f"mlflow-versions?var-job=exporter&var-{place.replace('&', '&var-')}&var-candidate=1.5.0",
        traces=f"{place}&version=1.5.0&assessment=correctness&rating=bad&since=-669600",
    )


FILE = CaseFile(
    "rated-versions.yml",
    "A version that is rated worse than the others of its application.",
    "5m",
    (
        Case(
            "1.5.0 is rated worse; a little; in few ratings; by chance; in another assessment; without traces",
            "5m",
            [
                _rated("worse", ("1.3.0", 190, 10), ("1.4.0", 950, 50), ("1.5.0", 160, 40)),
                _rated("worse by the factor", ("1.4.0", 9_000, 1_000), ("1.5.0", 8_400, 1_600)),
                _rated("below the factor", ("1.4.0", 9_000, 1_000), ("1.5.0", 8_600, 1_400)),
                _rated("worse by eleven points", ("1.4.0", 4_000, 6_000), ("1.5.0", 2_900, 7_100)),
                _rated("worse by nine points", ("1.4.0", 4_000, 6_000), ("1.5.0", 3_100, 6_900)),
                _rated("by chance", ("1.4.0", 95, 5), ("1.5.0", 85, 15)),
                _rated("few", ("1.4.0", 950, 50), ("1.5.0", 9, 20)),
                _rated("few others", ("1.4.0", 29, 0), ("1.5.0", 500, 500)),
                _rated("four bad", ("1.4.0", 1_000, 0), ("1.5.0", 36, 4.5)),
                _rated("alone", ("1.5.0", 100, 900)),
                _rated("unknown", ("1.4.0", 950, 50), ("unknown", 500, 500), ("other", 500, 500)),
                _rated("without traces", ("1.4.0", 950, 50), ("1.5.0", 160, 40), traces="0x72"),
                _rated("gone", ("1.4.0", 950, 50), ("1.5.0", 160, 40), traces="5x60 0x12"),
                _rated("two assessments", ("1.4.0", 950, 50)),
                _rated("two assessments", ("1.5.0", 500, 500), assessment="style"),
            ],
            (
                ask(
                    FIRING,
                    "4h50m",
                    *(
                        one(experiment=name, version="1.5.0", assessment="correctness")
                        for name in ("worse", "worse by the factor", "worse by eleven points", "gone")
                    ),
                ),
                fires(
                    "MlflowVersionRatedWorse",
                    "6h",
                    _worse("worse", "20% of the 200", "5%"),
                    _worse("worse by eleven points", "71% of the 10000", "60%"),
                    _worse("worse by the factor", "16% of the 10000", "10%"),
                ),
            ),
        ),
    ),
    rules="mlflow-quality.yml",
)
