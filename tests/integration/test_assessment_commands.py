"""What the commands say about assessments, with a real MLflow server."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import Result

from mlflow_trace_exporter import check_health, make_report
from mlflow_trace_exporter.web.trace_list import MAX_LOOKED_AT
from tests.support.commands import config_file, invoke
from tests.support.real import Exporter, Mlflow, Trace, eventually, now_ms
from tests.support.waiting import HANG_S

PRODUCTION = {"environment": "production", "app_version": "1.4.0"}
STAGING = {"environment": "staging", "app_version": "1.4.0"}


@dataclass(frozen=True)
class Assessed:
    """An experiment with assessments, and its traces."""

    mlflow: Mlflow
    experiment: str
    traces: list[str]

    def run(self, directory: Path, command: str, *arguments: str, **settings: Any) -> Result:
        file = config_file(directory, self.mlflow, self.experiment, **settings)
        return invoke(command, f"--config.file={file}", *arguments)


@pytest.fixture(scope="module")
def assessed(mlflow: Mlflow) -> Assessed:
    """In production a judge finds 7 of 10 correct, and changes its mind about one of them. One scorer fails."""
    experiment, at_ms = mlflow.experiment(), now_ms() - 60_000
    traces = mlflow.insert(experiment, [Trace(at_ms - at, tags=PRODUCTION) for at in range(10)])
    traces += mlflow.insert(experiment, [Trace(at_ms, tags=STAGING)])
    for at, trace_id in enumerate(traces[:10]):
        cost = {"mlflow.assessment.judgeCost": "0.25"}
        judged = mlflow.assess(trace_id, "correctness", "yes" if at < 8 else "no", "LLM_JUDGE", metadata=cost)
        if at == 7:
            mlflow.assess(trace_id, "correctness", "no", "LLM_JUDGE", overrides=judged)
    mlflow.assess(traces[0], "relevance", 0.5, "CODE")
    mlflow.assess(traces[1], "relevance", 1, "CODE")
    mlflow.assess(traces[2], "relevance", None, "CODE", error=ValueError("no answer"))
    mlflow.assess(traces[10], "correctness", True)
    return Assessed(mlflow, experiment, traces)


def test_a_report_by_assessment(assessed: Assessed, tmp_path: Path) -> None:
    done = assessed.run(tmp_path, "report", "--by=assessment,source", "--environment=production")
    assert done.exit_code == 0, done.output
    summary, *lines = done.stdout.splitlines()
    assert summary.startswith("13 assessments of 10 of 10 finished traces from ")
    cells = {tuple(line.split()[:2]): line.split()[2:] for line in lines if line}
    assert cells["correctness", "llm_judge"] == [
        *("yes", "70.0%,", "no", "30.0%", "10", "10", "(100.0%)", "-", "-", "0", "(0.0%)", "$2.2500")
    ]
    assert cells["relevance", "code"] == ["-", "3", "3", "(30.0%)", "0.750", "0.750", "1", "(33.3%)", "-"]
    found = assessed.run(tmp_path, "report", "--by=assessment,source", "--environment=production", "--format=json")
    report = make_report(
        by=["assessment", "source"], environment="production", config=tmp_path / "exporter.yml", since="24h"
    )
    assert json.loads(found.stdout)["rows"] == report.as_dicts()


def test_a_report_without_assessments_says_so(assessed: Assessed, tmp_path: Path) -> None:
    done = assessed.run(tmp_path, "report", "--by=assessment", "--until=1h")
    assert done.stdout.startswith("0 assessments of 0 of 0 finished traces from ")


QUALITY = {
    "environment": "production",
    "min_traces": 2,
    "quality": [
        {"assessment": "correctness", "good": ["no"], "ratio": "25%"},
        {"assessment": "relevance", "at_least": 0.6, "ratio": "50%"},
    ],
}
HEALTH = ("health", "--environment=production", "--min-traces=2")


@pytest.mark.parametrize(("ratio", "code", "word"), [("70%", 0, "within"), ("71%", 1, "breached")])
def test_health_checks_the_share_of_good_assessments(
    assessed: Assessed, tmp_path: Path, ratio: str, code: int, word: str
) -> None:
    done = assessed.run(tmp_path, *HEALTH, f"--good=correctness={ratio}")
    assert done.exit_code == code, done.output
    name = f"{assessed.experiment} in production"
    assert done.stdout.splitlines()[0] == f"{word}: {name}: correctness 70% good, at least {ratio}"
    found = assessed.run(tmp_path, *HEALTH, f"--good=correctness={ratio}", "--format=json")
    (checked,) = json.loads(found.stdout)["environments"][0]["checks"]
    assert checked == {
        "what": "correctness",
        "unit": "ratio",
        "traces": 10,
        "measured": 0.7,
        "threshold": float(ratio.removesuffix("%")) / 100,
        "at_least": True,
        "breached": bool(code),
    }


def test_health_takes_what_is_good_from_the_objective(assessed: Assessed, tmp_path: Path) -> None:
    done = assessed.run(tmp_path, *HEALTH, "--good=correctness=35%", "--good=relevance=40%", objectives=[QUALITY])
    assert done.exit_code == 1
    breached, within, _ = done.stdout.splitlines()
    assert breached.endswith("correctness 30% good, at least 35%")
    assert within.endswith("relevance 50% good, at least 40%"), "a failed scorer is neither good nor bad"


def test_health_checks_the_quality_objectives_of_the_configuration(assessed: Assessed, tmp_path: Path) -> None:
    done = assessed.run(tmp_path, "health", objectives=[QUALITY])
    within, summary = done.stdout.splitlines()
    assert within.endswith(": correctness 30% good, at least 25%, relevance 50% good, at least 50%")
    assert (done.exit_code, summary.split(":")[0]) == (0, "healthy")
    strict = {**QUALITY, "min_traces": 3}
    assert assessed.run(tmp_path, "health", objectives=[strict]).exit_code == 3, "relevance has two scores"


def test_health_does_not_guess_which_scores_are_good(assessed: Assessed, tmp_path: Path) -> None:
    done = assessed.run(tmp_path, *HEALTH, "--good=relevance=50%")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--good: 'relevance' has scores, and nothing says which are good; set at_least" in done.stderr


def test_health_with_too_few_assessments_says_which_there_are(assessed: Assessed, tmp_path: Path) -> None:
    done = assessed.run(tmp_path, "health", "--environment=production", "--good=corectness=90%", "--min-traces=10")
    assert done.exit_code == 3
    assert done.stdout.splitlines()[0].endswith(
        "corectness not checked: measured on 0 of 10 traces, fewer than 10 (--min-traces); did you mean correctness?;"
        " existing assessments: correctness, relevance"
    )


def test_check_health_is_the_same_from_python(assessed: Assessed, tmp_path: Path) -> None:
    file = config_file(tmp_path, assessed.mlflow, assessed.experiment)
    found = check_health(environments="staging", good={"correctness": 0.9}, min_traces=1, config=file)
    ((check,),) = (each.checks for each in found.environments)
    assert (check.what, check.measured, check.traces, check.breached) == ("correctness", 1.0, 1, False), "true is good"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["correctness"], "'correctness' is not a name with a ratio, such as correctness=90%"),
        (["=90%"], "'=90%' is not a name with a ratio"),
        (["correctness=90"], "'90' is not a ratio between 0 and 1"),
        (["correctness=best"], "is not a ratio between 0 and 1"),
        (["a=90%", "a=80%"], "'a' has two ratios; write one"),
        (["a=90%", "a =80%"], "two names are the same"),
    ],
)
def test_health_explains_a_mistake_in_the_flag(
    assessed: Assessed, tmp_path: Path, given: list[str], words: str
) -> None:
    done = assessed.run(tmp_path, *HEALTH, *(f"--good={each}" for each in given))
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr
    assert "--good" in done.stderr


def ids(page: str) -> list[str]:
    return re.findall(r"/traces/(tr-\w+)\"", page)


def test_the_page_of_traces_finds_those_that_an_alert_is_about(assessed: Assessed, tmp_path: Path) -> None:
    mlflow, made = assessed.mlflow, assessed.traces
    settings = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": assessed.experiment},
        "poll": {"interval": "1s", "start": "1h"},
    }

    def page(**query: str) -> str:
        return exporter.traces_page(**query)

    with Exporter(tmp_path, settings).running() as exporter:
        shown = page(assessment="correctness", value="no")
        assert ids(shown) == made[7:10]
        assert shown.count("correctness no (llm_judge)") == 2 * 3, "one of them was yes before"
        assert ids(page(assessment="correctness", source="human")) == [made[10]]
        assert ids(page(assessment="relevance", value="1")) == [made[1]]
        assert ids(page(assessment="relevance")) == made[:3]
        name = 'mlflow_traces_assessed_total{assessment="relevance"'
        eventually(lambda: any(each.startswith(name) for each in exporter.samples()), "assessments are counted")
        assert '<option value="relevance">' in page()


def test_mlflow_searches_for_assessments_among_many_traces(mlflow: Mlflow, tmp_path: Path) -> None:
    """The page looks at no more than 5,000 traces."""
    experiment, at_ms = mlflow.experiment(), now_ms() - 600_000
    names = {"correctness": "no", "my check.v2": True, "a/b:c@d-e_f": "a b", "status": "x"}
    made = dict(zip(names, mlflow.insert(experiment, [Trace(at_ms)] * len(names)), strict=True))
    for name, value in names.items():
        mlflow.assess(made[name], name, value)
    mlflow.insert(experiment, [Trace(at_ms + 1 + at) for at in range(MAX_LOOKED_AT + 1)])
    settings = {"mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment}}
    with Exporter(tmp_path, settings).running() as exporter:
        for name, value in names.items():
            query = {"assessment": name, "value": str(value).casefold()}
            found = requests.get(f"{exporter.url}/traces", params=query, timeout=HANG_S).text
            assert ids(found) == [made[name]], name
        query = {"assessment": "correctness", "value": "yes"}
        assert ids(requests.get(f"{exporter.url}/traces", params=query, timeout=HANG_S).text) == []


def test_doctor_says_who_assesses_how_many_traces(assessed: Assessed, tmp_path: Path) -> None:
    done = assessed.run(tmp_path, "doctor")
    lines = [line for line in done.stdout.splitlines() if line.startswith("assessments  ")]
    found = "correctness (human, llm_judge), relevance (code); failed: 1"
    settings = {
        "mlflow": {"tracking_uri": assessed.mlflow.uri, "experiments": assessed.experiment},
        "poll": {"interval": "1s", "start": "1h"},
    }
    with Exporter(tmp_path, settings).running() as exporter:
        eventually(lambda: assessed_traces(exporter.samples()) == 13, "all but the failed one")
        samples = exporter.after_next_poll()
    series = int(samples["mlflow_trace_exporter_series"])
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("series ")]
    of_traces = int(re.findall(r"([\d,]+) series", line)[0].replace(",", ""))
    assert lines == [
        f"assessments  11 of 11 traces have some: {found}",
        f"assessments  assessments.enabled adds {series - of_traces} series for this sample",
    ]
    assert "which are not counted" not in done.stdout


def assessed_traces(samples: Mapping[str, float]) -> float:
    return sum(value for key, value in samples.items() if key.startswith("mlflow_traces_assessed_total{"))


def test_doctor_says_that_assessments_are_not_counted(assessed: Assessed, tmp_path: Path) -> None:
    done = assessed.run(tmp_path, "doctor", assessments={"enabled": False})
    assert "- 11 of the traces have assessments, which are not counted. Set assessments.enabled to true" in done.stdout
    assert "assessments  assessments.enabled: true would add " in done.stdout


def test_doctor_says_that_there_are_none(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, [Trace(now_ms(), tags=PRODUCTION)])
    file = config_file(tmp_path, mlflow, experiment, assessments={"enabled": False})
    done = invoke("doctor", f"--config.file={file}")
    assert "assessments  none of these traces has any" in done.stdout
    assert "not counted. Set assessments" not in done.stdout
