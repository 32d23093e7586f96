"""Exporter: can these numbers be trusted?"""

from grafana import queries as q
from grafana.panels import BLUE, ORANGE, RED, SKY, Board, Column, Query, line, number, over_time, rows

_INSTANCE = "{{instance}}"
_EXPORTER = "mlflow_trace_exporter"


def _increase(metric: str, by: str = "instance") -> str:
    return f"sum by ({by}) (increase({metric}{{{q.OWN}}}{q.SHOWN}))"


MLFLOW = number(
    "MLflow",
    "Whether MLflow answered the last poll. Normal: reachable.",
    "short",
    Query(f"1 - {q.own('mlflow_up')}", _INSTANCE),
    (1, 1),
    {"0": "reachable", "1": "unreachable"},
)

LAST_SUCCESSFUL_POLL = number(
    "Last successful poll",
    "The time since the last successful poll of MLflow. Normal: less than two intervals (30 s by default).",
    "s",
    Query(q.age(f"{_EXPORTER}_last_successful_poll_timestamp_seconds"), _INSTANCE),
    (60, 165),
)

CATCHING_UP = number(
    "Catching up",
    "Whether the exporter is reading traces that it has missed. Normal: up to date. After an outage it catches up, and"
    " rates show more traces than there are.",
    "short",
    Query(q.own(f"{_EXPORTER}_catching_up"), _INSTANCE),
    (1, 2),
    {"0": "up to date", "1": "catching up"},
)

UNACCOUNTED_TRACES = number(
    "Unaccounted traces",
    "Traces that MLflow has and the exporter has not counted, even after reading them again. Normal: 0.",
    "short",
    Query(q.own(f"{_EXPORTER}_unaccounted_traces"), _INSTANCE),
    (1, 1),
)

SERIES_VS_LIMIT = number(
    "Series vs limit",
    "The share of series.limit that is used. Normal: well below 80 %. Beyond the limit, new labels are counted as"
    " other.",
    "percentunit",
    Query(f"{q.own(f'{_EXPORTER}_series')} / {q.own(f'{_EXPORTER}_series_limit')}", _INSTANCE),
    (0.8, 1),
)

CONFIGURATION = number(
    "Configuration",
    "Whether the configuration file was valid when it was last read. Normal: in use.",
    "short",
    Query(f"1 - {q.own(f'{_EXPORTER}_config_last_reload_successful')}", _INSTANCE),
    (1, 1),
    {"0": "in use", "1": "invalid"},
)

POLLS = over_time(
    "Polls",
    "Polls of MLflow per minute, and those that failed. Normal: 60 divided by the interval in seconds, 4 by default,"
    " and no failures.",
    "suffix: /min",
    Query(f"60 * {q.own_rate(f'{_EXPORTER}_polls_total', 'job')}", "polls"),
    Query(f"60 * {q.own_rate(f'{_EXPORTER}_poll_errors_total', 'job, reason')}", "failed: {{reason}}"),
    colors={"polls": BLUE},
)

POLL_DURATION = over_time(
    "Poll duration",
    "The duration of the last poll. The dashed line is the poll interval. Normal: well below the interval.",
    "s",
    Query(q.own(f"{_EXPORTER}_poll_duration_seconds"), _INSTANCE),
    Query(q.own(f"{_EXPORTER}_poll_interval_seconds"), f"{_INSTANCE} interval", dashed=True),
)

INGESTION_LAG = over_time(
    "Ingestion lag",
    "The age of the start time up to which all traces are counted, and of the start time up to which they were compared"
    " with MLflow's own counts. Normal: a little more than poll.lateness (2 h by default), and a few minutes.",
    "s",
    Query(q.age(f"{_EXPORTER}_complete_until_timestamp_seconds"), f"{_INSTANCE} complete"),
    Query(q.age(f"{_EXPORTER}_audited_until_timestamp_seconds"), f"{_INSTANCE} compared"),
)

CLOCK_DIFFERENCE = over_time(
    "Clock difference",
    "How far MLflow's clock is ahead of the exporter's. Normal: within two seconds; MLflow reports whole seconds.",
    "s",
    Query(q.own(f"{_EXPORTER}_clock_difference_seconds"), _INSTANCE),
)

VISIBILITY_DELAY = over_time(
    "Visibility delay",
    "The time from the end of a trace to the poll that saw it. Normal: a p50 near half the interval, and a p99 of some"
    " minutes. More means that clients send late.",
    "s",
    *(
        Query(
            f"histogram_quantile({share}, sum by (le) (rate("
            f"mlflow_trace_visibility_delay_seconds_bucket{{{q.OWN}}}{q.NOW})))",
            name,
        )
        for share, name in ((0.5, "p50"), (0.99, "p99"))
    ),
    colors={"p50": BLUE, "p99": RED},
)

LATE_DUPLICATE_AND_CHANGED = over_time(
    "Late, duplicate and changed traces",
    "Traces per minute that became visible after their start time was closed (they are still counted), that were read"
    " again, that grew after they were counted (the difference was added), or that changed in a way that counters"
    " cannot follow. Normal: late and changed near 0; all traces are read again when their start time is closed.",
    "suffix: /min",
    Query(f"60 * {q.own_rate(f'{_EXPORTER}_late_traces_total', 'job')}", "late"),
    Query(f"60 * {q.own_rate(f'{_EXPORTER}_duplicate_reads_total', 'job')}", "read twice"),
    Query(f"60 * {q.own_rate(f'{_EXPORTER}_corrected_after_count_total', 'job')}", "corrected"),
    Query(f"60 * {q.own_rate(f'{_EXPORTER}_changed_after_count_total', 'job')}", "changed"),
    colors={"late": RED, "read twice": BLUE, "corrected": SKY, "changed": ORANGE},
)

PENDING = over_time(
    "Pending traces",
    "Traces that the exporter has seen but not counted yet, because they are in progress or may still change. Normal:"
    " the traces of about a minute. A number that only grows means that traces never end.",
    "short",
    Query(q.own(f"{_EXPORTER}_pending_traces"), _INSTANCE),
)

MEMORY = over_time(
    "Memory",
    "Memory of the process. Normal: a few hundred MB, more with more series, and no growth over days.",
    "bytes",
    Query(q.of_exporters(q.own("process_resident_memory_bytes")), _INSTANCE),
)

CPU = over_time(
    "CPU",
    "The share of one CPU that the process uses. Normal: a few per cent, and up to 100 % while it catches up.",
    "percentunit",
    Query(q.of_exporters(q.own_rate("process_cpu_seconds_total")), _INSTANCE),
)

LEDGER = over_time(
    "Ledger",
    "The size of the ledger on disk. Normal: 123 bytes per trace of the last poll.audit_horizon.",
    "bytes",
    Query(q.own(f"{_EXPORTER}_ledger_bytes"), _INSTANCE),
)

SERIES = over_time(
    "Series",
    "Exposed series about traces. Normal: about 95 per combination of labels, and no steady growth.",
    "short",
    Query(q.own(f"{_EXPORTER}_series"), _INSTANCE),
)

COUNTED_AS_OTHER = rows(
    "Counted as other",
    "Traces over the time range of the dashboard whose label value was replaced by other. Normal: 0.",
    ("label",),
    Column("Traces", _increase(f"{_EXPORTER}_label_overflow_total", "label"), limits=(1, 1)),
)

SERVER_FEATURES = rows(
    "Server features",
    "The features of this MLflow server. Without a feature the exporter still works, but more slowly or without audit."
    " Normal: all of them.",
    ("instance", "feature"),
    Column(
        "Supported",
        q.own(f"{_EXPORTER}_server_feature_supported"),
        mappings={"0": "no", "1": "yes"},
    ),
)

VERSIONS_AND_RESETS = rows(
    "Versions and resets",
    "The running versions, and how many damaged ledgers were set aside. Each reset restarts all counters. Normal: 0.",
    ("instance", "version", "python_version", "mlflow_version"),
    Column(
        "Ledger resets",
        f"max by (instance, version, python_version, mlflow_version) ({q.own(f'{_EXPORTER}_build_info')}"
        f" * on (job, instance) group_left () {q.own(f'{_EXPORTER}_ledger_resets_total')})",
        limits=(1, 1),
    ),
)

BOARD = Board(
    uid="mlflow-exporter",
    title="MLflow traces: exporter",
    description="Is the exporter running, and are its numbers complete?",
    by=(),
    panels=(
        line(5, MLFLOW, LAST_SUCCESSFUL_POLL, CATCHING_UP, UNACCOUNTED_TRACES, SERIES_VS_LIMIT, CONFIGURATION),
        line(8, POLLS, POLL_DURATION, INGESTION_LAG, CLOCK_DIFFERENCE),
        line(8, VISIBILITY_DELAY, LATE_DUPLICATE_AND_CHANGED, PENDING),
        line(8, MEMORY, CPU, LEDGER, SERIES),
        line(8, COUNTED_AS_OTHER, SERVER_FEATURES, VERSIONS_AND_RESETS),
    ),
)
