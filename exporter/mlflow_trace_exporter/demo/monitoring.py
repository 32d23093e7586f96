"""Prometheus and Alertmanager for the demo: the files that ship with the exporter, with shorter windows.

An incident should not take hours to become visible. So every duration in the rules and routes is divided by 30: an hour
becomes two minutes. Otherwise only addresses are changed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlflow_trace_exporter.bundled import packaged, rules
from mlflow_trace_exporter.demo.processes import HOST

SHORTER = 30
"""The divisor of all durations."""

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_KEYS = "for|keep_firing_for|interval|long_window|short_window|group_wait|group_interval|repeat_interval"
_SLACK = re.compile(r"\b(\d+)(?= \+ 3 \* mlflow_trace_exporter_poll_interval_seconds\b)")
_DURATION = re.compile(rf"(\[|\boffset |^ *(?:{_KEYS}): )(\d+)([smhdw])\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Stack:
    """The ports of all processes on this machine. ``scrape_s``: the scrape and evaluation interval."""

    exporter_port: int
    prometheus_port: int
    alertmanager_port: int
    receiver_port: int
    scrape_s: int
    shorter: int = SHORTER

    @property
    def prometheus(self) -> str:
        """The address of Prometheus."""
        return f"http://{HOST}:{self.prometheus_port}"

    @property
    def alertmanager(self) -> str:
        """The address of Alertmanager."""
        return f"http://{HOST}:{self.alertmanager_port}"

    def write(self, directory: Path) -> None:
        """Write prometheus.yml, rules.yml and alertmanager.yml."""
        directory.mkdir(parents=True, exist_ok=True)
        links = rules.Links(exporter=f"http://{HOST}:{self.exporter_port}")
        (directory / "rules.yml").write_text(shortened(rules.for_prometheus(links), self.shorter), encoding="utf-8")
        ours = yaml.safe_load(packaged.prometheus("prometheus.yml").read_text(encoding="utf-8"))
        (directory / "prometheus.yml").write_text(yaml.safe_dump(self._prometheus(ours)), encoding="utf-8")
        routes = shortened(packaged.prometheus("alertmanager.yml").read_text(encoding="utf-8"), self.shorter)
        receiver = f"http://{HOST}:{self.receiver_port}/"
        (directory / "alertmanager.yml").write_text(routes.replace("http://pager:10501/", receiver), encoding="utf-8")

    def prometheus_command(self, program: str, directory: Path) -> list[str]:
        """The command that runs Prometheus with these files, and with its data in the same directory."""
        return [
            program,
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
            f"--web.listen-address={HOST}:{self.prometheus_port}",
            "--enable-feature=exemplar-storage",
        ]

    def alertmanager_command(self, program: str, directory: Path) -> list[str]:
        """The command that runs Alertmanager with these files, without clustering."""
        return [
            program,
            f"--config.file={directory / 'alertmanager.yml'}",
            f"--storage.path={directory / 'alertmanager'}",
            f"--web.listen-address={HOST}:{self.alertmanager_port}",
            "--cluster.listen-address=",
        ]

    def _prometheus(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        every = f"{self.scrape_s}s"
        ports = {
            "mlflow-trace-exporter": self.exporter_port,
            "prometheus": self.prometheus_port,
            "alertmanager": self.alertmanager_port,
        }
        jobs = [{**job, **_at(ports[job["job_name"]])} for job in ours["scrape_configs"]]
        return {
            **ours,
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": ["rules.yml"],
            "alerting": {"alertmanagers": [_at(self.alertmanager_port)]},
            "scrape_configs": jobs,
        }


def _at(port: int) -> dict[str, Any]:
    return {"static_configs": [{"targets": [f"{HOST}:{port}"]}]}


def shortened(text: str, by: int) -> str:
    """Divide every duration in rules or routes, with a minimum of one second. Example: ``[1h]`` by 30 is ``[2m]``."""

    def shorter(match: re.Match[str]) -> str:
        seconds = max(1, int(match[2]) * _SECONDS[match[3]] // by)
        return f"{match[1]}{seconds}s" if seconds % 60 else f"{match[1]}{seconds // 60}m"

    return _SLACK.sub(lambda match: str(int(match[1]) // by), _DURATION.sub(shorter, text))
