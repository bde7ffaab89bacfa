"""How a framework keeps the arrays of each kind of layer, as a table, and the way to one form for all.

A backend's table (`backends/conventions/`) has rows `Held`: one native array, which canonical array it holds,
and its axes in their native order. From the rows alone follow both directions, `to_canonical` and `to_native`;
no framework has code of its own for it. The canonical form of each kind stands in `CANONICAL`:

    dense       weight (out, in), bias (out,)
    conv1d      weight (out, in, width), bias (out,)
    conv2d      weight (out, in, height, width), bias (out,)
    batchnorm   weight, bias, running mean, running variance, each (features,)
    layernorm   weight, bias, each (features,)
    embedding   weight (vocabulary, width)
    lstm        input weight (4, units, in), hidden weight (4, units, units), input bias (4, units) and hidden
                bias (4, units), which are added; the gates are input, forget, cell, output
    gru         the same with three gates: reset, update, new; the new gate's hidden bias stands inside of the
                reset gate (section 10.2 of the book, with the reset applied after the product, as all
                frameworks here do by default)

Where a framework keeps one bias for a gate that has two here, the one holds the sum, and the hidden bias is
zero when it is read back (`merged`). Arrays go in and come out without a copy where a view can show them.

Imports NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from d2lparams.checks import Array

Kind = Literal["dense", "conv1d", "conv2d", "batchnorm", "layernorm", "embedding", "lstm", "gru"]

CANONICAL: Mapping[Kind, Mapping[str, str]] = {
    "dense": {"weight": "out in", "bias": "out"},
    "conv1d": {"weight": "out in width", "bias": "out"},
    "conv2d": {"weight": "out in height width", "bias": "out"},
    "batchnorm": dict.fromkeys(("weight", "bias", "running mean", "running variance"), "features"),
    "layernorm": dict.fromkeys(("weight", "bias"), "features"),
    "embedding": {"weight": "vocabulary width"},
    "lstm": {
        "input weight": "gate units in",
        "hidden weight": "gate units past",
        "input bias": "gate units",
        "hidden bias": "gate units",
    },
    "gru": {
        "input weight": "gate units in",
        "hidden weight": "gate units past",
        "input bias": "gate units",
        "hidden bias": "gate units",
    },
}
"""The canonical arrays of each kind, in order, with their axes."""

GATES: Mapping[Kind, str] = {"lstm": "ifgo", "gru": "rzn"}
"""The gates in canonical order, by their letters."""

UNTRAINED = ("running mean", "running variance")
"""The canonical arrays that an optimizer does not change."""


@dataclass(frozen=True)
class Held:
    """One native array of a layer, and what it holds.

    Attributes:
        name: the framework's own, within the layer. "{gate}" stands for the letter of a gate, where each gate
            has an array of its own.
        holds: the canonical array; where the native one holds several, their names with " and " between, and
            its axes have an axis "which".
        axes: native, slowest first; "(gate units)" is one axis that holds both, all units of the first gate
            first.
        gates: their order in the native array, by letter; or those that have an array. "" where there are none.
    """

    name: str
    holds: str
    axes: str
    gates: str = ""

    @property
    def canonical(self) -> tuple[str, ...]:
        """The names of the canonical arrays that it holds."""
        return tuple(self.holds.split(" and "))

    @property
    def apart(self) -> bool:
        """Whether each gate has a native array of its own."""
        return "{gate}" in self.name

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the native arrays, in the order of `gates` where there is one for each gate."""
        return tuple(self.name.format(gate=gate) for gate in self.gates) if self.apart else (self.name,)


Convention = Sequence[Held]
"""The rows of one kind of layer."""
Conventions = Mapping[Kind, Convention]
"""A backend's table."""


@dataclass(frozen=True)
class Flattened:
    """That a layer's input is a flattened image, or a sequence with channels.

    Canonical columns go channel by channel; and so do the numbers of a normalisation of such an image.
    `channels_last` says that the native ones go place by place.
    """

    channels: int
    channels_last: bool


def to_canonical(
    kind: Kind, rows: Convention, native: Mapping[str, Array], flattened: Flattened | None = None
) -> dict[str, Array]:
    """Native arrays in canonical form; views where possible. What a layer does not have is left out.

    Args:
        kind: of the layer.
        rows: the backend's convention for it.
        native: the layer's arrays, by native name. A hidden bias that the framework does not keep is zeros.
        flattened: for a layer whose input is a flattened image.
    """
    found: dict[str, Array] = {}
    for row in rows:
        if row.apart:
            arrays = {gate: native[name] for gate, name in zip(row.gates, row.names) if name in native}
            if arrays:
                found[row.holds] = _stacked(kind, row, arrays)
        elif row.name in native:
            found.update(_opened(kind, row, native[row.name]))
    if "input bias" in found:
        found.setdefault("hidden bias", np.zeros_like(found["input bias"]))
    if flattened is not None and flattened.channels_last:
        for name in _TAKES_INPUT.get(kind, ()):
            if name in found:
                found[name] = _swapped(found[name], found[name].shape[-1] // flattened.channels)
    return {name: found[name] for name in CANONICAL[kind] if name in found}


def to_native(
    kind: Kind, rows: Convention, canonical: Mapping[str, Array], flattened: Flattened | None = None
) -> Iterator[tuple[str, Array]]:
    """The native arrays by native name, one after the other, each made when it is asked for.

    Args:
        kind: of the layer.
        rows: the backend's convention for it.
        canonical: the layer's arrays; an input bias comes with a hidden one.
        flattened: for a layer whose input is a flattened image.
    """
    values = merged(kind, rows, canonical)
    if flattened is not None and flattened.channels_last:
        turned = [name for name in _TAKES_INPUT.get(kind, ()) if name in values]
        values |= {name: _swapped(values[name], flattened.channels) for name in turned}
    for row in rows:
        if not all(name in values for name in row.canonical):
            continue
        if row.apart:
            for gate, name in zip(row.gates, row.names):
                part = values[row.holds][GATES[kind].index(gate)]
                yield name, _arranged(part, _without_gate(CANONICAL[kind][row.holds]), row.axes)
        else:
            yield row.name, _closed(kind, row, values)


def merged(kind: Kind, rows: Convention, canonical: Mapping[str, Array]) -> dict[str, Array]:
    """The canonical values that a framework can hold: a hidden bias that it has no array for is added.

    The sum is rounded to the dtype. Where nothing has to be added, the values are the same arrays.
    """
    values = dict(canonical)
    if "hidden bias" not in values:
        return values
    missing = [place for place in range(len(GATES[kind])) if place not in kept_hidden_biases(kind, rows)]
    if missing and np.any(values["hidden bias"][missing]):
        inputs, hidden = values["input bias"].copy(), values["hidden bias"].copy()
        inputs[missing] += hidden[missing]
        hidden[missing] = 0
        values |= {"input bias": inputs, "hidden bias": hidden}
    return values


def kept_hidden_biases(kind: Kind, rows: Convention) -> list[int]:
    """The gates, by their canonical places, whose hidden bias a framework keeps apart from the input bias."""
    kept = next((row.gates or GATES[kind] for row in rows if "hidden bias" in row.canonical), "")
    return [place for place, gate in enumerate(GATES.get(kind, "")) if gate in kept]


def native_shapes(
    kind: Kind, rows: Convention, canonical: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """The shapes of the native arrays of a layer whose canonical arrays have the given shapes."""
    # Views of nothing: a broadcast zero has a shape and no memory.
    empty = {name: np.broadcast_to(np.float32(0), shape) for name, shape in canonical.items()}
    return {name: value.shape for name, value in to_native(kind, rows, empty)}


def table(conventions: Conventions) -> list[dict[str, str]]:
    """A backend's conventions as rows for reading: kind, canonical, its axes, native, its axes, gates."""
    return [
        {
            "kind": kind,
            "canonical": row.holds,
            "canonical axes": CANONICAL[kind][row.canonical[0]],
            "native": row.name,
            "native axes": row.axes,
            "gates": " ".join(row.gates or GATES.get(kind, "")) if kind in GATES else "",
        }
        for kind, rows in conventions.items()
        for row in rows
    ]


# The canonical arrays that have an axis of inputs, which is the last one.
_TAKES_INPUT: Mapping[Kind, tuple[str, ...]] = {
    "dense": ("weight",),
    "batchnorm": tuple(CANONICAL["batchnorm"]),
    "layernorm": tuple(CANONICAL["layernorm"]),
    "lstm": ("input weight",),
    "gru": ("input weight",),
}


def axes_in_words(kind: Kind, row: Held) -> str:
    """The axes of a native array for reading: "(gate units) in" of an LSTM is "4 * units (i f g o), in"."""
    gates = row.gates or GATES.get(kind, "")
    words = {"which": row.holds.replace(" bias", ""), "past": "units"}
    grouped = f"{len(gates)} * units ({' '.join(gates)})"
    return ", ".join(grouped if len(names) > 1 else words.get(names[0], names[0]) for names in _axes(row.axes))


def with_summed_biases(kind: Kind, values: Mapping[str, Array]) -> dict[str, Array]:
    """The form in which two biases count only by what they do (see `subjects.Layers`).

    An LSTM has one "bias"; a GRU's "input bias" holds the sum for reset and update, and its "hidden bias" is
    that of the new gate, (units,).
    """
    if kind not in GATES or "input bias" not in values:
        return dict(values)
    weights = {name: values[name] for name in ("input weight", "hidden weight")}
    inputs, hidden = values["input bias"], values["hidden bias"]
    if kind == "lstm":
        return {**weights, "bias": inputs + hidden}
    return {
        **weights,
        "input bias": np.concatenate([inputs[:2] + hidden[:2], inputs[2:]]),
        "hidden bias": hidden[2],
    }


def with_two_biases(kind: Kind, values: Mapping[str, Array]) -> dict[str, Array]:
    """The other way: of two biases that are added, the hidden one is zero."""
    if kind not in GATES:
        return dict(values)
    weights = {name: values[name] for name in ("input weight", "hidden weight")}
    inputs = values["bias" if kind == "lstm" else "input bias"]
    hidden = np.zeros_like(inputs)
    if kind == "gru":
        hidden[2] = values["hidden bias"]
    return {**weights, "input bias": inputs, "hidden bias": hidden}


def _axes(text: str) -> list[tuple[str, ...]]:
    """The axes of a pattern, each with the names that it holds: "(gate units) in" has two."""
    return [tuple((inside or alone).split()) for inside, alone in re.findall(r"\(([^)]*)\)|(\S+)", text)]


def _without_gate(axes: str) -> str:
    return " ".join(name for name in axes.split() if name != "gate")


def _stacked(kind: Kind, row: Held, arrays: Mapping[str, Array]) -> Array:
    """One array for each gate, put together; the gates that have none are zero."""
    target = _without_gate(CANONICAL[kind][row.holds])
    parts = {gate: _arranged(array, row.axes, target) for gate, array in arrays.items()}
    first = next(iter(parts.values()))
    found = np.zeros((len(GATES[kind]), *first.shape), first.dtype)
    for gate, part in parts.items():
        found[GATES[kind].index(gate)] = part
    return found


def _opened(kind: Kind, row: Held, array: Array) -> Iterator[tuple[str, Array]]:
    """The canonical arrays that one native array holds."""
    axes = _axes(row.axes)
    gates = row.gates or GATES.get(kind, "")
    # An axis that holds two becomes two; only gates are held so, and their number is known.
    shape: list[int] = []
    for size, names in zip(array.shape, axes, strict=True):
        shape += [len(gates), size // len(gates)] if len(names) > 1 else [size]
    single = [name for names in axes for name in names]
    opened = array.reshape(shape)
    for place, name in enumerate(row.canonical):
        part, left = opened, single
        if "which" in single:
            part = opened[_at(single, place)]
            left = [one for one in single if one != "which"]
        part = _arranged(part, " ".join(left), CANONICAL[kind][name])
        yield name, part if gates == GATES.get(kind, "") else part[[gates.index(one) for one in GATES[kind]]]


def _at(axes: Sequence[str], place: int) -> tuple[slice | int, ...]:
    """The index that takes one place of the axis "which"; what it gives is a view."""
    return tuple(place if name == "which" else slice(None) for name in axes)


def _closed(kind: Kind, row: Held, values: Mapping[str, Array]) -> Array:
    """One native array of the canonical ones that it holds."""
    axes = _axes(row.axes)
    single = [name for names in axes for name in names]
    gates = row.gates or GATES.get(kind, "")
    parts = []
    for name in row.canonical:
        part = values[name]
        if gates != GATES.get(kind, ""):
            part = part[[GATES[kind].index(gate) for gate in gates]]
        left = " ".join(one for one in single if one != "which")
        parts.append(_arranged(part, CANONICAL[kind][name], left))
    opened = np.stack(parts, single.index("which")) if "which" in single else parts[0]
    sizes = iter(opened.shape)
    return opened.reshape([math.prod(next(sizes) for _ in names) for names in axes])


def _arranged(array: Array, axes: str, target: str) -> Array:
    """A view with its axes in another order."""
    names = axes.split()
    return array.transpose([names.index(name) for name in target.split()])


def _swapped(array: Array, outer: int) -> Array:
    """The last axis of (outer, inner) as one of (inner, outer); the outer one has the given size."""
    *others, last = array.shape
    return np.swapaxes(array.reshape(*others, outer, last // outer), -1, -2).reshape(array.shape)
