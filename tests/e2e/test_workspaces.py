"""A real MLflow with workspaces and users: what is read as whom, and links to the right workspace in a browser."""

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from mlflow.utils.workspace_context import WorkspaceContext

from mlflow_trace_exporter.demo.processes import Process
from tests.support.browser import browse
from tests.support.commands import config_file, invoke
from tests.support.ports import free_port
from tests.support.real import Exporter, Mlflow, ServerProcesses, Trace, eventually, now_ms
from tests.support.waiting import HANG_S

WORKSPACE = "team-a"


class WithMore(ServerProcesses):
    """Starts MLflow servers with more flags and variables."""

    def __init__(self, data: Path, *flags: str, **environment: str) -> None:
        super().__init__(data)
        self._flags, self._environment = flags, environment

    def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Process:
        return super().start(name, [*arguments, *self._flags], {**environment, **self._environment})


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mlflow]:
    """A server of its own; its client reads the workspace."""
    data = tmp_path / "mlflow"
    data.mkdir()
    with WithMore(data, "--enable-workspaces") as processes:
        server = Mlflow(data, processes, free_port())
        made = requests.post(f"{server.uri}/api/3.0/mlflow/workspaces", json={"name": WORKSPACE}, timeout=HANG_S)
        assert made.ok, made.text
        monkeypatch.setenv("MLFLOW_WORKSPACE", WORKSPACE)
        yield server


@pytest.mark.long
def test_links_into_mlflow_lead_to_the_workspace_that_is_read(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment("chatbot")
    (trace_id,) = mlflow.log(experiment, Trace(now_ms() - 5_000))
    file = config_file(tmp_path, mlflow, experiment)
    report = json.loads(invoke("report", f"--config.file={file}", "--slowest=1", "--format=json").stdout)
    exporter = Exporter(tmp_path, {"mlflow": {"tracking_uri": mlflow.uri}, "poll": {"interval": "1s", "start": "1h"}})
    with exporter.running():
        eventually(lambda: exporter.samples().get("mlflow_up"), "it has polled")
        pages = [requests.get(f"{exporter.url}/{path}", timeout=HANG_S).text for path in ("", "traces")]
        redirect = requests.get(f"{exporter.url}/trace/{trace_id}", allow_redirects=False, timeout=HANG_S)
    links = [html.unescape(link) for page in pages for link in re.findall(rf'href="({mlflow.uri}[^"]*)"', page)]
    of_trace = f"{mlflow.uri}/#/experiments/{mlflow.experiment_id(experiment)}/traces/{trace_id}?workspace={WORKSPACE}"
    assert len(links) == 3, "MLflow, the trace, and all traces"
    assert links[1] == redirect.headers["Location"] == report["slowest"][0]["url"] == of_trace
    for number, link in enumerate(links):
        browser = tmp_path / f"browser-{number}"  # one remembers the workspace that was open last
        browser.mkdir()
        assert experiment in browse(browser, link, "--dump-dom", "--virtual-time-budget=20000"), link
    other = browse(tmp_path, of_trace.partition("?")[0], "--dump-dom", "--virtual-time-budget=20000")
    assert experiment not in other


ADMIN = ("admin", "a-password-of-admin")


@dataclass
class Users:
    """The users of an MLflow server with basic authentication, as its administrator sees them. ``roles``: the ids of
    roles, by user and workspace."""

    uri: str
    roles: dict[tuple[str, str], int] = field(default_factory=dict)

    def ask(self, path: str, body: Mapping[str, Any], workspace: str | None = None, method: str = "POST") -> Any:
        """Send a request of MLflow's REST API, for a workspace."""
        headers = {"X-MLFLOW-WORKSPACE": workspace} if workspace else {}
        answer = requests.request(
            method, f"{self.uri}/api/{path}", json=body, headers=headers, auth=ADMIN, timeout=HANG_S
        )
        assert answer.ok, answer.text
        return answer.json()

    def add(self, user: str) -> None:
        """Create a user."""
        self.ask("2.0/mlflow/users/create", {"username": user, "password": password_of(user)})

    def add_workspace(self, name: str) -> None:
        """Create a workspace."""
        self.ask("3.0/mlflow/workspaces", {"name": name})

    def let_read(self, user: str, experiment_id: str, workspace: str | None = None) -> None:
        """Let a user read an experiment."""
        grant = {"resource_type": "experiment", "resource_id": experiment_id, "permission": "READ"}
        self.ask("3.0/mlflow/users/permissions/grant", {"username": user, **grant}, workspace)

    def let_read_all(self, user: str, workspace: str) -> None:
        """Let a user read all experiments of a workspace."""
        made = self.ask("3.0/mlflow/roles/create", {"workspace": workspace, "name": f"{user}-reads"})
        self.roles[user, workspace] = made["role"]["id"]
        self.permit(user, workspace, "experiment", "READ")
        self.ask("3.0/mlflow/roles/assign", {"role_id": made["role"]["id"], "username": user})

    def permit(self, user: str, workspace: str, kind: str, permission: str) -> int:
        """Add a permission to the role of a user. Returns its id."""
        rule = {"resource_type": kind, "resource_pattern": "*", "permission": permission}
        made = self.ask("3.0/mlflow/roles/permissions/add", {"role_id": self.roles[user, workspace], **rule})
        return int(made["role_permission"]["id"])

    def take_back(self, permission: int) -> None:
        """Remove a permission from a role."""
        self.ask("3.0/mlflow/roles/permissions/remove", {"role_permission_id": permission}, method="DELETE")


POLL = {"interval": "1s", "start": "1h"}


def password_of(name: str) -> str:
    return f"a-password-of-{name}"


def credentials_of(name: str) -> dict[str, str]:
    """The variables of MLflow's client."""
    return {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password_of(name)}


@contextmanager
def server_with_users(data: Path, *flags: str) -> Iterator[Mlflow]:
    """A server that lets nobody but the administrator read anything by default."""
    data.mkdir()
    auth = {
        "default_permission": "NO_PERMISSIONS",
        "database_uri": f"sqlite:///{data / 'users.db'}",
        "admin_username": ADMIN[0],
        "admin_password": ADMIN[1],
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": "600",  # of passwords; to verify one takes a tenth of a second of CPU
    }
    (data / "auth.ini").write_text("\n".join(["[mlflow]", *(f"{key} = {value}" for key, value in auth.items())]))
    variables = {"MLFLOW_AUTH_CONFIG_PATH": str(data / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret"}
    with WithMore(data, "--app-name", "basic-auth", *flags, **variables) as processes:
        yield Mlflow(data, processes, free_port())


@pytest.fixture
def as_admin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test itself is the administrator."""
    for name, value in credentials_of(ADMIN[0]).items():
        monkeypatch.setenv(name, value)


def checked(mlflow: Mlflow, directory: Path, user: str, **settings: object) -> tuple[int, str]:
    """The exit code and the output of `check` as a user."""
    file = directory / f"{user}.yml"
    ledger = {"path": str(directory / f"{user}.db")}
    file.write_text(yaml.safe_dump({"mlflow": {"tracking_uri": mlflow.uri, **settings}, "ledger": ledger}))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in credentials_of(user).items():
            patch.setenv(name, value)
        result = invoke("check", f"--config.file={file}")
    return result.exit_code, result.output


def traces_of(exporter: Exporter) -> dict[tuple[str, str], float]:
    """How many traces are counted, by the labels ``experiment`` and ``workspace``."""
    found: dict[tuple[str, str], float] = {}
    for name, value in exporter.samples().items():
        if name.startswith("mlflow_traces_total{"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
            key = (labels["experiment"], labels.get("workspace", ""))
            found[key] = found.get(key, 0) + value
    return found


def sum_of(exporter: Exporter, metric: str) -> float:
    return sum(value for name, value in exporter.samples().items() if name.partition("{")[0] == metric)


def poll_errors_of(exporter: Exporter) -> float:
    return sum_of(exporter, "mlflow_trace_exporter_poll_errors_total")


@dataclass
class Teams:
    """Workspaces of a server. ``logged``: how many traces each experiment has, by the labels ``experiment`` and
    ``workspace``."""

    mlflow: Mlflow
    users: Users
    logged: dict[tuple[str, str], float] = field(default_factory=dict)

    def log(self, workspace: str, experiment: str, count: int) -> list[str]:
        """Log traces; creates the experiment with the first ones. Returns their ids."""
        key = (f"{workspace}/{experiment}", workspace)
        with WorkspaceContext(workspace):
            if key not in self.logged:
                self.mlflow.experiment(experiment)
            self.logged[key] = self.logged.get(key, 0) + count
            return self.mlflow.log(experiment, *[Trace(now_ms() - 5_000)] * count)


@pytest.fixture
def teams(tmp_path: Path, as_admin: None) -> Iterator[Teams]:  # noqa: ARG001 - it sets variables
    """Two workspaces. The user ``exporter`` may read both, and ``alice`` one of the experiments in team-a."""
    with server_with_users(tmp_path / "mlflow", "--enable-workspaces") as mlflow:
        made = Teams(mlflow, Users(mlflow.uri))
        for user in ("exporter", "alice"):
            made.users.add(user)
        for workspace in ("team-a", "team-b"):
            made.users.add_workspace(workspace)
            made.log(workspace, "chatbot", 3)
            made.users.let_read_all("exporter", workspace)
        made.log("team-a", "search", 2)
        with WorkspaceContext("team-a"):
            made.users.let_read("alice", mlflow.experiment_id("chatbot"), "team-a")
        yield made


@pytest.mark.long
def test_check_lists_what_the_user_may_read(teams: Teams, tmp_path: Path) -> None:
    def check(user: str, **settings: object) -> tuple[int, str]:
        return checked(teams.mlflow, tmp_path, user, **settings)

    code, said = check("exporter")
    assert code == 0, said
    assert "workspaces   2 read: team-a (2 experiments), team-b (1 experiment)\n" in said
    code, said = check("exporter", workspaces="team-c")
    assert code == 2
    assert "team-c selects none of the 2 workspaces" in said
    assert "this user: team-a, team-b; did you mean team-" in said
    code, said = check("alice", workspaces="team-a")
    assert code == 0, said
    assert "experiments  1 of 1 selected: team-a/chatbot\n" in said, "of two in this workspace"
    code, said = check("alice", workspaces="team-b")
    assert code == 2
    assert "shows this user no experiments in the workspaces team-b" in said
    code, said = check("alice")
    assert code == 2
    assert "shows this user no workspaces; name some in mlflow.workspaces" in said

    config = {"mlflow": {"tracking_uri": teams.mlflow.uri, "workspaces": "team-a"}, "poll": POLL}
    exporter = Exporter(tmp_path, config, **credentials_of("alice"))
    with exporter.running():
        eventually(lambda: traces_of(exporter) == {("team-a/chatbot", "team-a"): 3}, "hers are counted")
        exporter.after_next_poll()
        assert traces_of(exporter) == {("team-a/chatbot", "team-a"): 3}
        assert poll_errors_of(exporter) == 0


@pytest.mark.long
def test_a_workspace_that_is_denied_or_appears_later_loses_nothing(teams: Teams, tmp_path: Path) -> None:
    exporter = Exporter(
        tmp_path, {"mlflow": {"tracking_uri": teams.mlflow.uri}, "poll": POLL}, **credentials_of("exporter")
    )
    readable = 'mlflow_trace_exporter_workspace_readable{{workspace="{}"}}'.format
    with exporter.running():
        eventually(lambda: traces_of(exporter) == teams.logged, "all are counted")
        assert poll_errors_of(exporter) == 0

        denial = teams.users.permit("exporter", "team-b", "trace", "DENY")
        eventually(lambda: exporter.samples().get(readable("team-b")) == 0, "team-b is left out")
        before = dict(teams.logged)
        teams.log("team-b", "chatbot", 4)
        teams.log("team-a", "chatbot", 5)
        before["team-a/chatbot", "team-a"] += 5
        eventually(lambda: traces_of(exporter) == before, "team-a goes on without team-b")
        assert exporter.samples()[readable("team-a")] == 1
        assert exporter.log().count("a workspace cannot be read") == 1

        teams.users.take_back(denial)
        teams.users.add_workspace("team-c")
        teams.users.let_read_all("exporter", "team-c")
        (trace_id,) = teams.log("team-c", "chatbot", 1)
        eventually(lambda: traces_of(exporter) == teams.logged, "what team-b lacks is found, and team-c")
        link = requests.get(f"{exporter.url}/trace/{trace_id}", allow_redirects=False, timeout=HANG_S)
        assert link.headers["Location"].endswith(f"/traces/{trace_id}?workspace=team-c")
        exporter.process.kill()
    with exporter.running():
        assert traces_of(exporter) == teams.logged, "before the first poll"
        exporter.after_next_poll()
        assert traces_of(exporter) == teams.logged


@pytest.mark.long
@pytest.mark.usefixtures("as_admin")
def test_a_user_who_may_read_one_experiment_gets_that_one_with_its_spans(tmp_path: Path) -> None:
    with server_with_users(tmp_path / "mlflow") as mlflow:
        users = Users(mlflow.uri)
        users.add("alice")
        for experiment in ("chatbot", "search"):
            mlflow.experiment(experiment)
            made = mlflow.log(experiment, *[Trace(now_ms() - 5_000)] * 3)
            mlflow.insert_span(experiment, made, "search")
        users.let_read("alice", mlflow.experiment_id("chatbot"))
        code, said = checked(mlflow, tmp_path, "alice")
        assert code == 0, said
        assert "experiments  1 of 1 selected: chatbot\n" in said
        assert "workspace" not in said
        code, said = checked(mlflow, tmp_path, "alice", workspaces="team-a")
        assert code == 2
        assert "mlflow.workspaces (by default MLFLOW_WORKSPACE) selects workspaces, but MLflow at" in said
        config = {"mlflow": {"tracking_uri": mlflow.uri}, "poll": POLL, "spans": {"enabled": True}}
        exporter = Exporter(tmp_path, config, **credentials_of("alice"))
        with exporter.running():
            eventually(lambda: traces_of(exporter) == {("chatbot", ""): 3}, "hers are counted")
            assert sum_of(exporter, "mlflow_span_duration_seconds_count") == 3
            samples = exporter.after_next_poll()
            assert traces_of(exporter) == {("chatbot", ""): 3}
            assert poll_errors_of(exporter) == 0
            assert samples["mlflow_trace_exporter_audit_supported"] == 1
