import time
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from mlflow_trace_exporter.domain.durations import parse_duration
from mlflow_trace_exporter.domain.labels import TRACE_LABELS, LabelSource
from mlflow_trace_exporter.domain.objectives import Objective
from mlflow_trace_exporter.domain.patterns import Pattern
from mlflow_trace_exporter.domain.traffic import Traffic
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.settings import config
from tests.support.builders import FAMILIES


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "exporter.yml"


def mistakes(file: Path, text: str | bytes) -> str:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        config.load(file)
    return str(caught.value)


def test_defaults_are_those_of_the_design() -> None:
    defaults = config.load(None)
    assert defaults.mlflow.tracking_uri == "http://127.0.0.1:5000"
    assert defaults.mlflow.experiments == ()
    assert defaults.poll.interval == timedelta(seconds=15)
    assert defaults.poll.lateness == timedelta(hours=2)
    assert defaults.poll.audit_horizon == timedelta(hours=24)
    assert (defaults.poll.margin, defaults.poll.overlap) == (timedelta(minutes=5), timedelta(minutes=2))
    assert defaults.poll.start == "now"
    assert (defaults.series.ttl, defaults.series.zero_hold) == (timedelta(days=1), timedelta(seconds=30))
    assert defaults.series.limit == 100_000
    assert [each.as_objective() for each in defaults.objectives] == [
        Objective(environment="production", error_ratio=0.05, latency_s=5.0, latency_ratio=0.95)
    ]
    assert (defaults.labels.extra, defaults.labels.max_values) == ({}, 200)
    assert (defaults.labels.trace_name, defaults.labels.defaults, defaults.labels.map) == (True, {}, {})
    assert defaults.metrics.exclude == ()
    assert defaults.mlflow.traffic == {Traffic.APPLICATION}
    assert (defaults.web.external_url, defaults.web.mlflow_ui_url) == (None, None)
    assert defaults.labels.environment == (
        LabelSource("tag", "environment"),
        LabelSource("tag", "deployment.environment.name"),
        LabelSource("tag", "deployment.environment"),
    )
    assert defaults.labels.version == (
        LabelSource("tag", "app_version"),
        LabelSource("metadata", "mlflow.modelId"),
        LabelSource("tag", "service.version"),
    )
    assert defaults.buckets.duration_seconds == (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
    assert defaults.buckets.tokens == tuple(4**power for power in range(11))


def test_no_label_can_be_added_that_a_metric_has_already(file: Path) -> None:
    for family in FAMILIES:
        for name in family.label_names if family.labels == TRACE_LABELS else ():
            assert f"{name} is already a label" in mistakes(file, f"labels: {{extra: {{{name}: tag.a}}}}")


@pytest.mark.parametrize("text", ["", "# nothing\n", "mlflow:\npoll:\n  start:\n"])
def test_what_is_left_empty_has_its_default(file: Path, text: str) -> None:
    file.write_text(text)
    assert config.load(file) == config.load(None)


def test_a_whole_file(file: Path) -> None:
    file.write_text(
        """
        mlflow:
          tracking_uri: https://mlflow.example/prefix
          experiments: [chatbot, "team-*", "12"]
          filter: tag.team = 'a'
          timeout: 10s
          traffic: [application, gateway]
        poll: {interval: 1m30s, lateness: 1d, audit_horizon: 2d, margin: 1m, overlap: 3m, start: 24h}
        labels:
          environment: [tag.env, metadata.stage]
          version: tag.release
          extra:
            team: experiment_tag.team
            tier: [tag.tier, {from: experiment.name, regex: "(.+)-(prod|stag).*", value: "$2"}]
          trace_name: false
          defaults: {environment: production}
          map: {environment: {prod: production, " 1 ": staging}, tier: {stag: b}}
          max_values: 50
        metrics: {exclude: [mlflow_tokens_per_trace, mlflow_trace_cache_*]}
        buckets:
          duration_seconds: [1, 2.5]
          tokens: [10]
        series: {limit: 5000, ttl: 2h, zero_hold: 0s}
        objectives:
          - environment: prod
            error_ratio: 2 %
            latency: 1500ms
            latency_ratio: 0.99
            cost_usd_per_day: 7
            min_traces: 5
          - {environment: "*", error_ratio: 0.5}
          - {experiment: search-*, team: " search"}
        web: {external_url: "https://ops.example/mlflow/", mlflow_ui_url: "https://user:word@mlflow.example/#/"}
        ledger: {path: /var/lib/exporter/ledger.db}
        """
    )
    loaded = config.load(file)
    assert loaded.mlflow.experiments == ("chatbot", "team-*", "12")
    assert loaded.mlflow.timeout == timedelta(seconds=10)
    assert loaded.poll.interval == timedelta(seconds=90)
    assert loaded.poll.lateness == timedelta(days=1)
    assert loaded.poll.audit_horizon == timedelta(days=2)
    assert (loaded.poll.margin, loaded.poll.overlap) == (timedelta(minutes=1), timedelta(minutes=3))
    assert loaded.poll.start == timedelta(hours=24)
    assert loaded.labels.environment == (LabelSource("tag", "env"), LabelSource("metadata", "stage"))
    assert loaded.labels.version == (LabelSource("tag", "release"),)
    stage = Pattern("(.+)-(prod|stag).*", "$2")
    assert loaded.labels.extra == {
        "team": (LabelSource("experiment_tag", "team"),),
        "tier": (LabelSource("tag", "tier"), LabelSource("experiment", "name", stage)),
    }
    assert (loaded.labels.trace_name, loaded.labels.defaults) == (False, {"environment": "production"})
    assert loaded.labels.map == {"environment": {"prod": "production", "1": "staging"}, "tier": {"stag": "b"}}
    assert loaded.metrics.exclude == ("mlflow_tokens_per_trace", "mlflow_trace_cache_*")
    assert (loaded.labels.max_values, loaded.series.limit) == (50, 5_000)
    assert loaded.mlflow.traffic == {Traffic.APPLICATION, Traffic.GATEWAY}
    assert [each.as_objective() for each in loaded.objectives] == [
        Objective(
            environment="prod",
            error_ratio=0.02,
            latency_s=1.5,
            latency_ratio=0.99,
            cost_usd_per_day=7.0,
            min_traces=5,
        ),
        Objective(error_ratio=0.5, min_traces=20),
        Objective(experiment="search-*", team="search"),
    ]
    assert loaded.web.external_url == "https://ops.example/mlflow"
    assert loaded.web.mlflow_ui_url == "https://mlflow.example"
    assert loaded.buckets.duration_seconds == (1.0, 2.5)
    assert (loaded.series.ttl, loaded.series.zero_hold) == (timedelta(hours=2), timedelta(0))
    assert loaded.ledger.path == Path("/var/lib/exporter/ledger.db")


def test_an_objective_that_is_never_used_is_told_with_both_lines(file: Path) -> None:
    file.write_text(
        """
objectives:
  - experiment: chat*
    error_ratio: 5%
  - experiment: chatbot
    environment: production
    error_ratio: 1%
  - environment: production
    team: everybody
"""
    )
    same = "matches the same experiments and environments"
    (warning,) = config.load(file).warnings
    assert warning == f"line 5, objectives.1: is never used, because line 3, objectives.0 {same}"
    assert config.Config().warnings == ()
    both = [{"environment": "production", "team": team} for team in ("a", "b")]
    (warning,) = config.Config.model_validate({"objectives": both}).warnings
    assert warning == f"objectives.1: is never used, because objectives.0 {same}"


def test_one_experiment_needs_no_list(file: Path) -> None:
    file.write_text("mlflow: {experiments: chatbot}")
    assert config.load(file).mlflow.experiments == ("chatbot",)


def test_a_relative_ledger_is_a_file_whatever_it_is_called(file: Path) -> None:
    file.write_text("ledger: {path: ':memory:'}")
    assert config.load(file).ledger.path == Path.cwd() / ":memory:"


def test_a_user_without_a_home_is_told_to_say_where_the_ledger_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(UserError, match=r"ledger\.path: must be set"):
        config.load(None)


@pytest.mark.parametrize(
    "uri",
    ["databricks", "sqlite:///x", "http://", "http://host:port", "http://:5000", "http://[::1:5000", "http://a b"],
)
def test_what_is_no_tracking_server(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI: not the address of a tracking server"):
        config.load(None)


def test_the_file_comes_before_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment:5000")
    assert config.load(None).mlflow.tracking_uri == "http://environment:5000"
    file.write_text("mlflow: {tracking_uri: 'http://file:5000'}")
    assert config.load(file).mlflow.tracking_uri == "http://file:5000"


def test_fault_27_every_mistake_is_told_at_once_with_its_line(file: Path) -> None:
    message = mistakes(
        file,
        """mlflow:
  tracking_uri: sqlite:///mlflow.db
  experimnts: [chatbot]
  experiments: 7
  timeout: 10
poll:
  interval: 15
  lateness: 1s
  start: yesterday
labels:
  environment: []
  version: [app_version]
buckets:
  duration_seconds: [1, 1]
  tokens: [one]
ledger: ledger.db
polling: {}
""",
    )
    assert message.splitlines() == [
        f"13 errors in {file}:",
        "  line 2, mlflow.tracking_uri: not the address of a tracking server; write one such as http://mlflow:5000",
        "  line 3, mlflow.experimnts: unknown key; did you mean mlflow.experiments?",
        "  line 4, mlflow.experiments: must be a list, as in `- first`, not 7",
        "  line 5, mlflow.timeout: 10 is not a duration; write one such as 15s, 2m or 1h30m",
        "  line 7, poll.interval: 15 is not a duration; write one such as 15s, 2m or 1h30m",
        "  line 8, poll.lateness: must be at least 10m",
        "  line 9, poll.start: 'yesterday' is none of now, earliest, a duration such as 24h, or a"
        " time such as 2026-11-25T14:30Z",
        "  line 11, labels.environment: name at least one source, as in [tag.environment]",
        "  line 12, labels.version.0: 'app_version' is not a source; write tag.NAME, metadata.NAME, experiment_tag.NAME"
        " or experiment.name",
        "  line 14, buckets.duration_seconds: edges must be above 0, at most 1e12, and each above the one before it",
        "  line 15, buckets.tokens: write 1 to 100 numbers, as in [0.1, 1, 10]",
        "  line 16, ledger: must contain keys, as in `key: value`, not 'ledger.db'",
        "  line 17, polling: unknown key; did you mean poll?",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mlflow: [", "line 1: not valid YAML"),
        ("a: 1\na: 2\n", "line 2: duplicate key a"),
        ("mlflow: &a {filter: x}\npoll: *a\n", "line 2: aliases are not supported"),
        ("- mlflow\n", "must contain keys"),
        ("just text", "must contain keys"),
        ("mlflow: {filter: !!python/object/apply:os.system [ls]}", "line 1: tags"),
        ("poll: !!bool x", "line 1: tags (tag:yaml.org,2002:bool) are not supported"),
        ("mlflow:\n  tracking_uri: {{ .Values.uri }}", "line 2: a key must be a plain name; quote a value"),
        ("[a]: b", "line 1: a key must be a plain name"),
        ("buckets: {tokens: [1" + "0" * 400 + "]}", "line 1, buckets.tokens: edges must be above 0, at most 1e12"),
        ("ledger: {path: ~nosuchuser/l.db}", "line 1, ledger.path: ~nosuchuser/l.db: there is no such user"),
        ("mlflow: {timeout: " + "9" * 5000 + "}", "not valid YAML"),
        ("mlflow: {timeout: 2026-13-45}", "not valid YAML"),
        (b"\xff\xfe\x00", "is not a UTF-8 text file"),
        (b"mlflow: {filter: '\x00'}", "not valid YAML"),
        ("[" * 30_000, "line 1: nested too deeply"),
        ("mlflow: {experiments: [1]}", "line 1, mlflow.experiments.0: must be a string; put it in quotes, not 1"),
        ("ledger: {path: ''}", "line 1, ledger.path: write the path of a file"),
        ("ledger: {url: 'postgresql://u:p@ss@h/db'}", "ledger.url: percent-encode special characters of the password"),
        ("ledger: {url: 'postgresql://u:p/ss@h/db'}", "ledger.url: percent-encode special characters of the password"),
        ("ledger: {url: s3cret}", "ledger.url: write the URL of a database: postgresql://user@host:5432/database"),
        ("poll: {interval: 1y999999999y}", "line 1, poll.interval"),
        ("poll: {interval: 100ms}", "line 1, poll.interval: must be at least 1s"),
        ("1: 2", "1: keys should be strings"),
        ("labels: {extra: {1a: tag.a}}", "line 1, labels.extra: '1a' cannot be a label name"),
        ("labels: {extra: {version: tag.a}}", "line 1, labels.extra: version is already a label, or reserved"),
        ("labels: {extra: {pod: tag.a}}", "line 1, labels.extra: pod is already a label, or reserved"),
        ("labels: {extra: {__a: tag.a}}", "line 1, labels.extra: __a is already a label, or reserved"),
        ("labels: {extra: {a: name}}", "line 1, labels.extra.a.0: 'name' is not a source; write tag.NAME, m"),
        (
            "labels: {extra: {a: experiment.id}}",
            "line 1, labels.extra.a.0: 'experiment.id' is not a source; write t",
        ),
        ("labels: {extra: {a: metadata.mlflow.trace.user}}", "line 1, labels.extra.a.0: mlflow.trace.user cannot"),
        ("labels: {version: metadata.mlflow.trace.session}", "line 1, labels.version.0: mlflow.trace.session cannot"),
        ("labels: {environment: [tag.a, metadata.mlflow.trace.user]}", "environment.1: mlflow.trace.user cannot"),
        (
            "labels: {version: {from: metadata.mlflow.trace.user, regex: '(a).*'}}",
            "line 1, labels.version.0: mlflow.trace.user cannot become a label",
        ),
        ("labels:\n  version:\n    - tag.a\n    - 7\n", "line 4, labels.version.1: 7 is not a source; write tag.NAME,"),
        ("labels: {version: {from: tag.a}}", "labels.version.0: {from: tag.a} is not a source; write tag.NAME"),
        ("labels: {version: {from: tag.a, regx: a}}", "is not a source; write tag.NAME, metadata.NAME, e"),
        ("labels: {version: {from: tag.a, regex: 7}}", "regex must be a string, not 7; put it in quotes"),
        (
            "labels:\n  version:\n    - tag.a\n    - {from: tag.a, regex: 'v(.+'}\n",
            "line 4, labels.version.1: regex 'v(.+' is invalid at character 2: missing )",
        ),
        (
            "labels: {version: {from: tag.a, regex: 'a(?=b)'}}",
            "regex 'a(?=b)' is invalid at character 2: invalid perl operator; look-around and backreferences are not",
        ),
        ("labels: {version: {from: tag.a, regex: '(.+)-b', value: '$2'}}", "regex has no group 2; it has ${1}"),
        ("labels: {version: {from: tag.a, regex: '.+-b'}}", "'$1': regex has no group 1; put parentheses around"),
        ("labels: {version: {from: tag.a, regex: '(a)', value: '$1b'}}", "no group 1b; write ${1} before a letter"),
        ("labels: {version: {from: tag.a, regex: '\\pL{0,1000}'}}", "is too complex; use fewer or smaller repetitions"),
        ("labels: {trace_name: maybe}", "labels.trace_name: must be true or false, not 'maybe'"),
        ("labels: {defaults: production}", "labels.defaults: name labels, as in {environment: production}"),
        (
            "labels:\n  defaults: {enviroment: a}",
            "line 2, labels.defaults: 'enviroment' is not a label that has a source",
        ),
        ("labels: {defaults: {experiment: a}}", "'experiment' is not a label that has a source"),
        ("labels: {trace_name: false, defaults: {trace_name: a}}", "'trace_name' is not a label that has a source"),
        ("labels: {defaults: {version: 1.0}}", "labels.defaults.version: 1.0 cannot be a label value: write a text"),
        ("labels: {defaults: {version: ' '}}", "labels.defaults.version: ' ' cannot be a label value: write a text"),
        ("labels: {map: {environment: prod}}", "labels.map.environment: name values and what replaces them, as in"),
        ("labels: {map: {environment: {1: a}}}", "labels.map.environment: 1 cannot be a label value: write a text"),
        ("labels: {map: {team: {a: b}}}", "labels.map: 'team' is not a label that has a source; write one of env"),
        (
            "labels:\n  map:\n    environment: {a: b, b: a}\n",
            "line 3, labels.map.environment: 'a' becomes 'b' becomes 'a', but a value is replaced once; remove one of",
        ),
        ("labels: {map: {environment: {x: b, b: c, c: b}}}", "'x' becomes 'b' becomes 'c' becomes 'b', but a value is"),
        ("labels: {map: {environment: {a: b, b: c, c: d}}}", "replaced once; write 'a': 'd' if that is meant"),
        ("labels: {map: {environment: {a: a}}}", "'a' becomes 'a', but a value is replaced once; remove one of these"),
        (
            "metrics: {exclude: [mlflow_tokens_per_trac]}",
            "line 1, metrics.exclude.0: 'mlflow_tokens_per_trac' is none of the metrics about traces; did you mean mlf",
        ),
        ("metrics: {exclude: [mlflow_up]}", "'mlflow_up' is none of the metrics about traces"),
        ("metrics: {exclude: [7]}", "metrics.exclude.0: 7 is not a metric; write a name or a glob"),
        ("labels: {extra: [tag.a]}", "line 1, labels.extra: name each label and its sources"),
        ("labels: {max_values: 0}", "line 1, labels.max_values: must be at least 1, not 0"),
        ("series: {limit: many}", "line 1, series.limit: must be an integer, not 'many'"),
        ("mlflow: {traffic: [apps]}", "line 1, mlflow.traffic: name at least one of application, evaluation,"),
        (
            "objectives: [{environment: a}]",
            "line 1, objectives.0: name at least one of error_ratio, latency, first_chunk, cost_usd_per_day, quality"
            " and team",
        ),
        (
            "objectives: [{environment: '', error_ratio: 1%}]",
            "line 1, objectives.0.environment: is empty; write a name",
        ),
        ("objectives: [{experiment: ' ', error_ratio: 1%}]", "line 1, objectives.0.experiment: is empty; write a name"),
        (
            "objectives: [{experiment: 5, error_ratio: 1%}]",
            "line 1, objectives.0.experiment: must be a string; put it in",
        ),
        ("objectives: [{team: ''}]", "line 1, objectives.0.team: is empty; name a team"),
        (
            'objectives: [{environment: " \\t", error_ratio: 1%}]',
            "line 1, objectives.0.environment: is empty; write a name, or a glob of names",
        ),
        ("objectives: [{environment: a, error_ratio: 5}]", "line 1, objectives.0.error_ratio: 5 is not a ratio"),
        ("objectives: [{environment: a, error_ratio: 0%}]", "objectives.0.error_ratio: '0%' is not a ratio"),
        ("objectives: [{environment: a, latency: 5}]", "line 1, objectives.0.latency: 5 is not a duration"),
        (
            "objectives: [{environment: a, latencies: 5s}]",
            "0.latencies: unknown key; did you mean objectives.0.latency?",
        ),
        (
            "objectives: [{environment: a, foo: 5s}]",
            "foo: unknown key; known keys are objectives.0.experiment, o",
        ),
        (
            "objectives: {environment: a, error_ratio: 1%}",
            "must be a list, as in `- first`, not {environment: a",
        ),
        ("interval: 15s", "line 1, interval: unknown key; did you mean poll.interval?"),
        ("mlflow: {interval: 15s}", "line 1, mlflow.interval: unknown key; did you mean poll.interval?"),
        ("poll: {interval: {a: [1]}}", "poll.interval: {a: [1]} is not a duration"),
        ("poll: {interval: yes}", "poll.interval: true is not a duration"),
        ("objectives: [{environment: a, error_ratio: [5%]}]", "objectives.0.error_ratio: [5%] is not a ratio"),
        ("labels: {extra: {1: tag.a}}", "line 1, labels.extra: 1 cannot be a label name"),
        (
            "mlflow: {tracking_uri: 'https://me:pw@h:5000/#/experiments/1'}",
            "leave out #/experiments/1; write https://h:",
        ),
        ("mlflow: {tracking_uri: 'http://h/mlflow/?a=b'}", "leave out ?a=b; write http://h/mlflow"),
        (
            "objectives: [{environment: a, cost_usd_per_day: 0}]",
            "cost_usd_per_day: must be more than 0, not 0",
        ),
        ("web: {mlflow_ui_url: mlflow}", "line 1, web.mlflow_ui_url: not the address of a web page"),
        ("web: {external_url: 'javascript:alert(1)'}", "line 1, web.external_url: not the address of a web page"),
    ],
)
def test_fault_27_bad_files_get_one_message(file: Path, text: str | bytes, expected: str) -> None:
    assert expected in mistakes(file, text)


def test_fault_27_bombs_are_refused_at_once(file: Path) -> None:
    bomb = "a: &a [x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)},*{chr(97 + i)}]\n" for i in range(20)
    )
    began = time.process_time()
    assert "aliases are not supported" in mistakes(file, bomb)
    assert "is larger than" in mistakes(file, b"x: 1\n" * 2_000_000)
    assert time.process_time() - began < 5, "neither is expanded, nor is the large one parsed"


def test_fault_27_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--config.file: cannot read .*absent.yml: No such file or directory"):
        config.load(tmp_path / "absent.yml")
    with pytest.raises(UserError, match=r"--config.file: cannot read .*: Is a directory"):
        config.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "seconds"), [("15s", 15), ("1h30m", 5400), ("250ms", 0.25), ("2d", 172_800), ("1w", 604_800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "value", ["", "15", "s", "1.5s", "-1s", "15 s", "15S", 15, True, None, ["15s"], "15s\n", "1s1h", "9999999s"]
)
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(value)


@pytest.mark.parametrize(
    "names", [("provider", "model"), ("provider", "model", "error_type"), ("span_type", "span_name")]
)
def test_traces_do_not_have_the_labels_of_calls_or_spans(names: tuple[str, ...]) -> None:
    labels = {"trace_name": False, "extra": {name: f"tag.{name}" for name in names}}
    with pytest.raises(ValidationError, match=f"labels.extra cannot be {', '.join(names)}"):
        config.Config.model_validate({"labels": labels, "spans": {"enabled": True}})
    config.Config.model_validate({"labels": labels})
    config.Config.model_validate({"labels": {**labels, "trace_name": True}, "spans": {"enabled": True}})


@pytest.mark.parametrize(
    ("poll", "complaint"),
    [
        ("interval: 61m", "line 2, poll.interval: must be at most 1h"),
        ("lateness: 9m", "line 2, poll.lateness: must be at least 10m"),
        ("margin: 59s", "line 2, poll.margin: must be at least 1m"),
        ("overlap: 119s", "line 2, poll.overlap: must be at least 2m"),
        ("audit_horizon: 2h9m", "line 1, poll: audit_horizon must be at least 10m more than lateness"),
        ("lateness: 1d", "line 1, poll: audit_horizon must be at least 10m more than lateness"),
        ("overlap: 3h", "line 1, poll: overlap must not be more than lateness"),
    ],
)
def test_what_cannot_keep_the_guarantee_is_refused(file: Path, poll: str, complaint: str) -> None:
    assert complaint in mistakes(file, f"poll:\n  {poll}\n")
