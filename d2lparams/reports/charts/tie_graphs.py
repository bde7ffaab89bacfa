"""A tie as a graph: the uses of a model's parameters on the left, storages on the right, lines between them.

A storage with several uses is a tie: its lines are thick and have a colour.
"""

from __future__ import annotations

from typing import Any

from d2lparams.comparison import Comparison, Row
from d2lparams.reports.charts.chart import (
    PALETTE,
    SCHEMA,
    Chart,
    absent,
    columns,
    mapping,
    sentences,
    sequence,
    slug,
)
from d2lparams.reports.values import plain

STEP = 17  # pixels from one use to the next
WIDTH = 400
BESIDE = 2  # panels in a row
THICK, THIN = 3, 1
SHARED, ALONE = "several uses", "one use"


def tie_graph(comparison: Comparison, row: Row) -> list[Chart]:
    """The graph of each column, beside each other."""
    graphs = {label: _graph(value) for label, value in columns(comparison, row).items()}
    graphs = {label: marks for label, marks in graphs.items() if marks}
    if not graphs:
        return []
    uses = max(sum(one["part"] == "use" for one in marks) for marks in graphs.values())
    data = [{"framework": label, **one} for label, marks in graphs.items() for one in marks]
    title = plain(row.observation)
    caption = sentences(
        "Left the uses in order of application, by the framework's own names; right what is stored. "
        "Thick lines lead to a storage with several uses.",
        absent(comparison, row),
    )
    said = "; ".join(f"{label}: {_in_words(marks)}" for label, marks in graphs.items())
    return [Chart(slug(title), title, caption, _spec(data, list(graphs), uses), f"Uses and storages. {said}.")]


def _graph(value: Any) -> list[dict[str, Any]]:
    """Points and lines, with their places: uses at x = 0 and y = 0, 1, 2 ..., storages at x = 1."""
    uses = [mapping(one) for one in sequence(value)]
    places: dict[Any, list[int]] = {}
    for y, one in enumerate(uses):
        places.setdefault(str(one.get("storage")), []).append(y)
    # Storages stand evenly, in the order of the middle of their uses: few lines cross, no two storages meet.
    order = sorted(places, key=lambda storage: sum(places[storage]) / len(places[storage]))
    heights = {storage: place for place, storage in enumerate(order)}
    numbers = {storage: place for place, storage in enumerate(places, 1)}
    gap = (len(uses) - 1) / max(len(order) - 1, 1)
    marks: list[dict[str, Any]] = []
    for y, one in enumerate(uses):
        storage = str(one.get("storage"))
        mine = places[storage]
        middle = heights[storage] * gap
        what = plain(f"layer {one.get('layer')} {one.get('role')}")
        told = {
            "storage": numbers[storage],
            "sharing": SHARED if len(mine) > 1 else ALONE,
            "uses": len(mine),
            "width": THICK if len(mine) > 1 else THIN,
            "what": what,
            "name": plain(str(one.get("name"))),
        }
        marks.append({"part": "line", "x": 0, "y": y, "x2": 1, "y2": middle, **told})
        marks.append({"part": "use", "x": 0, "y": y, "label": f"{told['name']}  ·  {what}", **told})
        if mine[0] == y:
            count = f"{len(mine)} uses" if len(mine) > 1 else ""
            marks.append({"part": "storage", "x": 1, "y": middle, "label": count, **told})
    return marks


def _in_words(marks: list[dict[str, Any]]) -> str:
    uses = [one for one in marks if one["part"] == "use"]
    shared: dict[int, list[str]] = {}
    for one in uses:
        shared.setdefault(one["storage"], []).append(one["what"])
    ties = [" and ".join(names) for names in shared.values() if len(names) > 1]
    return f"{len(uses)} uses of {len(shared)} storages, tied are {', '.join(ties) or 'none'}"


def _spec(data: list[dict[str, Any]], order: list[str], uses: int) -> dict[str, Any]:
    scale = {"domain": [SHARED, ALONE], "range": [PALETTE[4], "#8a8a8a"]}
    colour = {"field": "sharing", "type": "nominal", "scale": scale, "legend": None}
    x = {"field": "x", "type": "quantitative", "scale": {"domain": [-2.6, 1.45]}, "axis": None}
    y = {
        "field": "y",
        "type": "quantitative",
        "scale": {"domain": [-0.5, uses - 0.5], "reverse": True, "nice": False},
        "axis": None,
    }
    faded = {"condition": {"param": "near", "empty": True, "value": 1}, "value": 0.2}
    tooltip = [
        {"field": name, "type": "nominal", "title": title}
        for name, title in (("name", "name"), ("what", "use"), ("storage", "storage"), ("uses", "uses of it"))
    ]

    def part(name: str) -> list[dict[str, str]]:
        return [{"filter": f"datum.part === '{name}'"}]

    near = {
        "name": "near",
        "select": {
            "type": "point",
            "fields": ["framework", "storage"],
            "on": "pointerover",
            "clear": "pointerout",
        },
    }
    layers = [
        {
            "transform": part("line"),
            "params": [near],
            "mark": {"type": "rule"},
            "encoding": {
                "x": x,
                "y": y,
                "x2": {"field": "x2"},
                "y2": {"field": "y2"},
                "color": colour,
                "opacity": faded,
                "strokeWidth": {"field": "width", "type": "quantitative", "scale": None},
                "tooltip": tooltip,
            },
        },
        {
            "transform": part("use"),
            "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour, "opacity": faded, "tooltip": tooltip},
        },
        {
            "transform": part("storage"),
            "mark": {"type": "point", "shape": "square", "filled": True, "size": 110, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour, "opacity": faded, "tooltip": tooltip},
        },
        {
            "transform": part("use"),
            "mark": {
                "type": "text",
                "align": "right",
                "dx": -9,
                "baseline": "middle",
                "fontSize": 10.5,
                "limit": 250,
            },
            "encoding": {"x": x, "y": y, "text": {"field": "label"}, "opacity": faded},
        },
        {
            "transform": part("storage"),
            "mark": {"type": "text", "align": "left", "dx": 10, "baseline": "middle", "fontSize": 10.5},
            "encoding": {"x": x, "y": y, "text": {"field": "label"}, "opacity": faded},
        },
    ]
    return {
        "$schema": SCHEMA,
        "data": {"values": data},
        "facet": {"field": "framework", "type": "nominal", "sort": order, "title": None},
        "columns": BESIDE,
        "spacing": 16,
        "spec": {"width": WIDTH, "height": uses * STEP, "layer": layers},
    }
