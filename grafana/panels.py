"""Panels and dashboards in the common style: colours, variables, links, annotations and layout."""

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, heatmap, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus as prom
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import Dataquery, PromQueryFormat

from grafana import queries as q
from mlflow_trace_exporter.bundled.dashboards import label_of, not_filtered_by
from mlflow_trace_exporter.bundled.rules import EXPORTER_URL

TAG = "mlflow-trace-exporter"

# Colours that people who see colours differently can tell apart (Okabe and Ito, https://jfly.uni-koeln.de/color/).
BLUE, ORANGE, RED, SKY, PURPLE, GREY = "#0072B2", "#E69F00", "#D55E00", "#56B4E9", "#CC79A7", "#8E8E8E"

SOURCE = looks.DataSourceRef(type_val="prometheus", uid="${datasource}")
NO_DATA = "no data"
EXPORTER = "${exporter_url:raw}"
"""The exporter's address in a link: a variable, so that it is set once per dashboard."""


Link = tuple[str, str]
"""A title and a URL."""


@dataclass(frozen=True)
class Query:
    """A query of a panel and its legend. ``dashed`` marks the line that the others are compared with. ``color`` is that
    of all its lines."""

    expr: str
    legend: str = ""
    exemplars: bool = False
    dashed: bool = False
    color: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table. A cell is blue, from the first of the ``limits`` on orange, and from the second on red."""

    title: str
    expr: str
    unit: str = "short"
    limits: tuple[float, float] | None = None
    mappings: Mapping[str, str] = field(default_factory=dict)
    link: Link | None = None


AnyPanel = timeseries.Panel | stat.Panel | table.Panel | heatmap.Panel | bargauge.Panel
P = TypeVar("P", timeseries.Panel, stat.Panel, table.Panel, heatmap.Panel, bargauge.Panel)


def _with_head(panel: P, title: str, description: str, unit: str) -> P:
    return panel.title(title).description(description).datasource(SOURCE).unit(unit).no_value(NO_DATA)


def _ref_id(at: int) -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[at]


def _target(query: Query, at: int) -> prom.Dataquery:
    target = prom.Dataquery().datasource(SOURCE).ref_id(_ref_id(at)).expr(query.expr).legend_format(query.legend)
    return target.range().exemplar(query.exemplars)


def _instant(expr: str, at: int, legend: str = "") -> prom.Dataquery:
    return prom.Dataquery().datasource(SOURCE).ref_id(_ref_id(at)).expr(expr).legend_format(legend).instant()


def _fixed(color: str) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": color})


_DASHED = [
    model.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 8]}),
    model.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
]


def over_time(
    title: str,
    description: str,
    unit: str,
    *asked: Query,
    colors: Mapping[str, str] | None = None,
    link: Link | None = None,
    lines_at: Sequence[float] = (),
    stacked: bool = False,
) -> timeseries.Panel:
    """Lines over time. ``colors`` are by name; ``lines_at`` are values at which to draw a dashed line."""
    panel = (
        _with_head(timeseries.Panel(), title, description, unit)
        .targets([_target(query, at) for at, query in enumerate(asked)])
        .legend(
            common.VizLegendOptions()
            .display_mode(looks.LegendDisplayMode.LIST)
            .placement(looks.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .line_width(2)
        .fill_opacity(30 if stacked else 0)
        .min(0)
        .show_points(looks.VisibilityMode.NEVER)
    )
    for at, query in enumerate(asked):
        if query.dashed:
            panel.override_by_query(_ref_id(at), _DASHED)
        if query.color:
            panel.override_by_query(_ref_id(at), [_fixed(query.color)])
    for name, color in (colors or {}).items():
        panel.override_by_name(name, [_fixed(color)])
    if link:
        panel.data_links([link_to(*link)])
    if stacked:
        panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
    if lines_at:
        panel.thresholds(_steps([(None, "transparent"), *((at, GREY) for at in lines_at)]))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED))
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    query: Query,
    limits: tuple[float, float] | None = None,
    mappings: Mapping[str, str] | None = None,
    time_from: str | None = None,
) -> stat.Panel:
    """The current value of each series. ``limits`` as for Column; ``mappings`` are texts for values."""
    panel = (
        _with_head(stat.Panel(), title, description, unit)
        .with_target(_instant(query.expr, 0, query.legend))
        .graph_mode(looks.BigValueGraphMode.NONE)
        .color_mode(looks.BigValueColorMode.VALUE)
        .text_mode(looks.BigValueTextMode.VALUE_AND_NAME if query.legend else looks.BigValueTextMode.VALUE)
        .thresholds(_limits(limits))
        .mappings([_texts(mappings or {})])
    )
    return panel.time_from(time_from) if time_from else panel


def by_bucket(title: str, description: str, *asked: Query, colors: Sequence[str]) -> bargauge.Panel:
    """Shares side by side; ``colors`` are those of the queries."""
    panel = (
        _with_head(bargauge.Panel(), title, description, "percentunit")
        .targets([_instant(query.expr, at, query.legend) for at, query in enumerate(asked)])
        .orientation(looks.VizOrientation.HORIZONTAL)
        .min(0)
        .max(1)
    )
    for at, color in enumerate(colors):
        panel.override_by_query(_ref_id(at), [_fixed(color)])
    return panel


def rows(
    title: str,
    description: str,
    by: Sequence[str],
    *columns: Column,
    link: Link | None = None,
    first: str = "",
    text: tuple[str, str] | None = None,
) -> table.Panel:
    """A table with a row for each set of the labels ``by``. The link is on the first of them.

    ``first``: the title of the column whose highest value comes first. ``text``: a label to show after ``by``, and the
    query that has it.
    """
    exprs = [column.expr for column in columns]
    shown = {f"Value #{_ref_id(at)}": column.title for at, column in enumerate(columns)}
    labels, hidden = list(by), ["Time"]
    if text:
        hidden.append(f"Value #{_ref_id(len(exprs))}")
        labels.append(text[0])
        exprs.append(text[1])
    values = shown if len(exprs) > 1 else {"Value": columns[0].title}
    names = {label: label.replace("_", " ") for label in labels}
    panel = (
        _with_head(table.Panel(), title, description, "short")
        .targets([_instant(expr, at).format(PromQueryFormat.TABLE) for at, expr in enumerate(exprs)])
        .with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            model.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": dict.fromkeys(hidden, True),
                    "indexByName": {name: at for at, name in enumerate((*labels, *values))},
                    "renameByName": names | values,
                },
            )
        )
    )
    for name in names.values():
        panel.override_by_name(name, [_FILTERABLE, *(_links(link) if name == by[0] else ())])
    for column in columns:
        panel.override_by_name(column.title, _cells(column))
    return panel.sort_by([common.TableSortByFieldState().display_name(first).desc(True)]) if first else panel


_FILTERABLE = model.DynamicConfigValue(id_val="custom.filterable", value=True)


def _links(link: Link | None) -> list[model.DynamicConfigValue]:
    return [model.DynamicConfigValue(id_val="links", value=[{"title": link[0], "url": link[1]}])] if link else []


def distribution(title: str, description: str, query: Query, unit: str = "s") -> heatmap.Panel:
    """A histogram over time. The legend of the query is that of its buckets."""
    target = _target(query, 0).format(PromQueryFormat.HEATMAP)
    return (
        _with_head(heatmap.Panel(), title, description, "short")
        .with_target(target)
        .calculate(False)
        .color(_shades_of_blue())
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(looks.AxisPlacement.LEFT))
        .tooltip(heatmap.HeatmapTooltip().mode(looks.TooltipDisplayMode.SINGLE).y_histogram(True))
        .exemplars_color(ORANGE)
        .show_legend()
    )


def _shades_of_blue() -> heatmap.HeatmapColorOptions:
    shades = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").exponent(0.5)
    shades.build().steps = 64  # it would be 0, of which Grafana makes no palette; the builder has no method for it
    return shades


def _cells(column: Column) -> list[model.DynamicConfigValue]:
    properties = [model.DynamicConfigValue(id_val="unit", value=column.unit)]
    if column.limits:
        properties += [
            model.DynamicConfigValue(id_val="thresholds", value=_limits(column.limits).build()),
            model.DynamicConfigValue(id_val="color", value={"mode": "thresholds"}),
            model.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-background", "mode": "basic"}),
        ]
    if column.mappings:
        properties.append(model.DynamicConfigValue(id_val="mappings", value=[_texts(column.mappings)]))
    return properties + _links(column.link)


def _limits(limits: tuple[float, float] | None) -> build.ThresholdsConfig:
    return _steps([(None, BLUE), *(zip(limits, (ORANGE, RED), strict=True) if limits else ())])


def _steps(steps: Iterable[tuple[float | None, str]]) -> build.ThresholdsConfig:
    made = [model.Threshold(value=value, color=color) for value, color in steps]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def _texts(mappings: Mapping[str, str]) -> model.ValueMap:
    return model.ValueMap(options={value: model.ValueMappingResult(text=text) for value, text in mappings.items()})


def link_to(title: str, url: str) -> build.DashboardLink:
    """A link from the points of a panel."""
    return build.DashboardLink(title).url(url)


def traces_url(status: str = "", **labels: str) -> str:
    """The exporter's page of traces with these labels that ended or ran in the time range of the dashboard."""
    query = "".join(f"{name}={value}&" for name, value in labels.items()) + (f"status={status}&" if status else "")
    return f"{EXPORTER}/traces?{query}since=${{__from:date:seconds}}&end=${{__to:date:seconds}}"


OF_APPLICATION = {
    "experiment": "${__data.fields.experiment:percentencode}",
    "environment": "${__data.fields.environment:percentencode}",
}
"""The labels of the clicked row, in a table by application."""

OF_ROW = OF_APPLICATION | {
    "version": "${__data.fields.version:percentencode}",
    "trace_name": '${__data.fields["trace name"]:percentencode}',
}
"""The same in a table by application, version and trace name."""

OF_ASSESSMENT = OF_APPLICATION | {"assessment": "${__data.fields.assessment:percentencode}"}
"""The labels of the clicked row, in a table by application and assessment."""

OF_SERIES = {
    "experiment": "${__field.labels.experiment:percentencode}",
    "environment": "${__field.labels.environment:percentencode}",
}
"""The application of the clicked series."""

_KEPT = "&".join(f"${{{variable}:queryparam}}" for variable in ("datasource", "job", "instance"))


def view(uid: str, title: str = "Only this application") -> Link:
    """A dashboard of the application of the clicked row, with the same time range."""
    chosen = "&".join(f"var-{name}={value}" for name, value in OF_APPLICATION.items())
    return title, f"/d/{uid}?{_KEPT}&{chosen}&${{__url_time_range}}"


_FIRST_SEEN = "mlflow_trace_version_first_seen_timestamp_seconds"


def _variable(name: str, query: str, description: str, sort: model.VariableSort) -> build.QueryVariable:
    return (
        build.QueryVariable(name)
        .label(label_of(name))
        .description(description)
        .datasource(SOURCE)
        .query({"query": query, "refId": f"variable-{name}"})
        .definition(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(sort)
    )


def version(name: str, description: str, *matchers: str) -> build.QueryVariable:
    """A variable with one version. The default is the newest version within the time range of the dashboard. `unknown`
    and `other` are left out because they cannot be compared."""
    selector = ", ".join((q.ONE_PLACE, 'version!~"unknown|other"', *matchers))
    first_seen = f"last_over_time({_FIRST_SEEN}{{{selector}}}{q.SHOWN})"
    query = f"query_result(sort_desc(min by (version) ({first_seen})))"
    made = _variable(name, query, description, model.VariableSort.DISABLED).multi(False).include_all(False)
    return made.regex(r'/^\{version="(.*)"\} \S+ \S+$/')  # query_result writes a series, its value and the time


_NATURAL = model.VariableSort.NATURAL_ASC  # 1.10 after 1.9; before Grafana 10.3 in the order of Prometheus


def _some_of(name: str, query: str, description: str, everything: str | None = ".+") -> build.QueryVariable:
    """A variable with some or all values. ``everything`` is what `All` matches; None: only the values on offer."""
    all_of_them = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    made = _variable(name, query, description, _NATURAL).multi(True).include_all(True).current(all_of_them)
    return made if everything is None else made.all_value(everything)


_TRACES = "mlflow_traces_total"


def values_of(label: str, metric: str = _TRACES, selector: str = "") -> str:
    """The query for all values of a label."""
    return f"label_values({metric}{{{selector}}}, {label})" if selector else f"label_values({metric}, {label})"


_INFO = "mlflow_objective_info"
TEAM = (
    "team",
    f'topk by ({q.APPLICATION}) (1, group by ({q.APPLICATION}, team) ({_INFO}{{{q.PLACE}, team!=""}}))',
)
"""The team of each application, for ``rows``. If two exporters disagree, one of them is shown."""

_CALLS = "mlflow_llm_call_duration_seconds_count"
_LABELS = {
    "environment": "The environment of the application, such as production.",
    "version": "The version of the application.",
    "trace_name": "The name of the trace.",
    "provider": "The provider of the model.",
    "model": "The model.",
    "assessment": "The name of the assessment.",
}
_METRICS = {"provider": _CALLS, "model": _CALLS, "assessment": "mlflow_traces_assessed_total"}
"""The metric that has the values of a label, if it is not the number of traces."""


def _filters(by: Sequence[str], one_application: bool) -> Iterable[build.QueryVariable]:
    """Variables for job, instance, team, experiment and the labels ``by``. Each offers the values that match the
    variables before it."""
    yield _some_of("job", values_of("job", "mlflow_up"), "The job of the exporter in Prometheus.")
    yield _some_of("instance", values_of("instance", "mlflow_up", 'job=~"$job"'), "The instance of the exporter.")
    if not by:
        return
    yield _some_of("team", values_of("team", _INFO, q.OWN), "The team that the objectives name.", everything=".*")
    yield _experiment(one_application)
    selector = f"{q.OWN}, {q.ONE_EXPERIMENT if one_application else q.EXPERIMENT}"
    for name in by:
        everything = ".*" if name == "trace_name" else ".+"  # series need not have a trace_name
        values = values_of(name, _METRICS.get(name, _TRACES), selector)
        yield _some_of(name, values, _LABELS[name], everything)
        selector += f', {name}=~"${name}"'


def _experiment(only_one: bool) -> build.QueryVariable:
    """A variable with the applications of the chosen teams. `All` means all of these, so it has no value of its own.

    The second metric has no team, so that it matches only if all teams are chosen. It has the applications of exporters
    without mlflow_objective_info.
    """
    known = f'{{__name__=~"{_INFO}|{_FIRST_SEEN}", {q.OWN}, team=~"$team"}}'
    query, description = f"label_values({known}, experiment)", "The MLflow experiment: the application."
    if only_one:
        return _variable("experiment", query, description, _NATURAL).multi(False).include_all(False)
    return _some_of("experiment", query, description, everything=None)


def _exporter_url() -> build.ConstantVariable:
    text = "The address at which people reach the exporter. Links lead to its pages."
    made = build.ConstantVariable("exporter_url").label("Exporter URL").description(text).value(EXPORTER_URL)
    chosen = model.VariableOption(selected=True, text=EXPORTER_URL, value=EXPORTER_URL)
    content = made.build()
    content.current, content.options = chosen, [chosen]  # Grafana 10 reads them here
    content.skip_url_sync = True  # a link to a dashboard must not choose where its links lead
    return made


@dataclass(frozen=True)
class Line:
    """A row of panels. The screen has a width of 24; a height of 1 is 30 pixels."""

    height: int
    panels: Sequence[AnyPanel]
    widths: Sequence[int]


def line(height: int, *panels: AnyPanel, widths: Sequence[int] = ()) -> Line:
    """A row of panels, by default of equal width."""
    return Line(height, panels, widths or [24 // len(panels)] * len(panels))


@dataclass(frozen=True)
class Board:
    """A dashboard. ``by`` are the labels for its filters, after job, instance, team and experiment. Each filter narrows
    the values of the next one. Without ``by`` it is not about applications. ``one_application``: exactly one experiment
    is chosen."""

    uid: str
    title: str
    description: str
    by: Sequence[str]
    panels: Sequence[Line]
    more_variables: Sequence[build.QueryVariable] = ()
    shown: str = "now-3h"
    one_application: bool = False


def dashboard(board: Board) -> build.Dashboard:
    """Build the dashboard."""
    made = (
        build.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time(board.shown, "now")
        .timezone("browser")
        .refresh("1m")
        .with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    filters = [*_filters(board.by, board.one_application), *board.more_variables]
    for variable in (*filters, _exporter_url()):
        made.with_variable(variable)
    names = [each.build().name for each in filters]
    for panel in _laid_out(board.panels):
        made.with_panel(_with_limits(panel, names))
    return made.annotation(_deployments(board)).links([_others(), _exporter()])


def _with_limits(panel: AnyPanel, variables: Iterable[str]) -> AnyPanel:
    """The panel, with a note in its description about the variables that do not filter it."""
    panel = deepcopy(panel)  # or the next dashboard with this panel would have the note twice
    content = panel.build()
    asked = " ".join(target.expr for target in content.targets or [] if isinstance(target, Dataquery))
    used = set(re.findall(r"\$\{?(\w+)", asked))
    used |= {"team"} if "experiment" in used else set()  # a team narrows the experiments
    unused = [name for name in variables if name not in used]
    return panel.description(f"{content.description} {not_filtered_by(unused)}") if unused else panel


def _laid_out(lines: Iterable[Line]) -> Iterable[AnyPanel]:
    panel_id, y = 0, 0
    for each in lines:
        x = 0
        for width, panel in zip(each.widths, each.panels, strict=True):
            panel_id += 1
            yield panel.id(panel_id).grid_pos(model.GridPos(h=each.height, w=width, x=x, y=y))
            x += width
        y += each.height


def _deployments(board: Board) -> build.AnnotationQuery:
    place = (q.ONE_PLACE if board.one_application else q.PLACE) if board.by else q.OWN
    first_seen = f'{_FIRST_SEEN}{{{place}, version!~"unknown|other"}}'
    made = (
        build.AnnotationQuery()
        .name("Deployments")
        .datasource(SOURCE)
        .enable(True)
        .icon_color(PURPLE)
        .expr(f"1000 * min by ({q.APPLICATION}, version) ({first_seen})")
        .step("60s")
        .use_value_for_time(True)
        .title_format("{{experiment}}: {{version}} in {{environment}}")
        .text_format("Its first trace")
        .tag_keys("version,environment")
    )
    made.build().placement = None  # type: ignore[assignment]  # the SDK would hide it in a menu  # in the row of controls, not in their menu
    return made


def _others() -> build.DashboardLink:
    link = build.DashboardLink("MLflow traces").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    link.include_vars(True).keep_time(True).as_dropdown(False).tooltip("The other dashboards, with the same time range")
    link.build().placement = None  # type: ignore[assignment]  # the SDK would hide it in a menu
    return link


def _exporter() -> build.DashboardLink:
    link = build.DashboardLink("Exporter").url(f"{EXPORTER}/").icon("external link").target_blank(True)
    link.tooltip("The exporter's status page, one click away from MLflow")
    link.build().placement = None  # type: ignore[assignment]  # the SDK would hide it in a menu
    return link
