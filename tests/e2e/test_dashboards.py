"""Every query of every panel, on a real Prometheus that scraped a real exporter of known traces."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import time
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from mlflow.entities import AssessmentError

from mlflow_trace_exporter.commands.cli import cli
from mlflow_trace_exporter.demo.monitoring import Stack
from mlflow_trace_exporter.demo.processes import Processes
from tests.e2e.test_rule_names import CHECKER, Parse, parse
from tests.support.panels import DASHBOARDS, NATURAL, PANELS, Panel, column, filled, naturally, query_variables
from tests.support.ports import free_port
from tests.support.prometheus_api import PrometheusApi, StoodStillError, undisturbed
from tests.support.real import Exporter, Mlflow, Trace, eventually, now_ms, tool
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.long

__all__ = ["parse"]

OLD = {"environment": "production", "app_version": "1.4.0"}
NEW = {"environment": "production", "app_version": "1.5.0+b(2)"}
STAGING = {**NEW, "environment": "staging"}
COMPARED = {"candidate": NEW["app_version"], "baseline": OLD["app_version"]}
CHOSEN = {**COMPARED, "environment": "production|staging"}
"""Of all that is scraped what the panels are asked about."""

WITHIN = '{"input_tokens": 100, "output_tokens": 20, "total_tokens": 120, "cache_read_input_tokens": 40}'
BESIDE = '{"input_tokens": 7, "output_tokens": 20, "total_tokens": 27, "cache_read_input_tokens": 15000}'
"""As mlflow.claude_code writes it: cached tokens are not part of the input."""


def of(tags: dict[str, str], duration_ms: int, state: str = "OK", **more: str) -> Trace:
    usage = BESIDE if tags is STAGING else WITHIN
    metadata = {"mlflow.trace.tokenUsage": usage, "mlflow.trace.cost": '{"input_cost": 0.25, "output_cost": 0.5}'}
    start_ms = now_ms() - (60_000 if tags is OLD else 50_000)
    return Trace(start_ms, duration_ms, state, tags=tags, metadata={**metadata, **more})


def known() -> list[Trace]:
    return [
        *(of(OLD, 400) for _ in range(20)),
        *(of(NEW, 400) for _ in range(4)),
        *(of(NEW, 8_000) for _ in range(2)),
        *(of(NEW, 400, "ERROR") for _ in range(4)),
        *(of(STAGING, 400) for _ in range(5)),
    ]


RANGE_S = 1_800
"""The time range of the dashboards: longer than the tests take, on a busy machine too."""

CALL = {"mlflow.llm.model": "gpt-4o", "mlflow.llm.provider": "openai"}
USED = {
    "mlflow.chat.tokenUsage": {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120},
    "mlflow.llm.cost": {"input_cost": 0.25, "output_cost": 0.5, "total_cost": 0.75},
}


def put_spans_into(mlflow: Mlflow, experiment: str, trace_ids: Sequence[str]) -> None:
    """Calls, a tool and a retriever. In the first trace a call and the tool fail."""
    insert = partial(mlflow.insert_span, experiment)
    insert(trace_ids, "answer", span_type="CHAT_MODEL", attributes={**CALL, **USED}, streamed=True)
    insert(trace_ids[:1], "answer", "ERROR", span_type="CHAT_MODEL", attributes=CALL)
    insert(trace_ids, "look_up", span_type="RETRIEVER")
    insert(trace_ids, "search")
    insert(trace_ids[:1], "search", "ERROR")


def assess(mlflow: Mlflow, old: Sequence[str], new: Sequence[str]) -> None:
    """By people, judges and code, in words and scores. Those of the old version are good. One judge fails."""
    cost = {"mlflow.assessment.judgeCost": "0.25"}
    for trace_id, value in (*((each, "yes") for each in old), *((each, "no") for each in new)):
        for source in ("HUMAN", "LLM_JUDGE", "CODE"):
            mlflow.assess(trace_id, "correctness", value, source, metadata=cost)
            mlflow.assess(trace_id, "relevance", 0.75 if value == "yes" else 0.25, source)
    mlflow.assess(old[0], "correctness", None, "LLM_JUDGE", error=AssessmentError("RATE_LIMIT", "slow down"))


def log_known(mlflow: Mlflow, experiment: str) -> None:
    """The known traces, with what is in some of them and what is said of some."""
    ids = mlflow.log(experiment, *known())
    put_spans_into(mlflow, experiment, ids[-5:])
    assess(mlflow, ids[:2], ids[-10:-5])


def of_another_application() -> list[Trace]:
    """Its newest version is neither the last of the alphabet nor known. In production, all of its traces fail."""
    red = {"app_version": "1.9", "tenant": "red"}
    blue = {"app_version": "1.10", "tenant": "blue"}
    versions: Sequence[tuple[dict[str, str], int]] = ((red, 90_000), (blue, 80_000), ({}, 70_000))
    return [
        *(
            Trace(now_ms() - ago_ms, name="batch", tags={"environment": "dev", **version})
            for version, ago_ms in versions
        ),
        *(
            Trace(now_ms() - 50_000, state="ERROR", name="batch", tags={"environment": "production", **red})
            for _ in range(10)
        ),
    ]


@dataclass(frozen=True)
class Asked:
    """A Prometheus that has scraped the known traces, of the application ``one``, within ``range_s``, and those of the
    application ``other``. ``soon_s``: a time (Unix s) in the hour after them, which is a minute in the shortened rules.
    """

    url: str
    range_s: int
    one: str
    other: str
    soon_s: float

    @property
    def api(self) -> PrometheusApi:
        """What answers."""
        return PrometheusApi(self.url)

    def values(self, expr: str, label: str, at_s: float | None = None, **chosen: str) -> dict[str, float]:
        """The values by a label, by default of the application ``one``, now or at a time."""
        variables = {**CHOSEN, "experiment": self.one, **chosen}
        found = self.api.query(filled(expr, variables, self.range_s, rate=f"{self.range_s}s"), at_s)
        return {each["metric"].get(label, ""): float(each["value"][1]) for each in found}

    def options(self, variable: Mapping[str, Any], chosen: Mapping[str, str]) -> list[str]:
        """The values that Grafana offers, in its order, where those of other variables are ``chosen``."""
        query = filled(variable["query"]["query"], chosen, self.range_s)
        if values := re.fullmatch(r"label_values\((.*), (\w+)\)", query):
            found: list[str] = self.api.get(f"label/{values[2]}/values", **{"match[]": values[1]})
            return sorted(found, key=naturally) if variable["sort"] == NATURAL else found
        asked = re.fullmatch(r"query_result\((.*)\)", query)
        assert asked is not None
        assert variable["sort"] == 0, "Prometheus has put them in order"
        texts = map(_as_text, self.api.query(asked[1]))
        matches = (re.search(variable["regex"].strip("/"), text) for text in texts)
        return [match[1] for match in matches if match]


def _as_text(series: Mapping[str, Any]) -> str:
    """A series as query_result() writes it, which escapes nothing."""
    at_s, value = series["value"]
    labels = ",".join(f'{name}="{value}"' for name, value in series["metric"].items())
    return f"{{{labels}}} {value} {at_s * 1000}"


@contextmanager
def scraping(mlflow: Mlflow, directory: Path, **more: Any) -> Iterator[tuple[str, str, str]]:
    """The address of a Prometheus that has scraped the known traces for half a minute, and the names of the two
    applications. ``more`` goes into its configuration, which is in the folder ``stack``.

    Raises StoodStillError if some series was not scraped before its first increment, which increase() then lacks.
    """
    experiment, other = mlflow.experiment(), mlflow.experiment()
    settings = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": [experiment, other]},
        "poll": {"interval": "1s", "start": "1h"},
        "spans": {"enabled": True},
        "active_users": {"enabled": True},
        "series": {"zero_hold": "4s"},
        "labels": {"extra": {"tenant": "tag.tenant"}},
        "objectives": [
            {"experiment": other, "environment": "production", "error_ratio": "50%", "team": "search"},
            {"experiment": other, "team": "search"},
            {
                "environment": "production",
                "team": "support",
                "error_ratio": "5%",
                "latency": "5s",
                "latency_ratio": "95%",
                "first_chunk": "2s",
                "cost_usd_per_day": 100,
                "quality": [{"assessment": "correctness", "good": ["yes"], "ratio": "90%"}],
            },
        ],
    }
    exporter = Exporter(directory, settings)
    stack = Stack(int(exporter.url.rpartition(":")[2]), free_port(), free_port(), free_port(), scrape_s=1, shorter=60)
    stack.write(directory / "stack")
    prometheus = directory / "stack" / "prometheus.yml"
    prometheus.write_text(yaml.safe_dump({**yaml.safe_load(prometheus.read_text()), **more}))
    with exporter.running(), Processes(directory) as processes:
        command = stack.prometheus_command(tool("prometheus"), directory / "stack")
        processes.start_program("prometheus", command, {})
        processes.wait_until_ready(f"{stack.prometheus}/-/ready", lambda: False, HANG_S)
        query = PrometheusApi(stack.prometheus).query
        eventually(lambda: query("mlflow_up == 1"), "it scrapes")
        log_known(mlflow, experiment)
        mlflow.log(other, *of_another_application())
        eventually(lambda: query("sum(mlflow_traces_total) == 48"), "all is scraped")
        eventually(lambda: query("min(count_over_time(mlflow_traces_total[10m])) >= 25"), "it has a past")
        require_first_increments(query)
        yield stack.prometheus, experiment, other


def require_first_increments(query: Callable[[str], object]) -> None:
    """Raise StoodStillError if Prometheus missed the 0 of some counter."""
    if query("min_over_time(mlflow_traces_total[10m]) > 0"):
        raise StoodStillError("a counter was not scraped while it was 0")


@pytest.fixture(scope="module")
def asked(mlflow: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with undisturbed(partial(asking, mlflow), tmp_path_factory.mktemp("dashboards")) as found:
        yield found


@contextmanager
def asking(mlflow: Mlflow, directory: Path) -> Iterator[Asked]:
    """Raises StoodStillError if that keeps the rules from being evaluated in the hour after the traces."""
    with scraping(mlflow, directory) as (url, experiment, other):
        query = PrometheusApi(url).query
        both = (f"experiment_environment:mlflow_trace_{each}:increase1h > 1" for each in ("errors", "slow"))
        recent = " and ".join(both)
        scraped_s = time()

        def first_s(expr: str) -> float:
            """The time at which a query finds something that is there only if rules were evaluated soon enough."""

            def found_s() -> float | None:
                at_s = time()
                if query(expr, at_s):
                    return at_s
                if at_s > scraped_s + 150:
                    raise StoodStillError(f"there never was {expr}")
                return None

            return eventually(found_s, f"there is {expr}")

        soon_s = first_s(recent)
        for recorded in (
            f'experiment_environment:mlflow_trace_errors:ratio_increase3d{{experiment="{experiment}"}} > 0.1',
            "experiment_environment:mlflow_trace_slow:ratio_increase3d > 0.05",
            "experiment_environment:mlflow_trace_cost_usd:increase1d > 22",
            'experiment_environment:mlflow_trace_cost_usd:increase1d{environment="staging"} > 3.7',
            'count_over_time(ALERTS{alertstate="firing", alertname="MlflowErrorRatioHigh", team="support"}[10m])',
        ):
            eventually(partial(query, recorded), f"there is {recorded}")
        first_s("sum_over_time(experiment_environment:mlflow_trace_errors:increase1h[1h:1m]) > 3")  # as panels ask
        eventually(lambda: query("mlflow_trace_exporter_audited_until_timestamp_seconds"), "an audit")
        yield Asked(url, range_s=RANGE_S, one=experiment, other=other, soon_s=soon_s)


@pytest.mark.parametrize("panel", PANELS, ids=str)
def test_every_query_is_of_what_there_is(panel: Panel, parse: Parse) -> None:
    for target in panel.content["targets"]:
        labels = CHECKER.labels(parse(filled(target["expr"], COMPARED)))
        assert set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", ""))) <= labels, target["expr"]


@pytest.mark.parametrize("panel", PANELS, ids=str)
def test_every_panel_shows_something(panel: Panel, asked: Asked) -> None:
    def is_empty(expr: str) -> bool:
        return not any(asked.values(expr, "environment", at_s) for at_s in (None, asked.soon_s))

    assert [ref for ref, expr in panel.queries.items() if is_empty(expr)] == []


BUDGETS = "30-day error budgets"


@pytest.mark.parametrize(
    ("uid", "title", "name", "label", "expected"),
    [
        ("mlflow-overview", "Applications", "Traces/s", "environment", {"production": 1 / 60, "staging": 1 / 360}),
        ("mlflow-overview", "Applications", "Failed", "environment", {"production": 4 / 30, "staging": 0}),
        ("mlflow-overview", "Applications", "Error budget burned", "environment", {"production": 4 / 1.5}),
        ("mlflow-overview", "Applications", "Slow", "environment", {"production": 2 / 30}),
        ("mlflow-overview", "Applications", "Slow budget burned", "environment", {"production": 2 / 1.5}),
        ("mlflow-overview", "Applications", "Cost vs objective", "environment", {"production": 10.8}),
        ("mlflow-overview", "Applications", "Worst", "environment", {"production": 10.8}),
        ("mlflow-overview", "Applications", "Cost/h", "environment", {"production": 45, "staging": 7.5}),
        ("mlflow-objectives", BUDGETS, "Allowed to fail", "environment", {"production": 0.05}),
        ("mlflow-objectives", BUDGETS, "Failed", "environment", {"production": 4 / 30, "staging": 0}),
        ("mlflow-objectives", BUDGETS, "Error budget used", "environment", {"production": 4 / 1.5}),
        ("mlflow-objectives", BUDGETS, "Latency budget used", "environment", {"production": 2 / 1.5}),
        ("mlflow-objectives", BUDGETS, "24 h cost", "environment", {"production": 22.5, "staging": 3.75}),
        ("mlflow-versions", "Side by side", "Traces", "version", {"1.4.0": 20, NEW["app_version"]: 15}),
        ("mlflow-versions", "Side by side", "Failed", "version", {"1.4.0": 0, NEW["app_version"]: 4 / 15}),
        ("mlflow-versions", "Side by side", "Tokens per trace", "version", {"1.4.0": 120, NEW["app_version"]: 89}),
        ("mlflow-versions", "Side by side", "Cost per trace", "version", {"1.4.0": 0.75, NEW["app_version"]: 0.75}),
        ("mlflow-cost", "Top spenders", "Input tokens", "version", {"1.4.0": 2_000, NEW["app_version"]: 1_000}),
    ],
)  # fmt: skip
def test_the_number_that_is_right(
    uid: str, title: str, name: str, label: str, expected: dict[str, float], asked: Asked
) -> None:
    expr = column(uid, title, name)
    if uid == "mlflow-cost":
        expr = expr.replace("$environment", "production")
    right = pytest.approx(expected, rel=0.1)  # within what Prometheus extrapolates, and that becomes less with time
    eventually(lambda: asked.values(expr, label) == right, f"{name}: {expected}, not {asked.values(expr, label)}")


def test_no_share_from_the_cache_is_above_100_percent(asked: Asked) -> None:
    (panel,) = [each for each in PANELS if each.title == "Cache hit share"]
    found = asked.values(panel.queries["A"], "environment")
    assert found == pytest.approx({"production": 0.4, "staging": 15_000 / 15_007}, rel=1e-6)


@pytest.mark.parametrize("title", ["Memory", "CPU"])
def test_of_all_processes_only_the_exporter_is_shown(title: str, asked: Asked) -> None:
    (panel,) = [each for each in PANELS if each.title == title]
    assert len(asked.values(panel.queries["A"], "instance")) == 1


def test_a_quantile_lies_in_its_bucket(asked: Asked) -> None:
    p95 = asked.values(column("mlflow-versions", "Side by side", "p95"), "version")
    assert 0.25 < p95["1.4.0"] <= 0.5
    assert 5 < p95[NEW["app_version"]] <= 10


def test_a_deployment_is_marked_when_its_first_trace_started(asked: Asked) -> None:
    (annotation,) = DASHBOARDS["mlflow-overview"]["annotations"]["list"]
    found = asked.api.query(filled(annotation["expr"], {**CHOSEN, "experiment": asked.one}))
    assert {(each["metric"]["environment"], each["metric"]["version"]) for each in found} == {
        (tags["environment"], tags["app_version"]) for tags in (OLD, NEW, STAGING)
    }
    assert all(0 < now_ms() - float(each["value"][1]) < RANGE_S * 1000 for each in found)


OFFERED = {
    "job": ["mlflow-trace-exporter"],
    "environment": ["dev", "production", "staging"],
    "version": ["1.4.0", NEW["app_version"], "1.9", "1.10", "unknown"],
    "trace_name": ["batch", "support"],
    "team": ["search", "support"],
    "tenant": ["blue", "red", "unknown"],
    "provider": ["openai"],
    "model": ["gpt-4o"],
    "assessment": ["correctness", "relevance"],
}
"""What each variable offers while nothing is chosen, in natural order."""

OF_ONE = {
    "environment": ["production", "staging"],
    "trace_name": ["support"],
    "candidate": [NEW["app_version"], OLD["app_version"]],
    "baseline": [OLD["app_version"]],
}
"""The same on the dashboard of versions, which is of one application: versions the newest first."""


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_variables_have_the_values_that_there_are(uid: str, asked: Asked) -> None:
    is_of_one = uid == "mlflow-versions"
    chosen = {"experiment": asked.one} if is_of_one else {}
    expected = {
        **OFFERED,
        "experiment": sorted((asked.one, asked.other), key=naturally),
        **(OF_ONE if is_of_one else {}),
    }
    for variable in query_variables(DASHBOARDS[uid]):
        name, offered = variable["name"], asked.options(variable, chosen)
        assert offered == expected[name] if name in expected else len(offered) == 1, name
        if not variable["includeAll"]:
            chosen.setdefault(name, offered[0])


def test_a_team_has_its_applications(asked: Asked) -> None:
    (variable,) = [each for each in query_variables(DASHBOARDS["mlflow-overview"]) if each["name"] == "experiment"]
    assert asked.options(variable, {"team": "search"}) == [asked.other]
    assert asked.options(variable, {"team": "support|search"}) == sorted((asked.one, asked.other), key=naturally)
    assert "allValue" not in variable, "All must not be more than what is offered"


def test_all_teams_have_the_applications_of_an_exporter_that_knows_no_team(asked: Asked) -> None:
    (variable,) = [each for each in query_variables(DASHBOARDS["mlflow-overview"]) if each["name"] == "experiment"]
    older = {**variable, "query": {"query": variable["query"]["query"].replace("mlflow_objective_info|", "")}}
    assert len(asked.options(older, {})) == 2
    assert asked.options(older, {"team": "search"}) == []


@pytest.mark.parametrize(
    ("uid", "title", "name", "one", "other"),
    [
        ("mlflow-overview", "Applications", "Worst", 10.8, 1),
        ("mlflow-overview", "Applications", "Error budget burned", 4 / 1.5, 10 / (0.5 * 20)),
        ("mlflow-objectives", BUDGETS, "Allowed to fail", 0.05, 0.5),
        ("mlflow-objectives", BUDGETS, "Error budget used", 4 / 1.5, 2),
        ("mlflow-cost", "Top spenders", "Traces", 30, 10),
    ],
)
def test_each_application_has_its_own_number(
    uid: str, title: str, name: str, one: float, other: float, asked: Asked
) -> None:
    """Also where both are in the same environment. In ``other`` fewer traces than min_traces have failed."""
    expr = f"sum by (experiment) ({column(uid, title, name)})"
    right = pytest.approx({asked.one: one, asked.other: other}, rel=0.1)
    found = partial(asked.values, expr, "experiment", experiment=".+", environment="production")
    eventually(lambda: found() == right, f"{name}: {one} and {other}, not {found()}")


def test_the_team_is_beside_its_application(asked: Asked) -> None:
    (panel,) = [each for each in PANELS if each.title == "Applications"]
    expr = panel.content["targets"][-1]["expr"]
    found = asked.api.query(filled(expr, {"environment": "production"}))
    teams = {each["metric"]["experiment"]: each["metric"]["team"] for each in found}
    assert teams == {asked.one: "support", asked.other: "search"}


def test_an_alert_is_that_of_its_application_and_team(asked: Asked) -> None:
    (panel,) = [each for each in PANELS if each.title == "Firing alerts"]
    for chosen in ({"experiment": asked.other}, {"team": "search"}):
        found = asked.api.query(filled(panel.queries["A"], chosen))
        assert {each["metric"].get("team", "search") for each in found} <= {"search"}, found


def test_each_variable_is_narrowed_by_those_before_it(asked: Asked) -> None:
    of_versions = {each["name"]: each for each in query_variables(DASHBOARDS["mlflow-versions"])}
    chosen = {"experiment": asked.other}
    found = {name: asked.options(variable, {**chosen, "candidate": "1.10"}) for name, variable in of_versions.items()}
    assert found["environment"] == ["dev", "production"]
    assert found["trace_name"] == ["batch"]
    assert (found["candidate"], found["baseline"]) == (["1.10", "1.9"], ["1.9"])


def test_a_label_of_the_configuration_has_a_variable_that_filters(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "exporter.yml").write_text("labels: {extra: {tenant: tag.tenant}}")
    arguments = ["dashboards", f"--output={tmp_path / 'boards'}", f"--config.file={tmp_path / 'exporter.yml'}"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    boards = {file.stem: json.loads(file.read_text()) for file in (tmp_path / "boards").iterdir()}
    for uid in ("mlflow-overview", "mlflow-objectives", "mlflow-versions", "mlflow-cost"):
        tenant = next(each for each in query_variables(boards[uid]) if each["name"] == "tenant")
        assert asked.options(tenant, {"experiment": asked.other}) == OFFERED["tenant"]
    traces = next(
        panel for panel in boards["mlflow-overview"]["panels"] if panel["title"] == "Versions and trace names"
    )
    expr = f"sum by (environment) ({traces['targets'][0]['expr']})"
    for tenants, expected in (("blue|red", {"dev": 2, "production": 10}), (".*", {"dev": 3, "production": 10})):
        found = asked.api.query(filled(expr, {"tenant": tenants, "experiment": asked.other}, asked.range_s))
        counted = {each["metric"]["environment"]: float(each["value"][1]) for each in found}
        assert counted == pytest.approx(expected, rel=0.1), "within what Prometheus extrapolates"


def test_nothing_is_shown_of_what_is_not_there(asked: Asked) -> None:
    """No traffic is no data, and not 0 % errors."""
    for name in ("Failed", "Slow", "Error budget burned", "Slow budget burned", "p95"):
        expr = column("mlflow-overview", "Applications", name)
        assert asked.api.query(filled(expr, range_s=3)) == [], name
