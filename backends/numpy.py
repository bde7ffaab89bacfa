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
`Dense` layers; two entries that are the same object are tied by module, two that hold one array by parameter.
A nested network is as flat as any other here, for nesting changes nothing of what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from d2lparams.interface import (
    LOSSES,
    MEAN_SQUARED_ERROR,
    MLP,
    ROLES,
    SGD,
    SOFTMAX_CROSS_ENTROPY,
    Adam,
    AdamW,
    Array,
    Backend,
    By,
    Carrier,
    Gradient,
    Layers,
    Loss,
    Optimizer,
    Optimizers,
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
    tying: ClassVar[Mapping[By, str]] = {
        "module": "net.layers[i] = net.layers[j]",
        "parameter": "net.layers[i].weight = net.layers[j].weight",
    }

    def _mlp(self, spec: MLP) -> Network:
        layers: list[Dense] = []
        for layer in range(spec.layers):
            outputs, inputs = spec.weight_shape(layer)
            layers.append(Dense(outputs, None if spec.lazy else inputs, spec.dtype))
        net = Network(layers, spec.activation)
        for group in spec.tied:
            first, *others = sorted(group)
            for layer in others:
                self._tie(net, layer, first, spec.by, spec.roles)
        return net

    def _initialize(self, model: Network, x: Array) -> Network:
        width = x.shape[1]
        for layer in model.layers:
            if not hasattr(layer, "weight"):
                layer.build(width)
            width = layer.outputs
        return model

    def _tie(self, model: Network, layer: int, to: int, by: By, roles: Sequence[Role]) -> Network:
        if by == "module":
            model.layers[layer] = model.layers[to]
        else:
            for role in roles:
                setattr(model.layers[layer], role, getattr(model.layers[to], role))
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
                    storage=id(array),
                    module=layer,
                    hold=_held,
                    read=_copied,
                    read_gradient=_not_kept,
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

    def optimizers(self) -> Optimizers:
        """Everything counted once."""
        from backends.optimizers.numpy import NumpyOptimizers

        return NumpyOptimizers(self)

    def layers(self) -> Layers[dict[str, Array]]:
        """Every kind, in canonical form."""
        from backends.layers.numpy import NumpyLayers

        return NumpyLayers()

    def carrier(self) -> Carrier[Network]:
        """Of dense layers."""
        from backends.carriers.numpy import NumpyCarrier

        return NumpyCarrier(_activations, _loss_and_gradients)

    def _trainer(self, model: Network, optimizer: Optimizer) -> Trainer:
        return _Trainer(model, self.parameters(model), optimizer)


def _held(one: Parameter) -> Array:
    array: Array = one.native
    return array


def _copied(one: Parameter) -> Array:
    return _held(one).copy()


def _not_kept(one: Parameter) -> Gradient:
    return Gradient(kept=False, where="returned by gradients()")


def _activations(model: Network, x: Array) -> list[Array]:
    """The input and the output of every layer, float64."""
    activate, _ = _ACTIVATIONS[model.activation]
    outputs = [x.astype("float64")]
    for index, layer in enumerate(model.layers, start=1):
        z = outputs[-1] @ layer.weight.astype("float64").T + layer.bias
        outputs.append(activate(z) if index < len(model.layers) else z)
    return outputs


def _mean_squared_error(outputs: Array, y: Array) -> tuple[float, Array]:
    """The loss, and its derivative by the outputs."""
    difference = outputs - y
    return float(np.mean(difference**2)), 2.0 * difference / difference.size


def _softmax_cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """The loss, and its derivative by the logits.

    Of logits z (n, classes) and labels y (n,) it is the mean over the batch of log(sum(exp(z))) - z[y], which
    is -log(softmax(z)[y]); its derivative by z is (softmax(z) - onehot(y)) / n (Goodfellow, Bengio and
    Courville, Deep Learning, 2016, section 6.2.2.3). The largest logit is taken from all before exp, which
    changes neither.
    """
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    sums = np.exp(shifted).sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(sums[:, 0]) - shifted[rows, labels]))
    delta = np.exp(shifted) / sums
    delta[rows, labels] -= 1.0
    return loss, delta / len(labels)


_OBJECTIVES: dict[Loss, Callable[[Array, Array], tuple[float, Array]]] = {
    MEAN_SQUARED_ERROR: _mean_squared_error,
    SOFTMAX_CROSS_ENTROPY: _softmax_cross_entropy,
}


def _loss_and_gradients(
    model: Network, x: Array, y: Array, loss: Loss = MEAN_SQUARED_ERROR
) -> tuple[float, dict[int, Array]]:
    """A loss and its gradients, float64, by the id of the array: uses of one array add up."""
    _, derivative = _ACTIVATIONS[model.activation]
    outputs = _activations(model, x)
    value, delta = _OBJECTIVES[loss](outputs[-1], y)
    gradients: dict[int, Array] = {}
    for index in reversed(range(len(model.layers))):
        layer = model.layers[index]
        for array, gradient in ((layer.weight, delta.T @ outputs[index]), (layer.bias, delta.sum(axis=0))):
            gradients[id(array)] = gradients.get(id(array), 0.0) + gradient
        if index:
            delta = (delta @ layer.weight.astype("float64")) * derivative(outputs[index])
    return value, gradients


class _Momentum:
    """Gradient descent with momentum, for one array; weight decay is added to the gradient."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.slots = {"velocity": np.zeros(shape)}

    def change(self, rule: SGD, value: Array, gradient: Array) -> Array:
        """What this step subtracts."""
        velocity = self.slots["velocity"]
        velocity[...] = rule.momentum * velocity + gradient + rule.weight_decay * value
        return rule.learning_rate * velocity


class _Moments:
    """Adam, for one array: algorithm 1 of Kingma and Ba, epsilon added to the corrected deviation.

    The decay of AdamW is taken from the value apart (Loshchilov and Hutter, algorithm 2).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.slots, self._steps = {"mean": np.zeros(shape), "variance": np.zeros(shape)}, 0

    def change(self, rule: Adam | AdamW, value: Array, gradient: Array) -> Array:
        """What this step subtracts."""
        self._steps += 1
        first, second = self.slots["mean"], self.slots["variance"]
        first[...] = rule.beta1 * first + (1 - rule.beta1) * gradient
        second[...] = rule.beta2 * second + (1 - rule.beta2) * gradient**2
        mean = first / (1 - rule.beta1**self._steps)
        variance = second / (1 - rule.beta2**self._steps)
        decay = rule.weight_decay * value if isinstance(rule, AdamW) else 0.0
        return rule.learning_rate * (mean / (np.sqrt(variance) + rule.epsilon) + decay)


class _Trainer(Trainer):
    """Each stored array is stepped once, however often it is used; the optimizer's state is float64."""

    losses = LOSSES

    def __init__(self, model: Network, parameters: list[Parameter], optimizer: Optimizer) -> None:
        super().__init__(parameters)
        self._model, self._optimizer = model, optimizer
        self._states: list[tuple[Parameter, Any]] = [
            (one, _Momentum(one.shape) if isinstance(optimizer, SGD) else _Moments(one.shape))
            for one in unique(parameters)
        ]

    def _step(self, x: Array, y: Array) -> float:
        loss, gradients = _loss_and_gradients(self._model, x, y, self._loss)
        for one, state in self._states:
            array = one.native
            array[...] = array - state.change(self._optimizer, array.astype("float64"), gradients[id(array)])
        return loss

    def _set_learning_rate(self, learning_rate: float) -> None:
        self._optimizer = replace(self._optimizer, learning_rate=learning_rate)

    def _slots(self) -> dict[str, tuple[int, ...]]:
        return {
            f"{name} of {one.native_name}": array.shape
            for one, state in self._states
            for name, array in state.slots.items()
        }
