"""What all pictures have in common: title and caption, the columns' names and colours, numbers to be drawn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d2lparams.comparison import Comparison, Row
from d2lparams.reports.values import plain
from d2lparams.results import Run

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""The name of the language; nothing is fetched from there."""

# Okabe and Ito's palette (2008), told apart with any kind of colour vision; grey is the reference's.
REFERENCE = "#8a8a8a"
PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#0072b2", "#b8a700")
DASHES = ([1, 0], [5, 3], [2, 2], [8, 3, 2, 3])


@dataclass(frozen=True)
class Chart:
    """A picture.

    Attributes:
        name: unique among the pictures of its scenario.
        title: what is drawn.
        caption: what to look for, and what is not there.
        spec: Vega-Lite, with its data, without colours of paper and ink.
        alt: what the picture says, for who cannot see it.
    """

    name: str
    title: str
    caption: str
    spec: dict[str, Any]
    alt: str


def labels(comparison: Comparison) -> dict[str, str]:
    """By column, what a picture calls it: the framework's title, or its own name where titles are equal."""
    titles = Counter(run.title for run in comparison.columns)
    return {run.name: plain(run.title if titles[run.title] == 1 else run.name) for run in comparison.columns}


def colours(comparison: Comparison) -> dict[str, Any]:
    """The scale of colours of the columns: the same one in every picture."""
    places = iter(range(len(comparison.columns)))
    chosen = [
        REFERENCE if run.reference else PALETTE[next(places) % len(PALETTE)] for run in comparison.columns
    ]
    return {"domain": list(labels(comparison).values()), "range": chosen}


def columns(comparison: Comparison, row: Row, of: Sequence[Run] = ()) -> dict[str, Any]:
    """The values that are there, by label, in the order of the columns; of all columns, or of some."""
    named = labels(comparison)
    runs = of or comparison.columns
    return {named[run.name]: row.values[run.name] for run in runs if run.name in row.values}


def absent(comparison: Comparison, row: Row) -> str:
    """Which columns are not in the picture, and why; "" when all are."""
    named = labels(comparison)
    gaps = [
        f"{named[run.name]} ({row.absent[run.name]})" for run in comparison.columns if run.name in row.absent
    ]
    return f"Not there: {', '.join(gaps)}." if gaps else ""


def reference_of(comparison: Comparison, row: Row) -> str:
    """The label of the reference, where it has a value in this row; else ""."""
    named = labels(comparison)
    return next((named[run.name] for run in comparison.columns if run.reference and run.name in row.values), "")


def number(value: Any) -> float | None:
    """A number that can be drawn; None for one that is not finite, and for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number that no float can hold
        return None


def mapping(value: Any) -> Mapping[str, Any]:
    """A value that has to be an object; where it is none, nothing is drawn."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> Sequence[Any]:
    """A value that has to be a list; where it is none, nothing is drawn."""
    return value if isinstance(value, list | tuple) else ()


def names(values: Mapping[str, Any]) -> list[str]:
    """The keys of all columns' objects, each once, in order."""
    return list(dict.fromkeys(key for value in values.values() for key in mapping(value)))


def sentences(*parts: str) -> str:
    """Those that are not empty, one after the other."""
    return " ".join(part for part in parts if part)


def flat(value: Any) -> Iterator[Any]:
    """Everything in nested lists, in order."""
    if isinstance(value, list | tuple):
        for one in value:
            yield from flat(one)
    else:
        yield value


def slug(*parts: str) -> str:
    """A name that can stand in an address."""
    words = "-".join(parts).lower()
    return "-".join("".join(sign if sign.isalnum() else " " for sign in words).split()) or "picture"
