"""The demo's application as processes: what they are started with, and what the exporter is told about them."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from mlflow_trace_exporter.demo.options import INCIDENT_FOR_S, INTERVAL_S, Options
from mlflow_trace_exporter.demo.processes import CHATBOT_ENVIRONMENT, HOST, Processes, free_port

EXPERIMENT = "tideline-support"


def exporter_configuration(options: Options) -> dict[str, Any]:
    """The exporter's configuration."""
    return {
        "mlflow": {"tracking_uri": options.mlflow, "experiments": [EXPERIMENT]},
        "poll": {"interval": f"{INTERVAL_S}s", "start": "earliest"},
        "series": {"zero_hold": f"{2 * INTERVAL_S}s"},
        "ledger": {"path": str(options.data / "ledger.db")},
    }


def load_arguments(options: Options) -> list[str]:
    """The arguments of the process that simulates the users."""
    arguments = ["mlflow_trace_exporter.demo.load", f"--rate={options.rate}", f"--experiment={EXPERIMENT}"]
    if options.incident_after_s is not None:
        arguments += ["--incident", str(options.incident_after_s), str(INCIDENT_FOR_S)]
    return arguments


def load_environment(
    options: Options, processes: Processes, say: Callable[[str], None], give_up: Callable[[], bool]
) -> Mapping[str, str]:
    """The environment of the chatbot. It uses a real LLM if the user sets an address and a key, else the mock, which is
    started."""
    mlflow = {"MLFLOW_TRACKING_URI": options.mlflow, "MLFLOW_DISABLE_TELEMETRY": "true"}
    if os.environ.get("OPENAI_BASE_URL") and os.environ.get("OPENAI_API_KEY"):
        say(f"LLM: {os.environ['OPENAI_BASE_URL']}, at your cost")
        return {**CHATBOT_ENVIRONMENT, **mlflow}
    port = free_port()
    processes.start("llm", ["mlflow_trace_exporter.demo.llm", str(port)], {})
    processes.wait_until_ready(f"http://{HOST}:{port}/health", give_up)
    say("LLM: a mock on this machine; set OPENAI_BASE_URL and OPENAI_API_KEY to use a real one")
    llm = {"OPENAI_BASE_URL": f"http://{HOST}:{port}/v1", "OPENAI_API_KEY": "stand-in"}
    return {**CHATBOT_ENVIRONMENT, **mlflow, **llm}
