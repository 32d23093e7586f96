import errno
import gc
import io
import json
import logging
import math
import sys
import warnings
from threading import Thread
from typing import Any

import pytest

from mlflow_trace_exporter import logs


@pytest.fixture(autouse=True)
def _logging_as_before() -> object:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("mlflow_trace_exporter").level
    yield
    root.handlers, root.level = before[0], before[1]
    logging.captureWarnings(False)
    logging.getLogger("mlflow_trace_exporter").setLevel(before[2])


def test_logfmt(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "logfmt")
    logging.getLogger("mlflow_trace_exporter.x").info("page read", extra={"traces": 3, "name_": 'a "b"\n', "empty": ""})
    line = capsys.readouterr().err
    assert line.endswith(' level=info msg="page read" traces=3 name_="a \\"b\\"\\n" empty=""\n')
    assert line.startswith("ts=20")


def test_a_name_is_logged_in_its_own_script_and_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "logfmt")
    names = "本番　環境, a\x85b\u2028c\x1b[31m\ud800"
    logging.getLogger("mlflow_trace_exporter.x").info(
        "experiments selected", extra={"experiments": names, "one": "本番"}
    )
    line = capsys.readouterr().err
    assert r'experiments="本番　環境, a\u0085b\u2028c\u001b[31m\ud800" one=本番' in line
    assert len(line.splitlines()) == 1


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("debug", "json")
    logging.getLogger("mlflow_trace_exporter.x").debug("page read", extra={"path": logs.__name__})
    fields = json.loads(capsys.readouterr().err)
    assert {**fields, "ts": ""} == {
        "ts": "",
        "level": "debug",
        "msg": "page read",
        "path": "mlflow_trace_exporter.logs",
    }


def test_an_exception_stays_on_the_line_of_its_event(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("debug", "logfmt")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("mlflow_trace_exporter.x").debug("unexpected error", exc_info=True)
    assert capsys.readouterr().err.count("\n") == 1


def test_levels_are_ours_and_libraries_speak_from_warnings_on(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("warn", "logfmt")
    logging.getLogger("mlflow_trace_exporter.x").info("hidden")
    logging.getLogger("urllib3").debug("GET /secret")
    logging.getLogger("mlflow.tracking").warning("answer: a prompt")
    logging.getLogger("mlflow_trace_exporter.x").warning("shown")
    assert capsys.readouterr().err.count("\n") == 1


def fields(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What each line of the log has, all of which are JSON."""
    return [json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().err.splitlines()]


def test_all_that_is_written_to_stderr_is_an_event_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("error", "json")
    before = sys.stderr
    with logs.all_of_stderr():
        sys.stderr.write("a")
        sys.stderr.write("b\n\nc\nnot at its end")
        sys.stderr.flush()
        sys.stderr.writelines(["d\n", "é\ud800\n"])
        logging.lastResort.handle(logging.makeLogRecord({"msg": "e", "levelno": logging.WARNING}))  # type: ignore[union-attr]  # it is never None
        assert not sys.stderr.isatty()
    assert sys.stderr is before
    assert [each["msg"] for each in fields(capsys)] == ["ab", "c", "not at its end", "d", "é\ud800", "e"]


def test_lines_of_threads_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "json")
    with logs.all_of_stderr():
        sys.stderr.write("ours ")
        thread = Thread(target=lambda: sys.stderr.write("theirs\n"))
        thread.start()
        thread.join()
        sys.stderr.write("goes on\n")
    assert [each["msg"] for each in fields(capsys)] == ["theirs", "ours goes on"]


@pytest.mark.filterwarnings("default")
def test_what_fails_where_nobody_looks_is_one_event(capsys: pytest.CaptureFixture[str]) -> None:
    class Careless:
        def __del__(self) -> None:
            raise ValueError("at its end")

    def careless() -> None:
        raise ValueError("in a thread")

    logs.setup("warn", "json")
    with logs.all_of_stderr():
        thread = Thread(target=careless, name="careless")
        thread.start()
        thread.join()
        Thread(target=sys.exit).start()
        Careless()
        gc.collect()
        warnings.warn("odd", stacklevel=1)
        logging.getLogger("a.library").error("%d traces", "three")
        logging.getLogger("asyncio").error("it happened")
    thread_failed, finalizer_failed, warning, not_logged, library = fields(capsys)
    assert thread_failed["msg"] == "thread careless failed"
    assert thread_failed["exception"].endswith("ValueError: in a thread")
    assert "Careless.__del__" in finalizer_failed["msg"]
    assert finalizer_failed["exception"].endswith("ValueError: at its end")
    assert "UserWarning: odd" in warning["msg"]
    assert (not_logged["logger"], not_logged["said"]) == ("a.library", "'%d traces'")
    assert library["msg"] == "it happened"


def test_values_that_json_does_not_have_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "json")
    endless: list[object] = []
    endless.append(endless)
    values = {"none": None, "nan": math.nan, "by_pair": {(1, 2): 3}, "endless": endless, "odd": {1, 2}}
    for name, value in values.items():
        logging.getLogger("mlflow_trace_exporter.x").info("event", extra={name: value})
    none, nan, by_pair, found_endless, odd = fields(capsys)
    assert (none["none"], nan["nan"], by_pair["by_pair"]) == (None, "nan", "{(1, 2): 3}")
    assert (found_endless["endless"], odd["odd"]) == ("[[...]]", "{1, 2}")


def test_a_library_that_installs_a_handler_when_it_is_imported(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "json")
    mlflow = logging.getLogger("mlflow")
    with logs.all_of_stderr():
        mlflow.handlers, mlflow.propagate = [logging.StreamHandler(sys.stderr)], False
        mlflow.error("while it is imported")
        logs.quiet_mlflow()
        logging.getLogger("mlflow.tracking").error("answer: a prompt")
    assert [each["msg"] for each in fields(capsys)] == ["while it is imported"]


@pytest.mark.parametrize("fmt", ["logfmt", "json"])
def test_a_log_that_nobody_reads_stops_nothing(fmt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    logs.setup("info", fmt)
    with logs.all_of_stderr():
        logging.getLogger("mlflow_trace_exporter.x").info("event")
        sys.stderr.write("line\n")
