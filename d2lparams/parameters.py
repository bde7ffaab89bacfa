"""One use of one parameter of a model, as the harness shows it: names, shapes, storage, value and gradient.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from d2lparams.checks import Array
from d2lparams.models import Role


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


@dataclass(frozen=True)
class Parameter:
    """One use of one parameter. The list of them copies no values; reading `value` or `gradient` does.

    Attributes:
        layer: the dense layer, counted in order of application.
        role: "weight" or "bias".
        native_name: what the framework calls it.
        access: the expression that reads it from the native model, for instance `net[2].bias`.
        native_shape: as the framework holds it; a kernel of Keras or Flax is (in, out).
        shape: canonical; a weight is (out, in), a bias (out,).
        dtype: NumPy's name of the data type.
        native: the framework's own parameter object.
        native_value: the framework's own object that holds the values.
        storage: equal for two uses exactly when both are the same stored numbers.
        module: equal for two uses exactly when one layer object makes both; None where no layer object is
            known, as in a graph.
    """

    layer: int
    role: Role
    native_name: str
    access: str
    native_shape: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    native: Any = field(repr=False)
    native_value: Any = field(repr=False)
    storage: Hashable = field(repr=False)
    module: Hashable = field(repr=False)
    read: Callable[[], Array] = field(repr=False)
    read_gradient: Callable[[], Gradient] = field(repr=False)

    @property
    def value(self) -> Array:
        """A copy of the values, canonical orientation."""
        return self.read()

    @property
    def gradient(self) -> Gradient:
        """The gradient's place and, where one is stored, a copy of it."""
        return self.read_gradient()

    @property
    def size(self) -> int:
        """The number of values."""
        return int(np.prod(self.shape))

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
    firsts = partition(parameters)
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
            "storage": _sharing(parameters, firsts, place),
        }
        for place, one in enumerate(parameters)
    ]


def count(parameters: Sequence[Parameter]) -> str:
    """How many uses there are, and how many stored values, in words."""
    stored = unique(parameters)
    uses = f"{len(parameters)} uses of " if len(stored) < len(parameters) else ""
    what = "parameter" if len(stored) == 1 else "parameters"
    return f"{uses}{len(stored)} {what}, {sum(one.size for one in stored):,} values"


def _sharing(parameters: Sequence[Parameter], firsts: Sequence[int], place: int) -> str:
    """Which other uses are the same stored numbers."""
    mine = parameters[place]
    others = [
        f"layer {one.layer}" + (f" {one.role}" if one.role != mine.role else "")
        for other, one in enumerate(parameters)
        if other != place and firsts[other] == firsts[place]
    ]
    return f"shared with {', '.join(others)}" if others else "its own"


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


def firsts(values: Sequence[object]) -> list[int]:
    """For every value, the place of the first one that equals it."""
    return [values.index(value) for value in values]
