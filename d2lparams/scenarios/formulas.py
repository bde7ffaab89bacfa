"""The update rules that exist, written out for one array in float64: each framework is held against its own.

A function takes the value before and the gradients of the steps in order, and gives the value afterwards.
Sources: momentum as in Sutskever et al. (2013) and its common variant; Adam as in Kingma and Ba (2015),
algorithm 1, and the variant at the end of their section 2; decoupled decay as in Loshchilov and Hutter (2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from d2lparams.interface import SGD, Adam, AdamW, Array
from d2lparams.scenarios.tolerances import unit_roundoff

NEITHER = "by none of the known formulas"


def follows(value: Array, formulas: Mapping[str, Array], start: Array, rtol: float = 1e-5) -> str:
    """The name of the formula whose value it is; two that cannot be told apart are both named.

    The tolerance is relative to the largest change from the start, not to the value itself. But where a change
    is near the roundings of the value, it cannot be seen better than these: one of each step, two are allowed
    for each of two steps.
    """
    scale = float(np.max(np.abs(start), initial=0.0))
    rounding = 4 * unit_roundoff(str(value.dtype)) * scale
    found = [
        name
        for name, expected in formulas.items()
        if np.max(np.abs(value - expected)) <= rtol * np.max(np.abs(expected - start)) + rounding
    ]
    return " or ".join(found) or NEITHER


def velocity_of_gradients(
    value: Array, gradients: Sequence[Array], rates: Sequence[float], momentum: float
) -> Array:
    """By v = momentum v + g; w = w - rate v: a new learning rate rescales the past at once."""
    velocity = np.zeros_like(value, "float64")
    for gradient, rate in zip(gradients, rates):
        velocity = momentum * velocity + gradient
        value = value - rate * velocity
    return value


def velocity_of_steps(
    value: Array, gradients: Sequence[Array], rates: Sequence[float], momentum: float
) -> Array:
    """By v = momentum v - rate g; w = w + v: past steps keep the size that they had."""
    velocity = np.zeros_like(value, "float64")
    for gradient, rate in zip(gradients, rates):
        velocity = momentum * velocity - rate * gradient
        value = value + velocity
    return value


def decay_in_gradient(value: Array, gradients: Sequence[Array], rule: SGD) -> Array:
    """The gradient of an L2 penalty, decay * w, is added to the gradient, and momentum carries it on."""
    velocity = np.zeros_like(value, "float64")
    for gradient in gradients:
        velocity = rule.momentum * velocity + gradient + rule.weight_decay * value
        value = value - rule.learning_rate * velocity
    return value


def decay_apart(value: Array, gradients: Sequence[Array], rule: SGD) -> Array:
    """Each step takes rate * decay * w from the weight, beside the step itself."""
    velocity = np.zeros_like(value, "float64")
    for gradient in gradients:
        velocity = rule.momentum * velocity + gradient
        value = value - rule.learning_rate * (velocity + rule.weight_decay * value)
    return value


def adamw_first_step(value: Array, gradient: Array, rule: AdamW) -> dict[str, Array]:
    """The value after AdamW's first step, by what the decay is multiplied with and where epsilon is added."""
    formulas = {}
    for place, step in first_step(gradient, rule).items():
        for name, rate in (("learning rate * decay * w", rule.learning_rate), ("decay * w", 1.0)):
            formulas[f"{name}, epsilon {place}"] = value - step - rate * rule.weight_decay * value
    return formulas


def first_step(gradient: Array, rule: Adam | AdamW) -> dict[str, Array]:
    """What Adam's first step subtracts, by where epsilon is added.

    After one step the corrected mean is the gradient, and the corrected variance its square. Before the
    correction the deviation is smaller by the root of 1 - beta2, so that epsilon weighs as much more.
    """
    size = np.abs(gradient)
    early = rule.epsilon / np.sqrt(1 - rule.beta2)
    return {
        "after the bias correction": rule.learning_rate * gradient / (size + rule.epsilon),
        "before the bias correction": rule.learning_rate * gradient / (size + early),
    }
