"""The demo's applications as processes: what they are started with, and what the exporter is told about them."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_trace_exporter.demo.options import INCIDENT_FOR_S, INTERVAL_S, Options
from mlflow_trace_exporter.demo.processes import CHATBOT_ENVIRONMENT, HOST, Processes, free_port


@dataclass(frozen=True, slots=True)
class Application:
    """An application with users. ``share``: how many questions they ask for each to the chatbot. ``quality``: what they
    and the judge should say, as in the configuration of the exporter."""

    name: str
    experiment: str
    team: str
    share: float
    quality: tuple[Mapping[str, Any], ...] = ()


THUMB = {"assessment": "thumb", "good": ["true"], "ratio": "80%"}
COMPLETE = {"assessment": "complete", "good": ["yes"], "ratio": "95%"}
CHATBOT = Application("chatbot", "tideline-support", "support", 1.0, (THUMB, COMPLETE))
SEARCH = Application("search", "tideline-search", "search", 0.5)
APPLICATIONS = (CHATBOT, SEARCH)


def exporter_configuration(options: Options) -> dict[str, Any]:
    """The exporter's configuration."""
    objective = {"environment": "production", "error_ratio": "5%", "latency": "5s"}
    return {
        "mlflow": {"tracking_uri": options.mlflow, "experiments": [each.experiment for each in APPLICATIONS]},
        "poll": {"interval": f"{INTERVAL_S}s", "start": "earliest"},
        "series": {"zero_hold": f"{2 * INTERVAL_S}s"},
        "spans": {"enabled": True},
        "active_users": {"enabled": True},
        "objectives": [
            {"experiment": each.experiment, "team": each.team, **objective, "quality": list(each.quality)}
            for each in APPLICATIONS
        ],
        "ledger": {"path": str(options.data / "ledger.db")},
    }


def load_arguments(application: Application, options: Options) -> list[str]:
    """The arguments of the process that runs an application and simulates its users."""
    arguments = ["mlflow_trace_exporter.demo.load", application.name, f"--experiment={application.experiment}"]
    arguments += [f"--rate={options.rate * application.share}"]
    if application is CHATBOT and options.incident_after_s is not None:
        arguments += ["--incident", str(options.incident_after_s), str(INCIDENT_FOR_S)]
    return arguments


def load_environment(
    options: Options, processes: Processes, say: Callable[[str], None], give_up: Callable[[], bool]
) -> Mapping[str, str]:
    """The environment of the applications. They use a real provider if the user sets its address and a key, else the
    mock, which is started. In the incident, the provider that fails is always the mock."""
    mlflow = {"MLFLOW_TRACKING_URI": options.mlflow, "MLFLOW_DISABLE_TELEMETRY": "true"}
    real = [name for name in ("OPENAI", "GROQ") if _is_real(name) and not (name == "GROQ" and options.incident)]
    for name in real:
        say(f"LLM: {os.environ[f'{name}_BASE_URL']}, at your cost")
    mocked = [name for name in ("OPENAI", "GROQ") if name not in real]
    if not mocked:
        return {**CHATBOT_ENVIRONMENT, **mlflow}
    address = f"{start_mock(processes, give_up)}/v1"
    if not real:
        say("LLMs: a mock on this machine; set OPENAI_BASE_URL and OPENAI_API_KEY to use a real one")
    llms = {
        f"{name}_{what}": text for name in mocked for what, text in (("BASE_URL", address), ("API_KEY", "stand-in"))
    }
    return {**CHATBOT_ENVIRONMENT, **mlflow, **llms}


def start_mock(processes: Processes, give_up: Callable[[], bool] = lambda: False) -> str:
    """Start the mock of all LLMs, and wait until it is ready, unless ``give_up``. Returns its address."""
    port = free_port()
    address = f"http://{HOST}:{port}"
    processes.start("llm", ["mlflow_trace_exporter.demo.llm", str(port)], {})
    processes.wait_until_ready(f"{address}/health", give_up)
    return address


def _is_real(provider: str) -> bool:
    return bool(os.environ.get(f"{provider}_BASE_URL") and os.environ.get(f"{provider}_API_KEY"))
