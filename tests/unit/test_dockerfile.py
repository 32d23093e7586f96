"""The Dockerfile as text: what goes into the images is pinned, and they say what they are."""

import re
import tomllib

import pytest

from mlflow_trace_exporter import __version__
from tests.support import PROJECT

LINES = re.sub(r"\\\n\s*", "", (PROJECT / "Dockerfile").read_text()).splitlines()
STAGES = {stage: made_from for made_from, stage in re.findall(r"^FROM (\S+) AS (\S+)$", "\n".join(LINES), re.MULTILINE)}
"""What each stage is made from."""

Pins = dict[str, set[str]]


def pins(name: str) -> Pins:
    """The hashes of each requirement of a lock file, by its name and version."""
    text = (PROJECT / name).read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return {re.split(r"[ ;]", line)[0]: set(re.findall(r"--hash=(sha256:[0-9a-f]{64})", line)) for line in lines}


def test_all_that_is_installed_is_pinned_and_hashed() -> None:
    installed = [part for line in LINES for part in re.findall(r"pip install ([^&]+)", line)]
    assert installed
    for arguments in installed:
        assert re.fullmatch(
            r"--no-cache-dir (--require-hashes -r /requirements\S*\.lock|--no-deps /dist/\*\.whl)", arguments.strip()
        ), arguments


@pytest.mark.parametrize("name", ["requirements-run.lock", "requirements-build.lock"])
def test_the_smaller_locks_are_parts_of_the_whole(name: str) -> None:
    part, whole = pins(name), pins("requirements.lock")
    assert part
    assert all(part.values())
    assert part.items() <= whole.items(), "run make lock"


def test_the_wheel_is_built_with_what_the_project_names() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert project["dependency-groups"]["build"] == project["build-system"]["requires"]


def test_what_is_copied_is_not_ignored() -> None:
    kept = [line.removeprefix("!") for line in (PROJECT / ".dockerignore").read_text().splitlines() if line[0] == "!"]
    copied = [line.split()[1] for line in LINES if re.match(r"COPY (?!--from|\. )", line)]
    assert copied
    assert set(copied) <= set(kept)
    assert all((PROJECT / name).exists() for name in kept)


def labels(stage: str) -> dict[str, str]:
    """The labels of an image, and of what it is made from."""
    found = labels(STAGES[stage]) if STAGES[stage] in STAGES else {}
    at = next(at for at, line in enumerate(LINES) if line.endswith(f" AS {stage}"))
    for line in LINES[at + 1 :]:
        if line.startswith("FROM "):
            break
        if line.startswith("LABEL "):
            found |= dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]*)"', line))
    return found


@pytest.mark.parametrize("target", ["exporter", "demo"])
def test_an_image_says_what_it_is(target: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    found = labels(target)
    assert found["title"] in (PROJECT / "docker-compose.yml").read_text()
    assert (found["version"], found["licenses"]) == (__version__, project["license"])
    assert found["base.name"] == f"docker.io/library/{STAGES['base']}"
    assert found["description"]
    assert labels("exporter")["description"] == project["description"]
    assert labels("demo")["title"] != labels("exporter")["title"]
    assert (found["revision"], found["created"]) == ("$REVISION", "$CREATED")
    addresses = {"Homepage": "url", "Source": "source", "Documentation": "documentation"}
    published = {addresses[name]: url for name, url in project.get("urls", {}).items() if name in addresses}
    assert published.items() <= found.items()
