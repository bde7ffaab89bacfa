"""The numbers that scenarios start from: drawn by NumPy, the same on every backend and every NumPy.

`RandomState` is frozen by NumPy's policy on random streams (NEP 19), so that MXNet's old NumPy and a new one
draw the same. Every number is a multiple of 2**-20, which float32 holds exactly and float16 does not: a model
in float32 and one in float64 start from equal values, and what goes through a half float is seen. So do those
that a form scales, for it scales by a power of two.

Which seed and which form a run asks for is held here, for the time of a scenario, by `varied`, and only
`execute` sets it: what draws stands far below a scenario (twins, life cycles, models carried elsewhere), and
would have it handed down through many signatures. It is read by `random`, `formed` and `scaled` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import numpy as np

from d2lparams.interface import MLP, SGD, Array, Backend, Role
from d2lparams.variation import Variation

Values = dict[tuple[int, Role], Array]

_USUAL = Variation()
_VARIATION = ContextVar("_VARIATION", default=_USUAL)
# A block of NumPy's seeds for each of ours; within it scenarios have theirs, which are below 2000.
_BLOCK = 2**12
_SCALES = {"large": 2.0**3, "tiny": 2.0**-20}
# What "deep" adds: pairs of layers, not square, so that no orientation can hide, which end where they began.
_PAIRS = 5


@contextmanager
def varied(variation: Variation) -> Iterator[None]:
    """Within the block, numbers are drawn and models formed as the variation says."""
    token = _VARIATION.set(variation)
    try:
        yield
    finally:
        _VARIATION.reset(token)


def formed(spec: MLP) -> MLP:
    """The model in the form that the run asks for: the same one, when it asks for none."""
    form = _VARIATION.get().form
    if form == "one":
        return replace(spec, sizes=(1,) * len(spec.sizes))
    if form == "wide":
        # Widths that differ stay different: what is not square stays so.
        return replace(spec, sizes=tuple(64 + 4 * min(width, 48) for width in spec.sizes))
    if form == "float32":
        return replace(spec, dtype="float32")
    if form == "deep":
        *before, hidden, last = spec.sizes
        place = spec.layers - 1
        sizes = (*before, hidden, *(hidden + 1, hidden) * _PAIRS, last)
        moved = [tuple(one + 2 * _PAIRS * (one >= place) for one in group) for group in spec.tied]
        return replace(spec, sizes=sizes, tied=tuple(moved))
    return spec


def scaled() -> float:
    """What all that is drawn for a model is multiplied with: a power of two."""
    return _SCALES.get(_VARIATION.get().form, 1.0)


def tempered(rule: SGD) -> SGD:
    """The rule with a rate that suits values of this size: they grow a layer's gradients by their third power.

    At the usual rate a training of large values is chaotic: two right answers part within some ten steps, so
    that there is nothing to hold them to. At one 8**3 times as small roundings grow no more than usually.
    """
    scale = scaled()
    return replace(rule, learning_rate=rule.learning_rate / scale**3) if scale > 1 else rule


def random(seed: int) -> np.random.RandomState:
    """What draws with this seed, and with the one of the run."""
    return np.random.RandomState(_BLOCK * _VARIATION.get().seed + seed)


def draw(seed: int, shape: tuple[int, ...], dtype: str, bound: float = 1.0) -> Array:
    """Uniform numbers within `bound`, of the given shape and dtype; other ones for each seed of the run."""
    uniform = random(seed).uniform(-bound, bound, shape)
    return (np.round(uniform * 2**20) / 2**20).astype(dtype)


def starting_values(spec: MLP) -> Values:
    """Values for every use of every parameter of a model that `spec` describes.

    Tied layers have the values of the first of them. Biases are not zero, lest that hide a mistake.
    """
    values: Values = {}
    scale = np.dtype(spec.dtype).type(scaled())
    for layer in range(spec.layers):
        weight, bias = spec.owner(layer, "weight"), spec.owner(layer, "bias")
        outputs, inputs = spec.weight_shape(layer)
        values[layer, "weight"] = scale * draw(2 * weight, (outputs, inputs), spec.dtype, bound=inputs**-0.5)
        values[layer, "bias"] = scale * draw(2 * bias + 1, (outputs,), spec.dtype, bound=0.5)
    return values


def shapes_of(spec: MLP) -> list[tuple[int, ...]]:
    """The canonical shapes of every use of every parameter, in order."""
    shapes = [spec.weight_shape(layer) for layer in range(spec.layers)]
    return [shape for outputs, inputs in shapes for shape in ((outputs, inputs), (outputs,))]


def values_in(spec: MLP) -> int:
    """How many numbers a model holds: the sizes of the parameters that are a first use."""
    count = 0
    for layer in range(spec.layers):
        outputs, inputs = spec.weight_shape(layer)
        count += outputs * inputs * (spec.owner(layer, "weight") == layer)
        count += outputs * (spec.owner(layer, "bias") == layer)
    return count


def built(backend: Backend[Any], spec: MLP, values: Values | None = None) -> Any:
    """A model that starts from the given values; when none are given, from the starting values of its form."""
    model = backend.mlp(spec)
    for (layer, role), value in (starting_values(spec) if values is None else values).items():
        backend.assign(model, layer, role, value)
    return model


def values_of(backend: Backend[Any], model: Any) -> dict[str, Array]:
    """Every use of every parameter, by layer and role, as an observation holds it."""
    return named({(one.layer, one.role): one.value for one in backend.parameters(model)})


def named(values: Values) -> dict[str, Array]:
    """Values by layer and role, as an observation holds them."""
    return {f"layer {layer} {role}": value for (layer, role), value in values.items()}


def batch(spec: MLP, rows: int) -> tuple[Array, Array]:
    """Inputs (rows, inputs) and targets (rows, outputs)."""
    scale = np.dtype(spec.dtype).type(scaled())
    return (
        scale * draw(1001, (rows, spec.sizes[0]), spec.dtype),
        scale * draw(1002, (rows, spec.sizes[-1]), spec.dtype),
    )
