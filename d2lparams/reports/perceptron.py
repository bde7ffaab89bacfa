"""Where everything stands in the drawing of a perceptron: bars of units, layers between them, ties as arcs.

Pure geometry, in pixels; a template makes it visible.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from d2lparams.models import MLP

COLOURS = 5
"""How many ties are told apart by colour, see notebook.css; further ones begin again."""

STEP = 116  # from one bar of units to the next
BAR = 10
TALLEST, LOWEST = 84, 22
MARGIN = 34


class Bar(NamedTuple):
    """So many units, as a bar; x and y are its upper left corner."""

    x: float
    y: float
    height: float
    units: int


class Shape(NamedTuple):
    """A dense layer, between two bars: its corners, its middle, its weight's shape, the number of its tie."""

    points: str
    middle: float
    weight: str
    tie: int | None


class Arc(NamedTuple):
    """A tie between two uses: its path, its words and where they stand, and the number of the tie."""

    path: str
    x: float
    y: float
    words: str
    tie: int


class Drawing(NamedTuple):
    """All of it.

    Attributes:
        middle: the height at which all bars and layers have their middle.
        base: the height at which the numbers of units are written.
    """

    width: float
    height: float
    middle: float
    base: float
    bars: list[Bar]
    layers: list[Shape]
    arcs: list[Arc]


def drawing(spec: MLP) -> Drawing:
    """Where everything stands. Heights grow with the logarithm of the number of units."""
    largest = math.log(max(spec.sizes) + 1)
    heights = [LOWEST + (TALLEST - LOWEST) * math.log(size + 1) / largest for size in spec.sizes]
    places = [MARGIN + STEP * number for number in range(len(spec.sizes))]
    ties = {layer: number % COLOURS for number, group in enumerate(spec.tied) for layer in group}
    spans = [(first, second) for group in spec.tied for first, second in zip(sorted(group), sorted(group)[1:])]
    above = 26 + 16 * max((second - first for first, second in spans), default=0) if spans else 8
    middle = above + TALLEST / 2
    layers = []
    for number, (x, nearer, further) in enumerate(zip(places, heights, heights[1:])):
        left, right = x + BAR, x + STEP
        corners = [(left, -nearer), (right, -further), (right, further), (left, nearer)]
        points = " ".join(f"{x:g},{middle + y / 2:.1f}" for x, y in corners)
        outputs, inputs = spec.weight_shape(number)
        shape = f"{outputs} × {inputs}"  # noqa: RUF001  (a sign, no letter)
        layers.append(Shape(points, (left + right) / 2, shape, ties.get(number)))
    what = "one layer" if spec.by == "module" else f"one {' and '.join(spec.roles)}"
    arcs = []
    for first, second in spans:
        start, end = layers[first].middle, layers[second].middle
        top = above - 10 - 32 * (second - first)
        path = f"M {start:g} {above - 4} Q {(start + end) / 2:g} {top} {end:g} {above - 4}"
        arcs.append(Arc(path, (start + end) / 2, (above - 4 + top) / 2 - 4, what, ties[first]))
    bars = [Bar(x, middle - height / 2, height, size) for x, height, size in zip(places, heights, spec.sizes)]
    base = above + TALLEST + 16
    return Drawing(places[-1] + BAR + MARGIN, base + 8, middle, base, bars, layers, arcs)
