# /// script
# requires-python = "==3.11.*"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "NumPy"
# class = "NumpyBackend"
# modules = ["numpy"]
# aliases = ["np", "reference"]
# position = 0
# reference = true
# ///
"""The reference: forward, gradients and optimizers written out, so that the frameworks have a judge.

Values are stored in the dtype asked for; every computation is in float64. A model is a `Network`, a list of
`Dense` layers; two entries that are the same object are a tied layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from d2lparams.interface import (
    MLP,
    ROLES,
    SGD,
    Adam,
    Array,
    Backend,
    Gradient,
    Optimizer,
    Parameter,
    Role,
    Trainer,
    unique,
)


class Dense:
    """A dense layer, x @ weight.T + bias. Without `inputs` it has no arrays before `build`."""

    def __init__(self, outputs: int, inputs: int | None, dtype: str) -> None:
        self.outputs, self.dtype = outputs, dtype
        if inputs is not None:
            self.build(inputs)

    def __repr__(self) -> str:
        return f"Dense{self.weight.shape}" if hasattr(self, "weight") else f"Dense({self.outputs}, ?)"

    def build(self, inputs: int) -> None:
        """Make the arrays: weight (outputs, inputs), uniform within inputs ** -0.5, and bias, zeros."""
        bound = inputs**-0.5
        self.weight = np.random.default_rng().uniform(-bound, bound, (self.outputs, inputs)).astype(self.dtype)
        self.bias = np.zeros(self.outputs, self.dtype)


@dataclass
class Network:
    """Dense layers in order of application, with an activation after each but the last."""

    layers: list[Dense]
    activation: str = "relu"


# An activation and its derivative, the derivative as a function of the activation's output.
_ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "relu": (lambda z: np.maximum(z, 0.0), lambda a: (a > 0).astype(a.dtype)),
    "tanh": (np.tanh, lambda a: 1.0 - a * a),
    "identity": (lambda z: z, np.ones_like),
}


class NumpyBackend(Backend[Network]):
    """NumPy as the reference; gradients by the chain rule, written out."""

    name = "numpy"
    tying = "net.layers[i] = net.layers[j]"

    def _mlp(self, spec: MLP) -> Network:
        layers: list[Dense] = []
        for layer in range(spec.layers):
            outputs, inputs = spec.weight_shape(layer)
            owner = spec.owner(layer)
            tied = owner != layer
            layers.append(layers[owner] if tied else Dense(outputs, None if spec.lazy else inputs, spec.dtype))
        return Network(layers, spec.activation)

    def _initialize(self, model: Network, x: Array) -> Network:
        width = x.shape[1]
        for layer in model.layers:
            if not hasattr(layer, "weight"):
                layer.build(width)
            width = layer.outputs
        return model

    def _tie(self, model: Network, layer: int, to: int) -> Network:
        model.layers[layer] = model.layers[to]
        return model

    def _parameters(self, model: Network) -> Iterator[Parameter]:
        for index, layer in enumerate(model.layers):
            for role in ROLES:
                array: Array = getattr(layer, role)
                name = f"layers[{index}].{role}"
                yield Parameter(
                    layer=index,
                    role=role,
                    native_name=name,
                    access=f"net.{name}",
                    native_shape=array.shape,
                    shape=array.shape,
                    dtype=str(array.dtype),
                    native=array,
                    native_value=array,
                    storage=id(array),
                    read=array.copy,
                    read_gradient=lambda: Gradient(kept=False, where="returned by gradients()"),
                )

    def _listings(self, model: Network) -> dict[str, list[str]]:
        return {
            "net.layers": [
                f"({layer.outputs}, {layer.weight.shape[1]})"
                if hasattr(layer, "weight")
                else f"({layer.outputs}, ?)"
                for layer in model.layers
            ]
        }

    def _counts(self, model: Network) -> dict[str, int]:
        return {"len(net.layers)": len(model.layers)}

    def _assign(self, model: Network, parameter: Parameter, value: Array) -> None:
        parameter.native[...] = value

    def _forward(self, model: Network, x: Array) -> Array:
        return _activations(model, x)[-1]

    def _gradients(self, model: Network, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        _, gradients = _loss_and_gradients(model, x, y)
        return {
            (index, role): gradients[id(getattr(layer, role))]
            for index, layer in enumerate(model.layers)
            for role in ROLES
        }

    def _trainer(self, model: Network, optimizer: Optimizer) -> Trainer:
        return _Trainer(model, self.parameters(model), optimizer)


def _activations(model: Network, x: Array) -> list[Array]:
    """The input and the output of every layer, float64."""
    activate, _ = _ACTIVATIONS[model.activation]
    outputs = [x.astype("float64")]
    for index, layer in enumerate(model.layers, start=1):
        z = outputs[-1] @ layer.weight.astype("float64").T + layer.bias
        outputs.append(activate(z) if index < len(model.layers) else z)
    return outputs


def _loss_and_gradients(model: Network, x: Array, y: Array) -> tuple[float, dict[int, Array]]:
    """The mean squared error and its gradients, float64, by the id of the array: uses of one array add up."""
    _, derivative = _ACTIVATIONS[model.activation]
    outputs = _activations(model, x)
    difference = outputs[-1] - y
    delta = 2.0 * difference / difference.size
    gradients: dict[int, Array] = {}
    for index in reversed(range(len(model.layers))):
        layer = model.layers[index]
        for array, gradient in ((layer.weight, delta.T @ outputs[index]), (layer.bias, delta.sum(axis=0))):
            gradients[id(array)] = gradients.get(id(array), 0.0) + gradient
        if index:
            delta = (delta @ layer.weight.astype("float64")) * derivative(outputs[index])
    return float(np.mean(difference**2)), gradients


class _Momentum:
    """Gradient descent with momentum, for one array."""

    def __init__(self, rule: SGD, shape: tuple[int, ...]) -> None:
        self._rule, self._velocity = rule, np.zeros(shape)

    def change(self, gradient: Array) -> Array:
        """What this step subtracts."""
        self._velocity = self._rule.momentum * self._velocity + gradient
        return self._rule.learning_rate * self._velocity


class _Moments:
    """Adam, for one array: algorithm 1 of Kingma and Ba, epsilon added to the corrected deviation."""

    def __init__(self, rule: Adam, shape: tuple[int, ...]) -> None:
        self._rule, self._first, self._second, self._steps = rule, np.zeros(shape), np.zeros(shape), 0

    def change(self, gradient: Array) -> Array:
        """What this step subtracts."""
        rule = self._rule
        self._steps += 1
        self._first = rule.beta1 * self._first + (1 - rule.beta1) * gradient
        self._second = rule.beta2 * self._second + (1 - rule.beta2) * gradient**2
        mean = self._first / (1 - rule.beta1**self._steps)
        variance = self._second / (1 - rule.beta2**self._steps)
        return rule.learning_rate * mean / (np.sqrt(variance) + rule.epsilon)


class _Trainer(Trainer):
    """Each stored array is stepped once, however often it is used; the optimizer's state is float64."""

    def __init__(self, model: Network, parameters: list[Parameter], optimizer: Optimizer) -> None:
        super().__init__(parameters)
        self._model = model
        self._rules = [
            (
                one.native,
                _Momentum(optimizer, one.shape)
                if isinstance(optimizer, SGD)
                else _Moments(optimizer, one.shape),
            )
            for one in unique(parameters)
        ]

    def _step(self, x: Array, y: Array) -> float:
        loss, gradients = _loss_and_gradients(self._model, x, y)
        for array, rule in self._rules:
            array[...] = array - rule.change(gradients[id(array)])
        return loss
