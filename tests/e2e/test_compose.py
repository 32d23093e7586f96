"""docker-compose.yml: what it promises, and its processes by its own commands and files, without a container engine.

They run in a network of their own, in which the names of the services are those of the loopback address. That takes
root and Linux; elsewhere the test is skipped.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from mlflow_trace_exporter.demo.processes import Processes
from tests.support import PROJECT, docs
from tests.support.postgresql import PostgreSQL
from tests.support.prometheus_api import PrometheusApi
from tests.support.real import eventually, tool

FILE = PROJECT / "docker-compose.yml"
PASSWORDS = {"POSTGRES_PASSWORD": "of-postgres", "GRAFANA_PASSWORD": "of-grafana"}


def compose(*arguments: str, environment: Mapping[str, str] = PASSWORDS) -> subprocess.CompletedProcess[str]:
    command = [tool("docker-compose"), "--profile=demo", f"--file={FILE}", *arguments]
    env = {"PATH": os.environ["PATH"], "HOME": "/", **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    done = compose("config", "--format=json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def services(project: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = project["services"]
    return found


def test_without_passwords_it_says_what_to_do() -> None:
    done = compose("config", "--quiet", environment={})
    assert done.returncode != 0
    assert "write one to .env as at the top of docker-compose.yml" in done.stderr


def test_what_every_service_is_held_to(services: dict[str, dict[str, Any]]) -> None:
    ours = [service["image"] for service in services.values() if "build" in service]
    assert len(set(ours)) == len(ours), "two builds of one image at once disturb each other"
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name
        assert int(service["user"]) > 0, name
        assert int(service["mem_limit"]) > 0, name
        assert int(service["pids_limit"]) > 0, name
        assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}, name
        assert {port["host_ip"] for port in service.get("ports", [])} <= {"127.0.0.1"}, name
        assert service["image"] in ours or re.search(r":v?\d+\.\d+", service["image"]), f"{name} has no pinned version"
        assert "healthcheck" in service or name in ("pager", "chatbot", "search"), name


def peers(services: dict[str, dict[str, Any]], name: str) -> set[str]:
    """Who shares a network with a service."""
    own = services[name]["networks"].keys()
    return {other for other, service in services.items() if own & service["networks"].keys()} - {name}


def addresses(services: dict[str, dict[str, Any]], name: str) -> set[str]:
    """The services whose addresses a service is given, in its command, its environment and its files."""
    service = services[name]
    mounts = [Path(mount["source"]) for mount in service.get("volumes", []) if mount["type"] == "bind"]
    files = [file for mount in mounts for file in (mount.rglob("*.yml") if mount.is_dir() else [mount])]
    given = [json.dumps([service.get("command"), service.get("environment")]), *(file.read_text() for file in files)]
    return {other for other in services if re.search(rf"\b{other}:\d", " ".join(given))} - {name}


def test_everybody_reaches_what_they_are_told_to_and_nobody_else_the_database(
    project: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    assert addresses(services, "mlflow") == {"postgres"}
    assert addresses(services, "prometheus") == {"exporter", "alertmanager"}
    for application in ("chatbot", "search"):
        assert addresses(services, application) == {"mlflow", "llm"}
    for name in services:
        assert addresses(services, name) <= peers(services, name), name
    assert peers(services, "postgres") == {"mlflow"}
    assert peers(services, "llm") == {"chatbot", "search"}
    assert "default" not in project["networks"]
    inside = {name for name, network in project["networks"].items() if network.get("internal")}
    assert {name for name, service in services.items() if service["networks"].keys() <= inside} == {"postgres", "llm"}


def test_the_passwords_are_for_their_owner_only(tmp_path: Path) -> None:
    """By the command at the top of the file, and in docs/install.md."""
    (command,) = re.findall(r"^#   (.* > \.env\S*)$", FILE.read_text(), re.MULTILINE)
    assert command in docs.text("install")
    subprocess.run(["sh", "-c", f"umask 022; {command}"], cwd=tmp_path, check=True)  # umask is the shell's
    made = tmp_path / ".env"
    assert made.stat().st_mode & 0o077 == 0
    assert re.fullmatch(r"(POSTGRES|GRAFANA)_PASSWORD=[0-9a-f]{32}\n" * 2, made.read_text())


def test_nobody_waits_for_what_has_no_health(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy", name
            assert "healthcheck" in services[other], other


def test_what_is_mounted_is_there_and_what_is_kept_has_a_name(services: dict[str, dict[str, Any]]) -> None:
    mounts = [mount for service in services.values() for mount in service.get("volumes", [])]
    bound = [mount for mount in mounts if mount["type"] == "bind"]
    assert all(Path(mount["source"]).exists() and mount["read_only"] for mount in bound)
    assert {mount["source"] for mount in mounts if mount["type"] == "volume"} == {
        *("postgres", "mlflow", "ledger", "prometheus", "alertmanager", "grafana")
    }


@dataclass(frozen=True)
class Network:
    """A network namespace; a process in it sees the services by their names."""

    name: str

    def command(self, *command: str) -> list[str]:
        return [tool("ip"), "netns", "exec", self.name, *command]

    def get(self, url: str) -> str | None:
        """What our own probe finds at an address."""
        done = subprocess.run(
            self.command(sys.executable, "-m", "mlflow_trace_exporter", "probe", url),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout if done.returncode == 0 else None

    @property
    def prometheus(self) -> PrometheusApi:
        """What Prometheus says."""
        return PrometheusApi("http://prometheus:9090", self.get)


@contextmanager
def network(*names: str) -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("only root can make a network")
    made = Network(f"mlflow-trace-exporter-{os.getpid()}")
    hosts = Path("/etc/netns") / made.name / "hosts"
    hosts.parent.mkdir(parents=True)
    hosts.write_text(f"127.0.0.1 localhost {' '.join(names)}\n")
    try:
        subprocess.run([tool("ip"), "netns", "add", made.name], check=True)
        subprocess.run(made.command("ip", "link", "set", "lo", "up"), check=True)
        yield made
    finally:
        subprocess.run([tool("ip"), "netns", "delete", made.name], check=False)
        hosts.unlink()
        hosts.parent.rmdir()


def arguments(service: Mapping[str, Any], volumes: Path) -> list[str]:
    """The command of a service, with the files that it mounts where they are here."""
    command = [str(part) for part in service["command"]]
    for mount in service.get("volumes", []):
        here = mount["source"] if mount["type"] == "bind" else str(volumes / mount["source"])
        command = [re.sub(rf"(?<==){re.escape(mount['target'])}(?=/|$)", here, part) for part in command]
    return command


@pytest.mark.long
def test_its_processes_find_each_other(services: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    with TemporaryDirectory() as data, network(*services) as inside, Processes(tmp_path) as processes:
        started: dict[str, int] = {}

        def start(name: str, program: str, *before: str) -> None:
            service = services[name]
            command = [*before, program, *arguments(service, tmp_path)[service["command"][0] in ("mlflow", "python") :]]
            process = processes.start_program(name, inside.command(*command), service.get("environment") or {})
            started[name] = process.popen.pid

        PostgreSQL(Path(data), "postgres", 5432, inside.command).start(processes)
        here = Path(sys.executable).parent
        start("mlflow", str(here / "mlflow"))
        for name in ("llm", "pager"):
            start(name, sys.executable)
        start("alertmanager", tool("alertmanager"))
        start("prometheus", tool("prometheus"))
        settled = partial(eventually, every_s=1)  # each look takes a process
        settled(lambda: inside.get("http://mlflow:5000/health"), "MLflow on PostgreSQL")
        start("chatbot", sys.executable)
        log = tmp_path / "chatbot.log"  # an experiment that comes later is found within a minute only
        eventually(lambda: "Creating a new experiment" in log.read_text(), "the chatbot has its experiment")
        with_a_disk = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /var/lib && exec "$@"', "sh"]
        start("exporter", str(here / "mlflow-trace-exporter"), *with_a_disk)
        settled(lambda: up(inside) == {"mlflow-trace-exporter", "prometheus", "alertmanager"}, "targets are up")
        settled(lambda: inside.prometheus.value("sum(mlflow_traces_total)"), "traces of the chatbot are counted")
        assert [each["url"] for each in inside.prometheus.get("alertmanagers")["activeAlertmanagers"]]
        groups = inside.prometheus.get("rules")["groups"]
        assert len(groups) == 20
        assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
        assert 'href="http://127.0.0.1:5000"' in (inside.get("http://exporter:10500/") or "")
        for name, session in started.items():
            assert 0 < tasks(session) < services[name]["pids_limit"] / 2, f"{name} comes near its limit"


def tasks(session: int) -> int:
    """How many processes and threads there are in a session."""
    count = 0
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            count += len(list((each / "task").iterdir())) if os.getsid(int(each.name)) == session else 0
    return count


def up(inside: Network) -> set[str]:
    targets = inside.prometheus.get("targets").get("activeTargets", [])
    return {each["labels"]["job"] for each in targets if each["health"] == "up"}
