"""Exporter: can these numbers be trusted?"""

from grafana import queries as q
from grafana.panels import BLUE, ORANGE, RED, Board, Column, Query, line, number, over_time, rows

_INSTANCE = "{{instance}}"
_EXPORTER = "mlflow_trace_exporter"


def _increase(metric: str, by: str = "instance") -> str:
    return f"sum by ({by}) (increase({metric}{{{q.OWN}}}[{q.SHOWN}]))"


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
    "How long ago MLflow was last polled with success. Normal: less than two intervals (30 s by default).",
    "s",
    Query(q.age(f"{_EXPORTER}_last_successful_poll_timestamp_seconds"), _INSTANCE),
    (60, 165),
)

READING_WHAT_WAS_MISSED = number(
    "Reading what was missed",
    "Whether the exporter reads what it has missed. Normal: up to date; after an outage it catches up,"
    " and rates show more traces than there are.",
    "short",
    Query(q.own(f"{_EXPORTER}_catching_up"), _INSTANCE),
    (1, 2),
    {"0": "up to date", "1": "catching up"},
)

UNACCOUNTED_TRACES = number(
    "Unaccounted traces",
    "Traces that MLflow counts and the exporter does not, after it has read them again. Normal: 0.",
    "short",
    Query(q.own(f"{_EXPORTER}_unaccounted_traces"), _INSTANCE),
    (1, 1),
)

SERIES_OF_LIMIT = number(
    "Series, of limit",
    "Which share of series.limit is used. Normal: well below 80 %; beyond the limit new labels are counted as other.",
    "percentunit",
    Query(f"{q.own(f'{_EXPORTER}_series')} / {q.own(f'{_EXPORTER}_series_limit')}", _INSTANCE),
    (0.8, 1),
)

CONFIGURATION = number(
    "Configuration",
    "Whether the configuration file could be used when it was read last. Normal: in use.",
    "short",
    Query(f"1 - {q.own(f'{_EXPORTER}_config_last_reload_successful')}", _INSTANCE),
    (1, 1),
    {"0": "in use", "1": "has a mistake"},
)

POLLS = over_time(
    "Polls",
    "Polls of MLflow that ended a minute, and those that failed. Normal: 60 over the interval in seconds,"
    " 4 by default, none of which fail.",
    "suffix: /min",
    Query(f"60 * {q.own_rate(f'{_EXPORTER}_polls_total', 'job')}", "polls"),
    Query(f"60 * {q.own_rate(f'{_EXPORTER}_poll_errors_total', 'job, reason')}", "failed: {{reason}}"),
    colors={"polls": BLUE},
)

DURATION_OF_A_POLL = over_time(
    "Duration of a poll",
    "How long the last poll took, and how often there is one: dashed. Normal: well below the interval.",
    "s",
    Query(q.own(f"{_EXPORTER}_poll_duration_seconds"), _INSTANCE),
    Query(q.own(f"{_EXPORTER}_poll_interval_seconds"), f"{_INSTANCE} interval", dashed=True),
)

BEHIND = over_time(
    "Behind",
    "How old the start times are up to which everything is known for sure, and the last comparison with"
    " MLflow's own counts. Normal: a little more than poll.lateness (2 h by default), and some minutes.",
    "s",
    Query(q.age(f"{_EXPORTER}_complete_until_timestamp_seconds"), f"{_INSTANCE} complete"),
    Query(q.age(f"{_EXPORTER}_audited_until_timestamp_seconds"), f"{_INSTANCE} compared"),
)

CLOCK_DIFFERENCE = over_time(
    "Clock difference",
    "How far MLflow's clock is ahead of the exporter's. Normal: within two seconds; MLflow tells it to the second.",
    "s",
    Query(q.own(f"{_EXPORTER}_clock_difference_seconds"), _INSTANCE),
)

TIME_UNTIL_A_TRACE_IS_SEEN = over_time(
    "Time until a trace is seen",
    "From the end of a trace to the poll that saw it. Normal: the p50 near half the interval, and the"
    " p99 within some minutes; more means that clients send late.",
    "s",
    *(
        Query(
            f"histogram_quantile({share}, sum by (le) (rate("
            f"mlflow_trace_visibility_delay_seconds_bucket{{{q.OWN}}}[{q.NOW}])))",
            name,
        )
        for share, name in ((0.5, "p50"), (0.99, "p99"))
    ),
    colors={"p50": BLUE, "p99": RED},
)

LATE_READ_TWICE_CHANGED = over_time(
    "Late, read twice, changed",
    "Traces a minute that became visible after their start time was closed (counted all the same), that"
    " were read again, or that MLflow changed after they were counted. Normal: late and changed near 0;"
    " some are always read twice.",
    "suffix: /min",
    Query(f"60 * {q.own_rate(f'{_EXPORTER}_late_traces_total', 'job')}", "late"),
    Query(f"60 * {q.own_rate(f'{_EXPORTER}_duplicate_reads_total', 'job')}", "read twice"),
    Query(f"60 * {q.own_rate(f'{_EXPORTER}_changed_after_count_total', 'job')}", "changed"),
    colors={"late": RED, "read twice": BLUE, "changed": ORANGE},
)

PENDING = over_time(
    "Pending",
    "Traces that were seen and are not counted yet, because they run or may still change. Normal: a"
    " minute's worth; a number that only grows is of traces that never end.",
    "short",
    Query(q.own(f"{_EXPORTER}_pending_traces"), _INSTANCE),
)

MEMORY = over_time(
    "Memory",
    "Memory of the process. Normal: some hundred MB, more with more series, and no growth over days.",
    "bytes",
    Query(q.of_exporters(q.own("process_resident_memory_bytes")), _INSTANCE),
)

CPU = over_time(
    "CPU",
    "Which share of a CPU the process takes. Normal: a few per cent; all of one while it catches up.",
    "percentunit",
    Query(q.of_exporters(q.own_rate("process_cpu_seconds_total")), _INSTANCE),
)

LEDGER = over_time(
    "Ledger",
    "Size of the ledger on disk. Normal: 123 bytes for each trace of the last poll.audit_horizon.",
    "bytes",
    Query(q.own(f"{_EXPORTER}_ledger_bytes"), _INSTANCE),
)

SERIES = over_time(
    "Series",
    "Series about traces that are exposed. Normal: about 95 for each combination of labels, and no steady growth.",
    "short",
    Query(q.own(f"{_EXPORTER}_series"), _INSTANCE),
)

COUNTED_AS_OTHER = rows(
    "Counted as other",
    "Traces, over the time that is shown, whose value of a label was not admitted. Normal: 0.",
    ("label",),
    Column("Traces", _increase(f"{_EXPORTER}_label_overflow_total", "label"), limits=(1, 1)),
)

SERVER_FEATURES = rows(
    "Server features",
    "What this MLflow server has. Without a feature the exporter works, more slowly, or without audit."
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
    "What runs, and how many damaged ledgers were set aside, each of which made all counters begin anew. Normal: 0.",
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
    description="Does the exporter run, and is what it says complete?",
    by=(),
    panels=(
        line(
            5, MLFLOW, LAST_SUCCESSFUL_POLL, READING_WHAT_WAS_MISSED, UNACCOUNTED_TRACES, SERIES_OF_LIMIT, CONFIGURATION
        ),
        line(8, POLLS, DURATION_OF_A_POLL, BEHIND, CLOCK_DIFFERENCE),
        line(8, TIME_UNTIL_A_TRACE_IS_SEEN, LATE_READ_TWICE_CHANGED, PENDING),
        line(8, MEMORY, CPU, LEDGER, SERIES),
        line(8, COUNTED_AS_OTHER, SERVER_FEATURES, VERSIONS_AND_RESETS),
    ),
)
