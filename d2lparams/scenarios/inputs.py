"""The numbers that scenarios start from: drawn by NumPy, the same on every backend and every NumPy.

`RandomState` is frozen by NumPy's policy on random streams (NEP 19), so that MXNet's old NumPy and a new one
draw the same. Every number is a multiple of 2**-20, which float32 holds exactly and float16 does not: a
model in float32 and one in float64 start from equal values, and what goes through a half float is seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from d2lparams.interface import MLP, Array, Backend, Role

Values = dict[tuple[int, Role], Array]


def draw(seed: int, shape: tuple[int, ...], dtype: str, bound: float = 1.0) -> Array:
    """Uniform numbers within `bound`, of the given shape and dtype."""
    uniform = np.random.RandomState(seed).uniform(-bound, bound, shape)
    return (np.round(uniform * 2**20) / 2**20).astype(dtype)


def starting_values(spec: MLP) -> Values:
    """Values for every use of every parameter of a model that `spec` describes.

    Tied layers have the values of the first of them. Biases are not zero, lest that hide a mistake.
    """
    values: Values = {}
    for layer in range(spec.layers):
        weight, bias = spec.owner(layer, "weight"), spec.owner(layer, "bias")
        outputs, inputs = spec.weight_shape(layer)
        values[layer, "weight"] = draw(2 * weight, (outputs, inputs), spec.dtype, bound=inputs**-0.5)
        values[layer, "bias"] = draw(2 * bias + 1, (outputs,), spec.dtype, bound=0.5)
    return values


def built(backend: Backend[Any], spec: MLP, values: Values | None = None) -> Any:
    """A model that starts from the given values; when none are given, from the starting values of its form."""
    model = backend.mlp(spec)
    for (layer, role), value in (starting_values(spec) if values is None else values).items():
        backend.assign(model, layer, role, value)
    return model


def values_of(backend: Backend[Any], model: Any) -> dict[str, Array]:
    """Every use of every parameter, by layer and role, as an observation holds it."""
    return {f"layer {one.layer} {one.role}": one.value for one in backend.parameters(model)}


def batch(spec: MLP, rows: int) -> tuple[Array, Array]:
    """Inputs (rows, inputs) and targets (rows, outputs)."""
    return (
        draw(1001, (rows, spec.sizes[0]), spec.dtype),
        draw(1002, (rows, spec.sizes[-1]), spec.dtype),
    )
