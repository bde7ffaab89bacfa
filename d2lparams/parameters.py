"""One use of one parameter of a model, as the harness shows it: names, shapes, storage, value and gradient.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from d2lparams.checks import Array
from d2lparams.models import Role

MOST_NAMED = 16
"""So many other uses of one storage are named in a table; of a thousand nobody reads the names."""


@dataclass(frozen=True)
class Gradient:
    """Where a framework keeps a parameter's gradient, and what is there now.

    Attributes:
        kept: whether the framework stores gradients with its parameters at all.
        where: the expression that reads it, or what returns it when it is not kept.
        value: canonical orientation; None when nothing is there (yet).
    """

    kept: bool
    where: str
    value: Array | None = None


@dataclass(slots=True)
class Parameter:
    """One use of one parameter. The list of them copies no values; reading `value` or `gradient` does.

    A model may have tens of thousands: one costs little more than its two names. Nobody writes to one; to have
    it frozen would make the list of them take twice as long.

    Attributes:
        layer: the dense layer, counted in order of application.
        role: "weight" or "bias".
        native_name: what the framework calls it.
        access: the expression that reads it from the native model, for instance `net[2].bias`.
        native_shape: as the framework holds it; a kernel of Keras or Flax is (in, out).
        shape: canonical; a weight is (out, in), a bias (out,).
        dtype: NumPy's name of the data type.
        native: the framework's own parameter object.
        storage: equal for two uses exactly when both are the same stored numbers.
        module: equal for two uses exactly when one layer object makes both; None where no layer object is
            known, as in a graph.
        hold: gives, of this use, the framework's own object that holds the values.
        read: gives, of this use, a copy of the values, canonical orientation.
        read_gradient: gives, of this use, the gradient's place and what is there.
    """

    layer: int
    role: Role
    native_name: str
    access: str
    native_shape: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    native: Any = field(repr=False)
    storage: Hashable = field(repr=False)
    module: Hashable = field(repr=False)
    # Functions of a use, and none of their own for each: a closure takes as much memory as all else here.
    hold: Callable[[Parameter], Any] = field(repr=False)
    read: Callable[[Parameter], Array] = field(repr=False)
    read_gradient: Callable[[Parameter], Gradient] = field(repr=False)

    @property
    def native_value(self) -> Any:
        """The framework's own object that holds the values."""
        return self.hold(self)

    @property
    def value(self) -> Array:
        """A copy of the values, canonical orientation."""
        return self.read(self)

    @property
    def gradient(self) -> Gradient:
        """The gradient's place and, where one is stored, a copy of it."""
        return self.read_gradient(self)

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of the values."""
        return self.size * np.dtype(self.dtype).itemsize


class Parameters(list[Parameter]):
    """A model's parameters: a list that shows itself as a table. What is cut out of it is a plain list."""

    def __repr__(self) -> str:
        rows = listing(self)
        if not rows:
            return "<no parameters>"
        lines = [list(rows[0]), *(list(row.values()) for row in rows)]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([*table, count(self)])

    def _repr_html_(self) -> str:
        # A notebook asks an object how it looks: the one step back on the road, taken when it asks.
        from d2lparams.reports.notebook import parameters_html

        return parameters_html(self)


def listing(parameters: Sequence[Parameter]) -> list[dict[str, str]]:
    """What a table of parameters says: a row for each use, words by heading."""
    places = partition(parameters)
    uses: dict[int, list[Parameter]] = {}
    for one, first in zip(parameters, places):
        uses.setdefault(first, []).append(one)
    turned = any(one.native_shape != one.shape for one in parameters)
    return [
        {
            "layer": str(one.layer),
            "role": one.role,
            "name": _printable(one.native_name),
            "access": _printable(one.access),
            "shape": str(one.native_shape),
            **({"canonical": str(one.shape)} if turned else {}),
            "dtype": one.dtype,
            "storage": _sharing(one, uses[first]),
        }
        for one, first in zip(parameters, places)
    ]


def count(parameters: Sequence[Parameter]) -> str:
    """How many uses there are, and how many stored values, in words."""
    stored = unique(parameters)
    uses = f"{len(parameters)} uses of " if len(stored) < len(parameters) else ""
    what = "parameter" if len(stored) == 1 else "parameters"
    return f"{uses}{len(stored)} {what}, {sum(one.size for one in stored):,} values"


def _sharing(mine: Parameter, uses: Sequence[Parameter]) -> str:
    """Which other uses of its storage there are; the first ones, where they are more than anybody reads."""
    others: list[str] = []
    for one in islice(uses, MOST_NAMED + 2):
        if one is not mine:
            others.append(f"layer {one.layer}" + (f" {one.role}" if one.role != mine.role else ""))
    if not others:
        return "its own"
    more = len(uses) - 1 - MOST_NAMED
    named = others[:MOST_NAMED] if more > 0 else others
    return f"shared with {', '.join(named)}" + (f" and {more} more" if more > 0 else "")


def _printable(text: str) -> str:
    """Text that keeps a table in shape."""
    return text if text.isprintable() else repr(text)[1:-1]


def unique(parameters: Sequence[Parameter]) -> list[Parameter]:
    """The parameters with each storage once, at its first use: what there really is to train and to save."""
    first: dict[Hashable, Parameter] = {}
    for parameter in parameters:
        first.setdefault(parameter.storage, parameter)
    return list(first.values())


def partition(parameters: Sequence[Parameter]) -> list[int]:
    """For every use, the place of the first use of the same storage."""
    return firsts([one.storage for one in parameters])


def firsts(values: Iterable[Hashable]) -> list[int]:
    """For every value, the place of the first one that equals it."""
    found: dict[Hashable, int] = {}
    return [found.setdefault(value, place) for place, value in enumerate(values)]
