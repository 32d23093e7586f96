import pytest

from mlflow_trace_exporter import wiring
from mlflow_trace_exporter.domain.clocks import PLAUSIBLE_MS, Clocks
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.settings.config import Config, Poll

NOW_MS = 1_790_000_000_000


@pytest.mark.parametrize(
    ("clocks", "earliest_ms", "latest_ms", "difference_s"),
    [
        (Clocks(NOW_MS), NOW_MS, NOW_MS, None),
        (Clocks(NOW_MS, NOW_MS - 5_000), NOW_MS - 5_000, NOW_MS, -5),
        (Clocks(NOW_MS, NOW_MS + 5_000), NOW_MS, NOW_MS + 5_000, 5),
        (Clocks(NOW_MS, 1_000), NOW_MS, NOW_MS, 1 - NOW_MS / 1000),
        (Clocks(0, NOW_MS), NOW_MS, NOW_MS, NOW_MS / 1000),
        (Clocks(NOW_MS, PLAUSIBLE_MS - 1), NOW_MS, NOW_MS, (PLAUSIBLE_MS - 1 - NOW_MS) / 1000),
        (Clocks(7, 3), 7, 7, -0.004),
    ],
)
def test_a_clock_that_was_never_set_is_ignored(
    clocks: Clocks, earliest_ms: int, latest_ms: int, difference_s: float | None
) -> None:
    assert (clocks.earliest_ms, clocks.latest_ms, clocks.difference_s) == (earliest_ms, latest_ms, difference_s)


def test_counting_does_not_begin_by_a_clock_that_was_never_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "now_ms", lambda: 5_000)
    with pytest.raises(UserError, match=r"this machine's clock says 1970-01-01 00:00 UTC: set the clock"):
        wiring.poll_settings(Config())
    earliest = Config(poll=Poll.model_validate({"start": "earliest"}))
    assert wiring.poll_settings(earliest).origin_ms == 0
