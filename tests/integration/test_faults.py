"""The faults that take a real MLflow server and a real process to show. Each by its number."""

import base64
import json
import resource
import signal
import sqlite3
from contextlib import closing
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.errors import NotUnderstoodError, PollError, Reason
from mlflow_trace_exporter.tracking import client
from mlflow_trace_exporter.tracking import source as source_module
from mlflow_trace_exporter.tracking.client import Client
from mlflow_trace_exporter.tracking.features import Feature
from mlflow_trace_exporter.tracking.pending import PendingAnswer
from mlflow_trace_exporter.tracking.source import OPTIONAL, MlflowSource
from tests.support.proxy import Request, proxy, respond
from tests.support.real import ODD_IDS, Exporter, Mlflow, Samples, Trace, eventually, now_ms

LONG_AGO_MS = 1_790_000_000_000
"""Traces of then are final at first sight."""

RESETS = "mlflow_trace_exporter_ledger_resets_total"
POLL_ERRORS = 'mlflow_trace_exporter_poll_errors_total{reason="%s"}'


def config(uri: str, experiment: str, **poll: str) -> dict[str, Any]:
    return {
        "mlflow": {"tracking_uri": uri, "experiments": experiment},
        "poll": {"interval": "1s", "start": "earliest", **poll},
    }


def counted(exporter: Exporter, name: str = "mlflow_traces_total") -> float:
    return sum(value for sample, value in exporter.samples().items() if sample.partition("{")[0] == name)


def cut_short(handler: BaseHTTPRequestHandler, answer: bytes) -> None:
    respond(handler, 200, answer[: len(answer) // 2], length=len(answer))


SPOILT = {
    "throttled": lambda handler, _: respond(handler, 429, b"slow down"),
    "server_error": lambda handler, _: respond(handler, 503, b"starting"),
    "bad_answer": lambda handler, answer: respond(handler, 200, answer[: len(answer) // 2]),
    "unreachable": cut_short,
}


@pytest.mark.parametrize("reason", SPOILT)
def test_fault_19_pages_are_spoilt_on_their_way(mlflow: Mlflow, tmp_path: Path, reason: str) -> None:
    """Some searches are; the traces take four pages, and two searches go before to see what the server can do."""
    experiment = mlflow.experiment()
    mlflow.insert(experiment, (Trace(LONG_AGO_MS + number) for number in range(1_600)))
    with proxy(mlflow.uri) as between:

        def misbehave(handler: Request, answer: bytes) -> bool:
            searches = sum("traces/search" in path for path in (*handler.before, handler.path))
            if "traces/search" not in handler.path or searches not in (2, 5, 7):
                return False
            SPOILT[reason](handler, answer)
            return True

        between.misbehave = misbehave
        with Exporter(tmp_path, config(between.url, experiment)).running() as exporter:
            eventually(lambda: counted(exporter) == 1_600, "all are counted")
            assert exporter.samples()[POLL_ERRORS % reason] > 0
            assert counted(exporter, "mlflow_trace_exporter_ledger_resets_total") == 0
        assert "Traceback" not in exporter.log()


def test_fault_20_the_disk_is_full_for_a_while(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, [Trace(LONG_AGO_MS)] * 3)
    with Exporter(tmp_path, config(mlflow.uri, experiment)).running() as exporter:
        eventually(lambda: counted(exporter) == 3, "the first are counted")
        _, hard = resource.prlimit(exporter.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(exporter.process.pid, resource.RLIMIT_FSIZE, (0, hard))
        errors = POLL_ERRORS % "ledger"
        eventually(lambda: exporter.samples()[errors] > 0, "the error is counted")
        mlflow.log(experiment, *[Trace(now_ms())] * 2)
        shown = exporter.after_next_poll()
        assert shown[errors] > 1
        assert counted(exporter) == 3, "what is committed is still served"
        resource.prlimit(exporter.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        eventually(lambda: counted(exporter) == 5, "the others are counted without a restart")
    assert "Traceback" not in exporter.log()


def damage_a_page(ledger: Path, index: str) -> None:
    """Overwrite the first page of an index, which each poll reads."""
    with closing(sqlite3.connect(ledger)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((page, size),) = db.execute(
            "SELECT rootpage, page_size FROM sqlite_master, pragma_page_size WHERE name = ?", [index]
        )
        with ledger.open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)
        with db:  # whoever else has the page in memory reads it again
            db.execute("UPDATE versions SET first_ms = first_ms")


def test_fault_21_a_ledger_that_is_damaged_while_it_is_used_is_set_aside(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, (Trace(LONG_AGO_MS + number) for number in range(3)))
    ledger = tmp_path / "ledger.db"
    with Exporter(tmp_path, config(mlflow.uri, experiment)).running() as exporter:
        eventually(lambda: counted(exporter) == 3, "they are counted")
        damage_a_page(ledger, "pending_by_next")
        eventually(lambda: exporter.samples().get(RESETS) == 1, "a new ledger is begun")
        eventually(lambda: counted(exporter) == 3, "all are counted again")
        mlflow.log(experiment, Trace(now_ms()))
        eventually(lambda: counted(exporter) == 4, "counting goes on")
        exporter.stop()
    assert (tmp_path / "ledger.db.damaged-1").exists()
    assert "Traceback" not in exporter.log()
    with Exporter(tmp_path, config(mlflow.uri, experiment)).running() as exporter:
        assert counted(exporter) == 4
        assert exporter.samples()[RESETS] == 1


def test_a_write_ahead_log_that_is_removed_under_the_process_loses_nothing(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, (Trace(LONG_AGO_MS + number) for number in range(5)))
    with Exporter(tmp_path, config(mlflow.uri, experiment)).running() as exporter:
        eventually(lambda: counted(exporter) == 5, "they are counted")
        (tmp_path / "ledger.db-wal").unlink()
        eventually(lambda: "write-ahead log was removed; nothing is lost" in exporter.log(), "it is noticed")
        exporter.process.kill()
        exporter.process.wait()
    with Exporter(tmp_path, config(mlflow.uri, experiment)).running() as exporter:
        assert counted(exporter) == 5


def test_fault_22_a_link_to_the_ledger_does_not_let_a_second_process_in(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    (tmp_path / "link.db").symlink_to(tmp_path / "ledger.db")
    with Exporter(tmp_path, config(mlflow.uri, experiment)).running() as exporter:
        second = tmp_path / "second"
        second.mkdir()
        linked = {**config(mlflow.uri, experiment), "ledger": {"path": str(tmp_path / "link.db")}}
        other = Exporter(second, linked)
        with pytest.raises(AssertionError, match=f"ledger.db is in use by process {exporter.process.pid}"):
            other.running().__enter__()
        assert other.process.returncode == 2


def test_fault_26_credentials_are_changed(mlflow: Mlflow, tmp_path: Path) -> None:
    """They are changed at MLflow first; the exporter has them in ~/.mlflow/credentials."""
    experiment = mlflow.experiment()
    mlflow.insert(experiment, [Trace(LONG_AGO_MS)])
    credentials = tmp_path / ".mlflow" / "credentials"
    credentials.parent.mkdir()

    def write(password: str) -> None:
        credentials.write_text(f"[mlflow]\nmlflow_tracking_username = x\nmlflow_tracking_password = {password}\n")

    valid = ["old"]

    def refuse(handler: BaseHTTPRequestHandler, _: bytes) -> bool:
        expected = base64.b64encode(f"x:{valid[-1]}".encode()).decode()
        if handler.headers.get("Authorization") == f"Basic {expected}":
            return False
        respond(handler, 401, b"who are you")
        return True

    write("old")
    with proxy(mlflow.uri) as between:
        between.misbehave = refuse
        with Exporter(tmp_path, config(between.url, experiment), HOME=str(tmp_path)).running() as exporter:
            eventually(lambda: counted(exporter) == 1, "the first is counted")
            valid.append("new")
            mlflow.log(experiment, Trace(now_ms()))
            eventually(lambda: exporter.samples()[POLL_ERRORS % "credentials"] > 0, "the refusal is counted")
            assert exporter.samples()["mlflow_up"] == 0
            write("new")
            eventually(lambda: counted(exporter) == 2, "the other is counted")
        assert "old" not in exporter.log()


def test_fault_29_other_buckets_and_labels_after_a_restart(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    tags = {"environment": "a", "stage": "b"}
    mlflow.log(experiment, *[Trace(LONG_AGO_MS, tags=tags)] * 2)
    with Exporter(tmp_path, config(mlflow.uri, experiment)).running() as exporter:
        eventually(lambda: counted(exporter) == 2, "both are counted")
        before = exporter.samples()
    other = {
        **config(mlflow.uri, experiment),
        "buckets": {"duration_seconds": [1, 2]},
        "labels": {"environment": "tag.stage"},
    }
    with Exporter(tmp_path, other).running() as exporter:
        after = exporter.samples()
        mlflow.log(experiment, Trace(now_ms(), tags=tags))
        eventually(lambda: counted(exporter) == 3, "the next is counted")
    same = {
        sample: value
        for sample, value in before.items()
        if sample.startswith("mlflow_") and "_exporter_" not in sample and "duration" not in sample
    }
    for known_from_the_first_poll_on in [each for each in same if each.startswith(("mlflow_up", "mlflow_experiment_"))]:
        same.pop(known_from_the_first_poll_on)
    assert same.items() <= after.items()
    assert "labels or buckets have changed: the metric restarts at zero" in exporter.log()
    assert "metric=mlflow_trace_duration_seconds" in exporter.log()


def test_fault_30_told_to_stop_in_the_middle_of_a_poll(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, (Trace(LONG_AGO_MS + number) for number in range(4_000)))
    with proxy(mlflow.uri) as between, Exporter(tmp_path, config(between.url, experiment)).running() as exporter:

        def searches() -> int:
            return sum("traces/search" in path for path in between.requests)

        def slow_down(*_: object) -> bool:
            Event().wait(0.5 if searches() > 4 else 0)
            return False

        between.misbehave = slow_down
        eventually(lambda: searches() > 4, "it is in the middle")
        exporter.stop(signal.SIGTERM)
        assert exporter.process.returncode == 0
    with Exporter(tmp_path, config(mlflow.uri, experiment)).running() as exporter:
        assert counted(exporter) < 4_000
        eventually(lambda: counted(exporter) == 4_000, "the rest is counted")
    assert "Traceback" not in exporter.log()


REFUSED = {Feature.END_TIME_FILTER: "end_time_ms", Feature.NOT_IN: "NOT IN", Feature.LIKE: "LIKE"}


def refuse(term: str) -> Any:
    raise NotUnderstoodError(Reason.CONFIGURATION, f"what is {term}?")


class OlderClient(Client):
    """A client of a server that refuses what some servers do not know."""

    def __init__(self, uri: str, *lacks: Feature) -> None:
        super().__init__(uri)
        self._lacks = lacks

    def begin_search(self, experiment_ids: Any, filter_string: str, *more: Any) -> Any:
        for feature, term in REFUSED.items():
            if feature in self._lacks and term in filter_string:
                return PendingAnswer(partial(refuse, term), lambda: None)
        return super().begin_search(experiment_ids, filter_string, *more)

    def count(self, *args: Any) -> Any:
        if Feature.TRACE_METRICS in self._lacks:
            raise PollError(Reason.CONFIGURATION, "not found")
        return super().count(*args)

    def count_assessments(self, *args: Any, **named: Any) -> Any:
        if Feature.ASSESSMENT_METRICS in self._lacks:
            raise PollError(Reason.CONFIGURATION, "not found")
        return super().count_assessments(*args, **named)

    def begin_spans(self, *args: Any) -> Any:
        if Feature.SPANS in self._lacks:
            raise PollError(Reason.CONFIGURATION, "not found")
        return super().begin_spans(*args)


def read(source: MlflowSource, window: Window) -> list[TraceRecord]:
    return [record for page in source.scan(window) for record in page.records]


def test_a_server_that_cannot_leave_out_ids_is_read_in_full(mlflow: Mlflow) -> None:
    experiment = mlflow.experiment()
    made = mlflow.insert(experiment, [Trace(LONG_AGO_MS + number // 700) for number in range(2_500)])
    source = MlflowSource(OlderClient(mlflow.uri, Feature.NOT_IN), now_ms, [experiment])
    found = [record.trace_id for record in read(source, Window(0, 2**53))]
    assert sorted(found) == sorted(made)


@pytest.mark.parametrize("feature", list(Feature))
def test_what_a_server_lacks_is_found_out_and_said_once(
    mlflow: Mlflow, feature: Feature, caplog: pytest.LogCaptureFixture
) -> None:
    source = MlflowSource(OlderClient(mlflow.uri, feature), now_ms, [mlflow.experiment()], optional=OPTIONAL)
    for _ in range(3):
        assert source.features() == {each: each is not feature for each in Feature}
    assert [record.message for record in caplog.records] == [feature.without]


def test_a_filter_of_the_user_s_leaves_no_counts_to_compare(mlflow: Mlflow) -> None:
    source = MlflowSource(Client(mlflow.uri), now_ms, [mlflow.experiment()], "tag.team = 'a'")
    assert not source.features()[Feature.TRACE_METRICS]


def test_a_server_that_is_replaced_by_an_older_one_is_tried_out_again(mlflow: Mlflow) -> None:
    client = OlderClient(mlflow.uri)
    source = MlflowSource(client, now_ms, [mlflow.experiment()])
    assert all(source.features().values())
    client._lacks = (Feature.END_TIME_FILTER,)
    with pytest.raises(PollError):
        read(source, Window(0, 10, 0))
    assert not source.features()[Feature.END_TIME_FILTER]


@pytest.mark.parametrize(("error_ms", "believed_ms"), [(0, 0), (86_400_000, 0), (-3_600_000, -3_600_000)])
def test_the_clock_that_is_behind_is_believed(mlflow: Mlflow, error_ms: int, believed_ms: int) -> None:
    source = MlflowSource(Client(mlflow.uri), lambda: now_ms() + error_ms, [mlflow.experiment()])
    asked_ms = now_ms()
    found_ms = source.clocks().earliest_ms - believed_ms
    assert asked_ms - 2_000 < found_ms < now_ms() + 2_000


@pytest.mark.parametrize("experiments", [1, 200])
def test_a_tick_with_nothing_new_is_at_most_three_requests(mlflow: Mlflow, tmp_path: Path, experiments: int) -> None:
    prefix = mlflow.experiment(f"many-{experiments}-{now_ms()}")
    for number in range(experiments - 1):
        mlflow.experiment(f"{prefix}-{number}")
    with proxy(mlflow.uri) as between:
        with Exporter(tmp_path, config(between.url, f"{prefix}*")).running() as exporter:
            exporter.after_next_poll()

            def look() -> tuple[int, Samples]:
                """The requests until now, and then the samples, before which there may have been more requests."""
                return len(between.requests), exporter.samples()

            polls = exporter.samples()["mlflow_trace_exporter_polls_total"]
            before = len(between.requests)
            until, shown = eventually(
                lambda: now if (now := look())[1]["mlflow_trace_exporter_polls_total"] > polls + 5 else None,
                "some polls",
            )
            requests = until - before
            ticks = shown["mlflow_trace_exporter_polls_total"] - polls + 1  # and one that was not over
        assert shown["mlflow_up"] == 1
        assert requests <= 3 * ticks
        assert json.dumps(between.requests).count("traces/search") > 5


def test_a_trace_with_an_odd_id_holds_up_nothing(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    odd = ODD_IDS
    start_ms = now_ms()
    for number, trace_id in enumerate(odd):
        mlflow.log(experiment, Trace(start_ms + number % 2, trace_id=f"{trace_id}{start_ms}"))
    mlflow.log(experiment, Trace(start_ms))
    with Exporter(tmp_path, config(mlflow.uri, experiment)).running() as exporter:
        eventually(lambda: counted(exporter) == len(odd) + 1, "all are counted")
        assert not any(value for name, value in exporter.samples().items() if name.startswith(POLL_ERRORS[:30]))


def test_odd_ids_at_the_end_of_a_page(mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (client, source_module):
        monkeypatch.setattr(module, "PAGE_SIZE", 2)
    experiment = mlflow.experiment()
    made = [f"{trace_id}{now_ms()}" for trace_id in ("it's", '"', "tr-a\0b", "日本", "tr-ab")]
    for trace_id in made[:2]:
        mlflow.log(experiment, Trace(LONG_AGO_MS, trace_id=trace_id))
    for trace_id in made[2:]:
        mlflow.log(experiment, Trace(LONG_AGO_MS + 1, trace_id=trace_id))
    source = MlflowSource(Client(mlflow.uri), now_ms, [experiment])
    found = [record.trace_id for record in read(source, Window(0, 2**53))]
    assert found[:2] == sorted(made[:2])
    assert len(found) == len(set(found))
