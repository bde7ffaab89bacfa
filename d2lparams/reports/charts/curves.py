"""Numbers step by step: all columns' lines over each other, and below how far each is from the reference.

Where frameworks agree, one line would hide the others: the first is the broadest, and each further one lies on
it and is thinner. What is left between them is shown by the lower picture, on a logarithmic scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from d2lparams.comparison import Comparison, Row
from d2lparams.reports.charts.chart import (
    DASHES,
    SCHEMA,
    Chart,
    absent,
    colours,
    columns,
    mapping,
    names,
    number,
    reference_of,
    sentences,
    sequence,
    slug,
)
from d2lparams.reports.values import plain

BROADEST, THINNEST = 7.0, 1.0
WIDE_RANGE = 100  # from which on a positive quantity is drawn on a logarithmic scale

Lines = dict[str, dict[str, list[float | None]]]


def curves(comparison: Comparison, row: Row) -> list[Chart]:
    """The curves of one observation; below them the distances from the reference, where any is not zero."""
    lines: Lines = {
        label: {name: [number(one) for one in sequence(series)] for name, series in mapping(value).items()}
        for label, value in columns(comparison, row).items()
    }
    values = [one for series in lines.values() for line in series.values() for one in line]
    drawn = [one for one in values if one is not None]
    if not drawn:
        return []
    title, judge = plain(row.observation), reference_of(comparison, row)
    distances = _distances(lines, judge)
    unseen = len(values) - len(drawn)
    furthest = max((one["distance"] for one in distances), default=0.0)
    caption = sentences(
        "Lines that coincide lie on each other, the first column's broad and each further one thinner.",
        f"Below: the distance from the reference, at most {furthest:.1e}; where it is 0 there is no point."
        if distances
        else "",
        "All columns are equal to the last bit." if judge and len(lines) > 1 and not distances else "",
        "Click a name in the legend to see it alone.",
        absent(comparison, row),
        f"{unseen} numbers are not finite, and are left out." if unseen else "",
    )
    said = "; ".join(_in_words(name, lines) for name in names(lines))
    return [
        Chart(
            slug(title),
            title,
            caption,
            _spec(comparison, lines, drawn, distances),
            f"{title}, step by step. {said}.",
        )
    ]


def _distances(lines: Lines, judge: str) -> list[dict[str, Any]]:
    """Each number's distance from the reference's, relative to the largest magnitude in that curve."""
    found = []
    for label, series in lines.items():
        for name, line in series.items():
            other = lines.get(judge, {}).get(name, [])
            scale = max((abs(one) for one in other if one is not None), default=0.0)
            if label == judge or not scale:
                continue
            for step, (one, right) in enumerate(zip(line, other)):
                if one is not None and right is not None and one != right:
                    found.append(
                        {
                            "framework": label,
                            "series": plain(name),
                            "step": step,
                            "distance": abs(one - right) / scale,
                        }
                    )
    return found


def _in_words(name: str, lines: Lines) -> str:
    """How a curve begins and ends, by the first column that has it."""
    line = next(series[name] for series in lines.values() if name in series)
    seen = [one for one in line if one is not None]
    return (
        f"{plain(name)} goes from {seen[0]:.4g} to {seen[-1]:.4g} in {len(line)} steps"
        if seen
        else f"{plain(name)} has no finite number"
    )


def _spec(
    comparison: Comparison, lines: Lines, drawn: list[float], distances: list[dict[str, Any]]
) -> dict[str, Any]:
    thinner = (BROADEST - THINNEST) / max(len(lines) - 1, 1)
    points = [
        {
            "framework": label,
            "width": BROADEST - place * thinner,
            "series": plain(name),
            "step": step,
            "value": value,
        }
        for place, (label, series) in enumerate(lines.items())
        for name, line in series.items()
        for step, value in enumerate(line)
    ]
    scale = "log" if min(drawn) > 0 and max(drawn) / min(drawn) > WIDE_RANGE else "linear"
    encoding = _encoding(comparison, [plain(name) for name in names(lines)])
    pick = {"name": "pick", "select": {"type": "point", "fields": ["framework"]}, "bind": "legend"}
    upper = {
        "width": "container",
        "height": 230,
        "data": {"values": points},
        "params": [pick],
        "mark": {"type": "line", "tooltip": True, "strokeCap": "butt"},
        "encoding": {
            **encoding,
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": "value",
                "scale": {"type": scale, "zero": False},
            },
            "strokeWidth": {"field": "width", "type": "quantitative", "scale": None},
            "tooltip": _tooltip("value", "value"),
        },
    }
    lower = {
        "width": "container",
        "height": 110,
        "data": {"values": distances},
        "mark": {"type": "line", "tooltip": True, "strokeWidth": 1.5, "point": {"size": 12}},
        "encoding": {
            **encoding,
            "y": {
                "field": "distance",
                "type": "quantitative",
                "title": "from the reference",
                "scale": {"type": "log"},
                "axis": {"format": ".0e", "tickCount": 4},
            },
            "tooltip": _tooltip("distance", "relative distance"),
        },
    }
    return {"$schema": SCHEMA, "vconcat": [upper, *([lower] if distances else [])], "spacing": 12}


def _encoding(comparison: Comparison, series: list[str]) -> Mapping[str, Any]:
    dashes = [DASHES[place % len(DASHES)] for place in range(len(series))]
    return {
        "x": {"field": "step", "type": "quantitative", "title": "step", "axis": {"tickMinStep": 1}},
        "color": {
            "field": "framework",
            "type": "nominal",
            "scale": colours(comparison),
            "legend": {"title": None, "orient": "top", "symbolType": "stroke", "symbolStrokeWidth": 3},
        },
        "strokeDash": {
            "field": "series",
            "type": "nominal",
            "scale": {"domain": series, "range": dashes},
            "legend": {"title": None, "orient": "top", "symbolType": "stroke"},
        },
        "opacity": {"condition": {"param": "pick", "empty": True, "value": 1}, "value": 0.06},
    }


def _tooltip(field: str, title: str) -> list[dict[str, Any]]:
    # The titles of axes and tooltips become part of expressions: none is text from a run.
    return [
        {"field": "framework", "type": "nominal", "title": "framework"},
        {"field": "series", "type": "nominal", "title": "model"},
        {"field": "step", "type": "quantitative", "title": "step"},
        {"field": field, "type": "quantitative", "title": "value", "format": ".8~g"},
    ]
