"""What must hold of a multilayer perceptron, in formulas: its output, its gradients, a step of its optimizer.

Every number comes with a bound of its error, derived as in Higham, *Accuracy and Stability of Numerical
Algorithms*, 3.1: a sum of n products, in whatever order, is off by at most n units of rounding of the sum of
their magnitudes. So a network of the magnitudes is computed beside the network, and a tolerance is a count of
operations times the unit of the dtype times that. Nothing is relative to a result that may have cancelled.

A ReLU is decided by a sign. Where an input of one is nearer to zero than its bound, gradients are not known.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from d2lparams.checks import Array
from d2lparams.interface import SGD, Adam, AdamW

FUNCTION = 8
"""Units of rounding that an activation's value may be off by itself; libraries promise 1 to 5 for tanh."""

SINGLE = 2.0**-23
"""The unit of rounding of binary32."""


@dataclass(frozen=True)
class Bounded:
    """A value, float64, and how far a right computation of it may be from it."""

    value: Array
    bound: Array

    def holds(self, seen: Array) -> bool:
        """Whether a value that was seen is within the bound; NaN is not."""
        return seen.shape == self.value.shape and bool(np.all(np.abs(seen - self.value) <= self.bound))


@dataclass(frozen=True)
class Ideal:
    """What a network gives for a batch.

    Attributes:
        output: (n, outputs).
        loss: the mean squared error.
        gradients: by place of use, of that use alone: a shared parameter's is the sum over its uses.
        decided: whether every sign that a gradient hangs on is known.
    """

    output: Bounded
    loss: Bounded
    gradients: dict[tuple[int, str], Bounded]
    decided: bool


def compute(layers: Sequence[tuple[Array, Array]], activation: str, x: Array, y: Array) -> Ideal:
    """What a network of these (weight, bias) gives; the unit of rounding is that of x."""
    unit = float(np.finfo(x.dtype).eps)
    weights = [weight.astype("float64") for weight, _ in layers]
    biases = [bias.astype("float64") for _, bias in layers]
    inputs, sizes, decided = [x.astype("float64")], [np.abs(x.astype("float64"))], True
    steps = 0
    for index, (weight, bias) in enumerate(zip(weights, biases)):
        z = inputs[-1] @ weight.T + bias
        size = sizes[-1] @ np.abs(weight).T + np.abs(bias)
        steps += weight.shape[1] + 2 + FUNCTION
        if index < len(weights) - 1:
            if activation == "relu":
                near = np.abs(z) <= steps * unit * size
                decided = decided and not bool(np.any(near & (size > 0)))
                z, size = np.maximum(z, 0.0), np.where((z > 0) | near, size, 0.0)
            elif activation == "tanh":
                z = np.tanh(z)
        inputs.append(z)
        sizes.append(size)
    difference, far = inputs[-1] - y, sizes[-1] + np.abs(y.astype("float64"))
    loss = Bounded(np.mean(difference**2), 4 * (steps + difference.size) * unit * np.mean(far**2))
    output = Bounded(inputs[-1], steps * unit * sizes[-1])
    delta, size = 2 * difference / difference.size, 2 * far / difference.size
    gradients = {}
    for index in reversed(range(len(weights))):
        steps += len(x) + weights[index].shape[0] + 2 + FUNCTION
        for role, value, magnitude in (
            ("weight", delta.T @ inputs[index], size.T @ sizes[index]),
            ("bias", delta.sum(axis=0), size.sum(axis=0)),
        ):
            gradients[index, role] = Bounded(value, 2 * steps * unit * magnitude)
        if index:
            a, magnitude = inputs[index], sizes[index]
            delta, size = delta @ weights[index], size @ np.abs(weights[index])
            if activation == "relu":
                delta, size = delta * (a > 0), size * (magnitude > 0)
            elif activation == "tanh":
                # The derivative is made of the value, whose error is not relative to the derivative.
                delta, size = delta * (1 - a * a), size * (1 + 2 * magnitude)
    return Ideal(output, loss, gradients, decided)


@dataclass
class Stepping:
    """An optimizer's state for one storage, with bounds, from step to step."""

    rule: SGD | Adam | AdamW
    steps: int = 0
    state: dict[str, Array] = field(default_factory=dict)

    def step(self, value: Array, gradient: Bounded) -> list[Bounded]:
        """The values after a step; more than one where textbooks differ.

        Adam's epsilon is added to the corrected deviation (Kingma and Ba, algorithm 1) or, rearranged as at the
        end of their section 2, to the uncorrected one; frameworks are divided.
        """
        self.steps += 1
        unit = float(np.finfo(value.dtype).eps)
        g, bound, old = gradient.value, gradient.bound, value.astype("float64")
        if isinstance(self.rule, SGD):
            v = self._keep("velocity", self.rule.momentum, g, 1.0)
            off = self._keep("bound", self.rule.momentum, bound + 4 * unit * np.abs(v), 1.0)
            rate = self.rule.learning_rate
            return [Bounded(old - rate * v, rate * off + 4 * unit * (np.abs(old) + rate * np.abs(v)))]
        rule = self.rule
        m = self._keep("mean", rule.beta1, g, 1 - rule.beta1)
        v = self._keep("variance", rule.beta2, g**2, 1 - rule.beta2)
        # The root of a weighted mean of squares moves no further than what is under it was moved by at most.
        off = self.state["bound"] = np.maximum(self.state.get("bound", 0.0), bound)
        first, second = 1 - rule.beta1**self.steps, 1 - rule.beta2**self.steps
        rate, root = rule.learning_rate, np.sqrt(v)
        size = np.abs(m) / first + root / np.sqrt(second)
        reach = rate / rule.epsilon
        slack = 16 * unit * (np.abs(old) + reach * size)
        moved = reach * off * (1 + np.abs(m) / first / rule.epsilon) + slack
        steps = (
            rate * (m / first) / (root / np.sqrt(second) + rule.epsilon),
            rate * np.sqrt(second) / first * m / (root + rule.epsilon),
        )
        # Some frameworks keep the corrected rate in binary32, whatever the dtype of the values is.
        return [Bounded(old - step, moved + SINGLE * np.abs(step)) for step in steps]

    def _keep(self, name: str, share: float, new: Array, weight: float) -> Array:
        self.state[name] = share * self.state.get(name, np.zeros_like(new)) + weight * new
        return self.state[name]


def added(parts: Sequence[Bounded]) -> Bounded:
    """The sum of the gradients of all uses of one storage."""
    value = sum((one.value for one in parts[1:]), parts[0].value)
    bound = sum((one.bound for one in parts[1:]), parts[0].bound)
    return Bounded(value, 2 * bound)


def gradients_of_storages(ideal: Ideal, storages: Mapping[tuple[int, str], int]) -> dict[int, Bounded]:
    """By storage, the gradient that its uses have together."""
    parts: dict[int, list[Bounded]] = {}
    for place, storage in storages.items():
        parts.setdefault(storage, []).append(ideal.gradients[place])
    return {storage: added(of) for storage, of in parts.items()}
