"""Building blocks of annotations: Go templates that Prometheus fills in. Pure text."""

from prometheus.promql import Level, seconds

EXPORTER_URL = "http://127.0.0.1:10500"
GRAFANA_URL = "http://127.0.0.1:3000"

PERCENT = "humanizePercentage"
DURATION = "humanizeDuration"
MOMENT = "humanizeTimestamp"
WHOLE = 'printf "%.0f"'
CENTS = 'printf "%.2f"'
MILLI = 'printf "%.3f"'

BURN_WINDOW = "$labels.long_window"
"""In place of a window: the long window of the burn rate, from the labels of the alert."""

WEEK_S = seconds("1w")
"""The longest time from the start of a trace to its end. The bound on the start lets MLflow use an index."""

_NAMED = "^(unknown|other)$|'"
"""Matches values that are not values of tags, or that a filter cannot quote."""


def label(name: str) -> str:
    """The value of a label of the alert."""
    return f"{{{{ $labels.{name} }}}}"


def value(how: str = "") -> str:
    """The value of the alert."""
    return f"{{{{ $value | {how} }}}}" if how else "{{ $value }}"


def own(series: str, level: Level, *more: str) -> str:
    """The series with the labels of the alert, as a format for `printf`. ``more`` are further matchers."""
    matchers = (*(f"{name}=%q" for name in ("job", *level.labels)), *more)
    return f"{series}{{{','.join(matchers)}}}"


def asked(query: str, level: Level, how: str, text: str = "{}", unknown: str = "") -> str:
    """A text with the value of a query in place of `{}`, or another text if there is no value."""
    known = text.replace("{}", f"{{{{ . | first | value | {how} }}}}")
    otherwise = f"{{{{ else }}}}{unknown}" if unknown else ""
    return f"{{{{ with {_query(query, level)} }}}}{known}{otherwise}{{{{ end }}}}"


def each(query: str, level: Level, text: str, sort: str = "", before: str = "") -> str:
    """A text for each result of a query, each on its own line. In the text, `$each` is the result. ``before``: a text
    before the first one, if there is one."""
    results = f"{_query(query, level)}{sort}"
    first = f"{{{{ else }}}}{before}" if before else ""
    return f"{{{{ range $i, $each := {results} }}}}{{{{ if $i }}}};{first}{{{{ end }}}}\n{text}{{{{ end }}}}"


def worst(series: str, level: Level, how: str, unit: str = "") -> str:
    """The three versions with the highest values of a series."""
    text = f"version {{{{ $each.Labels.version }}}}, {{{{ $each.Value | {how} }}}}{unit}"
    return each(f"sort_desc(topk(3, {own(series, level)} > 0))", level, text)


def runbook(alert: str) -> str:
    """The address of an alert's section of the runbook."""
    return f"{EXPORTER_URL}/runbook#{alert.lower()}"


def dashboard(uid: str, level: Level, **variables: str) -> str:
    """The address of a dashboard, for the labels of the alert. ``variables`` take the values of other labels."""
    named = {"job": "job", **{name: name for name in level.labels}, **variables}
    chosen = "&".join(f"var-{variable}={_escaped(name)}" for variable, name in named.items())
    return f"{GRAFANA_URL}/d/{uid}?{chosen}"


def traces(level: Level, *filters: str) -> str:
    """The address of the page of traces, for the labels of the alert."""
    own_labels = (f"{name}={_escaped(name)}" for name in level.labels)
    return f"{EXPORTER_URL}/traces?{'&'.join((*own_labels, *filters))}"


def since(window: str, earlier_s: int = 0) -> str:
    """A filter of that page: traces that ended in a window, or so much earlier."""
    return f"since={_ago(window, earlier_s=earlier_s)}"


def before(window: str) -> str:
    """A filter of that page: traces that started longer ago than a window."""
    return f"start=0&end={_ago(window)}"


def search(condition: str, level: Level, window: str) -> str:
    """A filter for mlflow.search_traces: traces that ended in a window."""
    ended, started = _ago(window, in_ms=True), _ago(window, in_ms=True, earlier_s=WEEK_S)
    return f"{condition}{_tags(level)}\nAND trace.end_time_ms > {ended} AND trace.timestamp_ms > {started}"


def search_failed_span(level: Level, window: str) -> str:
    """A filter for mlflow.search_traces: traces that ended in a window, with a failed span of the name in the label
    `span_name`."""
    named = (
        f"{{{{ if not (match \"{_NAMED}\" $labels.span_name) }}}} AND span.name = '{label('span_name')}'{{{{ end }}}}"
    )
    return search(f"span.status = 'ERROR'{named}", level, window)


def search_before(condition: str, level: Level, window: str) -> str:
    """A filter for mlflow.search_traces: traces that started longer ago than a window."""
    return f"{condition}{_tags(level)}\nAND trace.timestamp_ms < {_ago(window, in_ms=True)}"


def _query(query: str, level: Level) -> str:
    quoted = query.replace('"', '\\"')
    names = " ".join(f"$labels.{name}" for name in ("job", *level.labels))
    return f'printf "{quoted}" {names} | query'


def _escaped(name: str) -> str:
    return f"{{{{ $labels.{name} | urlquery }}}}"


def _ago(window: str, *, in_ms: bool = False, earlier_s: int = 0) -> str:
    """The time at which a window began, or a time so much earlier, as a number."""
    if window == BURN_WINDOW:
        terms = ["time()", *([str(earlier_s)] if earlier_s else []), "%f"]
    else:
        terms = ["time()", str(earlier_s + seconds(window))]
    moment = f"({' - '.join(terms)}) * 1000" if in_ms else " - ".join(terms)
    query = f'{window} | parseDuration | printf "{moment}" | query' if window == BURN_WINDOW else f'query "{moment}"'
    return f"{{{{ {query} | first | value | {WHOLE} }}}}"


def _tags(level: Level) -> str:
    """The conditions on tags, for `labels.environment` and `labels.version` as they are by default."""
    environment = _condition("environment", "environment") + "{{ end }}"
    if "version" not in level.labels:
        return environment
    model = (
        '{{ if match "^m-[0-9a-f]{32}$" $labels.version }}'
        f" AND metadata.`mlflow.modelId` = '{label('version')}'"
        f"{_condition('version', 'app_version', 'else if')}{{{{ end }}}}"
    )
    return environment + model


def _condition(name: str, tag: str, when: str = "if") -> str:
    return f"{{{{ {when} not (match \"{_NAMED}\" $labels.{name}) }}}} AND tag.{tag} = '{label(name)}'"
