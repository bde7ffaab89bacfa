"""Layers of other kinds: canonical values go in and come out, and the outputs are the reference's."""

from __future__ import annotations

import numpy as np
import pytest

from backends.layers.numpy import NumpyLayers
from d2lparams.interface import Layer

# Not square here: what a square matrix can hide in a scenario's output, a shape cannot hide.
KINDS = {
    "dense": Layer("dense", 3, 5),
    "conv2d": Layer("conv2d", 2, 3, kernel=(2, 3)),
    "batchnorm": Layer("batchnorm", 4, 4, epsilon=2**-10),
    "layernorm": Layer("layernorm", 4, 4, epsilon=2**-10),
    "lstm": Layer("lstm", 2, 3),
    "gru": Layer("gru", 2, 3),
    "embedding": Layer("embedding", 7, 3),
    "tied-embedding": Layer("tied-embedding", 7, 3),
}
INPUTS = {"conv2d": (2, 2, 4, 5), "lstm": (2, 4, 2), "gru": (2, 4, 2), "dense": (6, 3)}

kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def filled(backend, kind):
    """A layer and the reference's, with the same random values, and an input."""
    layer, random = KINDS[kind], np.random.RandomState(7)
    layers, judges = backend.layers(), NumpyLayers()
    native, judge = layers.build(layer), judges.build(layer)
    values = {name: random.uniform(-1, 1, one.shape).astype("float32") for name, one in judge.items()}
    if "running variance" in values:
        values["running variance"] += 2
    layers.assign(native, layer, values)
    judges.assign(judge, layer, values)
    shape = INPUTS.get(kind, (6, 4))
    tokens = "embedding" in kind
    x = random.randint(0, 7, 6) if tokens else random.uniform(-1, 1, shape).astype("float32")
    return layers, native, judges, judge, layer, values, x


@kinds
def test_values_come_out_as_they_went_in(filled):
    layers, native, _, _, layer, values, _ = filled
    found = layers.read(native, layer)
    assert list(found) == list(values)
    for name, value in values.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


@kinds
@pytest.mark.parametrize("training", [False, True])
def test_the_output_is_the_reference_s(filled, near, training):
    layers, native, judges, judge, layer, _, x = filled
    expected = judges.forward(judge, layer, x, training=training)
    assert layers.forward(native, layer, x, training=training) == near(expected, 1e-5)


def test_training_moves_the_running_statistics_and_looking_does_not(backend):
    layers, layer = backend.layers(), KINDS["batchnorm"]
    native = layers.build(layer)
    x = np.random.RandomState(0).uniform(1, 2, (8, 4)).astype("float32")
    before = layers.read(native, layer)
    layers.forward(native, layer, x)
    assert np.array_equal(layers.read(native, layer)["running mean"], before["running mean"])
    layers.forward(native, layer, x, training=True)
    assert np.all(layers.read(native, layer)["running mean"] > before["running mean"])


@pytest.mark.parametrize("kind", ["tied-embedding"])
def test_both_uses_of_a_tied_embedding_add_to_its_gradient(filled, near):
    layers, native, judges, judge, layer, values, x = filled
    y = np.random.RandomState(1).uniform(-1, 1, (len(x), 7)).astype("float32")
    expected = judges.gradients(judge, layer, x, y)["weight"]
    assert layers.gradients(native, layer, x, y)["weight"] == near(expected, 1e-5)

    def loss(weight):
        return np.mean((weight[x] @ weight.T - y) ** 2)

    # The reference itself is held against a difference of two losses.
    weight, nudge = values["weight"].astype("float64"), np.zeros((7, 3))
    nudge[x[0], 1] = 1e-6
    assert expected[x[0], 1] == pytest.approx((loss(weight + nudge) - loss(weight - nudge)) / 2e-6, rel=1e-5)


@kinds
def test_parts_are_told_with_their_axes(filled):
    layers, native, _, _, layer, _, _ = filled
    parts = layers.parts(native, layer)
    assert parts
    for part in parts:
        assert part.name
        assert part.axes
        assert len(part.axes.split(" (")[0].split(", ")) <= len(part.shape)
        assert np.dtype(part.dtype) == "float32"
    stored = sum(value.size for value in layers.read(native, layer).values())
    assert sum(int(np.prod(part.shape)) for part in parts) >= stored


@kinds
def test_defaults_are_plain(backend, kind):
    defaults = backend.layers().defaults(kind)
    assert all(isinstance(value, (int, float, str, bool, type(None))) for value in defaults.values())
