# /// script
# requires-python = "==3.11.*"
# dependencies = [
#     "tensorflow-cpu==2.21.0; sys_platform == 'linux' and platform_machine == 'x86_64'",
#     "tensorflow==2.21.0; sys_platform != 'linux' or platform_machine != 'x86_64'",
#     "keras==3.15.1",
#     "numpy==2.4.6",
# ]
# [tool.d2lparams]
# title = "TensorFlow/Keras"
# class = "TensorFlowBackend"
# modules = ["tensorflow", "keras"]
# aliases = ["keras", "tf"]
# position = 4
# ///
"""Keras 3 on TensorFlow: the model is a `keras.Sequential`; a shared layer stands in it twice.

Parameters are variables that know nothing of gradients; a tape returns them. A kernel is (in, out).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from d2lparams.interface import (
    MLP,
    SGD,
    Array,
    Backend,
    Gradient,
    Optimizer,
    Parameter,
    Role,
    Trainer,
    Unsupported,
    needs,
)

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # above what the user's keras.json says

with needs("tensorflow"):
    import keras
    import tensorflow as tf

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"Keras runs on {keras.backend.backend()!r} in this process; "
        "set KERAS_BACKEND=tensorflow before it starts"
    )

_ROLES: dict[Role, str] = {"weight": "kernel", "bias": "bias"}
_NOT_KEPT = Gradient(kept=False, where="returned by tf.GradientTape.gradient")


class TensorFlowBackend(Backend[keras.Model]):
    """TensorFlow through Keras 3."""

    name = "tensorflow"
    tying = "net = keras.Sequential([..., shared, shared, ...])"

    def _mlp(self, spec: MLP) -> keras.Model:
        activations = [spec.activation] * (spec.layers - 1) + ["identity"]
        # A Dense holds its activation. Where one layer stands at places with different ones, it cannot.
        separate = any(activations[spec.owner(layer)] != activations[layer] for layer in range(spec.layers))
        dense: list[keras.Layer] = []
        layers: list[Any] = [] if spec.lazy else [keras.Input((spec.sizes[0],), dtype=spec.dtype)]
        for layer, activation in enumerate(activations):
            outputs, _ = spec.weight_shape(layer)
            native = "linear" if activation == "identity" else activation
            if spec.owner(layer) != layer:
                dense.append(dense[spec.owner(layer)])
            else:
                dense.append(
                    keras.layers.Dense(outputs, activation=None if separate else native, dtype=spec.dtype)
                )
            layers.append(dense[-1])
            if separate and layer < spec.layers - 1:
                layers.append(keras.layers.Activation(native, dtype=spec.dtype))
        return keras.Sequential(layers)

    def _initialize(self, model: keras.Model, x: Array) -> keras.Model:
        model(x)
        return model

    def _tie(self, model: keras.Model, layer: int, to: int) -> keras.Model:
        if type(model) is not keras.Sequential:
            raise Unsupported("Keras shares a layer by calling it twice; only a Sequential can be rebuilt here")
        positions = [index for index, one in enumerate(model.layers) if isinstance(one, keras.layers.Dense)]
        if len(positions) != len(_dense(model)):
            raise Unsupported("only the direct layers of a Sequential can be replaced; this one is nested")
        layers = list(model.layers)
        mine, shared = layers[positions[layer]], layers[positions[to]]
        if mine.activation is not shared.activation:
            raise Unsupported(
                f"a Keras Dense holds its activation, and layer {layer} has {mine.activation.__name__} where "
                f"layer {to} has {shared.activation.__name__}; give the model Activation layers of their own"
            )
        layers[positions[layer]] = shared
        width, dtype = layers[0].input.shape[1:], layers[0].compute_dtype
        return keras.Sequential([keras.Input(width, dtype=dtype), *layers])

    def _parameters(self, model: keras.Model) -> Iterator[Parameter]:
        for index, (access, layer) in enumerate(_dense(model)):
            for role, leaf in _ROLES.items():
                if role == "weight" or layer.use_bias:
                    yield _parameter(index, role, f"{access}.{leaf}", getattr(layer, leaf))

    def _listings(self, model: keras.Model) -> dict[str, list[str]]:
        return {
            "net.layers": [layer.name for layer in model.layers],
            "net.weights": [f"{weight.path} {tuple(weight.shape)}" for weight in model.weights],
        }

    def _counts(self, model: keras.Model) -> dict[str, int]:
        return {
            "len(net.layers)": len(model.layers),
            "len(net.weights)": len(model.weights),
            "net.count_params()": int(model.count_params()),
        }

    def _assign(self, model: keras.Model, parameter: Parameter, value: Array) -> None:
        parameter.native.assign(value.T)

    def _forward(self, model: keras.Model, x: Array) -> Array:
        return np.array(model(x))

    def _gradients(self, model: keras.Model, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        parameters = list(self._parameters(model))
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        gradients = tape.gradient(loss, [one.native.value for one in parameters])
        return {(one.layer, one.role): np.array(value).T for one, value in zip(parameters, gradients)}

    def _trainer(self, model: keras.Model, optimizer: Optimizer) -> Trainer:
        return _Trainer(model, self.parameters(model), optimizer)

    def fresh(self) -> AbstractContextManager[Any]:
        """Keras numbers layers from a counter of the whole process; this sets it back to zero."""
        keras.utils.clear_session()
        return nullcontext()


def _dense(model: keras.Model, access: str = "net") -> list[tuple[str, keras.Layer]]:
    """Every use of every dense layer, with the expression that reaches it.

    A Sequential lists its layers in order of application. A functional model lists each layer once, and its
    graph has a node for each use. What a subclassed model does with its layers is known to its code alone:
    they are taken once each, in the order in which they were made.
    """
    position = {id(layer): index for index, layer in reversed(list(enumerate(model.layers)))}
    layers = list(model.layers)
    if isinstance(model, keras.Model) and not isinstance(model, keras.Sequential):
        depths = getattr(model, "_nodes_by_depth", {})
        nodes = [node for depth in sorted(depths, reverse=True) for node in depths[depth]]
        layers = [node.operation for node in nodes if id(node.operation) in position] or layers
    uses: list[tuple[str, keras.Layer]] = []
    for index, layer in enumerate(layers):
        place = index if isinstance(model, keras.Sequential) else position[id(layer)]
        inner = f"{access}.layers[{place}]"
        if isinstance(layer, keras.layers.Dense):
            uses.append((inner, layer))
        elif getattr(layer, "layers", None):
            uses += _dense(layer, inner)
    return uses


def _parameter(layer: int, role: Role, access: str, native: Any) -> Parameter:
    return Parameter(
        layer=layer,
        role=role,
        native_name=native.path,
        access=access,
        native_shape=tuple(native.shape),
        shape=tuple(native.shape)[::-1],
        dtype=native.dtype,
        native=native,
        native_value=native.value,
        storage=id(native.value),
        read=lambda: np.array(native.numpy()).T,
        read_gradient=lambda: _NOT_KEPT,
    )


class _Trainer(Trainer):
    """One graph for loss, gradients and update, without XLA.

    On steps of this size XLA gains little or nothing, and compiling for it takes most of a second.
    """

    def __init__(self, model: keras.Model, parameters: list[Parameter], optimizer: Optimizer) -> None:
        super().__init__(parameters)
        variables = model.trainable_variables
        if isinstance(optimizer, SGD):
            rule = keras.optimizers.SGD(optimizer.learning_rate, momentum=optimizer.momentum)
        else:
            rule = keras.optimizers.Adam(
                optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon
            )
        rule.build(variables)

        def step(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x) - y) ** 2)
            rule.apply(tape.gradient(loss, [one.value for one in variables]), variables)
            return loss

        self._graph = tf.function(step)

    def _step(self, x: Array, y: Array) -> float:
        return float(self._graph(tf.constant(x), tf.constant(y)))
