"""The scrape configuration of docs/install.md for shards: a leader and one that waits, on a real Prometheus."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

from tests.support import PROJECT
from tests.support.real import Prometheus, eventually

LEADER = """\
mlflow_traces_total{environment="production",experiment="chatbot"} 7
mlflow_objective_info{environment="production",experiment="chatbot",team="support"} 1
mlflow_trace_errors_total{environment="production",experiment="chatbot"} 1
mlflow_up 1
mlflow_trace_exporter_leader 1
"""
WAITS = "mlflow_trace_exporter_leader 0\n"


def documented() -> dict[str, Any]:
    """The scrape configuration of the section."""
    section = (PROJECT / "docs" / "install.md").read_text().partition("### Shards and shared ledgers")[2]
    text = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[0]
    (config,) = yaml.safe_load(text)["scrape_configs"]
    return dict(config)


@contextmanager
def exposing(pages: dict[str, str], name: str) -> Iterator[str]:
    """A server with a page that can change; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(pages[name].encode())

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_counter_goes_on_when_another_exporter_takes_over(tmp_path: Path) -> None:
    config, pages = documented(), {"a": LEADER, "b": WAITS}
    with ExitStack() as stack:
        a, b = (stack.enter_context(exposing(pages, name)) for name in pages)
        targets = [{"targets": [a, b], "labels": {"shard": "2", "pod": "some"}}]
        own = {**config, "static_configs": targets}
        prometheus = Prometheus(tmp_path, {own.pop("job_name"): f"http://{a}"}, **own)
        stack.enter_context(prometheus.running())

        def series(selector: str) -> set[tuple[str, str, str]]:
            found = (each["metric"] for each in prometheus.api.query(selector))
            return {(each["instance"], each.get("pod", ""), each["shard"]) for each in found}

        of_traces = '{__name__=~"mlflow_(traces|trace_errors)_total|mlflow_objective_info"}'
        eventually(lambda: prometheus.value("count(mlflow_trace_exporter_leader)") == 2, "both are scraped")
        assert series(of_traces) == {("leader", "", "2")}
        assert series("mlflow_trace_exporter_leader") == {(a, "some", "2"), (b, "some", "2")}
        assert series("mlflow_up") == {(a, "some", "2")}
        pages |= {"a": WAITS, "b": LEADER.replace("} 7", "} 9")}
        eventually(lambda: prometheus.value("mlflow_traces_total") == 9, "the other one is scraped")
        eventually(lambda: series("mlflow_up") == {(b, "some", "2")}, "the first one has no other metrics than its own")
        assert prometheus.value("resets(mlflow_traces_total[10m])") == 0
        assert prometheus.api.query('{__tmp_own!=""}') == []
