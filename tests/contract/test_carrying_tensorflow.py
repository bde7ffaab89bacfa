"""Keras models as their users write them: every layer is found, in its place, and its values come and go.

What the carrier sees of each layer is held against the reference's layers, computed with the canonical arrays.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from backends.layers.numpy import NumpyLayers
from backends.tensorflow import TensorFlowBackend
from d2lparams.carrying import LoadError, MatchError, UnknownLayer
from d2lparams.conventions import with_summed_biases
from d2lparams.interface import Layer
from d2lparams.parameter_set import ParameterSet, same_bits


@pytest.fixture
def backend():
    keras.utils.clear_session(free_memory=False)
    return TensorFlowBackend()


def draw(*shape, seed=0, dtype="float32"):
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype(dtype)


def filled(model):
    """The model with values of our own, so that no two arrays and no two of their axes are alike."""
    random = np.random.RandomState(0)
    for one in model.weights:
        value = random.uniform(-1, 1, one.shape)
        one.assign(value + 2 if "variance" in one.path else value)
    return model


class Turned(keras.Model):
    """Layers of one shape, made in another order than they are applied in, one of them twice."""

    def __init__(self):
        super().__init__()
        self.last = layers.Dense(4)
        self.first = layers.Dense(4, activation="tanh")
        self.middle = layers.Dense(4)

    def call(self, x):
        return self.last(self.middle(self.middle(self.first(x))))


def built(model, *shape):
    model(np.zeros((1, *shape), "float32"))
    return filled(model)


def nested():
    inner = keras.Sequential(
        [layers.Conv2D(3, (2, 3)), layers.BatchNormalization(epsilon=2**-8), layers.ReLU()]
    )
    head = keras.Sequential([layers.Flatten(), layers.Dense(5, activation="tanh"), layers.LayerNormalization()])
    return built(keras.Sequential([inner, head, layers.Dense(2, use_bias=False)]), 4, 5, 2)


def first_columns():
    """Flattened after it was transposed: channel by channel, as where channels stand first."""
    return built(
        keras.Sequential([layers.Conv2D(3, 2), layers.Permute((3, 1, 2)), layers.Flatten(), layers.Dense(2)]),
        4,
        4,
        2,
    )


def sequences():
    return built(
        keras.Sequential(
            [
                layers.Conv1D(4, 2),
                layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
                layers.GRU(4, return_sequences=True),
                layers.Dense(2),
            ]
        ),
        6,
        3,
    )


def shared():
    """One layer at two places of a functional model, and at one of another name."""
    x = keras.Input((4,))
    one = layers.Dense(4, name="one")
    hidden = layers.Activation("tanh")(one(x))
    return filled(keras.Model(x, layers.Dense(2, name="out")(one(hidden))))


MODELS = {
    "nested": (nested, (2, 4, 5, 2), ["conv2d", "batchnorm", "dense", "layernorm", "dense"]),
    "first columns": (first_columns, (2, 4, 4, 2), ["conv2d", "dense"]),
    "sequences": (sequences, (2, 6, 3), ["conv1d", "lstm", "lstm", "gru", "dense"]),
    "shared": (shared, (2, 4), ["dense", "dense", "dense"]),
    "turned": (lambda: built(Turned(), 4), (2, 4), ["dense"] * 4),
}
models = pytest.mark.parametrize(("build", "shape", "kinds"), MODELS.values(), ids=MODELS)


@models
def test_every_use_is_seen_in_order_of_application(backend, build, shape, kinds):
    found = backend.export(build(), draw(*shape))
    assert found.ordered
    assert [layer.kind for layer in found.layers] == kinds


@models
def test_values_come_back_bit_for_bit_in_a_model_built_anew(backend, tmp_path, build, shape, kinds):
    model, x = build(), draw(*shape)
    backend.export(model, x).save(tmp_path / "x.safetensors")
    other = build()
    for one in other.weights:
        one.assign(one + 1.0)
    parameters = ParameterSet.open(tmp_path / "x.safetensors")
    backend.load(other, parameters, x)
    again = backend.export(other, x)
    assert all(same_bits(again[path], parameters[path]) for path in parameters)
    assert again.ties == parameters.ties
    np.testing.assert_array_equal(np.array(other(x)), np.array(model(x)))


LAYERS = {
    "dense": (lambda: layers.Dense(3, activation="tanh"), (4, 5), Layer("dense", 5, 3)),
    "conv2d": (lambda: layers.Conv2D(3, (2, 3)), (2, 4, 5, 2), Layer("conv2d", 2, 3, kernel=(2, 3))),
    "batchnorm": (lambda: layers.BatchNormalization(), (4, 5), Layer("batchnorm", 5, 5, epsilon=1e-3)),
    "layernorm": (lambda: layers.LayerNormalization(), (4, 5), Layer("layernorm", 5, 5, epsilon=1e-3)),
    "lstm": (lambda: layers.LSTM(3, return_sequences=True), (2, 4, 5), Layer("lstm", 5, 3)),
    "gru": (lambda: layers.GRU(3, return_sequences=True), (2, 4, 5), Layer("gru", 5, 3)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_what_a_layer_gives_is_what_its_canonical_arrays_give(backend, near, kind):
    build, shape, layer = LAYERS[kind]
    model, x = built(keras.Sequential([build()]), *shape[1:]), draw(*shape)
    parameters = backend.export(model, x)
    (record,) = parameters.layers
    judges = NumpyLayers()
    judge = judges.build(layer)
    judges.assign(judge, layer, with_summed_biases(kind, parameters.of(record)))
    images = np.moveaxis(x, -1, 1) if kind == "conv2d" else x
    ((path, output),) = backend.carrier().outputs(model, x)
    assert path == record.path
    assert output == near(judges.forward(judge, layer, images), 1e-5)


def test_columns_of_a_flattened_image_go_channel_by_channel(backend):
    for model, x, last in ((nested(), draw(2, 4, 5, 2), True), (first_columns(), draw(2, 4, 4, 2), False)):
        structure = backend.carrier().structure(model, x)
        (dense,) = [layer for layer in structure.layers if layer.flattened]
        assert dense.flattened.channels == 3
        assert dense.flattened.channels_last is last


def test_without_an_input_the_order_of_a_class_of_one_s_own_is_not_known(backend):
    model = built(Turned(), 4)
    found = backend.export(model)
    assert not found.ordered
    assert [layer.path for layer in found.layers] == ["last", "first", "middle"]
    other = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dense(4), layers.Dense(4)])
    with pytest.raises(MatchError, match="pass an example input x"):
        backend.load(other, found)
    seen = backend.export(model, draw(2, 4))
    assert [layer.path for layer in seen.layers] == ["first", "middle", "middle@2", "last"]
    assert ("middle.weight", "middle@2.weight") in seen.ties


def test_an_embedding_that_projects_is_two_uses_of_one_matrix(backend):
    tokens = keras.Input((5,), dtype="int32")
    embedding = layers.ReversibleEmbedding(7, 3, name="words")
    model = filled(keras.Model(tokens, embedding(layers.Dense(3)(embedding(tokens)), reverse=True)))
    for x in (None, np.random.RandomState(0).randint(0, 7, (2, 5))):
        found = backend.export(model, x)
        assert [(layer.path, layer.kind) for layer in found.layers] == [
            ("words", "embedding"),
            ("dense", "dense"),
            ("words.reverse", "dense"),
        ]
        assert found.ties == (("words.weight", "words.reverse.weight"),)


def test_looking_leaves_the_model_as_it_was(backend):
    model, x = nested(), draw(2, 4, 5, 2)
    before = [np.array(one) for one in model.weights]
    attributes = {id(layer): set(vars(layer)) for layer in model._flatten_layers()}
    backend.export(model, x)
    backend.carrier().outputs(model, x)
    assert all(np.array_equal(one, np.array(two)) for one, two in zip(before, model.weights, strict=True))
    assert {id(layer): set(vars(layer)) for layer in model._flatten_layers()} == attributes


def test_a_view_is_no_copy_and_stays_what_it_was(backend):
    model = built(keras.Sequential([layers.Dense(3)]), 4)
    found = backend.export(model, copy=False)
    assert found.shared == {"dense.weight", "dense.bias"}
    before = found["dense.weight"].copy()
    model.layers[0].kernel.assign_add(np.ones((4, 3)))
    assert same_bits(found["dense.weight"], before)


def test_a_compiled_function_sees_what_was_loaded(backend):
    import tensorflow as tf

    model, x = built(keras.Sequential([layers.Dense(3)]), 4), draw(2, 4)
    function = tf.function(model)
    function(x)
    other = built(keras.Sequential([layers.Dense(3)]), 4)
    for one in other.weights:
        one.assign(one * 2.0)
    backend.load(function, backend.export(other))
    np.testing.assert_allclose(np.array(function(x)), np.array(other(x)), rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape", "said"),
    [
        (lambda: layers.Conv2DTranspose(2, 3), (5, 5, 2), "Conv2DTranspose.* holds variables and is none of"),
        (lambda: layers.GroupNormalization(2), (4,), "GroupNormalization"),
        (lambda: layers.SimpleRNN(3), (5, 4), "SimpleRNN"),
        (lambda: layers.GRU(3, reset_after=False), (5, 4), "reset_after=False"),
        (lambda: layers.LSTM(3, recurrent_activation="hard_sigmoid"), (5, 4), "other activations"),
        (lambda: layers.LayerNormalization(axis=(1, 2)), (5, 4), "over several axes"),
        (lambda: layers.EinsumDense("ab,bc->ac", 3), (4,), "EinsumDense"),
    ],
)
def test_a_layer_that_is_not_known_is_named(backend, layer, shape, said):
    model = built(keras.Sequential([layers.Identity(), layer()]), *shape)
    with pytest.raises(UnknownLayer, match=said):
        backend.export(model)


def test_a_model_without_variables_is_told_to_be_built(backend):
    with pytest.raises(ValueError, match="call it on a first batch"):
        backend.export(keras.Sequential([layers.Dense(3)]))


def test_another_epsilon_is_refused_unless_it_is_meant(backend):
    one = built(keras.Sequential([layers.BatchNormalization()]), 4)
    other = built(keras.Sequential([layers.BatchNormalization(epsilon=1e-5)]), 4)
    before = [np.array(value) + 1 for value in other.weights]
    for variable, value in zip(other.weights, before):
        variable.assign(value)
    with pytest.raises(LoadError, match=r"has epsilon 1e-05, and the parameters were made with 0.001"):
        backend.load(other, backend.export(one))
    assert all(np.array_equal(np.array(variable), value) for variable, value in zip(other.weights, before))
    backend.load(other, backend.export(one), settings=False)


def test_norms_without_scale_or_shift_have_what_they_have(backend):
    model = built(
        keras.Sequential([layers.BatchNormalization(scale=False), layers.LayerNormalization(center=False)]), 4
    )
    found = backend.export(model)
    assert list(found) == [
        "batch_normalization.bias",
        "batch_normalization.running_mean",
        "batch_normalization.running_variance",
        "layer_normalization.weight",
    ]
