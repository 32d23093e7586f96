"""`backfill` against a real MLflow server: what it refuses, and what it leaves behind."""

import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result

from mlflow_trace_exporter.ledger.opening import open_ledger
from tests.support.commands import config_file, invoke
from tests.support.real import EXPORTER, Exporter, Mlflow, Trace, eventually, now_ms
from tests.support.waiting import HANG_S

HOUR_MS = 3_600_000


def run(config: Path, output: Path, *arguments: str) -> Result:
    return invoke("backfill", f"--config.file={config}", f"--output={output}", *arguments)


def total(file: Path) -> float:
    """The last value of the traces."""
    return float(
        [line for line in file.read_text().splitlines() if line.startswith("mlflow_traces_total{")][-1].split()[-2]
    )


def begun_at(path: Path, origin_ms: int) -> None:
    """A ledger of a `serve` that counts from then on."""
    open_ledger(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO horizon (origin_ms, fresh_ms, closed_ms, retired_ms, forgotten_ms) VALUES (?, ?, ?, ?, 0)",
            [origin_ms] * 4,
        )


def test_every_trace_up_to_the_millisecond_where_serve_began(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment, origin_ms = mlflow.experiment(), (now_ms() - 5 * HOUR_MS) // 60_000 * 60_000 + 59_900
    mlflow.insert(experiment, [Trace(origin_ms - at * 1_000, 10) for at in range(-5, 120)])
    begun_at(tmp_path / "ledger.db", origin_ms)
    config, output = config_file(tmp_path, mlflow, experiment), tmp_path / "history.om"
    done = run(config, output)
    assert done.exit_code == 0, done.output
    assert "119 traces" in done.stdout, "one started with serve, and five after it"
    assert "missing" not in done.stdout
    assert total(output) == 119
    done = run(
        config, output, f"--until={origin_ms - 60_000}".replace(str(origin_ms - 60_000), _iso(origin_ms - 60_000))
    )
    assert "the file lacks traces from" in done.stdout
    done = run(config, output, f"--until={_iso(origin_ms + 1000)}")
    assert (done.exit_code, "would count them twice" in done.stderr) == (2, True)


def _iso(ms: int) -> str:
    from mlflow_trace_exporter.domain.moments import utc

    return utc(ms).isoformat()


def test_nothing_to_write_leaves_what_there_is(mlflow: Mlflow, tmp_path: Path) -> None:
    output = tmp_path / "history.om"
    output.write_text("precious")
    done = run(config_file(tmp_path, mlflow, mlflow.experiment()), output)
    assert (done.exit_code, "no finished traces" in done.stderr) == (2, True)
    assert output.read_text() == "precious"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["exporter.yml", "history.om"]


def test_a_link_is_followed_and_what_is_no_file_refused(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, [Trace(now_ms() - 5 * HOUR_MS)])
    config = config_file(tmp_path, mlflow, experiment)
    real, link = tmp_path / "real.om", tmp_path / "link.om"
    real.touch()
    link.symlink_to(real)
    assert run(config, link).exit_code == 0
    assert link.is_symlink()
    assert total(real) == 1
    for odd in (Path("/dev/null"), tmp_path / "nowhere" / "x.om", tmp_path):
        assert run(config, odd).exit_code == 2
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--until=2h"], "Prometheus still has later samples in memory"),
        (["--step=0s"], "--step: must be at least 1s"),
        (["--since=5h", "--step=10000d"], "--step: there is no step"),
        (["--since=1h"], "is not before the end of the history"),
        (["--since=3000y"], "--since: "),
        (["--job=a\nb"], "--job: 'a\\nb' is not a valid label value"),
        (["--job="], "--job: '' is not a valid label value"),
        (["--instance=\ud800"], "--instance: '\\ud800' is not a valid label value"),
    ],
)
def test_a_mistake_is_one_message(mlflow: Mlflow, tmp_path: Path, arguments: list[str], words: str) -> None:
    config = config_file(tmp_path, mlflow, mlflow.experiment())
    done = run(config, tmp_path / "history.om", *arguments)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("job", ["本番　監視", " padded ", "j" * 200])
def test_a_job_is_what_prometheus_calls_it(mlflow: Mlflow, tmp_path: Path, job: str) -> None:
    """Unlike a label of ours it is neither trimmed nor cut."""
    experiment, output = mlflow.experiment(), tmp_path / "history.om"
    mlflow.insert(experiment, [Trace(now_ms() - 5 * HOUR_MS)])
    done = run(config_file(tmp_path, mlflow, experiment), output, f"--job={job}")
    assert done.exit_code == 0, done.output
    assert f'mlflow_traces_total{{job="{job}",' in output.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_half_a_file_is_not_left(mlflow: Mlflow, tmp_path: Path, number: signal.Signals) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, [Trace(now_ms() - hours * HOUR_MS) for hours in range(4, 700)])
    config = config_file(tmp_path, mlflow, experiment)
    command = [*EXPORTER, "backfill", f"--config.file={config}", "--step=1s"]
    with subprocess.Popen([*command, f"--output={tmp_path}/history.om"], stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: list(tmp_path.glob(".history.om.*")), "it writes")
        process.send_signal(number)
        _, said = process.communicate(timeout=HANG_S)
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert [each.name for each in tmp_path.iterdir()] == ["exporter.yml"]


def test_serve_may_run_meanwhile(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    mlflow.insert(experiment, [Trace(now_ms() - 5 * HOUR_MS)])
    settings = {"mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment}, "poll": {"interval": "1s"}}
    with Exporter(tmp_path, settings).running() as exporter:
        exporter.after_next_poll()
        done = run(tmp_path / "exporter.yml", tmp_path / "history.om")
        assert done.exit_code == 0, done.output
        assert " until serve started, at " in done.stdout
