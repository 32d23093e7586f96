"""`serve` as a process against a real MLflow server."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from prometheus_client.utils import floatToGoString

from mlflow_trace_exporter.commands import service
from mlflow_trace_exporter.demo.processes import HOST
from mlflow_trace_exporter.domain.triage import SETTLE_MS
from mlflow_trace_exporter.web import server
from tests.support import endless
from tests.support.ports import free_port
from tests.support.real import EXPORTER, Exporter, Mlflow, Samples, ServerProcesses, Trace, eventually, now_ms, tool
from tests.support.waiting import HANG_S

START_MS = 1_790_000_000_000
PRODUCTION = {"environment": "production", "app_version": "1.4.0"}
STAGING = {"environment": "staging"}


def usage(**tokens: int) -> dict[str, str]:
    return {"mlflow.trace.tokenUsage": json.dumps({f"{name}_tokens": count for name, count in tokens.items()})}


KNOWN = (
    Trace(
        START_MS,
        duration_ms=400,
        tags=PRODUCTION,
        metadata={
            **usage(input=100, output=20, total=120, cache_read_input=64, cache_creation_input=16),
            "mlflow.trace.cost": '{"input_cost": 0.25, "output_cost": 0.5, "total_cost": 0.75}',
            "mlflow.trace.user": "alice",
            "mlflow.trace.session": "s-1",
        },
    ),
    Trace(START_MS + 1, duration_ms=2_500, tags=PRODUCTION, metadata=usage(input=50, output=5)),
    Trace(START_MS + 1, duration_ms=61_000, state="ERROR", tags=PRODUCTION, metadata={"mlflow.trace.user": "bob"}),
    Trace(START_MS + 2, duration_ms=30, name="billing", tags=PRODUCTION, metadata={"mlflow.trace.tokenUsage": "{oops"}),
    Trace(START_MS + 3, tags=STAGING, metadata={"mlflow.modelId": "m-7", **usage(input=7)}),
    Trace(START_MS + 4, name=None, metadata={"mlflow.trace.cost": "[1]"}),
    Trace(START_MS + 5, duration_ms=None, state="IN_PROGRESS", tags=PRODUCTION),
)


def labels(experiment: str, environment: str, version: str, name: str, **more: str) -> str:
    values = {"experiment": experiment, "environment": environment, "version": version, "trace_name": name, **more}
    return "{" + ",".join(f'{key}="{value}"' for key, value in sorted(values.items())) + "}"


def expected(experiment: str) -> Samples:
    """What KNOWN adds up to, worked out by hand; every other sample over traces is 0."""
    support = (experiment, "production", "1.4.0", "support")
    billing = (experiment, "production", "1.4.0", "billing")
    staging = (experiment, "staging", "m-7", "support")
    unknown = (experiment, "unknown", "unknown", "unknown")
    totals: Samples = {}
    for series, count in ((support, 3), (billing, 1), (staging, 1), (unknown, 1)):
        totals["mlflow_traces_total" + labels(*series)] = count
    for _, environment, version, _ in (support, staging, unknown):
        place = f'environment="{environment}",experiment="{experiment}",version="{version}"'
        totals[f"mlflow_trace_version_first_seen_timestamp_seconds{{{place}}}"] = START_MS / 1000
    totals["mlflow_trace_errors_total" + labels(*support)] = 1
    totals["mlflow_trace_slow_total" + labels(*support)] = 1
    totals[f'mlflow_traces_in_progress{{environment="production",experiment="{experiment}"}}'] = 1
    totals["mlflow_trace_input_tokens_total" + labels(*support)] = 150
    totals["mlflow_trace_output_tokens_total" + labels(*support)] = 25
    totals["mlflow_trace_cache_read_input_tokens_total" + labels(*support)] = 64
    totals["mlflow_trace_cache_creation_input_tokens_total" + labels(*support)] = 16
    totals["mlflow_trace_input_tokens_total" + labels(*staging)] = 7
    totals["mlflow_trace_input_cost_usd_total" + labels(*support)] = 0.25
    totals["mlflow_trace_output_cost_usd_total" + labels(*support)] = 0.5
    for series, fields in (
        (support, {"token_usage": 1, "cost": 2, "user": 1, "session": 2}),
        (billing, {"token_usage": 1, "cost": 1, "user": 1, "session": 1}),
        (staging, {"cost": 1, "user": 1, "session": 1}),
        (unknown, dict.fromkeys(("token_usage", "cost", "user", "session", "environment", "version"), 1)),
    ):
        for field, count in fields.items():
            totals["mlflow_traces_missing_total" + labels(*series, field=field)] = count
    for series, status, durations in (
        (support, "ok", (0.4, 2.5)),
        (support, "error", (61.0,)),
        (billing, "ok", (0.03,)),
        (staging, "ok", (0.1,)),
        (unknown, "ok", (0.1,)),
    ):
        totals |= histogram("mlflow_trace_duration_seconds", DURATION_EDGES, series, "status", status, durations)
    for series, kind, counts in (
        (support, "input", (100, 50)),
        (support, "output", (20, 5)),
        (staging, "input", (7,)),
    ):
        totals |= histogram("mlflow_tokens_per_trace", TOKEN_EDGES, series, "kind", kind, counts)
    return {sample: value for sample, value in totals.items() if value}


DURATION_EDGES = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, math.inf)
TOKEN_EDGES = (*(4**power for power in range(11)), math.inf)


def histogram(
    name: str, edges: Sequence[float], series: tuple[str, str, str, str], key: str, value: str, seen: Sequence[float]
) -> Samples:
    own = {key: value}
    buckets = {
        f"{name}_bucket{labels(*series, le=floatToGoString(edge), **own)}": sum(each <= edge for each in seen)
        for edge in edges
    }
    return {
        **buckets,
        f"{name}_count{labels(*series, **own)}": len(seen),
        f"{name}_sum{labels(*series, **own)}": sum(seen),
    }


def over_traces(found: Samples) -> Samples:
    """The samples over traces that are not 0, without the delay, which depends on when the test runs."""
    ours = re.compile(r"mlflow_(traces?|tokens)_(?!exporter_|visibility_delay)")
    return {sample: value for sample, value in found.items() if ours.match(sample) and value}


def configuration(mlflow: Mlflow, *experiments: str, **poll: str) -> dict[str, object]:
    return {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": list(experiments)},
        "poll": {"interval": "1s", "start": "earliest", **poll},
    }


def test_known_traces_give_exactly_these_totals_before_and_after_a_restart(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.log(experiment, *KNOWN)
    exporter = Exporter(tmp_path, configuration(mlflow, experiment))
    with exporter.running():
        found = exporter.after_next_poll()
        assert over_traces(found) == pytest.approx(expected(experiment))
        assert found["mlflow_up"] == 1
        created_ms = mlflow.client.get_experiment_by_name(experiment).creation_time
        assert found[f'mlflow_experiment_created_timestamp_seconds{{experiment="{experiment}"}}'] == created_ms / 1000
        exporter.stop()
        assert exporter.process.returncode == 0

    with exporter.running():
        at_once = exporter.samples()
        assert over_traces(at_once) == pytest.approx(expected(experiment)), "as soon as anything is served"
        assert over_traces(exporter.after_next_poll()) == pytest.approx(expected(experiment))
        mlflow.log(experiment, Trace(now_ms(), tags={"environment": "new"}))
        new = "mlflow_traces_total" + labels(experiment, "new", "unknown", "support")
        eventually(lambda: exporter.samples().get(new) == 1, "the new trace is counted")


def test_promtool_accepts_the_text(mlflow: Mlflow, tmp_path: Path) -> None:
    promtool = tool("promtool")
    experiment = mlflow.experiment()
    mlflow.log(experiment, *KNOWN)
    with Exporter(tmp_path, configuration(mlflow, experiment)).running() as exporter:
        exporter.after_next_poll()
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=exporter.text(), capture_output=True, text=True, check=False
        )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_running_trace_is_counted_when_it_ends(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    start_ms = now_ms()
    (trace_id,) = mlflow.log(experiment, Trace(start_ms, None, "IN_PROGRESS", tags=STAGING))
    counted = "mlflow_traces_total" + labels(experiment, "staging", "unknown", "support")
    with Exporter(tmp_path, configuration(mlflow, experiment)).running() as exporter:
        assert counted not in exporter.after_next_poll()
        mlflow.end(trace_id, now_ms() - start_ms)
        eventually(lambda: exporter.samples().get(counted) == 1, "it is counted")


def test_a_trace_whose_spans_came_before_its_tags_is_counted_with_its_tags(mlflow: Mlflow, tmp_path: Path) -> None:
    """What the SDK sends in two requests can be seen in between."""
    experiment = mlflow.experiment()
    with Exporter(tmp_path, configuration(mlflow, experiment)).running() as exporter:
        exporter.after_next_poll()
        for name in "abcde":  # after SETTLE_MS it is counted without them, which a machine may reach that stands still
            began_s = time.monotonic()
            (trace_id,) = mlflow.insert(experiment, [Trace(now_ms(), name=name, finalized=False)])
            before = over_traces(exporter.after_next_poll())
            mlflow.annotate(trace_id, Trace(0, tags=STAGING))
            if time.monotonic() - began_s < SETTLE_MS / 2_000:
                break
        of_it = f'trace_name="{name}"'
        assert not any(of_it in sample for sample in before)
        counted = "mlflow_traces_total" + labels(experiment, "staging", "unknown", name)
        eventually(lambda: exporter.samples().get(counted) == 1, "it is counted")
        assert not any('environment="unknown"' in sample and of_it in sample for sample in exporter.samples())


def test_counting_starts_now_by_default(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.log(experiment, Trace(now_ms() - 60_000, tags={"environment": "before"}))
    with Exporter(tmp_path, configuration(mlflow, experiment, start="now")).running() as exporter:
        exporter.after_next_poll()
        mlflow.log(experiment, Trace(now_ms(), tags={"environment": "after"}))
        after = "mlflow_traces_total" + labels(experiment, "after", "unknown", "support")
        eventually(lambda: exporter.samples().get(after) == 1, "the new trace is counted")
        assert over_traces(exporter.samples()).keys() == {
            sample for sample in over_traces(exporter.samples()) if 'environment="after"' in sample
        }


def test_an_experiment_made_later_is_picked_up(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = f"late-{now_ms()}"
    with Exporter(tmp_path, configuration(mlflow, experiment)).running() as exporter:
        assert exporter.after_next_poll()["mlflow_up"] == 1
        assert "no experiment matches yet" in exporter.log()
        mlflow.experiment(experiment)
        mlflow.log(experiment, Trace(now_ms(), tags=STAGING))
        counted = "mlflow_traces_total" + labels(experiment, "staging", "unknown", "support")
        eventually(lambda: exporter.samples().get(counted) == 1, "its trace is counted")


def test_fault_18_an_outage_of_mlflow_is_shown_and_caught_up(tmp_path: Path) -> None:
    with ServerProcesses(tmp_path) as processes:
        mlflow = Mlflow(tmp_path, processes, free_port())
        experiment = mlflow.experiment()
        mlflow.log(experiment, *KNOWN)
        mlflow.stop()
        exporter = Exporter(tmp_path, configuration(mlflow, experiment))
        with exporter.running():
            eventually(lambda: exporter.samples().get("mlflow_up") == 0, "mlflow_up 0")
            assert exporter.samples()['mlflow_trace_exporter_poll_errors_total{reason="unreachable"}'] >= 1
            assert "cannot be reached" in exporter.log()
            mlflow.start()
            eventually(
                lambda: over_traces(exporter.samples()) == pytest.approx(expected(experiment)), "all is counted", 90
            )
            assert exporter.samples()["mlflow_up"] == 1
        assert "Traceback" not in exporter.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_fault_30_it_stops_within_five_seconds_while_mlflow_does_not_answer(
    tmp_path: Path, number: signal.Signals
) -> None:
    assert service.STOP_S + server.STOP_TIMEOUT_S < 5
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        config = {"mlflow": {"tracking_uri": f"http://{HOST}:{port}", "timeout": "1h"}}
        with Exporter(tmp_path, config).running() as exporter:
            polling, _ = silent.accept()
            with polling:
                exporter.stop(number)
            assert exporter.process.returncode == 0
            assert "Traceback" not in exporter.log()


def test_fault_3_kill_and_restart_lose_nothing(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.log(experiment, *KNOWN)
    exporter = Exporter(tmp_path, configuration(mlflow, experiment))
    with exporter.running():
        exporter.after_next_poll()
        exporter.process.kill()
        exporter.process.wait()
    with exporter.running():
        assert over_traces(exporter.samples()) == pytest.approx(expected(experiment))
        assert over_traces(exporter.after_next_poll()) == pytest.approx(expected(experiment))


def test_the_paths_that_it_serves(mlflow: Mlflow, tmp_path: Path) -> None:
    exporter = Exporter(tmp_path, configuration(mlflow, "none"), "--web.telemetry-path=/custom/metrics")
    with exporter.running(), requests.Session() as http:
        page = http.get(exporter.url)
        assert page.status_code == 200
        assert 'href="custom/metrics"' in page.text, "from the page, so that it works behind a proxy"
        metrics = http.get(f"{exporter.url}/custom/metrics", headers={"Accept": "application/openmetrics-text"})
        assert metrics.headers["Content-Type"].startswith("application/openmetrics-text")
        assert metrics.headers["Content-Encoding"] == "gzip"
        assert metrics.text.endswith("# EOF\n")
        head = http.head(f"{exporter.url}/custom/metrics")
        assert (head.status_code, head.content) == (200, b"")
        assert http.get(f"{exporter.url}/-/healthy").status_code == 200
        assert http.get(f"{exporter.url}/metrics").status_code == 404
        assert http.post(f"{exporter.url}/custom/metrics").status_code == 405


def test_an_exemplar_leads_to_its_trace_and_nothing_leads_elsewhere(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment, hidden = mlflow.experiment(), mlflow.experiment()
    (trace_id,) = mlflow.log(experiment, Trace(START_MS))
    (not_ours,) = mlflow.log(hidden, Trace(START_MS))
    settings = {**configuration(mlflow, experiment), "web": {"mlflow_ui_url": "https://mlflow.example/ui/"}}
    exporter = Exporter(tmp_path, settings)
    with exporter.running(), requests.Session() as http:
        http.headers["Accept"] = "application/openmetrics-text"
        exemplar = f'# {{trace_id="{trace_id}"}} 0.1 {START_MS / 1000 + 0.1}'
        eventually(lambda: exemplar in http.get(f"{exporter.url}/metrics").text, "the exemplar is exposed")
        answer = http.get(f"{exporter.url}/trace/{trace_id}", allow_redirects=False)
        assert answer.status_code == 302
        place = f"experiments/{mlflow.experiment_id(experiment)}/traces/{trace_id}"
        assert answer.headers["Location"] == f"https://mlflow.example/ui/#/{place}"
        for other in (
            not_ours,
            "tr-0",
            "",
            "//evil.example",
            "https:%2F%2Fevil.example",
            "a' OR '1'='1",
            "%0d%0aX: y",
            "é",
        ):
            answer = http.get(f"{exporter.url}/trace/{other}", allow_redirects=False)
            assert answer.status_code == 404, other
            assert "Location" not in answer.headers


def test_objectives_that_are_never_used_are_logged_once_for_each_change(mlflow: Mlflow, tmp_path: Path) -> None:
    twice = [{"environment": "production", "team": team} for team in ("a", "b")]
    exporter = Exporter(tmp_path, {**configuration(mlflow, mlflow.experiment()), "objectives": twice})
    file = tmp_path / "exporter.yml"

    def warnings() -> int:
        return exporter.log().count("objectives.1: is never used, because line")

    with exporter.running():
        eventually(lambda: warnings() == 1, "it is told at the start")
        for text, count in ((file.read_text(), 1), (file.read_text().replace("team: b", "team: c"), 2)):
            file.write_text(text)
            assert requests.post(f"{exporter.url}/-/reload").status_code == 200
            assert warnings() == count


def test_a_reload_is_all_or_nothing_and_no_counter_falls(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment, other = mlflow.experiment(), mlflow.experiment()
    mlflow.log(experiment, Trace(START_MS, tags={"team": "search"}), Trace(START_MS, tags={"team": "ads"}))
    mlflow.log(other, Trace(START_MS, tags={"team": "search"}))
    exporter = Exporter(tmp_path, configuration(mlflow, experiment))
    file = tmp_path / "exporter.yml"
    good = file.read_text()

    def counted() -> float:
        return sum(value for name, value in exporter.samples().items() if name.startswith("mlflow_traces_total"))

    def reloaded() -> tuple[float, float]:
        found, name = exporter.samples(), "mlflow_trace_exporter_config_last_reload_success"
        return found[f"{name}ful"], found[f"{name}_timestamp_seconds"]

    with exporter.running():
        eventually(lambda: counted() == 2, "all are counted")
        polls, before = exporter.samples()["mlflow_trace_exporter_polls_total"], reloaded()
        assert before[0] == 1
        file.write_text(good.replace(experiment, other) + "\nnonsense: 1\n")
        assert requests.post(f"{exporter.url}/-/reload").status_code == 500
        assert reloaded() == (0, before[1])
        assert "nonsense: unknown key" in exporter.log()
        exporter.after_next_poll()
        assert counted() == 2, "the experiment that the bad file names is not read"

        file.write_text(good.replace("ledger.db", "other.db"))
        assert requests.post(f"{exporter.url}/-/reload").status_code == 500
        assert "ledger.path: cannot be changed by a reload" in exporter.log()

        file.write_text(good.replace(f"- {experiment}", f"- {experiment}\n  - {other}"))
        assert requests.post(f"{exporter.url}/-/reload").status_code == 200
        successful, success_s = reloaded()
        assert successful
        assert success_s > before[1]
        assert counted() >= 2
        assert exporter.samples()["mlflow_trace_exporter_polls_total"] >= polls
        mlflow.log(other, Trace(now_ms(), tags={"team": "search"}))
        eventually(lambda: counted() == 3, "what comes to the experiment that was added is counted")

        file.write_text(file.read_text() + "labels: {extra: {team: tag.team}}\n")
        exporter.process.send_signal(signal.SIGHUP)
        mlflow.log(experiment, Trace(now_ms(), tags={"team": "search"}))
        eventually(lambda: 'team="search"' in exporter.text(), "the new label shows")
        assert "labels or buckets have changed" in exporter.log()
    assert "Traceback" not in exporter.log()


def test_an_answer_that_does_not_end_is_an_outage(tmp_path: Path) -> None:
    """The poll fails, a reload and the pages end, and neither they nor signals leave anything behind."""
    drips = endless.again_and_again(endless.OK + b"Connection: close\r\n\r\n", b" ", 0.1)
    with endless.server(drips) as uri:
        settings = {"mlflow": {"tracking_uri": uri, "timeout": "1s"}, "poll": {"interval": "1s"}}
        with Exporter(tmp_path, settings).running() as exporter:
            timeouts = 'mlflow_trace_exporter_poll_errors_total{reason="timeout"}'
            eventually(lambda: exporter.samples().get(timeouts, 0) >= 1, "the poll has failed")
            assert exporter.samples()["mlflow_up"] == 0
            threads = exporter.threads()
            file = tmp_path / "exporter.yml"
            # the last threads end when they have read something, which takes a busy machine a while
            for burst in range(5):
                for number in range(20):
                    buckets = f"buckets: {{tokens: [{20 * burst + number + 1}]}}\n"
                    file.write_text(file.read_text().partition("buckets:")[0] + buckets)
                    exporter.process.send_signal(signal.SIGHUP)
                    exporter.text()  # it has reached the process before this is answered
                if (found := exporter.threads()) <= threads + 3:
                    break
            assert found <= threads + 3, "one reads, and one waits for MLflow"
            assert requests.get(f"{exporter.url}/trace/tr-1", timeout=HANG_S).status_code == 502
            assert requests.get(f"{exporter.url}/traces", timeout=HANG_S).status_code == 502
            assert requests.post(f"{exporter.url}/-/reload", timeout=HANG_S).status_code == 200
            before = exporter.samples()[timeouts]
            eventually(lambda: exporter.samples()[timeouts] >= before + 2, "polls go on to fail")
            eventually(lambda: exporter.threads() <= threads + 5, "no thread is left behind")
            exporter.stop()
        assert "the response was not complete after 2 s" in exporter.log()
        assert "Traceback" not in exporter.log()


def test_it_reloads_and_stops_while_mlflow_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as silent:
        settings = {"mlflow": {"tracking_uri": f"http://{HOST}:{silent.getsockname()[1]}", "timeout": "8s"}}
        exporter = Exporter(tmp_path, settings)
        began_s = time.monotonic()
        with exporter.running():
            is_ready = requests.get(f"{exporter.url}/-/ready").status_code == 200
            assert not is_ready or time.monotonic() - began_s > 8
            exporter.samples()  # a scrape does not wait for the poll
            good = (tmp_path / "exporter.yml").read_text()
            good = good.replace("8s", "1h")  # longer than a test waits
            (tmp_path / "exporter.yml").write_text(good + "poll: {interval: 2s}\n")
            assert requests.post(f"{exporter.url}/-/reload", timeout=HANG_S).status_code == 200
            eventually(lambda: requests.get(f"{exporter.url}/-/ready").status_code == 200, "the first poll has failed")
            with ThreadPoolExecutor() as pool:
                for interval in (3, 4, 5):  # each is a change, and waits for MLflow to answer or not
                    (tmp_path / "exporter.yml").write_text(good + f"poll: {{interval: {interval}s}}\n")
                    exporter.process.send_signal(signal.SIGHUP)
                    pool.submit(requests.post, f"{exporter.url}/-/reload")
                pool.submit(requests.get, f"{exporter.url}/trace/tr-1")
                exporter.stop()
            assert exporter.process.returncode == 0
            assert "Traceback" not in exporter.log()


def test_no_secret_and_nothing_of_a_trace_is_in_the_log(mlflow: Mlflow, tmp_path: Path) -> None:
    """At the level that says most, with everything that could carry one."""
    experiment = mlflow.experiment()
    request = {"mlflow.traceInputs": "PROMPT-4711", "mlflow.trace.user": "USER-4711"}
    odd = Trace(START_MS, tags={"environment": "prod", "note": "TAG-4711"}, metadata=request)
    mlflow.log(experiment, odd, replace(odd, state="IN_PROGRESS", duration_ms=None))
    settings = configuration(mlflow, experiment)
    settings["mlflow"]["tracking_uri"] = mlflow.uri.replace("//", "//user:PASSWORD-4711@")  # type: ignore[index]  # it is a mapping of mappings
    for fmt in ("logfmt", "json"):
        exporter = Exporter(
            tmp_path, settings, "--log.level=debug", f"--log.format={fmt}", MLFLOW_TRACKING_TOKEN="TOKEN-4711"
        )
        with exporter.running():
            exporter.after_next_poll()
            requests.get(f"{exporter.url}/?q=QUERY-4711", auth=("alice", "AUTH-4711"))
            exporter.stop()
        assert "page read" in exporter.log()
        assert "4711" not in exporter.log()
    lines = exporter.log().splitlines()
    assert all(line.startswith("ts=") or json.loads(line)["ts"] for line in lines), "one line an event"


def test_every_line_of_the_log_is_json_from_start_to_stop(tmp_path: Path) -> None:
    """MLflow's client logs plain lines, if it is let."""
    (tmp_path / "web.yml").write_text("basic_auth_users: {}\n")
    flags = ("--log.format=json", "--log.level=debug", f"--web.config.file={tmp_path}/web.yml")
    with ServerProcesses(tmp_path) as processes:
        mlflow = Mlflow(tmp_path, processes, free_port())
        experiment = mlflow.experiment()
        mlflow.log(experiment, *KNOWN)
        settings = configuration(mlflow, experiment)
        exporter = Exporter(tmp_path, settings, *flags, MLFLOW_LOGGING_LEVEL="DEBUG", PYTHONWARNINGS="always")
        file = tmp_path / "exporter.yml"
        good = file.read_text()
        with exporter.running():
            exporter.after_next_poll()
            file.write_text(good + "\nnonsense: 1\n")
            requests.post(f"{exporter.url}/-/reload")
            file.write_text(good + "\nlabels: {extra: {team: tag.team}}\n")
            exporter.process.send_signal(signal.SIGHUP)
            eventually(lambda: "configuration reloaded" in exporter.log(), "it is read again")
            (tmp_path / "web.yml").write_text("nonsense: 1\n")
            with socket.create_connection((HOST, int(exporter.url.rpartition(":")[2]))) as odd:
                odd.sendall(b"\0\r\n\r\n")
                assert odd.recv(100)
            mlflow.stop()
            eventually(lambda: exporter.samples().get("mlflow_up") == 0, "mlflow_up 0")
            assert requests.get(f"{exporter.url}/traces").status_code == 502
            exporter.stop()
    events = [json.loads(line) for line in exporter.log().splitlines()]
    assert all(each.keys() >= {"ts", "level", "msg"} for each in events)
    said = " ".join(each["msg"] for each in events)
    for part in ("started", "page read", "is invalid", "restarts at zero", "cannot be reached", "stopped"):
        assert part in said


def test_what_others_write_is_json(tmp_path: Path) -> None:
    """Once MLflow's client is imported, which installs handlers."""
    code = """
import logging, os, signal, sys, threading, warnings
from mlflow_trace_exporter.commands import cli
from mlflow_trace_exporter.web import server
def say_much():
    logging.getLogger("mlflow.tracking").error("an answer of MLflow's")
    print("a line", file=sys.stderr)
    warnings.warn("a warning")
    threading.Thread(target=lambda: 1 / 0, name="careless").start()
    os.kill(os.getpid(), signal.SIGUSR1)
    raise ValueError("at the end")
signal.signal(signal.SIGUSR1, lambda *_: print("a handler", file=sys.stderr))
server.answer_promptly = say_much
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "--log.format=json", f"--web.listen-address={HOST}:{free_port()}"],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 1
    said = [json.loads(line)["msg"] for line in done.stderr.splitlines()]
    for part in ("started", "a line", "a handler", "thread careless failed", "unexpected error"):
        assert any(each.startswith(part) for each in said), said
    assert any("UserWarning: a warning" in each for each in said), said
    assert not any("answer" in each for each in said), said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "1 error in "),
        (("--web.listen-address=nonsense",), "--web.listen-address: 'nonsense' is not an address"),
        (("--web.telemetry-path=/traces",), "--web.telemetry-path: "),
        (("--web.config.file=/absent",), "--web.config.file: cannot read /absent"),
        (("--config.check",), "1 error in "),
    ],
)
def test_why_it_does_not_start_is_one_event(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("nonsense: 1\n" if "error" in message else f"ledger: {{path: {tmp_path}/ledger.db}}\n")
    for fmt in ("json", "logfmt"):
        command = [*EXPORTER, "serve", f"--log.format={fmt}", f"--config.file={file}"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=HANG_S, check=False)
        assert done.returncode == 2
        if fmt == "json":
            assert json.loads(done.stderr)["msg"].startswith(message)
        else:
            assert done.stderr.startswith(f"mlflow-trace-exporter: {message}")


def test_a_poller_that_dies_takes_the_process_with_it(tmp_path: Path) -> None:
    """Better a restart than metrics that nobody renews."""
    imports = "from mlflow_trace_exporter.commands import cli; from mlflow_trace_exporter.counting import poller"
    broken = f"{imports}; poller.Poller.run = lambda self: 1 / 0; cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", broken, "serve", f"--web.listen-address={HOST}:{free_port()}"],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 1
    assert "the poller failed" in done.stderr
    assert all(line.startswith("ts=") for line in done.stderr.splitlines())
