"""Scorers that fail, and assessments that stop coming."""

from collections.abc import Iterator, Mapping

from prometheus.promtool.case import Case, CaseFile, Fired, Series, Target, ask, fires, one

A = Target(job="exporter")
DOWN = Target(job="down")

FIRING = 'count by (alertname, experiment, assessment, source) (ALERTS{alertstate="firing"})'

NO_WORDS: Mapping[str, str] = {}
REGULAR = "0+10x1400"
STOPS = "0+10x1080 10800x320"
"""Ten minutes a step: 180 hours, and then nothing more."""
FAILING = 'count by (experiment, source) (ALERTS{alertstate="firing",alertname="MlflowScorerFails"})'
WORDS = ("words", "llm_judge")
OTHERS = (("scores", "llm_judge"), ("nothing but errors", "llm_judge"), ("two sources", "code"))
STOPPED = 'count by (experiment, source) (ALERTS{alertstate="firing",alertname="MlflowAssessmentsStopped"})'


def _fired(experiment: str, source: str, summary: str, description: str, since: int) -> Fired:
    place = f"experiment={experiment}&environment=production".replace(" ", "+")
    return Fired(
        {
            "assessment": "correctness",
            "data": "traces",
            "environment": "production",
            "experiment": experiment,
            "job": "exporter",
            "severity": "warning",
            "source": source,
            "team": "search",
        },
        summary=summary,
        description=description,
        dashboard=f"mlflow-quality?var-job=exporter&var-{place.replace('&', '&var-')}&var-assessment=correctness",
        traces=f"{place}&assessment=correctness&source={source}&since={since}",
    )


def _fails(experiment: str, text: str, source: str = "llm_judge") -> Fired:
    description = (
        f"In production of {experiment}, {text} that arrived in the last hour are errors of the scorer. They are"
        " neither good nor bad."
    )
    return _fired(experiment, source, "A scorer fails.", description, -586_800)


def _stopped(experiment: str, traces: int) -> Fired:
    description = (
        f"{experiment} had no correctness assessments by llm_judge in production in the last six hours; a day ago it"
        f" had 360 in six hours. In the last six hours it had {traces} traces."
    )
    summary = "Assessments have stopped, although traces still arrive."
    return _fired(experiment, "llm_judge", summary, description, 72_000)


def _scorer(
    experiment: str, errors: str, words: Mapping[str, str] = NO_WORDS, scores: str = "", source: str = "llm_judge"
) -> Iterator[Series]:
    """What a scorer gives."""
    yield from A.assessed("correctness", experiment, source=source, assessment_errors=errors)
    if words:
        yield from A.assessed("correctness", experiment, source=source, assessments=words)
    if scores:
        yield from A.assessed("correctness", experiment, source=source, scores=scores)
    yield from A.application("production", experiment, recorded_info={"search": "1x72"})


def _regular(
    experiment: str, given: str, traces: str = "600x1400", source: str = "llm_judge", target: Target = A
) -> Iterator[Series]:
    """What a scorer gives, and the traces of its application in six hours."""
    yield from target.assessed("correctness", experiment, source=source, assessment_errors="0x1400", scores=given)
    yield from target.application(
        "production", experiment, recorded_info={"search": "1x1400"}, recorded_traces_6h=traces
    )


def _nightly(last_late: int) -> str:
    """A hundred assessments at two o'clock each night; so many steps later in the last one."""
    nights = [f"{100 * night}x143" for night in range(1, 8)]
    return " ".join(("0x11", *nights, f"700x{last_late}", "800x250"))


FILE = CaseFile(
    "scorers.yml",
    "Scorers that fail, and assessments that stop coming.",
    "10m",
    (
        Case(
            "a judge fails on words or scores, for some time; a fifth fails, or a few; another source of the same name",
            "5m",
            [
                _scorer("words", "0x12 0+3x12 36x48", {"yes": "0+5x72", "no": "0+2x72"}),
                _scorer("scores", "0x12 0+3x60", scores="0+7x72"),
                _scorer("nothing but errors", "0x12 0+3x60"),
                _scorer("a fifth", "0+2x72", {"yes": "0+8x72"}),
                _scorer("four", "0x12 4x60"),
                _scorer("two sources", "0x12 0+3x60", {"yes": "0+1x72"}, source="code"),
                _scorer("two sources", "0x72", {"yes": "0+1x72"}, source="human"),
            ],
            (
                ask(FIRING, "1h"),
                ask(FAILING, "2h", *(one(experiment=name, source=source) for name, source in (WORDS, *OTHERS))),
                ask(FAILING, "3h", *(one(experiment=name, source=source) for name, source in (WORDS, *OTHERS))),
                ask(FAILING, "3h50m", *(one(experiment=name, source=source) for name, source in OTHERS)),
                fires(
                    "MlflowScorerFails",
                    "6h",
                    _fails("nothing but errors", "100% of the 36 correctness assessments by llm_judge"),
                    _fails("scores", "30% of the 120 correctness assessments by llm_judge"),
                    _fails("two sources", "75% of the 48 correctness assessments by code", "code"),
                ),
            ),
        ),
        Case(
            "a judge stops, and people go on; all traces stop, or most; it was silent a week ago; it was never regular;"
            " a nightly job is late; the exporter is down",
            "10m",
            [
                A.series(mlflow_up="1x1400"),
                _regular("stopped", STOPS),
                _regular("stopped", REGULAR, source="human"),
                _regular("no traces", STOPS, "600x1080 0x320"),
                _regular("old traces", STOPS, "0x1400"),
                _regular("fewer traces", STOPS, "600x1080 290x320"),
                _regular("half", STOPS, "600x1080 301x320"),
                _regular("silent a week ago", "0x240 0+10x840 8400x320"),
                _regular("irregular", "0+10x300 3000+0.5x780 3390x320"),
                _regular("nightly", _nightly(3)),
                _regular("down", STOPS, target=DOWN),
            ],
            (
                ask(FIRING, "186h40m"),
                ask(STOPPED, "187h20m", *(one(experiment=name, source="llm_judge") for name in ("half", "stopped"))),
                ask(STOPPED, "203h", *(one(experiment=name, source="llm_judge") for name in ("half", "stopped"))),
                ask(FIRING, "211h"),
                fires("MlflowAssessmentsStopped", "188h", _stopped("half", 301), _stopped("stopped", 600)),
            ),
        ),
    ),
    rules="mlflow-quality.yml",
)
