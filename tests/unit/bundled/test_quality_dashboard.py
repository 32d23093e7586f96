"""The panels about assessments, in promtool: the numbers of known ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.panels import PANELS, Panel, column, filled
from tests.unit.bundled.test_many_applications import check, over_an_hour, series

UID = "mlflow-quality"
PLACE = {"experiment": "chatbot", "environment": "production"}
CHOSEN = {"candidate": "2", "baseline": "1", "experiment": "chatbot"}
PANELS_OF_QUALITY = [panel for panel in PANELS if panel.uid == UID]
OF_VERSIONS = ("Good assessments", "Mean score")


def assessed() -> Iterator[dict[str, str]]:
    """Twenty traces per minute of each of two versions, of which five are assessed. Version 2 is worse. Rates are per
    minute."""
    for version, good, bad in (("1", 4, 1), ("2", 3, 2)):
        of = {**PLACE, "version": version}
        yield series("mlflow_traces_total", 20, **of, trace_name="t")
        for name in ("correctness", "relevance"):
            yield series("mlflow_traces_assessed_total", 5, **of, assessment=name)
            yield series("mlflow_trace_assessment_cost_usd_total", 0.25, **of, assessment=name)
        for rating, rate in (("good", good), ("bad", bad)):
            yield series("mlflow_trace_assessment_ratings_total", rate, **of, assessment="correctness", rating=rating)
        for source, yes, no in (("llm_judge", good, bad), ("human", 0.5, 0.5)):
            words = {**of, "assessment": "correctness", "source": source}
            yield series("mlflow_trace_assessments_total", yes, **words, value="yes")
            yield series("mlflow_trace_assessments_total", no, **words, value="no")
        for source, share in (("human", 0.1), ("llm_judge", 1)):
            scores = {**of, "assessment": "relevance", "source": source}
            yield series("mlflow_trace_assessment_score_sum", share * good, **scores)
            yield series("mlflow_trace_assessment_score_count", share * 5, **scores)
            for edge, rate in (("0.5", bad), ("1", 5), ("+Inf", 5)):
                yield series("mlflow_trace_assessment_score_bucket", share * rate, **scores, le=edge)
        for errors in (words, scores):
            yield series("mlflow_trace_assessment_errors_total", 0.5, **errors)
    yield series("mlflow_objective_assessment_ratio", 0.9, **PLACE, assessment="correctness")


def exactly(expr: str, by: str, **expected: float) -> dict[str, Any]:
    """What promtool has to find: the values of a query by one of its labels."""
    samples = [{"labels": f'{{{by}="{name}"}}', "value": value} for name, value in expected.items()]
    asked = filled(expr, CHOSEN, range_s=3600, rate="5m")
    return {"expr": f"round(sum by ({by}) ({asked}), 1e-6)", "exp_samples": samples}


def panel_of(title: str, uid: str = UID) -> Panel:
    (found,) = [panel for panel in PANELS if (panel.uid, panel.title) == (uid, title)]
    return found


def test_every_query_shows_something(tmp_path: Path) -> None:
    queries = [query for panel in PANELS_OF_QUALITY for query in panel.queries.values() if "code" not in query]
    one = [{"labels": "{}", "value": 1}]
    some = [{"expr": f"count({over_an_hour(query)}) >= bool 1", "exp_samples": one} for query in queries]
    check(tmp_path, assessed(), some)


def test_the_numbers_of_assessments(tmp_path: Path) -> None:
    columns: dict[str, dict[str, float]] = {
        "Bad vs allowed": {"correctness": 3},
        "Good": {"correctness": 0.7},
        "Objective": {"correctness": 0.9},
        "Mean score": {"relevance": 0.7},
        "Traces": {"correctness": 600, "relevance": 600},
        "Coverage": {"correctness": 0.25, "relevance": 0.25},
        "Errors": {"correctness": 60, "relevance": 60},
        "Cost": {"correctness": 30, "relevance": 30},
    }
    asked = [exactly(column(UID, "Assessments", name), "assessment", **values) for name, values in columns.items()]
    check(tmp_path, assessed(), asked)


def test_each_source_has_its_own_shares(tmp_path: Path) -> None:
    title = "People and judges: values"
    shares = {"People": (0.5, 0.5), "Judges": (0.7, 0.3)}
    asked = [exactly(column(UID, title, name), "value", yes=yes, no=no) for name, (yes, no) in shares.items()]
    judges = exactly(column(UID, "People and judges: mean scores", "Judges"), "assessment", relevance=0.7)
    check(tmp_path, assessed(), [*asked, judges])


def test_the_graphs_of_each_version(tmp_path: Path) -> None:
    good, mean = (panel_of(title).queries["A"] for title in ("Good by version", "Mean score by version"))
    asked = [exactly(expr, "version", **{"1": 0.8, "2": 0.6}) for expr in (good, mean)]
    values = exactly(panel_of("Values").queries["A"], "value", yes=8 / 12, no=4 / 12)
    values["exp_samples"] = [{**each, "value": round(each["value"], 6)} for each in values["exp_samples"]]
    check(tmp_path, assessed(), [*asked, values])


def test_the_candidate_is_compared_with_the_baseline(tmp_path: Path) -> None:
    asked = [
        exactly(panel_of(title, "mlflow-versions").queries[ref], "assessment", **{name: share})
        for title, name in zip(OF_VERSIONS, ("correctness", "relevance"), strict=True)
        for ref, share in (("A", 0.6), ("B", 0.8))
    ]
    check(tmp_path, assessed(), asked)
