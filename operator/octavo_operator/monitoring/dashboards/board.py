"""A dashboard from its panels: where they stand, how they look, what it can be narrowed to."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    VariableRefresh,
    VariableSort,
)

_HEIGHT, _WIDTH = 8, 8  # of a panel, on a grid that is 24 wide
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True)
class Panel:
    """`unit`: Grafana's name of it; `queries`: a legend and the PromQL of its lines, each."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    description: str = ""


@dataclass(frozen=True)
class Variable:
    """`values`: a query for what it can be; `several`: any number of them at once, or all."""

    name: str
    values: str
    several: bool = False


@dataclass(frozen=True)
class Board:
    """`drill_down`: where a click on a line leads to, with its labels; `see_also`: another board."""

    uid: str
    title: str
    variables: Sequence[Variable]
    panels: Sequence[Panel]
    drill_down: str = ""
    see_also: tuple[str, str] | None = None


def rendered(board: Board) -> str:
    """In Grafana's JSON."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .tags(["octavo"])
        .readonly()
        .refresh("30s")
        .time("now-1h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for variable in board.variables:
        built.with_variable(_variable(variable))
    if board.see_also is not None:
        title, uid = board.see_also
        link = dashboard.DashboardLink(title).type(DashboardLinkType.LINK).url(f"/d/{uid}").keep_time(True)
        built.link(link)
    for panel in board.panels:
        built.with_panel(_panel(panel, board.drill_down))
    return JSONEncoder(sort_keys=True, indent=1).encode(built.build()) + "\n"


def _variable(variable: Variable) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(variable.name)
        .datasource(_SOURCE)
        .query(variable.values)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(variable.several)
        .include_all(variable.several)
        .all_value(".+" if variable.several else "")
    )


def _panel(panel: Panel, drill_down: str) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .min(0)
        .height(_HEIGHT)
        .span(_WIDTH)
        .datasource(_SOURCE)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if drill_down:
        built.data_links([dashboard.DashboardLink("This service").url(drill_down)])
    for position, (legend, expr) in enumerate(panel.queries):
        built.with_target(
            prometheus.Dataquery().datasource(_SOURCE).expr(expr).legend_format(legend).ref_id(chr(ord("A") + position))
        )
    return built
