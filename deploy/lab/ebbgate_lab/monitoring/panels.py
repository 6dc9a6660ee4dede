"""Grafana's JSON, as far as our dashboards need it: panels that are laid out, queries, variables."""

from typing import Any

import msgspec

Json = dict[str, Any]
COLUMNS = 24
HEIGHT = 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Query(msgspec.Struct, frozen=True):
    """`legend`: with `{{label}}`."""

    expr: str
    legend: str = ""


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """`says`: what it shows and when to worry. `width`: of COLUMNS. `kind`: timeseries, stat or table. `bad`:
    from this value on it is red.
    """

    title: str
    says: str
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 12
    kind: str = "timeseries"
    bad: float | None = None


class Variable(msgspec.Struct, frozen=True):
    """Chosen above the panels: a label's values; all by default."""

    name: str
    query: str


class Dashboard(msgspec.Struct, frozen=True, kw_only=True):
    """`uid`: also the file's name."""

    uid: str
    title: str
    says: str
    variables: tuple[Variable, ...] = ()
    panels: tuple[Panel, ...]


def render(dashboard: Dashboard) -> Json:
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.says,
        "tags": ["ebbgate"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [
            {
                "title": "Ebbgate",
                "type": "dashboards",
                "tags": ["ebbgate"],
                "asDropdown": True,
                "includeVars": False,
                "keepTime": True,
            }
        ],
        "templating": {"list": [_datasource(), *map(_variable, dashboard.variables)]},
        "panels": _laid_out(dashboard.panels),
    }


def _datasource() -> Json:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _variable(variable: Variable) -> Json:
    return {
        "name": variable.name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": variable.query, "refId": variable.name},
        "refresh": 2,
        "sort": 1,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _laid_out(panels: tuple[Panel, ...]) -> list[Json]:
    """In lines, each as wide as the dashboard at most."""
    found, x, y = [], 0, 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > COLUMNS:
            x, y = 0, y + HEIGHT
        place = {"x": x, "y": y, "w": panel.width, "h": HEIGHT}
        found.append(_panel(panel) | {"id": number, "gridPos": place})
        x += panel.width
    return found


def _panel(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.bad is not None:
        steps.append({"color": "red", "value": panel.bad})
    instant = panel.kind != "timeseries"
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": _OPTIONS[panel.kind],
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": instant,
                "range": not instant,
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for number, query in enumerate(panel.queries)
        ],
    }


_OPTIONS: dict[str, Json] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"colorMode": "value", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}},
    "table": {"showHeader": True},
}
