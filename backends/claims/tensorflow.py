"""What the TensorFlow tab of section 6.2 says, and how it is looked up.

The tab was run on a Keras of its time, Keras 2; the net is the tab's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from backends.uses.tensorflow import value_of
from d2lparams.interface import Claim

_SECTION = "6.2"
_X = np.linspace(0.125, 1, 8, dtype="float32").reshape(2, 4)


def _net() -> keras.Sequential:
    """The net of the tab, called once, so that it has its variables."""
    net = keras.Sequential(
        [keras.layers.Flatten(), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)]
    )
    net(_X)
    return net


def _tied() -> keras.Sequential:
    """The net of the tab in which one layer stands twice."""
    shared = keras.layers.Dense(4, activation="relu")
    net = keras.Sequential([keras.layers.Flatten(), shared, shared, keras.layers.Dense(1)])
    net(_X)
    return net


def _last_layer() -> Any:
    return [[one.name, list(one.shape)] for one in _net().layers[2].weights]


def _type() -> Any:
    kind = type(_net().layers[2].weights[1])
    return [f"{kind.__module__}.{kind.__qualname__}", issubclass(kind, tf.Variable)]


def _value() -> Any:
    value = tf.convert_to_tensor(_net().layers[2].weights[1])
    return [isinstance(value, tf.Tensor), list(value.shape), value.dtype.name, value.numpy().tolist()]


def _all() -> Any:
    values = _net().get_weights()
    return [[isinstance(one, np.ndarray) for one in values], [list(one.shape) for one in values]]


def _layers_of_tied() -> Any:
    return len(_tied().layers)


def _tensor_of_tied() -> Any:
    """Whether the two hidden layers hold one tensor, by layers that the model lists."""
    one, other = (layer.kernel for layer in _tied().layers[1:3])
    return value_of(one) is value_of(other)


def _write() -> Any:
    net = _tied()
    one, other = (layer.kernel for layer in net.layers[1:3])
    value_of(one)[0, 0].assign(100.0)
    return bool(np.array_equal(one, other)), float(np.array(other)[0, 0])


def _gradients() -> Any:
    """Whether the shared kernel's gradient is the sum of those of two layers with its values."""
    net = _tied()
    shared, last = net.layers[1], net.layers[-1]
    # Positive, so that no unit is off and no gradient is zero.
    shared.set_weights([np.arange(1, 17, dtype="float32").reshape(4, 4) / 16, np.zeros(4)])
    apart = [keras.layers.Dense(4, activation="relu") for _ in range(2)]
    for layer in apart:
        layer.build((None, 4))
        layer.set_weights(shared.get_weights())
    with tf.GradientTape(persistent=True) as tape:
        loss, other = tf.reduce_sum(net(_X)), tf.reduce_sum(last(apart[1](apart[0](_X))))
    together = tape.gradient(loss, value_of(shared.kernel))
    alone = tape.gradient(other, [value_of(layer.kernel) for layer in apart])
    return bool(np.all(together) and np.allclose(together, sum(alone), rtol=1e-5))


CLAIMS: Sequence[Claim] = [
    Claim(
        "the last layer's parameters",
        _SECTION,
        "net.layers[2].weights has a kernel (4, 1) and a bias (1,), whose names begin with their layer's",
        [["dense_1/kernel:0", [4, 1]], ["dense_1/bias:0", [1]]],
        _last_layer,
    ),
    Claim(
        "the type of a parameter",
        _SECTION,
        "A parameter is a variable of TensorFlow, a ResourceVariable",
        ["tensorflow.python.ops.resource_variable_ops.ResourceVariable", True],
        _type,
    ),
    Claim(
        "reading a value",
        _SECTION,
        "tf.convert_to_tensor gives the bias as a tensor of one zero",
        [True, [1], "float32", [0.0]],
        _value,
    ),
    Claim(
        "all parameters",
        _SECTION,
        "net.get_weights() gives four NumPy arrays: kernel and bias of one layer, then of the other",
        [[True] * 4, [[4, 4], [4], [4, 1], [1]]],
        _all,
    ),
    Claim(
        "a tied layer",
        _SECTION,
        "A layer that is given to Sequential twice is listed once: there are three layers and not four",
        3,
        _layers_of_tied,
    ),
    Claim(
        "one tensor of a tied layer",
        _SECTION,
        "The second and third layer of the tied net are represented by the same tensor",
        True,
        _tensor_of_tied,
    ),
    Claim(
        "a write through a tied layer",
        _SECTION,
        "What is written into one of the tied layers is there in the other",
        [True, 100.0],
        _write,
    ),
    Claim(
        "the gradients of a tied layer",
        _SECTION,
        "The gradients of the two uses are added",
        True,
        _gradients,
    ),
]
