"""What the benchmarks find in the scrapes of an exporter."""

from typing import cast

from tests.benchmarks.watch import Seen, Watch, look
from tests.support.real import Exporter

TEXT = """\
# TYPE mlflow_traces_total counter
mlflow_traces_total{experiment="a",environment="production",version="1",trace_name="x"} 3.0
mlflow_traces_total{experiment="a",environment="production",version="2",trace_name="x"} 4.0
mlflow_traces_total{experiment="a",environment="staging",version="1",trace_name="x"} 5.0
mlflow_trace_exporter_polls_total 2.0
mlflow_trace_exporter_poll_errors_total{reason="clock"} 1.0
mlflow_trace_exporter_poll_errors_total{reason="ledger"} 2.0
"""


class Stub:
    def text(self) -> str:
        return TEXT


STUB = cast(Exporter, Stub())


def seen(at_s: float, counted: float, polls: int, took_s: float = 0.0) -> Seen:
    text = f"mlflow_trace_exporter_polls_total {polls}\nmlflow_trace_exporter_poll_duration_seconds {took_s}\n"
    return Seen(at_s, {"production": counted}, text)


def test_a_scrape_has_the_counts_by_environment_and_the_sums_of_metrics() -> None:
    found = look(STUB)
    assert found.counted == {"production": 7, "staging": 5}
    assert found.total == 12
    assert found.of_exporter("polls_total") == 2
    assert found.of_exporter("poll_errors_total") == 3


def test_delays_pair_the_first_end_with_the_first_count() -> None:
    watch = Watch(STUB)
    watch.seen = [seen(100, 0, 1), seen(115, 2, 2), seen(130, 3, 3)]
    assert watch.delays_s([101, 102, 103]) == [14, 13, 27]


def test_each_poll_has_its_duration_once() -> None:
    watch = Watch(STUB)
    watch.seen = [seen(100, 0, 1, 9), seen(115, 1, 2, 1), seen(116, 2, 2, 1), seen(130, 3, 3, 2)]
    assert watch.poll_durations_s() == [1, 2]
    assert watch.poll_durations_s(after_s=120) == [2]
