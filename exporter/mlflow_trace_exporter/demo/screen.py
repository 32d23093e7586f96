"""What the demo shows in the terminal: a table of the values in /metrics, and the notifications of Alertmanager."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mlflow_trace_exporter.demo import table
from mlflow_trace_exporter.demo.options import INCIDENT_FOR_S, Options
from mlflow_trace_exporter.demo.pager import Notification
from mlflow_trace_exporter.demo.processes import fetch
from mlflow_trace_exporter.reports.report_format import WIDE

PLAIN_EVERY_S = 10


class Screen:
    """The output of the demo: a live table in a terminal, plain lines elsewhere."""

    def __init__(self, options: Options) -> None:
        terminal = sys.stdout.isatty()  # FORCE_COLOR and COLUMNS do not count
        self._console = Console(
            highlight=False, soft_wrap=True, force_terminal=terminal, width=None if terminal else WIDE
        )
        self._options = options
        self._plain_at_s = 0.0

    def say(self, text: str) -> None:
        """Print a text, above the table if there is one."""
        self._console.print(text)

    @contextmanager
    def progress(self, what: str) -> Iterator[None]:
        """Show what the block does."""
        if not self._console.is_terminal:
            self.say(what)
            yield
            return
        with self._console.status(what):
            yield

    def live(self) -> Live:
        """The table that ``show`` updates, as a context manager."""
        return Live(console=self._console, auto_refresh=False)

    def show(self, live: Live, elapsed_s: float) -> None:
        """Show the current values; elsewhere than in a terminal, only from time to time."""
        if self._console.is_terminal:
            title = f"{self._options.metrics} after {elapsed_s:.0f} s{self._incident_note(elapsed_s)}"
            live.update(self._tables(title, f"traces in MLflow: {self._options.mlflow}"), refresh=True)
        elif elapsed_s >= self._plain_at_s + PLAIN_EVERY_S:
            self._plain_at_s = elapsed_s
            self._print_plain(elapsed_s)

    def show_news(self, news: Iterable[Notification], elapsed_s: float) -> None:
        """Print each notification, with details of those that page."""
        for each in news:
            head = (
                f"{elapsed_s:.0f}s {each.receiver}: {each.status} {each.labels['alertname']} in {_place(each.labels)}"
            )
            self.say(f"{head}: {each.annotations['summary']}")
            if each.receiver == "pager" and each.status == "firing":
                self.say(f"    {each.annotations['description']}")
                self.say(f"    its traces: {each.annotations['traces_url']}")
                self.say(f"    what to do: {each.annotations['runbook_url']}")

    def summarize(self) -> None:
        """Print what was counted, and where to look."""
        self._console.print(self._tables("what was counted", None))
        self.say(
            f"metrics   were at {self._options.metrics}, the traces at {self._options.mlflow}\n"
            f"data      {self._options.data_dir}: run the demo again, and the counters continue from here\n"
            "sampling  traced: half of the support questions, all billing questions, and one in twenty FAQ questions"
        )

    def _tables(self, title: str, caption: str | None) -> Group:
        exposition = self._exposition()
        versions = _table(title, table.COLUMNS)
        for experiment, rows in groupby(table.rows(exposition), key=lambda row: row.experiment):
            versions.add_row(Text(experiment, style="bold"))
            for row in rows:
                versions.add_row(*table.texts(row))
            versions.add_section()
        more = (
            ("calls of models", table.MODEL_COLUMNS, table.models(exposition)),
            ("assessments", table.OPINION_COLUMNS, table.opinions(exposition)),
        )
        tables = [versions, *(_table(*each) for each in more if each[2])]
        tables[-1].caption = caption
        return Group(*tables)

    def _print_plain(self, elapsed_s: float) -> None:
        exposition, note = self._exposition(), self._incident_note(elapsed_s)
        for row in table.rows(exposition):
            text = _pairs(table.COLUMNS, table.texts(row))
            self.say(f"{elapsed_s:.0f}s experiment={row.experiment} {text}{note}")
        for names, lines in (
            (table.MODEL_COLUMNS, table.models(exposition)),
            (table.OPINION_COLUMNS, table.opinions(exposition)),
        ):
            for cells in lines:
                self.say(f"{elapsed_s:.0f}s {_pairs(names, cells)}{note}")

    def _incident_note(self, elapsed_s: float) -> str:
        after_s = self._options.incident_after_s
        if after_s is None or elapsed_s <= after_s:
            return ""
        if elapsed_s <= after_s + INCIDENT_FOR_S:
            return " - incident: 1.5.0 is being rolled out"
        return " - 1.5.0 was rolled back"

    def _exposition(self) -> str:
        return fetch(self._options.metrics) or ""


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]] = ()) -> Table:
    shown = Table(title=title, box=box.SIMPLE_HEAD, padding=0)
    for number, name in enumerate(columns):
        shown.add_column(name, justify="left" if number < 2 else "right", min_width=6, overflow="fold")
    for cells in rows:
        shown.add_row(*cells)
    return shown


def _pairs(names: Sequence[str], values: Sequence[str]) -> str:
    return " ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


def _place(labels: Mapping[str, str]) -> str:
    """What an alert is about: an application, the calls of a provider or of one of its models by all applications, or
    the exporter."""
    if "environment" in labels:
        return f"{labels['environment']} of {labels['experiment']}"
    if "provider" in labels:
        model = f" of {labels['model']}" if "model" in labels else ""
        return f"calls{model} of provider {labels['provider']}"
    return "all environments"
