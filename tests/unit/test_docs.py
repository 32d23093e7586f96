"""The documentation says what the code says, and its links lead somewhere."""

import json
import re
from pathlib import Path

import pytest
import yaml

from mlflow_trace_exporter.commands.cli import cli
from mlflow_trace_exporter.commands.ledgers import ledger
from mlflow_trace_exporter.domain.labels import INSIDE_NAMES
from mlflow_trace_exporter.errors import Reason
from mlflow_trace_exporter.metrics.status import STATUS_FAMILIES
from mlflow_trace_exporter.settings import config
from mlflow_trace_exporter.tracking import remedies
from mlflow_trace_exporter.tracking.remedies import Diagnosis
from mlflow_trace_exporter.web import assessed
from mlflow_trace_exporter.web.trace_list import PARAMETERS
from tests import pictures
from tests.support import PROJECT, docs
from tests.support.builders import FAMILIES_WITH_ALL
from tests.support.docs import table
from tests.support.panels import DASHBOARDS
from tests.unit.bundled.test_rules import ALERTS

MAX_WORDS = 1_000
PACKAGE = PROJECT / "exporter" / "mlflow_trace_exporter"
CHART = PROJECT / "deploy" / "helm" / "mlflow-trace-exporter"


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_metric_table() -> None:
    documented = {name: (row[1], names(row[2])) for row in table("metrics", "## All metrics") for name in names(row[0])}
    trace = {
        family.name: ("histogram" if family.edges else "counter", list(family.label_names))
        for family in FAMILIES_WITH_ALL
    }
    status = {family.name: (family.type, list(family.label_names)) for family in STATUS_FAMILIES}
    assert documented == {**trace, **status}


def test_every_metric_that_is_named_exists() -> None:
    known = {family.name for family in FAMILIES_WITH_ALL} | {family.name for family in STATUS_FAMILIES}
    named = set(re.findall(r"\bmlflow_[a-z_]+[a-z]\b(?![.:/])", docs.everything()))
    metrics = {re.sub(r"_(bucket|count|sum)$", "", name) for name in named}
    others = {"mlflow_trace_exporter", "mlflow_ui_url", "mlflow_version", "mlflow_objective", "mlflow_tracking_uri"}
    assert metrics - known <= others
    reported = [
        name for row in table("how-it-counts", "## What the guarantee does not cover") for name in names(row[2])
    ]
    assert {name if name.startswith("mlflow_") else f"mlflow_trace_exporter_{name}" for name in reported} <= known


def test_configuration_table() -> None:
    documented = [name for row in table("configuration", "## Keys") for name in names(row[0])]
    assert documented == list(config.keys())


def test_the_configuration_that_is_shown_is_valid(tmp_path: Path) -> None:
    shown = "".join(re.findall(r"```yaml\n# exporter.yml\n(.*?)```", docs.text("configuration"), re.DOTALL))
    file = tmp_path / "exporter.yml"
    file.write_text(shown, encoding="utf-8")
    config.load(file)


def test_alert_table() -> None:
    documented = {names(row[0])[0]: row[1].split(", ") for row in table("alerts", "## All alerts")}
    severities: dict[str, list[str]] = {}
    for rule in ALERTS:
        found = severities.setdefault(rule["alert"], [])
        found += [each for each in [rule["labels"]["severity"]] if each not in found]
    assert documented == severities


def test_dashboard_table() -> None:
    assert sorted(row[0] for row in table("dashboards", "# Dashboards")) == sorted(
        board["title"] for board in DASHBOARDS.values()
    )


def test_the_configuration_of_the_compose_file_is_valid() -> None:
    found = config.load(PROJECT / "exporter.yml")
    assert str(found.ledger.path) == "/var/lib/mlflow-trace-exporter/ledger.db"


def test_the_image_has_the_user_that_volumes_belong_to() -> None:
    users = {
        *re.findall(r"--uid (\d+)", (PROJECT / "Dockerfile").read_text()),
        *re.findall(r'user: "(\d+)"\n    command: \[serve', (PROJECT / "docker-compose.yml").read_text()),
        *re.findall(r"(?:runAsUser|fsGroup): (\d+)", (CHART / "values.yaml").read_text()),
    }
    assert users == {"10500"}


@pytest.mark.parametrize("file", docs.DOCUMENTS, ids=lambda file: str(file.relative_to(PROJECT)))
def test_links_lead_somewhere(file: Path) -> None:
    for link in docs.links(file):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), link
        assert not anchor or anchor in docs.anchors(target), link


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len(docs.README.read_text(encoding="utf-8").split()) <= MAX_WORDS
    assert {f"docs/{page.name}" for page in docs.PAGES} <= set(docs.links(docs.README))


@pytest.mark.parametrize("page", docs.PAGES, ids=lambda page: page.stem)
def test_a_list_of_contents_has_all_sections(page: Path) -> None:
    """If there is one, which begins with the line after the title."""
    contents = re.match(r"# .*\n\n((?:- \[.*\n)+)", page.read_text(encoding="utf-8"))
    sections = re.findall(r"^## (.*)$", docs.prose(page), re.MULTILINE)
    assert contents is None or re.findall(r"^- \[(.*?)\]", contents[1], re.MULTILINE) == sections


def test_every_module_has_a_line_in_the_architecture() -> None:
    sections = docs.text("architecture").split("\n## The modules\n")[1].split("\n### ")[1:]
    documented = {
        Path("" if package == "Root" else package) / name
        for package, section in ((each.partition("\n")[0], each) for each in sections)
        for row in next(docs.tables(section))
        for name in names(row[0])
    }
    modules = {file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py") if file.name != "__init__.py"}
    assert documented == modules


def test_every_package_is_in_the_architecture() -> None:
    documented = {name for row in table("architecture", "## The packages") for name in names(row[0])}
    assert documented - {"wiring.py"} == {file.parent.name for file in PACKAGE.glob("*/__init__.py")}


@pytest.mark.parametrize(
    "file", [PROJECT / "CONTRIBUTING.md", PROJECT / "docs" / "architecture.md"], ids=lambda file: file.stem
)
def test_the_files_that_are_named_exist(file: Path) -> None:
    named = re.findall(r"`([\w.]+(?:/[\w.-]+)+)`", docs.prose(file))
    assert named
    for path in named:
        assert (PROJECT / path).exists() or (PACKAGE / path).exists(), path


def test_the_flags_of_serve() -> None:
    documented = [name for row in table("configuration", "## Flags of serve") for name in names(row[0])]
    assert documented == [flag for parameter in cli.commands["serve"].params for flag in parameter.opts]


OF_OTHER_PROGRAMS = {
    *("--allowed-hosts", "--app-name", "--enable-workspaces", "--enable-feature", "--storage.tsdb.retention.time"),
    *("--max-block-duration", "--start", "--end", "--output-dir", "--url"),  # promtool
    *("--dbname", "--exit-on-error", "--file", "--schema", "--single-transaction"),  # pg_dump, pg_restore
    *("--profile", "--target", "--values", "--mlflow", "--python", "--server"),  # docker, helm, tests.compatibility
}


def test_every_flag_that_is_named_exists() -> None:
    commands = [*cli.commands.values(), *ledger.commands.values()]
    known = {flag for command in commands for parameter in command.params for flag in parameter.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", docs.everything()))
    assert named - known - {"--help", "--version"} <= OF_OTHER_PROGRAMS


def test_the_keys_of_objectives() -> None:
    documented = [name for row in table("configuration", "## Objectives") for name in names(row[0])]
    assert documented == list(config.ObjectiveOf.model_fields)


def test_the_parameters_of_traces() -> None:
    documented = {name for row in table("pages", "## Traces") for name in names(row[0])}
    assert documented == {
        "environment",
        "version",
        "trace_name",
        "experiment",
        "labels.extra",
        *INSIDE_NAMES,
        *assessed.PARAMETERS,
        *PARAMETERS,
    }


def test_the_reasons_of_failed_polls() -> None:
    reasons = sorted(reason.value for reason in Reason)
    for page, heading in (("metrics", "## Reasons of failed polls"), ("troubleshooting", "## Polls fail")):
        assert sorted(name for row in table(page, heading) for name in names(row[0])) == reasons


def test_what_messages_say_to_set_is_in_troubleshooting() -> None:
    lists = (remedies.BY_WORDS, remedies.BY_REFUSAL, remedies.BY_STATUS.items())
    found = [diagnosis for each in lists for _, diagnosis in each]
    found += [each for each in vars(remedies).values() if isinstance(each, Diagnosis)]
    words = " ".join(diagnosis.sentence for diagnosis in found)
    to_set = set(
        re.findall(r"MLFLOW_[A-Z_]+|(?:HTTPS?|NO)_PROXY|mlflow\.[a-z_]+|poll\.[a-z_]+|--[a-z-]+|client_\w+", words)
    )
    assert len(to_set) > 10
    assert {name for name in to_set if name not in docs.text("troubleshooting")} == set()


def test_the_pictures_show_the_pages_as_they_are() -> None:
    assert all((pictures.PICTURES / f"{name}.png").exists() for name in pictures.PAGES)
    taken_of = json.loads(pictures.HASHES.read_text())
    assert taken_of == pictures.hashes(), "a page has changed since its picture was taken: run `make pictures`"


def test_the_readme_runs_the_image_as_it_is_built() -> None:
    (command,) = re.findall(r"^docker run (.*\n.*)$", docs.README.read_text(encoding="utf-8"), re.MULTILINE)
    assert f"docker run {command}" in docs.text("install")
    dockerfile = (PROJECT / "Dockerfile").read_text()
    (volume,) = re.findall(r"^VOLUME (.*)$", dockerfile, re.MULTILINE)
    (port,) = re.findall(r"^EXPOSE (.*)$", dockerfile, re.MULTILINE)
    assert f":{volume} " in command
    assert f":{port}:{port} " in command
    assert f'"--web.listen-address=:{port}"' in dockerfile.rpartition("\nCMD ")[2]


def test_pip_install_and_tags_are_the_same_wherever_they_are_shown() -> None:
    readme, install = docs.README.read_text(encoding="utf-8"), docs.text("install")
    for start in ("pip install .\n", "mlflow.update_current_trace("):
        (block,) = re.findall(rf"^({re.escape(start)}.*?)```", readme, re.MULTILINE | re.DOTALL)
        assert block in install


def test_commands_of_make_exist() -> None:
    """Those that are written as code, wherever."""
    makefile = (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = {
        name for file in docs.DOCUMENTS for name in re.findall(r"(?:^|`)make ([a-z]+)", file.read_text(), re.MULTILINE)
    }
    assert named >= {"demo", "test", "lint", "pictures"}
    assert named <= targets


def test_workflows_and_hooks_run_what_there_is() -> None:
    hooks = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == ["make lint"]
    workflows = {file.stem: file.read_text() for file in (PROJECT / ".github" / "workflows").glob("*.yml")}
    assert workflows.keys() == {"ci", "release"}
    assert all(yaml.safe_load(text)["jobs"] and text.startswith("# Untried:") for text in workflows.values())
    assert "- run: .ci/run\n" in workflows["ci"]
    assert (PROJECT / ".ci" / "run").stat().st_mode & 0o111
