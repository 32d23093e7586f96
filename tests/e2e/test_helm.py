"""The Helm chart and the plain manifests: what the real Helm renders, and what others say of it.

No cluster is involved. `kubernetes-validate` has the schemas of Kubernetes' own objects.
"""

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import mlflow_trace_exporter
from deploy import __main__ as deploy
from mlflow_trace_exporter.bundled import packaged
from mlflow_trace_exporter.bundled.rules import Links
from mlflow_trace_exporter.commands.cli import cli
from mlflow_trace_exporter.settings import config
from tests.support import PROJECT, docs
from tests.support.real import tool

CHART = deploy.CHART
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
EXAMPLES = {file.name.removesuffix("-values.yaml"): file for file in sorted((CHART / "ci").iterdir())}
VERSIONS = (f"{deploy.OLDEST_KUBERNETES}.0", "1.37.0")
OF_THE_OPERATOR = ("ServiceMonitor", "PrometheusRule")
LARGEST_CONFIG_MAP = LARGEST_RELEASE = 1024 * 1024

Object = Mapping[str, Any]
Objects = list[Object]


def render(values: object, *more: str) -> subprocess.CompletedProcess[str]:
    command = [tool("helm"), "template", deploy.RELEASE, str(CHART), "--values=-", *more]
    command += [f"--kube-version={deploy.OLDEST_KUBERNETES}"]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)


def objects(values: object) -> Objects:
    done = render(values)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@pytest.fixture(scope="module")
def rendered() -> dict[str, Objects]:
    """What each example makes, and the plain manifests."""
    examples = {name: objects(yaml.safe_load(file.read_text())) for name, file in EXAMPLES.items()}
    plain = {name: list(yaml.safe_load_all((deploy.MANIFESTS / name).read_text())) for name in deploy.VARIANTS}
    return {**examples, **plain}


@pytest.fixture(params=[*EXAMPLES, *deploy.VARIANTS])
def example(request: pytest.FixtureRequest, rendered: dict[str, Objects]) -> Objects:
    return rendered[request.param]


def of_kind(found: Objects, *kinds: str) -> Objects:
    return [each for each in found if each["kind"] in kinds]


def workloads(found: Objects) -> Objects:
    return of_kind(found, "StatefulSet", "Deployment")


def pods(found: Objects) -> Objects:
    return [each["spec"]["template"] for each in workloads(found)]


def containers(found: Objects) -> Objects:
    return [container for pod in pods(found) for container in pod["spec"]["containers"]]


def settings(found: Objects) -> dict[str, Any]:
    (file,) = [each["data"]["exporter.yml"] for each in of_kind(found, "ConfigMap") if "exporter.yml" in each["data"]]
    loaded: dict[str, Any] = yaml.safe_load(file)
    return loaded


def is_shared(found: Objects) -> bool:
    return "url" in settings(found)["ledger"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_helm_finds_nothing_to_say(name: str) -> None:
    command = [tool("helm"), "lint", "--strict", "--quiet", str(CHART), f"--values={EXAMPLES[name]}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() in ("", "==> Linting " + str(CHART))


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(version: str, rendered: dict[str, Objects], tmp_path: Path) -> None:
    own = [each for found in rendered.values() for each in found if each["kind"] not in OF_THE_OPERATOR]
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(own))
    command = [tool("kubernetes-validate"), "--strict", f"--kubernetes-version={version}", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(" passed for resource ") == len(own)


def test_every_value_has_an_effect(rendered: dict[str, Objects]) -> None:
    values = yaml.safe_load(EXAMPLES["everything"].read_text())
    for tested_elsewhere in ("config", "grafanaUrl", "fullnameOverride", "shards"):
        del values[tested_elsewhere]
    given = {name: each for name, each in flat(values) if each not in (True, False, None)}
    found = {str(each) for _, each in flat(rendered["everything"])}
    parts = {part for each in found if "\n" not in each for part in re.split(r"[=:]|(?<=web)/", each)}
    assert {name: each for name, each in given.items() if str(each) not in found | parts} == {}


def test_secrets_are_those_that_are_named(rendered: dict[str, Objects]) -> None:
    for pod in pods(rendered["everything"]):
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert volumes["web"]["secret"] == {"secretName": "mlflow-trace-exporter-web", "defaultMode": 0o440}
        (container,) = pod["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "mlflow-trace-exporter"}}]


def flat(value: object, above: str = "") -> Iterator[tuple[str, object]]:
    """The scalars in a value, and where each is."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(each, f"{above}.{key}")
    else:
        yield above, value


def test_every_object_has_the_labels(rendered: dict[str, Objects]) -> None:
    own = {"app.kubernetes.io/name": "exporter", "app.kubernetes.io/instance": deploy.RELEASE}
    more = {"team": "observability", "app.kubernetes.io/version": "0.1.0-7", "app.kubernetes.io/managed-by": "Helm"}
    for each in [*rendered["everything"], *pods(rendered["everything"])]:
        assert each["metadata"]["labels"].items() >= {**own, **more}.items()
    for each in of_kind(rendered["everything"], "Service"):
        assert each["spec"]["selector"] == own


def test_what_refers_to_each_other_fits_together(example: Objects) -> None:
    found = {(each["kind"], each["metadata"]["name"]): each for each in example}
    assert len(found) == len(example), "two objects have the same name"
    (service,) = of_kind(example, "Service")
    (port,) = service["spec"]["ports"]
    for pod in pods(example):
        spec, (container,) = pod["spec"], pod["spec"]["containers"]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert port["targetPort"] == container["ports"][0]["name"]
        assert ("ServiceAccount", spec["serviceAccountName"]) in found
        volumes = {volume["name"] for volume in spec["volumes"]}
        configured = [volume["configMap"]["name"] for volume in spec["volumes"] if volume["name"] == "config"]
        assert ("ConfigMap", *configured) in found
        claims = {"ledger"} if not is_shared(example) else set()
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes | claims
    for workload in workloads(example):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        selected = workload["spec"]["selector"]["matchLabels"]
        assert selected.items() <= labels.items()
        mine = [pod for pod in pods(example) if selected.items() <= pod["metadata"]["labels"].items()]
        assert mine == [workload["spec"]["template"]]
    for budget in of_kind(example, "PodDisruptionBudget"):
        workload = next(each for each in workloads(example) if each["metadata"]["name"] == budget["metadata"]["name"])
        assert budget["spec"]["selector"] == workload["spec"]["selector"]
        assert budget["spec"]["minAvailable"] == 1
    for monitor in of_kind(example, "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        (endpoint,) = monitor["spec"]["endpoints"]
        assert (endpoint["port"], endpoint["honorLabels"]) == (port["name"], True)
    for policy in of_kind(example, "NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"] == service["spec"]["selector"]
        assert policy["spec"]["ingress"][0]["ports"] == [{"port": port["targetPort"]}]
        assert policy["spec"]["policyTypes"] == ["Ingress", *(["Egress"] if "egress" in policy["spec"] else [])]
    assert "mlflow-trace-exporter" in service["metadata"]["name"], "the alerts look for this name of the job"


def test_the_exporter_accepts_its_configuration(example: Objects, tmp_path: Path) -> None:
    written = settings(example)
    file = tmp_path / "exporter.yml"
    file.write_text(yaml.safe_dump(written))
    loaded = config.load(file)
    for container in containers(example):
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert is_shared(example) or loaded.ledger.path.is_relative_to(mounts["ledger"])


def test_the_exporter_accepts_its_arguments(example: Objects) -> None:
    serve = cli.commands["serve"]
    for container in containers(example):
        name, *flags = container["args"]
        assert name == "serve"
        given = serve.make_context(name, list(flags)).params
        assert given["listen_address"] == f":{container['ports'][0]['containerPort']}"
        files = [Path(each.partition("=")[2]) for each in flags if ".file=" in each]
        mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
        assert {file.parent for file in files} == {mount for mount in mounts if mount.name in ("config", "web")}


def test_nothing_may_be_more_than_it_needs(example: Objects) -> None:
    for pod in pods(example):
        spec, (container,) = pod["spec"], pod["spec"]["containers"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (
            container["securityContext"].items()
            >= {
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }.items()
        )
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert container["resources"]["limits"]["memory"]
    assert all(each["automountServiceAccountToken"] is False for each in of_kind(example, "ServiceAccount"))
    assert not of_kind(example, "Secret", "Role", "ClusterRole")


def test_a_slow_start_is_not_killed(example: Objects) -> None:
    """/-/healthy answers before the first poll has ended, and /-/ready only after it."""
    for container in containers(example):
        startup, liveness, readiness = (container[f"{each}Probe"] for each in ("startup", "liveness", "readiness"))
        for probe, path in ((startup, "/-/healthy"), (liveness, "/-/healthy"), (readiness, "/-/ready")):
            asked = probe["exec"]["command"][-1] if "exec" in probe else probe["httpGet"]["path"]
            assert asked.endswith(path)
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 600


def test_probes_are_as_patient_as_they_are_told_to_be(rendered: dict[str, Objects]) -> None:
    values = yaml.safe_load(EXAMPLES["everything"].read_text())
    for container in containers(rendered["everything"]):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert {key: each for key, each in container[probe].items() if key != "exec"} == values[probe]


def test_probes_speak_tls_if_the_exporter_does(rendered: dict[str, Objects]) -> None:
    (plain,) = containers(rendered["default"])
    assert plain["livenessProbe"]["httpGet"] == {"path": "/-/healthy", "port": "http", "scheme": "HTTP"}
    (tls,) = containers(rendered["tls"])
    assert tls["readinessProbe"]["httpGet"] == {"path": "/-/ready", "port": "https", "scheme": "HTTPS"}
    for container in containers(rendered["everything"]):
        program, name, *arguments = container["readinessProbe"]["exec"]["command"]
        assert (program, name) == ("mlflow-trace-exporter", "probe")
        given = cli.commands["probe"].make_context(name, list(arguments)).params
        assert given["url"] == "https://127.0.0.1:10500/-/ready"
        assert {given["cert_file"].name, given["key_file"].name} == {"client.pem", "client.key"}


def test_with_a_ledger_in_a_file_there_is_one_process(rendered: dict[str, Objects]) -> None:
    for name in ("default", "shards", "tls", "everything", "sqlite.yaml"):
        for workload in workloads(rendered[name]):
            assert (workload["kind"], workload["spec"]["replicas"]) == ("StatefulSet", 1)
            assert workload["spec"]["podManagementPolicy"] == "Parallel", "an upgrade replaces a pod that cannot start"
            (claim,) = workload["spec"]["volumeClaimTemplates"]
            assert claim["metadata"]["name"] == "ledger"


def test_with_a_ledger_in_postgresql_there_are_two_and_no_volume(rendered: dict[str, Objects]) -> None:
    for name in ("postgresql", "shards-postgresql", "postgresql.yaml"):
        for workload in workloads(rendered[name]):
            assert (workload["kind"], workload["spec"]["replicas"]) == ("Deployment", 2)
            assert workload["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == "100%", "standbys are never ready"
            volumes = workload["spec"]["template"]["spec"]["volumes"]
            assert {volume["name"] for volume in volumes} == {"config", "tmp"}
            (term,) = workload["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"].values()
            assert term[0]["podAffinityTerm"]["labelSelector"] == workload["spec"]["selector"]


def test_the_password_of_postgresql_comes_from_a_secret(rendered: dict[str, Objects]) -> None:
    for container in containers(rendered["postgresql.yaml"]):
        assert container["envFrom"] == [{"secretRef": {"name": "mlflow-trace-exporter"}}]
    for container in containers(rendered["postgresql"]):
        reference = {"secretKeyRef": {"name": "postgresql-app", "key": "password"}}
        assert container["env"] == [{"name": "PGPASSWORD", "valueFrom": reference}]


def test_each_shard_is_told_its_part(rendered: dict[str, Objects]) -> None:
    shards = workloads(rendered["shards"])
    assert [each["metadata"]["name"] for each in shards] == [
        f"mlflow-trace-exporter-shard-{number}-of-3" for number in (1, 2, 3)
    ]
    assert [each["args"][-1] for each in containers(rendered["shards"])] == [
        "--shard=1/3",
        "--shard=2/3",
        "--shard=3/3",
    ]
    assert [each["metadata"]["labels"]["shard"] for each in pods(rendered["shards"])] == ["1-of-3", "2-of-3", "3-of-3"]
    assert not any("shard" in flag for each in containers(rendered["default"]) for flag in each["args"])


def test_a_new_configuration_replaces_the_pods() -> None:
    def checksum(values: object) -> str:
        (pod,) = pods(objects(values))
        return str(pod["metadata"]["annotations"]["checksum/config"])

    assert checksum({}) == checksum({"podLabels": {"a": "b"}})
    assert checksum({}) != checksum({"config": {"poll": {"start": "24h"}}})


URL, PATH = {"url": "postgresql://exporter@h/d"}, {"path": "/var/lib/mlflow-trace-exporter/a.db"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"replicas": 2}, "additional properties 'replicas' not allowed"),
        ({"web": {"tsl": True}}, "'/web': additional properties 'tsl' not allowed"),
        ({"web": {"tls": None}}, "'/web': missing property 'tls'"),
        ({"config": None}, "missing property 'config'"),
        ({"config": {"ledger": "postgresql://h/d"}}, "'/config/ledger': got string"),
        ({"replicaCount": "2"}, "'/replicaCount': got string"),
        ({"shards": 0}, "'/shards': minimum: got 0, want 1"),
        ({"log": {"level": "trace"}}, "'/log/level': value must be one of 'debug', 'info', 'warn', 'error'"),
        ({"serviceMonitor": {"interval": "15"}}, "'/serviceMonitor/interval'"),
        ({"grafanaUrl": "grafana"}, "'/grafanaUrl'"),
        (
            {"replicaCount": 2},
            "replicaCount: is 2, but one ledger in a file belongs to one process; set config.ledger.url",
        ),
        ({"config": {"ledger": {"url": "postgresql://a:b@h/d"}}}, "config.ledger.url: contains a password"),
        ({"config": {"ledger": {"url": "postgresql://a@h/d?password=b"}}}, "config.ledger.url: contains a password"),
        ({"config": {"ledger": {"url": "host=h password=b"}}}, "config.ledger.url: contains a password"),
        ({"config": {"mlflow": {"tracking_uri": "https://a:b@h"}}}, "config.mlflow.tracking_uri: contains a password"),
        ({"config": {"ledger": {**URL, **PATH}}}, "config.ledger: has both url and path"),
        (
            {"config": {"ledger": {"path": "/var/lib/ledger.db"}}},
            "config.ledger.path: is not in /var/lib/mlflow-trace-",
        ),
        ({"fullnameOverride": "exporter"}, "the name exporter does not contain mlflow-trace-exporter"),
        ({"fullnameOverride": f"mlflow-trace-exporter-{'a' * 31}"}, "is longer than the 52 characters"),
        ({"fullnameOverride": f"mlflow-trace-exporter-{'a' * 30}", "shards": 3}, "is longer than the 52 characters"),
        ({"web": {"tls": True}}, "web.existingSecret: is missing"),
        ({"web": {"existingSecret": "a", "tls": True, "clientKey": "b"}}, "set both or none"),
        ({"web": {"existingSecret": "a", "clientCertificate": "b", "clientKey": "c"}}, "web.tls: is false"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_work_is_refused_with_one_message(values: object, words: str) -> None:
    done = render(values)
    assert (done.returncode, done.stdout) == (1, "")
    complaints = [line for line in done.stderr.splitlines() if line.startswith("- at ") or ": execution error " in line]
    assert len(complaints) == 1, done.stderr
    assert words in complaints[0]


@pytest.mark.parametrize(
    "values",
    [
        {"config": {"ledger": None}},
        {"config": {"ledger": {"url": "postgresql://exporter@h:5432,i:5432/d?sslmode=require&passfile=/a"}}},
        {"config": {"ledger": URL}, "replicaCount": 5},
        {"replicaCount": 0},
        {"fullnameOverride": f"mlflow-trace-exporter-{'a' * 30}"},
    ],
)
def test_what_works_is_not_refused(values: object) -> None:
    assert objects(values)


LINKS = Links("https://exporter.example.com/eu", "https://grafana.example.com")


def test_rules_are_the_packaged_ones(rendered: dict[str, Objects], tmp_path: Path) -> None:
    def groups(found: Objects) -> dict[str, Any]:
        return {group["name"]: group for each in found for group in each["groups"]}

    files = sorted(packaged.prometheus("rules").glob("*.yml"))
    specs = [each["spec"] for each in of_kind(rendered["everything"], "PrometheusRule")]
    assert groups(specs) == groups([yaml.safe_load(LINKS.put_into(file.read_text())) for file in files])
    defaults = [each["spec"] for each in of_kind(objects({"prometheusRule": {"enabled": True}}), "PrometheusRule")]
    assert groups(defaults) == groups([yaml.safe_load(file.read_text()) for file in files])
    made = [tmp_path / f"{number}.yml" for number, _ in enumerate(specs)]
    for file, spec in zip(made, specs, strict=True):
        file.write_text(yaml.safe_dump(spec))
    done = subprocess.run([tool("promtool"), "check", "rules", *made], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_dashboards_are_the_packaged_ones(rendered: dict[str, Objects]) -> None:
    found = [each for each in of_kind(rendered["everything"], "ConfigMap") if "exporter.yml" not in each["data"]]
    files = packaged.grafana("dashboards").glob("*.json")
    assert {name: text for each in found for name, text in each["data"].items()} == {
        file.name: LINKS.put_into(file.read_text(encoding="utf-8")) for file in files
    }
    for each in found:
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert each["metadata"]["annotations"] == {"grafana_folder": "MLflow"}
        assert len(json.dumps(each)) < LARGEST_CONFIG_MAP


def test_a_release_is_not_too_large_to_be_stored() -> None:
    """Helm stores the chart and what it rendered in a Secret, compressed and in base64."""
    done = render(yaml.safe_load(EXAMPLES["everything"].read_text()))
    stored = [done.stdout, *deploy.files().values()]
    assert len(gzip.compress("".join(stored).encode())) * 4 / 3 < LARGEST_RELEASE / 2


def test_the_chart_has_the_rules_and_dashboards_as_they_are() -> None:
    there = {file: file.read_text(encoding="utf-8") for file in (CHART / "files").rglob("*.*")}
    assert there == deploy.files(), "run python -m deploy"


def test_plain_manifests_are_what_the_chart_renders() -> None:
    there = {file: file.read_text(encoding="utf-8") for file in deploy.MANIFESTS.iterdir()}
    assert there == deploy.manifests(tool("helm")), "run python -m deploy"
    assert not re.search("helm.sh|managed-by|checksum", "".join(there.values()))


def targets(scraping: Mapping[str, Any], tmp_path: Path, *discovered: Mapping[str, str]) -> list[dict[str, str]]:
    """The labels of the targets that Prometheus keeps of those that it discovers."""
    statics = [{"targets": [f"10.0.0.{n}:10500"], "labels": labels} for n, labels in enumerate(discovered, 1)]
    job = {"job_name": "mlflow-trace-exporter", "static_configs": statics, **scraping}
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump({"scrape_configs": [job]}))
    for timeout in (
        "200ms",
        "2s",
        "20s",
        "200s",
    ):  # it takes all of it, and finds nothing if that is too short
        command = [tool("promtool"), "check", "service-discovery", f"--timeout={timeout}", str(file), job["job_name"]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        if len(found := json.loads(done.stdout)) == len(discovered):
            break
    kept = [each["labels"] for each in found if each["labels"]]
    own = [{key: value for key, value in each.items() if not key.startswith("__")} for each in kept]
    return sorted(own, key=lambda labels: labels["instance"])


def relabelings(found: Objects) -> dict[str, Any]:
    """Those of the ServiceMonitor, as the Operator writes them."""
    (monitor,) = of_kind(found, "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    names = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    rules = [{names.get(key, key): value for key, value in each.items()} for each in endpoint["relabelings"]]
    return {"relabel_configs": rules}


READY = ("__meta_kubernetes_endpoint_ready", "__meta_kubernetes_endpointslice_endpoint_conditions_ready")


@pytest.mark.parametrize("ready", READY)
def test_a_fail_over_continues_the_series(ready: str, rendered: dict[str, Objects], tmp_path: Path) -> None:
    scraping = relabelings(rendered["postgresql"])
    before = targets(scraping, tmp_path, {ready: "true", "pod": "a"}, {ready: "false", "pod": "b"})
    after = targets(scraping, tmp_path, {ready: "false", "pod": "a"}, {ready: "true", "pod": "b"})
    assert before == after == [{"instance": "mlflow-trace-exporter", "job": "mlflow-trace-exporter"}]


def test_shards_have_series_of_their_own(rendered: dict[str, Objects], tmp_path: Path) -> None:
    shard = "__meta_kubernetes_pod_label_shard"
    found = targets(relabelings(rendered["shards"]), tmp_path, *({shard: each, "pod": each} for each in "123"))
    assert [(each["instance"], each["shard"]) for each in found] == [
        (f"mlflow-trace-exporter-shard-{each}", each) for each in "123"
    ]
    assert all(each.keys() == {"instance", "job", "shard"} for each in found)


def test_an_exporter_that_is_not_ready_is_scraped_if_there_is_no_other(tmp_path: Path) -> None:
    """It says that it is catching up, and alerts wait for it."""
    (found,) = targets(
        relabelings(objects({"serviceMonitor": {"enabled": True}})), tmp_path, {READY[0]: "false", "pod": "a"}
    )
    assert found["instance"] == "mlflow-trace-exporter"


def shown(page: Path, start: str = "") -> list[dict[str, Any]]:
    """The YAML that a page shows, if it begins like this."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [yaml.safe_load(block) for block in blocks if block.startswith(start)]


INSTALL = PROJECT / "docs" / "install.md"


def test_without_the_operator_it_is_the_same(tmp_path: Path) -> None:
    jobs = [job for each in shown(INSTALL, "scrape_configs:") for job in each["scrape_configs"]]
    (job,) = [job for job in jobs if "kubernetes_sd_configs" in job]
    assert (job["job_name"], job["honor_labels"]) == ("mlflow-trace-exporter", True)
    (discovery,) = job.pop("kubernetes_sd_configs")
    assert discovery["role"] == "endpointslice"
    ours = {"__meta_kubernetes_service_name": "mlflow-trace-exporter"}
    ready, standby = {**ours, READY[1]: "true"}, {**ours, READY[1]: "false"}
    others = {**ready, "__meta_kubernetes_service_name": "grafana"}
    found = targets(job, tmp_path, ready, standby, others)
    assert found == [{"instance": "mlflow-trace-exporter", "job": "mlflow-trace-exporter"}]
    shard = {"__meta_kubernetes_pod_label_shard": "2"}
    (found_shard,) = targets(job, tmp_path, {**ready, **shard}, {**standby, **shard})
    assert (found_shard["instance"], found_shard["shard"]) == ("mlflow-trace-exporter-shard-2", "2")


def test_values_that_are_shown_are_accepted() -> None:
    found = [*shown(INSTALL, "# values.yaml\n"), *shown(CHART / "README.md")]
    assert len(found) > 5
    for values in found:
        assert objects(values)


def leaves(values: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value and key != "config":
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def known_as(leaf: str, names: Iterable[str]) -> str:
    """The name that includes a leaf, if there is one."""
    return next((name for name in names if f"{leaf}.".startswith(f"{name}.")), leaf)


def test_the_table_of_values_is_complete() -> None:
    rows = next(docs.tables((CHART / "README.md").read_text().split("\n## Values\n")[1]))
    documented = {row[0].strip("`"): row[1] for row in rows}
    assert list(documented) == list(dict.fromkeys(known_as(leaf, documented) for leaf in leaves(VALUES)))
    for name, default in documented.items():
        value: Any = VALUES
        for part in name.split("."):
            value = value[part]
        if default.startswith("`"):
            assert json.loads(default.strip("`")) == value, name


def test_the_schema_has_every_value() -> None:
    def known(schema: Mapping[str, Any], above: str = "") -> Iterator[str]:
        for key, each in schema["properties"].items():
            if each.get("additionalProperties") is False:
                yield from known(each, f"{above}{key}.")
            else:
                yield f"{above}{key}"

    names = set(known(json.loads((CHART / "values.schema.json").read_text()))) - {"global"}
    assert names == {known_as(leaf, names) for leaf in leaves(VALUES)}


def test_an_example_sets_every_value() -> None:
    values = yaml.safe_load(EXAMPLES["everything"].read_text())
    assert values.keys() == VALUES.keys()
    for key, value in VALUES.items():
        if isinstance(value, dict) and key not in ("config", "podSecurityContext", "securityContext", "dashboards"):
            assert value.keys() <= values[key].keys(), key


def test_the_notes_say_how_to_reach_it(tmp_path: Path) -> None:
    """Helm renders them only with a cluster, so here they are the value of a ConfigMap."""
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    notes = "".join(f"    {line}\n" for line in (chart / "templates" / "NOTES.txt").read_text().splitlines())
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\ndata:\n  notes: |\n    Notes:\n"
    (chart / "templates" / "notes.yaml").write_text(head + notes)

    def noted(name: str) -> str:
        command = [tool("helm"), "template", "eu", str(chart), f"--values={EXAMPLES[name]}", "--namespace=llm"]
        command += [f"--kube-version={deploy.OLDEST_KUBERNETES}", "--show-only=templates/notes.yaml"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return str(yaml.safe_load(done.stdout)["data"]["notes"])

    assert "The exporter reads http://mlflow:5000." in noted("default")
    assert "http://eu-mlflow-trace-exporter.llm.svc:10500/metrics" in noted("default")
    assert "serviceMonitor.enabled" in noted("default")
    assert "stand by" not in noted("default")
    assert "https://eu-mlflow-trace-exporter.llm.svc:10500/metrics" in noted("tls")
    assert "One pod of each shard leads" in noted("shards-postgresql")
    assert "One pod of the Deployment leads" in noted("postgresql")


def test_versions_agree() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == mlflow_trace_exporter.__version__
    assert chart["kubeVersion"] == f">={deploy.OLDEST_KUBERNETES}.0-0"
