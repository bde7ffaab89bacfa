"""Arrays as heat maps: a row of panels for each array, a panel for each column, one scale for all of them.

A second picture shows how far each column is from the reference, on a scale of its own, where any is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from d2lparams.comparison import Comparison, Row
from d2lparams.reports.charts.chart import (
    SCHEMA,
    Chart,
    absent,
    columns,
    flat,
    mapping,
    names,
    number,
    reference_of,
    sentences,
    sequence,
    slug,
)
from d2lparams.reports.values import plain

LARGEST = 32  # rows and columns of an array that are drawn
STEP = 13  # pixels a cell
NAME = 110  # pixels that the name of a framework needs

Rows = list[list[float | None]]


def heat_maps(comparison: Comparison, row: Row) -> list[Chart]:
    """The arrays of one observation."""
    drawn = {label: _arrays(value) for label, value in columns(comparison, row).items()}
    arrays = names(drawn)
    if not arrays:
        return []
    what = plain(row.observation)
    pictures = [
        _picture(comparison, row, drawn, what, "One scale for all panels: equal colours are equal numbers.")
    ]
    judge = reference_of(comparison, row)
    apart = {label: _minus(found, drawn[judge]) for label, found in drawn.items() if judge and label != judge}
    largest = _largest(apart)
    if largest:
        told = f"At most {largest:.2g} apart; the scale is that of the differences alone."
        pictures.append(_picture(comparison, row, apart, f"{what}, minus the reference", told))
    return pictures


def _picture(
    comparison: Comparison, row: Row, drawn: Mapping[str, Mapping[str, Rows]], title: str, told: str
) -> Chart:
    bound = _largest(drawn) or 1.0
    order = list(drawn)
    panels = [
        _panel(drawn[label].get(name, []), label, bound, top=not place, name=name if label == order[0] else "")
        for place, name in enumerate(names(drawn))
        for label in order
    ]
    widest = max(len(line) for arrays in drawn.values() for rows in arrays.values() for line in rows)
    unseen = sum(value is None for arrays in drawn.values() for value in flat(list(arrays.values())))
    arrays = [rows for found in drawn.values() for rows in found.values()]
    cut = any(len(rows) == LARGEST or len(rows[0]) == LARGEST for rows in arrays)
    caption = sentences(
        told,
        absent(comparison, row),
        f"{unseen} numbers are not finite, and their cells are empty." if unseen else "",
        f"Of larger arrays the first {LARGEST} rows and columns are drawn." if cut else "",
    )
    spec = {
        "$schema": SCHEMA,
        "concat": panels,
        "columns": len(order),
        # Narrow panels stand far enough apart for the names above them.
        "spacing": {"row": 10, "column": max(18, NAME - widest * STEP)},
        "align": "each",
        "bounds": "flush",
        "resolve": {"scale": {"color": "shared"}},
    }
    which = ", ".join(map(plain, names(drawn)))
    said = f"Heat maps of {which}, for {', '.join(order)}; the largest magnitude is {bound:.3g}."
    return Chart(slug(title), title, caption, spec, said)


def _panel(rows: Rows, label: str, bound: float, *, top: bool, name: str) -> dict[str, Any]:
    """One array on one column: below the column's name in the top row, beside the array's in the first."""
    cells = [
        {"framework": label, "row": y, "column": x, "value": value}
        for y, line in enumerate(rows)
        for x, value in enumerate(line)
        if value is not None
    ]
    axis: dict[str, Any] = {"title": None, "labels": False, "ticks": False, "domain": False, "grid": False}
    beside = {"titleAngle": 0, "titleAlign": "right", "titleBaseline": "middle", "titlePadding": 8}
    colour = {
        "field": "value",
        "type": "quantitative",
        "scale": {"scheme": "purpleorange", "domain": [-bound, bound], "domainMid": 0, "reverse": True},
        "legend": {"title": None, "format": ".2~g", "gradientLength": 120},
    }
    return {
        **(
            {
                "title": {
                    "text": label,
                    "fontSize": 11,
                    "fontWeight": "normal",
                    "anchor": "start",
                    "frame": "group",
                }
            }
            if top
            else {}
        ),
        "data": {"values": cells},
        "width": {"step": STEP},
        "height": {"step": STEP},
        "view": {"stroke": None},
        "mark": {"type": "rect", "tooltip": True},
        "encoding": {
            "x": {"field": "column", "type": "ordinal", "axis": axis},
            "y": {
                "field": "row",
                "type": "ordinal",
                "axis": {**axis, **beside, "title": plain(name)} if name else axis,
            },
            "color": colour,
            "tooltip": [
                {"field": "framework", "type": "nominal", "title": "framework"},
                {"field": "row", "type": "quantitative", "title": "row"},
                {"field": "column", "type": "quantitative", "title": "column"},
                {"field": "value", "type": "quantitative", "title": "value", "format": ".6~g"},
            ],
        },
    }


def _arrays(value: Any) -> dict[str, Rows]:
    """Arrays by name, as rows of numbers; a vector is one row."""
    found = {}
    for name, array in mapping(value).items():
        lines = sequence(array)
        if lines and not isinstance(lines[0], list | tuple):
            lines = [lines]
        rows = [[number(one) for one in list(flat(line))[:LARGEST]] for line in lines[:LARGEST]]
        if rows and rows[0]:
            found[name] = rows
    return found


def _minus(arrays: Mapping[str, Rows], others: Mapping[str, Rows]) -> dict[str, Rows]:
    """Differences, entry by entry, of the arrays that both have in one shape."""
    return {
        name: [
            [None if one is None or other is None else one - other for one, other in zip(line, judge)]
            for line, judge in zip(rows, others[name])
        ]
        for name, rows in arrays.items()
        if [len(line) for line in rows] == [len(line) for line in others.get(name, ())]
    }


def _largest(drawn: Mapping[str, Mapping[str, Rows]]) -> float:
    """The largest magnitude in all arrays; 0 when there is none."""
    values = [abs(one) for arrays in drawn.values() for one in flat(list(arrays.values())) if one is not None]
    return max(values, default=0.0)
