"""How values are spread: a row of panels for each parameter, a panel for each column, one scale along each row.

Heights are densities, so that parameters of different sizes compare. What is the same number everywhere has no
density: it is a line at that number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from d2lparams.comparison import Comparison, Row
from d2lparams.reports.charts.chart import (
    SCHEMA,
    Chart,
    absent,
    colours,
    columns,
    mapping,
    names,
    number,
    sentences,
    sequence,
    slug,
)
from d2lparams.reports.values import plain

WIDTH, HEIGHT = 132, 64

Bars = list[dict[str, Any]]


def histograms(comparison: Comparison, row: Row) -> list[Chart]:
    """The histograms of one observation."""
    drawn = {
        label: {name: bars for name, one in mapping(value).items() if (bars := _bars(mapping(one)))}
        # How values start is a framework's own way, and the reference is none.
        for label, value in columns(comparison, row, comparison.frameworks).items()
    }
    parameters = names(drawn)
    if not parameters:
        return []
    title = plain(row.observation)
    caption = sentences(
        "Densities on one scale along each row. A thin line is one number that all values have.",
        "Random numbers: another run draws others from the same distribution.",
        absent(comparison, row),
    )
    spec = {
        "$schema": SCHEMA,
        "vconcat": [_panels(comparison, drawn, name) for name in parameters],
        "spacing": 14,
    }
    said = "; ".join(
        f"{plain(name)}: "
        + ", ".join(f"{label} {_in_words(found[name])}" for label, found in drawn.items() if name in found)
        for name in parameters
    )
    return [Chart(slug(title), title, caption, spec, f"{title}. {said}.")]


def _bars(found: Mapping[str, Any]) -> Bars:
    """The bars of one histogram, as densities; of a constant, one without width."""
    edges = [number(one) for one in sequence(found.get("edges"))]
    counts = [number(one) for one in sequence(found.get("counts"))]
    total = sum(one for one in counts if one is not None)
    if not total or len(edges) != len(counts) + 1:
        return []
    return [
        {
            "from": left,
            "to": right,
            "count": count,
            "share": count / total,
            "density": count / total / (right - left) if right > left else 0.0,
            "constant": right <= left,
        }
        for left, right, count in zip(edges, edges[1:], counts)
        if left is not None and right is not None and count is not None
    ]


def _in_words(bars: Bars) -> str:
    first, last = bars[0], bars[-1]
    if first["constant"]:
        return f"all {first['from']:.3g}"
    return f"from {first['from']:.3g} to {last['to']:.3g}"


def _panels(comparison: Comparison, drawn: Mapping[str, Mapping[str, Bars]], name: str) -> dict[str, Any]:
    """One parameter on every column that has it."""
    data = [{"framework": label, **bar} for label, found in drawn.items() for bar in found.get(name, ())]
    colour = {"field": "framework", "type": "nominal", "scale": colours(comparison), "legend": None}
    ends = [edge for one in data for edge in (one["from"], one["to"])]
    # A constant alone has no width; a panel needs one.
    reach = [min(ends), max(ends)] if min(ends) < max(ends) else [min(ends) - 1, max(ends) + 1]
    x = {
        "field": "from",
        "type": "quantitative",
        "title": None,
        "scale": {"domain": reach, "nice": True, "zero": False},
        "axis": {"tickCount": 3, "format": "~g", "grid": False},
    }
    tooltip = [
        {"field": "framework", "type": "nominal", "title": "framework"},
        {"field": "from", "type": "quantitative", "title": "from", "format": ".4~g"},
        {"field": "to", "type": "quantitative", "title": "to", "format": ".4~g"},
        {"field": "count", "type": "quantitative", "title": "values"},
        {"field": "share", "type": "quantitative", "title": "of all", "format": ".1%"},
    ]
    bars = {
        "transform": [{"filter": "!datum.constant"}],
        "mark": {"type": "bar", "binSpacing": 0},
        "encoding": {
            "x": {**x, "bin": {"binned": True}},
            "x2": {"field": "to"},
            "y": {"field": "density", "type": "quantitative", "title": None, "axis": None},
            "color": colour,
            "tooltip": tooltip,
        },
    }
    line = {
        "transform": [{"filter": "datum.constant"}],
        "mark": {"type": "rule", "strokeWidth": 2},
        "encoding": {"x": x, "color": colour, "tooltip": tooltip},
    }
    order = [label for label in drawn if name in drawn[label]]
    return {
        "title": {"text": plain(name), "fontSize": 12, "fontWeight": "normal", "offset": 4},
        "data": {"values": data},
        "facet": {"column": {"field": "framework", "type": "nominal", "sort": order, "title": None}},
        "spacing": 16,
        "spec": {"width": WIDTH, "height": HEIGHT, "layer": [bars, line]},
    }
