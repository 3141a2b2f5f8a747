"""The few kinds of panels that the dashboards are made of, with Grafana's own builders."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

HALF, THIRD, QUARTER = 12, 8, 6
"""Widths; a row is 24 wide."""
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True)
class Query:
    """PromQL, and what its series are called in the legend."""

    expression: str
    legend: str = ""


def graph(title: str, about: str, unit: str, *queries: Query, width: int = HALF) -> timeseries.Panel:
    """Lines over time. `unit` is Grafana's name of it: s, short, percentunit, reqps."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(_SOURCE)
        .unit(unit)
        .span(width)
        .height(8)
        .fill_opacity(10)
        .legend(common.VizLegendOptions().show_legend(True).display_mode(common_models.LegendDisplayMode.LIST))
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
    )
    for query in queries:
        panel = panel.with_target(_target(query))
    return panel


def number(title: str, about: str, unit: str, query: Query, *, width: int = QUARTER) -> stat.Panel:
    """One figure, or one for each series, as it is now."""
    now = _target(query).instant()
    return (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(_SOURCE)
        .unit(unit)
        .span(width)
        .height(4)
        .with_target(now)
    )


def bars(title: str, about: str, unit: str, query: Query, *, width: int = HALF) -> bargauge.Panel:
    """A bar for each series, as it is now."""
    panel = bargauge.Panel().title(title).description(about).datasource(_SOURCE).unit(unit).span(width).height(8)
    return panel.orientation(common_models.VizOrientation.HORIZONTAL).with_target(_target(query).instant())


def rows(title: str, about: str, query: Query, *, width: int = HALF) -> table.Panel:
    """A table with a row for each series, as it is now."""
    now = _target(query).instant().format(PromQueryFormat.TABLE)
    return table.Panel().title(title).description(about).datasource(_SOURCE).span(width).height(8).with_target(now)


def board(uid: str, title: str, about: str, *variables: boards.QueryVariable) -> boards.Dashboard:
    """An empty dashboard with a choice of data source before its own variables."""
    made = (
        boards.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags(["qwensft"])
        .time("now-6h", "now")
        .refresh("1m")
        .readonly()
        .with_variable(boards.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for variable in variables:
        made = made.with_variable(variable)
    return made


def choice(name: str, label: str, query: str, *, many: bool = False) -> boards.QueryVariable:
    """A variable whose values are those of a label, by Grafana's label_values(series, label)."""
    variable = boards.QueryVariable(name).label(label).datasource(_SOURCE).query(query)
    variable = variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    return variable.multi(True).include_all(True).all_value(".*") if many else variable


def _target(query: Query) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expression).legend_format(query.legend or "__auto")
