"""From an alert to the traces it is about, with a real MLflow."""

import re
from pathlib import Path

import requests

from tests.support.real import Exporter, Mlflow, Trace, eventually, now_ms
from tests.support.waiting import HANG_S

PRODUCTION = {"environment": "production", "app_version": "1.5.0"}
STAGING = {"environment": "staging", "app_version": "1.5.0"}


def ids(page: str) -> list[str]:
    return re.findall(r"/traces/(tr-\w+)\"", page)


def test_the_page_lists_what_is_asked_for_the_newest_first(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    now = now_ms()
    made = {
        name: mlflow.log(experiment, trace)[0]
        for name, trace in {
            "old": Trace(now - 7_200_000, state="ERROR", tags=PRODUCTION),
            "failed": Trace(now - 30_000, state="ERROR", tags=PRODUCTION),
            "failed later": Trace(now - 20_000, duration_ms=6_000, state="ERROR", tags=PRODUCTION),
            "well": Trace(now - 25_000, tags=PRODUCTION),
            "well in staging": Trace(now - 26_000, tags=STAGING),
            "long": Trace(now - 10_800_000, duration_ms=10_700_000, tags={**STAGING, "team": "search"}),
            "evaluated": Trace(now - 9_000, tags={**STAGING, "mlflow.eval.requestId": "x"}),
            "elsewhere": Trace(now - 10_000, state="ERROR", tags=STAGING),
            "running": Trace(now - 10_000, duration_ms=None, state="IN_PROGRESS", tags=STAGING),
            "no state": Trace(now - 11_000, duration_ms=None, state="STATE_UNSPECIFIED", tags=STAGING),
            "no state, and ended": Trace(now - 12_000, state="STATE_UNSPECIFIED", tags=STAGING),
        }.items()
    }
    mlflow.insert(experiment, [Trace(now - 40_000, tags=PRODUCTION)] * 1_200)  # more than a page, at one moment
    settings = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment},
        "poll": {"interval": "1s"},
        "labels": {"extra": {"team": "tag.team"}},
    }

    def listed(**query: str) -> list[str]:
        return ids(exporter.traces_page(**query))

    with Exporter(tmp_path, settings).running() as exporter:
        eventually(lambda: exporter.samples().get("mlflow_up"), "it has polled")
        assert listed(environment="production", status="error") == [made["failed later"], made["failed"]]
        assert listed(environment="production", status="slow") == [made["failed later"]]
        assert listed(status="in_progress") == [made["running"], made["no state"]]
        assert listed(version="1.5.0", status="error", start="0", end=str(now / 1000 - 3_600)) == [made["old"]]
        assert listed(status="error", experiment="another") == []
        assert listed(status="ok", environment="staging") == [
            *(made["no state, and ended"], made["well in staging"], made["long"])
        ], "in the order of their starts, and of an hour in which they ended"
        assert (
            listed(team="search")
            == listed(duration_above="7200")
            == listed(since="10m", team="search")
            == [made["long"]]
        )
        assert listed(team="search", start="1h") == []
        assert len(listed(environment="production")) == 50
        refused = requests.get(f"{exporter.url}/traces?user=bob", timeout=HANG_S)
        assert (refused.status_code, refused.headers["Content-Type"]) == (400, "text/plain; charset=utf-8")
        assert refused.text.startswith("unknown parameter 'user'")
        form = requests.get(f"{exporter.url}/traces", timeout=HANG_S).text
        assert '<input name="team" type="text"' in form
        assert 'id="mlflowunreachable"' in requests.get(f"{exporter.url}/runbook", timeout=HANG_S).text
    assert "Traceback" not in exporter.log()
