import json
import logging

import pytest

from exporter import logs


@pytest.fixture(autouse=True)
def _logging_as_before() -> object:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("exporter").level
    yield
    root.handlers, root.level = before[0], before[1]
    logging.captureWarnings(False)
    logging.getLogger("exporter").setLevel(before[2])


def test_logfmt(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "logfmt")
    logging.getLogger("exporter.x").info("page read", extra={"traces": 3, "name_": 'a "b"\n', "empty": ""})
    line = capsys.readouterr().err
    assert line.endswith(' level=info msg="page read" traces=3 name_="a \\"b\\"\\n" empty=""\n')
    assert line.startswith("ts=20")


def test_a_name_is_logged_in_its_own_script_and_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "logfmt")
    names = "本番　環境, a\x85b\u2028c\x1b[31m\ud800"
    logging.getLogger("exporter.x").info("experiments selected", extra={"experiments": names, "one": "本番"})
    line = capsys.readouterr().err
    assert r'experiments="本番　環境, a\u0085b\u2028c\u001b[31m\ud800" one=本番' in line
    assert len(line.splitlines()) == 1


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("debug", "json")
    logging.getLogger("exporter.x").debug("page read", extra={"path": logs.__name__})
    fields = json.loads(capsys.readouterr().err)
    assert {**fields, "ts": ""} == {"ts": "", "level": "debug", "msg": "page read", "path": "exporter.logs"}


def test_an_exception_stays_on_the_line_of_its_event(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("debug", "logfmt")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("exporter.x").debug("unexpected error", exc_info=True)
    assert capsys.readouterr().err.count("\n") == 1


def test_levels_are_ours_and_libraries_speak_from_warnings_on(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("warn", "logfmt")
    logging.getLogger("exporter.x").info("hidden")
    logging.getLogger("urllib3").debug("GET /secret")
    logging.getLogger("mlflow.tracking").warning("answer: a prompt")
    logging.getLogger("exporter.x").warning("shown")
    assert capsys.readouterr().err.count("\n") == 1
