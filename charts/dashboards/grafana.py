"""A dashboard in few words, and as the JSON that Grafana 11 and 12 read.

Panels carry no ids and no absolute links, so that equal descriptions give equal bytes. Does not belong here:
what any dashboard shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

SCHEMA_VERSION = 41
"""Of Grafana 12.0; older ones read it too, newer ones migrate it when they load it."""

WIDTH, HEIGHT = 24, 8
"""Of the grid: a row's cells, and a panel's."""

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and what its lines are called (`{{label}}`)."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Attributes:
    description: which question it answers, and what a reader should do with the answer.
    unit: one of Grafana's (`s`, `percentunit`, `reqps`, `short`, …).
    red_above: values above are drawn in red.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat", "bargauge", "table"] = "timeseries"
    width: int = 8
    red_above: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A label's values to choose from; all of them at first."""

    name: str
    label: str
    query: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Attributes:
    uid: stays the same for good: links and bookmarks hold it.
    """

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]


def document(dashboard: Dashboard) -> Json:
    """The dashboard as Grafana's JSON model."""
    return {
        "annotations": {"list": []},
        "description": dashboard.description,
        "editable": False,
        "graphTooltip": 1,  # one crosshair over all panels
        "links": [
            {
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
                "tags": ["marquee"],
                "title": "Marquee",
                "type": "dashboards",
            }
        ],
        "panels": list(_panels(dashboard.rows)),
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["marquee"],
        "templating": {"list": [_datasource(), *map(_variable, dashboard.variables)]},
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "utc",
        "title": dashboard.title,
        "uid": dashboard.uid,
    }


def _panels(rows: tuple[Row, ...]) -> Iterator[Json]:
    """Rows from top to bottom, their panels from left to right, wrapping where the width is used up."""
    y = 0
    for row in rows:
        yield {
            "collapsed": False,
            "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y},
            "panels": [],
            "title": row.title,
            "type": "row",
        }
        x, y = 0, y + 1
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + HEIGHT
            yield _panel(panel, x, y)
            x += panel.width
        y += HEIGHT


def _panel(panel: Panel, x: int, y: int) -> Json:
    instant = panel.kind in ("table", "bargauge")
    return {
        "datasource": DATASOURCE,
        "description": panel.description,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "gridPos": {"h": HEIGHT, "w": panel.width, "x": x, "y": y},
        "options": _options(panel.kind),
        "targets": [
            {
                "datasource": DATASOURCE,
                "expr": query.expr,
                "instant": instant,
                "format": "table" if panel.kind == "table" else "time_series",
                "legendFormat": query.legend,
                "range": not instant,
                "refId": chr(ord("A") + place),
            }
            for place, query in enumerate(panel.queries)
        ],
        "title": panel.title,
        "type": panel.kind,
    }


def _defaults(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.red_above is not None:
        steps.append({"color": "red", "value": panel.red_above})
    defaults: Json = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        line = "off" if panel.red_above is None else "dashed"
        defaults["custom"] = {"fillOpacity": 8, "showPoints": "never", "thresholdsStyle": {"mode": line}}
    return defaults


def _options(kind: str) -> Json:
    last: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if kind == "timeseries":
        return {
            "legend": {"calcs": ["mean", "max"], "displayMode": "table", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {} if kind == "table" else {"reduceOptions": last}


def _datasource() -> Json:
    return {"label": "Data source", "name": "datasource", "query": "prometheus", "type": "datasource"}


def _variable(variable: Variable) -> Json:
    return {
        "allValue": ".*",  # also matches series without the label
        "current": {"text": "All", "value": "$__all"},
        "datasource": DATASOURCE,
        "definition": variable.query,
        "includeAll": True,
        "label": variable.label,
        "multi": True,
        "name": variable.name,
        "query": {"query": variable.query, "refId": variable.name},
        "refresh": 2,  # when the time range changes
        "sort": 1,
        "type": "query",
    }
