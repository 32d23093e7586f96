"""The status page in a browser."""

import re
from pathlib import Path

import pytest

from tests.support.browser import browse, pixels
from tests.support.real import Exporter, Mlflow, Trace, eventually

LONG_AGO_MS = 1_790_000_000_000


@pytest.fixture
def exporter(mlflow: Mlflow, tmp_path: Path) -> Exporter:
    experiment = mlflow.experiment()
    cost = {"mlflow.trace.cost": '{"input_cost": 0.25, "output_cost": 0.5}'}
    for number in range(12):
        tags = {"environment": "production", "app_version": f"1.{number % 2}.0"}
        state = "ERROR" if number == 3 else "OK"
        mlflow.log(experiment, Trace(LONG_AGO_MS, duration_ms=400 * number, state=state, tags=tags, metadata=cost))
    attack = "<script>document.title = 'attacked'</script><img src=x onerror=\"document.title = 'attacked'\">"
    mlflow.log(experiment, Trace(LONG_AGO_MS, name=attack, tags={"environment": attack, "app_version": attack}))
    settings = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment},
        "poll": {"interval": "1s", "start": "earliest"},
    }
    return Exporter(tmp_path, settings)


def test_the_page_shows_what_was_counted_and_runs_nothing_of_it(exporter: Exporter, tmp_path: Path) -> None:
    with exporter.running():
        eventually(lambda: 'version="1.1.0"' in exporter.text(), "traces are counted")
        exporter.after_next_poll()
        page = browse(tmp_path, exporter.url, "--dump-dom")
        assert "<title>mlflow-trace-exporter</title>" in page
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert re.search(r"MLflow</dt><dd class=\"good\">reachable since \d{4}-\d\d-\d\d", page)
        rows = re.findall(r"<td>(\d+)</td><td>([\d.]+)%</td>", re.sub(r"\s*\n\s*", "", page))
        assert rows == [("1", "0.0"), ("6", "0.0"), ("6", "16.7")], "as they are sorted: < comes before p"

        for name, size, flags in (
            ("phone", (390, 844), ()),
            ("dark", (1280, 900), ("--blink-settings=preferredColorScheme=0",)),
        ):
            picture = tmp_path / f"{name}.png"
            width, height = size
            browse(tmp_path, exporter.url, f"--screenshot={picture}", f"--window-size={width},{height}", *flags)
            assert pixels(picture) == size
        exporter.stop()
