"""The traces that benchmarks insert are those that a server would store."""

import random
from pathlib import Path

from tests.benchmarks.catch_up import bare_loop
from tests.benchmarks.store import realistic, server
from tests.support.real import now_ms


def test_inserted_traces_are_what_the_server_would_make_of_them(tmp_path: Path) -> None:
    dice, first_ms = random.Random(5), now_ms() - 3_600_000
    traces = [realistic(dice, first_ms + at, 1_000) for at in range(1_201)]
    with server(tmp_path) as store:
        ours = store.experiment("ours")
        store.insert(ours, traces)
        theirs = store.mlflow.experiment("theirs")
        store.mlflow.insert(theirs, traces[:50])
        found = store.mlflow.client.search_traces(
            locations=[ours], max_results=50, order_by=["timestamp_ms ASC"], include_spans=False
        )
        expected = store.mlflow.client.search_traces(
            locations=[store.mlflow.experiment_id(theirs)],
            max_results=50,
            order_by=["timestamp_ms ASC"],
            include_spans=False,
        )
        for one, other in zip(found, expected, strict=True):
            assert one.info.request_time == other.info.request_time
            assert one.info.execution_duration == other.info.execution_duration
            assert one.info.state == other.info.state
            assert one.info.tags == other.info.tags
            assert one.info.trace_metadata == other.info.trace_metadata
        assert bare_loop(store.uri, ours, first_ms, now_ms()) == len(traces)
        store.add_spans(ours, 2, 100)
        whole = store.mlflow.client.search_traces(locations=[ours], max_results=50)
        assert [len(trace.data.spans) for trace in whole] == [2] * 50
        assert all(span.trace_id == trace.info.trace_id for trace in whole for span in trace.data.spans)
