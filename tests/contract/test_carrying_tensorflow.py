"""Keras models as their users write them: every layer is found, in its place, and its values come and go.

What the carrier sees of each layer is held against the reference's layers, computed with the canonical arrays.
"""

from __future__ import annotations

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from backends.tensorflow import TensorFlowBackend
from d2lparams.carrying import LoadError, MatchError, UnknownLayer
from d2lparams.parameter_set import ParameterSet, same_bits
from tests.contract.by_reference import computed


@pytest.fixture
def backend():
    keras.utils.clear_session(free_memory=False)
    return TensorFlowBackend()


def draw(*shape, seed=0, dtype="float32"):
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype(dtype)


def filled(model, seed=0):
    """The model with values of our own, so that no two arrays and no two of their axes are alike."""
    random = np.random.RandomState(seed)
    for one in model.weights:
        value = random.uniform(-1, 1, one.shape)
        one.assign(value + 2 if "variance" in one.path else value)
    return model


class Written(keras.Model):
    """A model of given attributes with a given `call`, as a class of the user's own would be."""

    def __init__(self, call, **attributes):
        super().__init__()
        self._own = [call]  # Keras would take a function for a part of the model
        for name, value in attributes.items():
            setattr(self, name, value)

    def call(self, x):
        return self._own[0](self, x)


def built(model, x):
    model(x)
    return filled(model)


# -- models, and what they compute when `of(path, x)` is what a layer computes ------------------------------


def nested(x):
    inner = keras.Sequential(
        [layers.Conv2D(3, (2, 3)), layers.BatchNormalization(epsilon=2**-8), layers.ReLU()]
    )
    head = keras.Sequential([layers.Flatten(), layers.Dense(5, activation="tanh"), layers.LayerNormalization()])
    return keras.Sequential([inner, head, layers.Dropout(0.5), layers.Dense(2, use_bias=False)])


def nested_by_hand(of, x):
    x = of("sequential.conv2d", np.moveaxis(x, -1, 1))
    x = np.maximum(of("sequential.batch_normalization", x), 0)
    x = np.tanh(of("sequential_1.dense", x.reshape(len(x), -1)))
    return of("dense", of("sequential_1.layer_normalization", x))


def first_columns(x):
    """Flattened after it was transposed: channel by channel, as where channels stand first."""
    return keras.Sequential(
        [
            layers.Conv2D(3, 2),
            layers.MaxPooling2D(2),
            layers.Permute((3, 1, 2)),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def last_columns(x):
    return Written(
        lambda m, x: m.dense(ops.reshape(m.pool(m.conv(x)), (-1, 12))),
        dense=layers.Dense(2),
        pool=layers.MaxPooling2D(2),
        conv=layers.Conv2D(3, 2),
    )


def flattened_by_hand(conv, dense):
    def by_hand(of, x):
        x = of(conv, np.moveaxis(x, -1, 1))
        n, channels, height, width = x.shape
        x = x.reshape(n, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))
        return of(dense, x.reshape(n, -1))

    return by_hand


def normalised_places(x):
    return keras.Sequential(
        [layers.Conv2D(3, 2), layers.Flatten(), layers.BatchNormalization(), layers.Dense(2)]
    )


def normalised_places_by_hand(of, x):
    x = of("conv2d", np.moveaxis(x, -1, 1))
    return of("dense", of("batch_normalization", x.reshape(len(x), -1)))


def sequences(x):
    return keras.Sequential(
        [
            layers.Conv1D(4, 2),
            layers.BatchNormalization(),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.GRU(4, return_sequences=True, go_backwards=True),
            layers.TimeDistributed(layers.Dense(2, activation="tanh")),
        ]
    )


def sequences_by_hand(of, x):
    x = of("batch_normalization", of("conv1d", np.swapaxes(x, 1, 2)))
    x = np.swapaxes(x, 1, 2)
    x = np.concatenate([of("bidirectional.forward_layer", x), of("bidirectional.backward_layer", x)], axis=-1)
    # Going backwards, a recurrent layer of Keras gives its steps in the order in which it went.
    return np.tanh(of("time_distributed.layer", of("gru", x)[:, ::-1]))


def last_step(x):
    return keras.Sequential([layers.LSTM(4, return_sequences=True), layers.GRU(3), layers.Dense(2)])


def last_step_by_hand(of, x):
    return of("dense", of("gru", of("lstm", x))[:, -1])


def shared(x):
    """One layer at two places of a functional model, with arithmetic and a branch."""
    given = keras.Input((4,))
    one = layers.Dense(4, name="one")
    hidden = ops.tanh(one(given))
    hidden = layers.Add()([one(hidden), layers.Dense(4, name="beside")(hidden)])
    return keras.Model(given, layers.Dense(2, name="out")(hidden))


def shared_by_hand(of, x):
    hidden = np.tanh(of("one", x))
    again = of("one@2", hidden)
    return of("out", again + of("beside", hidden))


def turned(x):
    """Layers of one shape, made in another order than they are applied in, one of them twice."""
    return Written(
        lambda m, x: m.last(m.middle(m.middle(inputs=m.first(x)))),
        last=layers.Dense(4),
        first=layers.Dense(4, activation="tanh"),
        middle=layers.Dense(4),
    )


def turned_by_hand(of, x):
    return of("last", of("middle@2", of("middle", np.tanh(of("first", x)))))


def listed(x):
    """Layers in a list and in a dict, and a model that is used twice."""

    def call(m, x):
        for block in reversed(m.blocks):
            x = block(x)
        return m.heads["b"](m.heads["a"](m.inner(m.inner(x))))

    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Activation("tanh")])
    return Written(
        call,
        blocks=[layers.Dense(4), layers.Dense(4)],
        heads={"a": layers.Dense(4), "b": layers.Dense(4)},
        inner=inner,
    )


def listed_by_hand(of, x):
    x = of("blocks.0", of("blocks.1", x))
    x = np.tanh(of("inner.dense@2", np.tanh(of("inner.dense", x))))
    return of("heads.b", of("heads.a", x))


def traced(x):
    """What is compiled by its user calls no layer any more once it has been traced."""

    class Traced(keras.Model):
        def __init__(self):
            super().__init__()
            self.second, self.first = layers.Dense(4), layers.Dense(4)
            # What is traced while Keras builds it would hold first values for ever.
            self.second.build((None, 4)), self.first.build((None, 4))

        @tf.function
        def call(self, x):
            return self.second(tf.nn.relu(self.first(x)))

    return Traced()


def language_model(project):
    def build(x):
        return Written(
            lambda m, x: project(m, m.gru(m.embedding(x))),
            embedding=(layers.ReversibleEmbedding if project is by_layer else layers.Embedding)(7, 5),
            gru=layers.GRU(5, return_sequences=True, use_bias=False),
        )

    return build


def by_layer(m, x):
    return m.embedding(x, reverse=True)


def by_product(m, x):
    return ops.matmul(x, ops.transpose(m.embedding.embeddings))


def by_tensorflow(m, x):
    return tf.matmul(x, m.embedding.embeddings.value, transpose_b=True)


def by_tensordot(m, x):
    return tf.tensordot(x, m.embedding.embeddings, [[2], [1]])


def language_by_hand(projection):
    return lambda of, x: of(projection, of("gru", of("embedding", x)))


TOKENS = np.array([[1, 2, 6], [0, 3, 2]], "int32")
VECTORS = draw(3, 4)
# How to build it; a batch; and what it computes.
MODELS = {
    "nested": (nested, draw(2, 4, 5, 2), nested_by_hand),
    "first columns": (first_columns, draw(2, 5, 5, 1), flattened_by_hand("conv2d", "dense")),
    "last columns": (last_columns, draw(2, 5, 5, 1), flattened_by_hand("conv", "dense")),
    "normalised places": (normalised_places, draw(2, 4, 4, 2), normalised_places_by_hand),
    "sequences": (sequences, draw(2, 6, 3), sequences_by_hand),
    "last step": (last_step, draw(2, 5, 3), last_step_by_hand),
    "shared": (shared, VECTORS, shared_by_hand),
    "turned": (turned, VECTORS, turned_by_hand),
    "listed": (listed, VECTORS, listed_by_hand),
    "traced": (traced, VECTORS, lambda of, x: of("second", np.maximum(of("first", x), 0))),
    "a single layer": (lambda x: layers.Dense(3), VECTORS, lambda of, x: of("", x)),
    "without affine": (
        lambda x: keras.Sequential(
            [
                layers.BatchNormalization(center=False, scale=False),
                layers.LayerNormalization(center=False, scale=False, axis=1),
            ]
        ),
        VECTORS,
        lambda of, x: of("layer_normalization", of("batch_normalization", x)),
    ),
    **{
        f"language, {project.__name__}": (
            language_model(project),
            TOKENS,
            language_by_hand("embedding.reverse" if project is by_layer else "embedding@2"),
        )
        for project in (by_layer, by_product, by_tensorflow, by_tensordot)
    },
}

models = pytest.mark.parametrize(("build", "x", "by_hand"), MODELS.values(), ids=MODELS.keys())


def state(model):
    """Everything that a look must not change."""
    every = model._flatten_layers()
    return {
        "values": {one.path: one.numpy().tobytes() for one in model.variables},
        "attributes": [{name: id(value) for name, value in vars(one).items()} for one in every],
        "losses": [len(one._losses) for one in every],
    }


# -- every model --------------------------------------------------------------------------------------------


@models
def test_every_use_gives_what_the_reference_gives_with_the_canonical_arrays(backend, build, x, by_hand):
    model = built(build(x), x)
    parameters = backend.export(model, x)
    assert parameters.ordered
    records = {record.path: record for record in parameters.layers}
    seen = {}

    def of(path, x):
        seen[path] = computed(records[path], parameters.of(records[path]), x)
        return seen[path]

    output = by_hand(of, x)
    assert list(seen) == list(records)
    outputs = backend.carrier().outputs(model, x)
    assert [path for path, _ in outputs] == list(records)
    for path, value in outputs:
        if build is normalised_places and "batch" in path:
            value, seen[path] = np.sort(value), np.sort(seen[path])  # its places stand as they do in the model
        np.testing.assert_allclose(value, seen[path], atol=1e-5, err_msg=path)
    np.testing.assert_allclose(backend.carrier().forward(model, x), output, atol=1e-5)
    np.testing.assert_array_equal(backend.carrier().forward(model, x), model(x))


@models
def test_a_fresh_model_takes_the_values_from_a_file_and_computes_the_same(backend, build, x, by_hand, tmp_path):
    model = built(build(x), x)
    parameters = backend.export(model, x)
    parameters.save(tmp_path / "x.safetensors")
    other = filled(built(build(x), x), seed=2)
    backend.load(other, ParameterSet.open(tmp_path / "x.safetensors"), x)
    again = backend.export(other, x)
    assert (again.ties, again.layers) == (parameters.ties, parameters.layers)
    assert all(same_bits(again[path], parameters[path]) for path in parameters)
    for one, two in zip(model.weights, other.weights, strict=True):
        assert same_bits(one.numpy(), two.numpy())
    np.testing.assert_array_equal(model(x), other(x))


@models
def test_looking_changes_nothing(backend, build, x, by_hand):
    model = built(build(x), x)
    before = state(model)
    backend.export(model, x)
    backend.export(model, x, copy=False)
    backend.carrier().outputs(model, x)
    backend.carrier().forward(model, x)
    assert state(model) == before


@models
def test_a_step_is_the_one_of_the_framework_s_own_loop(backend, build, x, by_hand):
    model, other = built(build(x), x), built(build(x), x)
    y = draw(*model(x).shape, seed=9)
    with tf.GradientTape() as tape:
        loss = keras.losses.mean_squared_error(y.ravel(), tf.reshape(other(x, training=False), (-1,)))
    if other.trainable_variables:
        gradients = tape.gradient(loss, [one.value for one in other.trainable_variables])
        optimizer = keras.optimizers.SGD(0.125)
        optimizer.apply_gradients(zip(gradients, other.trainable_variables, strict=True))
    step = backend.carrier().step(model, x, y, 0.125)
    assert step.loss == pytest.approx(float(loss), rel=1e-6)
    for one, two in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-5, atol=1e-7, err_msg=one.path)
    held = {one.storage for layer in backend.carrier().structure(model, x).layers for one in layer.arrays}
    assert set(step.gradients) <= held
    assert len(step.gradients) == len(model.trainable_variables)


@models
def test_a_view_shares_memory_cannot_be_written_and_keeps_it_alive(backend, build, x, by_hand):
    model = built(build(x), x)
    parameters = backend.export(model, x, copy=False)
    native = [np.asarray(memoryview(one.value.read_value())) for one in model.weights]
    for path, array in parameters.items():
        assert any(np.shares_memory(array, one) for one in native) == (path in parameters.shared), path
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        if path in parameters.shared:
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.flags.writeable = True
    before = {path: array.copy() for path, array in parameters.items()}
    backend.carrier().step(model, x, np.zeros_like(model(x)), 0.125)
    for one in model.weights:
        one.assign(one.numpy() + 1)
    del model, native
    gc.collect()
    assert all(same_bits(array, before[path]) for path, array in parameters.items())


# -- order --------------------------------------------------------------------------------------------------


def plain(*sizes, **options):
    return keras.Sequential([keras.Input((4,)), *(layers.Dense(size, **options) for size in sizes)])


def test_containers_of_keras_say_their_order_and_a_class_does_not(backend):
    for build in (nested, sequences, shared, last_step, first_columns):
        _, x, _ = next(one for one in MODELS.values() if one[0] is build)
        found, seen = backend.export(model := built(build(x), x)), backend.export(model, x)
        assert found.ordered
        assert found.layers == seen.layers
        assert all(same_bits(found[path], seen[path]) for path in seen)
    found = backend.export(built(turned(None), VECTORS))
    assert not found.ordered
    assert [layer.path for layer in found.layers] == ["last", "first", "middle"]


def test_a_container_with_a_call_of_its_own_says_no_order(backend):
    class Backwards(keras.Sequential):
        def call(self, x, training=None):
            for one in reversed(self.layers):
                x = one(x)
            return x

    class Twice(keras.Model):
        def call(self, x, training=None):
            return self.layers[1](self.layers[2](x))

    x = keras.Input((4,))
    for model in (
        Backwards([keras.Input((4,)), layers.Dense(4), layers.Dense(4)]),
        Twice(x, layers.Dense(4)(layers.Dense(4)(x))),
    ):
        assert not backend.export(model).ordered
        assert [layer.path for layer in backend.export(model, VECTORS).layers] == ["dense_1", "dense"]


def test_layers_in_another_order_find_their_values_with_an_input_and_are_refused_without(backend):
    written = built(
        Written(
            lambda m, x: m.c(m.b(m.a(x))),
            c=layers.Dense(4),
            a=layers.Dense(4, activation="tanh"),
            b=layers.Dense(4),
        ),
        VECTORS,
    )
    other = filled(plain(4, 4, 4), seed=1)
    other.layers[0].activation = keras.activations.tanh
    backend.load(other, backend.export(written, VECTORS), VECTORS)
    np.testing.assert_array_equal(other(VECTORS), written(VECTORS))
    before = state(written)
    for model, parameters in (
        (other, backend.export(written)),
        (written, backend.export(filled(plain(4, 4, 4)))),
    ):
        with pytest.raises(MatchError, match="pass an example input x"):
            backend.load(model, parameters)
    assert state(written) == before
    backend.load(written, backend.export(other), VECTORS)
    np.testing.assert_array_equal(other(VECTORS), written(VECTORS))


def test_a_layer_that_is_not_used_is_there_and_no_order_is_claimed(backend):
    spare = dense()
    model = built(Written(lambda m, x: m.used(x), spare=spare, used=layers.Dense(4)), VECTORS)
    functional = plain(4)
    functional = keras.Model(functional.inputs, functional.outputs)
    functional.spare = spare
    for one, used in ((model, "used"), (functional, "dense")):
        for x in (None, VECTORS):
            found = backend.export(one, x)
            assert not found.ordered
            assert {layer.path for layer in found.layers} == {used, "spare" if one is model else "dense_1"}


def test_names_do_not_depend_on_what_was_built_before_and_are_no_other_s(backend):
    layers.Dense(4)
    for _ in range(2):
        model = built(
            Written(
                lambda m, x: m.dense(m.blocks[0](x)), dense=layers.Dense(4, name="own"), blocks=[plain(4, 3)]
            ),
            VECTORS,
        )
        paths = [layer.path for layer in backend.export(model, VECTORS).layers]
        assert paths == ["blocks.0.dense", "blocks.0.dense_1", "dense"]


def test_a_reversible_embedding_without_ties_has_a_matrix_for_each_way(backend):
    def build():
        return built(
            Written(
                lambda m, x: m.words(m.words(x), reverse=True),
                words=layers.ReversibleEmbedding(7, 5, tie_weights=False),
            ),
            TOKENS,
        )

    for x in (None, TOKENS):
        found = backend.export(build(), x)
        assert [(layer.path, layer.kind) for layer in found.layers] == [
            ("words", "embedding"),
            ("words.reverse", "dense"),
        ]
        assert not found.ties
        assert found["words.reverse.weight"].shape == (7, 5)


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


# -- ties ---------------------------------------------------------------------------------------------------


def test_every_way_to_project_by_the_embedding_is_the_same_to_others(backend):
    model = built(language_model(by_layer)(TOKENS), TOKENS)
    parameters = backend.export(model, TOKENS)
    assert parameters.ties == (("embedding.weight", "embedding.reverse.weight"),)
    for project in (by_product, by_tensorflow, by_tensordot):
        other = filled(built(language_model(project)(TOKENS), TOKENS), seed=3)
        backend.load(other, parameters, TOKENS)
        found = backend.export(other, TOKENS)
        assert found.ties == (("embedding.weight", "embedding@2.weight"),)
        assert [layer.kind for layer in found.layers] == ["embedding", "gru", "dense"]
        np.testing.assert_allclose(other(TOKENS), model(TOKENS), atol=1e-6)


class Tied(layers.Dense):
    """A layer with a bias of its own and the kernel of another one, as users write it."""

    def __init__(self, units, of):
        super().__init__(units)
        self.of = of

    def build(self, shape):
        self._kernel = self.of._kernel
        self.bias = self.add_weight(shape=(self.units,), name="bias")


def tied():
    one = layers.Dense(4)
    return filled(keras.Sequential([keras.Input((4,)), one, Tied(4, one)]))


def test_two_layers_that_hold_one_variable_are_tied(backend):
    model = tied()
    parameters = backend.export(model)
    assert parameters.ties == (("dense.weight", "tied.weight"),)
    before = model.layers[0].kernel.numpy()
    step = backend.carrier().step(model, VECTORS, draw(3, 4, seed=1), 0.125)
    storage = backend.carrier().structure(model, None).layers[0].arrays[0].storage
    np.testing.assert_allclose(
        model.layers[1].kernel.numpy(), before - 0.125 * step.gradients[storage], atol=1e-6
    )
    backend.load(model, parameters)
    assert same_bits(model.layers[1].kernel.numpy(), before)


# -- flattened images ---------------------------------------------------------------------------------------


def flattenings(backend, model, x=None):
    found = backend.carrier().structure(model, x).layers
    return {one.path: (one.flattened.channels, one.flattened.channels_last) for one in found if one.flattened}


def test_both_orders_of_flattening_have_one_canonical_form(backend):
    x = draw(2, 5, 5, 1)
    last, first = built(last_columns(x), x), filled(built(first_columns(x), x), seed=4)
    backend.load(first, backend.export(last, x), x)
    np.testing.assert_allclose(first(x), last(x), atol=1e-6)
    assert not np.array_equal(first.layers[-1].kernel, last.dense.kernel)
    back = filled(built(last_columns(x), x), seed=5)
    backend.load(back, backend.export(first), x)
    np.testing.assert_array_equal(back.dense.kernel, last.dense.kernel)


def test_how_an_input_is_flattened_is_seen(backend):
    x = draw(2, 5, 5, 1)
    for given in (None, x):
        assert flattenings(backend, built(first_columns(x), x), given) == {"dense": (3, False)}
    assert flattenings(backend, built(last_columns(x), x), x) == {"dense": (3, True)}
    padded = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(3, 2, padding="same", activation="sigmoid"),
            layers.BatchNormalization(),
            layers.AveragePooling2D(3, 1, padding="same"),
            layers.Flatten(),
            layers.LayerNormalization(),
            layers.Dense(3),
            layers.Dense(6),
        ]
    )
    for given in (None, draw(1, 12, 12, 1)):
        found = flattenings(backend, filled(padded), given)
        assert found == {"layer_normalization": (3, True), "dense": (3, True)}
    over_time = keras.Sequential([layers.Conv1D(3, 2), layers.Flatten(), layers.Dense(2)])
    assert flattenings(backend, built(over_time, draw(1, 5, 2)), draw(1, 5, 2)) == {"dense": (3, True)}


def test_where_nothing_is_flattened_nothing_is_seen(backend):
    x = draw(2, 5, 5, 1)
    pooled = [layers.Conv2D(3, 2), layers.GlobalAveragePooling2D(), layers.Dense(6)]
    every_place = [layers.Conv2D(3, 2), layers.Dense(9)]
    single = [layers.Conv2D(1, 2), layers.Flatten(), layers.Dense(2)]
    for parts in (pooled, every_place, single):
        model = built(keras.Sequential(parts), x)
        assert flattenings(backend, model, x) == flattenings(backend, model) == {}


def test_what_cannot_be_certain_without_an_input_asks_for_one(backend):
    x = draw(2, 5, 5, 1)
    model = built(last_columns(x), x)
    open_ = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            layers.Conv2D(3, 2),
            layers.Resizing(2, 2),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    for one in (model, open_):
        with pytest.raises(ValueError, match="pass x, an example input"):
            backend.export(one)
        assert backend.export(one, x).ordered


def test_mixed_channels_are_refused(backend):
    order = np.random.RandomState(0).permutation(48)
    model = Written(
        lambda m, x: m.dense(tf.gather(tf.reshape(m.conv(x), (-1, 48)), order, axis=1)),
        conv=layers.Conv2D(3, 2),
        dense=layers.Dense(2),
    )
    x = draw(1, 5, 5, 1)
    with pytest.raises(UnknownLayer, match="mixes the channels"):
        backend.export(built(model, x), x)


def test_an_image_that_comes_out_has_its_channels_first(backend):
    x = draw(2, 6, 5, 1)
    model = built(keras.Sequential([layers.Conv2D(3, 2), layers.BatchNormalization(), layers.ReLU()]), x)
    carrier = backend.carrier()
    np.testing.assert_array_equal(carrier.forward(model, x), np.moveaxis(model(x).numpy(), -1, 1))
    y = draw(2, 3, 5, 4)
    step = carrier.step(model, x, y, 0.125)
    assert step.output.shape == y.shape
    assert step.loss == pytest.approx(np.mean((step.output - y) ** 2), rel=1e-5)
    canonical = np.moveaxis(x, -1, 1)
    np.testing.assert_array_equal(carrier.native_input(canonical, "conv2d"), x)
    assert carrier.native_input(canonical, "dense") is canonical


# -- settings and dtypes ------------------------------------------------------------------------------------


def test_settings_say_what_arrays_do_not(backend):
    model = keras.Sequential(
        [layers.Conv1D(6, 3, groups=2), layers.BatchNormalization(epsilon=2**-7), layers.Conv1D(2, 1)]
    )
    grouped, normal, simple = backend.export(built(model, draw(1, 5, 4))).layers
    assert (grouped.settings, normal.settings, simple.settings) == ({"groups": 2}, {"epsilon": 2**-7}, {})
    assert backend.export(model)["conv1d.weight"].shape == (6, 2, 3)
    both = built(keras.Sequential([layers.Bidirectional(layers.GRU(2))]), draw(1, 5, 4))
    assert [layer.settings for layer in backend.export(both).layers] == [{}, {"reverse": True}]


def test_another_epsilon_is_refused_unless_it_is_meant(backend):
    one = built(keras.Sequential([layers.BatchNormalization()]), VECTORS)
    other = built(keras.Sequential([layers.BatchNormalization(epsilon=1e-5)]), VECTORS)
    before = [value.numpy() + 1 for value in other.weights]
    for variable, value in zip(other.weights, before, strict=True):
        variable.assign(value)
    with pytest.raises(LoadError, match=r"has epsilon 1e-05, and the parameters were made with 0.001"):
        backend.load(other, backend.export(one))
    assert all(np.array_equal(variable, value) for variable, value in zip(other.weights, before, strict=True))
    backend.load(other, backend.export(one), settings=False)


def test_norms_without_scale_or_shift_have_what_they_have(backend):
    model = built(
        keras.Sequential([layers.BatchNormalization(scale=False), layers.LayerNormalization(center=False)]),
        VECTORS,
    )
    found = backend.export(model)
    assert list(found) == [
        "batch_normalization.bias",
        "batch_normalization.running_mean",
        "batch_normalization.running_variance",
        "layer_normalization.weight",
    ]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_float_that_numpy_has_comes_and_goes(backend, dtype, tmp_path):
    def build():
        return built(plain(4, 3, dtype=dtype), VECTORS)

    parameters = backend.export(build(), VECTORS.astype(dtype))
    assert {str(array.dtype) for array in parameters.values()} == {dtype}
    parameters.save(tmp_path / "x.safetensors")
    other = backend.load(filled(build(), seed=3), ParameterSet.open(tmp_path / "x.safetensors"))
    assert all(same_bits(value, parameters[path]) for path, value in backend.export(other).items())


def test_a_mixed_policy_carries_what_is_stored_and_another_dtype_is_refused(backend):
    model = plain(4, 3, dtype="mixed_bfloat16")
    parameters = backend.export(model, VECTORS)
    assert {str(array.dtype) for array in parameters.values()} == {"float32"}
    assert {value.dtype for _, value in backend.carrier().outputs(model, VECTORS)} == {np.dtype("float32")}
    with pytest.raises(UnknownLayer, match=r"'.*kernel' is bfloat16"):
        backend.export(plain(4, 3, dtype="bfloat16"))


def test_every_bit_pattern_comes_and_goes(backend):
    model, other = plain(4), plain(4)
    odd = np.array([-0.0, np.nan, np.inf, 1e-45], "float32")
    odd.view("uint32")[1] |= 5  # a NaN that carries something
    model.layers[0].bias.assign(odd)
    backend.load(other, backend.export(model))
    assert same_bits(other.layers[0].bias.numpy(), odd)


# -- what is not known --------------------------------------------------------------------------------------


class Doubled(layers.Dense):
    def call(self, x, training=None):
        return 2 * super().call(x)


class Standardized(layers.Conv2D):
    def convolution_op(self, x, kernel):
        return super().convolution_op(x, kernel - ops.mean(kernel))


class Scaled(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],))

    def call(self, x):
        return x * self.scale


class Masked(layers.Dense):
    def build(self, shape):
        super().build(shape)
        self.mask = self.add_weight(shape=(4,), name="mask", trainable=False)


class Patched(layers.Dense):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.call = lambda x: x


def capped():
    words = layers.ReversibleEmbedding(7, 4, logit_soft_cap=3.0)
    return Written(lambda m, x: m.words(m.words(ops.cast(x, "int32")), reverse=True), words=words)


def dense():
    """A layer that has its variables."""
    layer = layers.Dense(4)
    layer.build((None, 4))
    return layer


IMAGES, STEPS = draw(1, 6, 6, 4), draw(1, 6, 4)
REFUSED = {
    "transposed": (
        lambda: layers.Conv2DTranspose(2, 3),
        IMAGES,
        "(Conv2DTranspose) holds variables and is none",
    ),
    "depthwise": (lambda: layers.DepthwiseConv2D(3), IMAGES, "(DepthwiseConv2D) holds variables and is none"),
    "three axes": (lambda: layers.Conv3D(2, 1), draw(1, 2, 2, 2, 4), "(Conv3D) holds variables and is none"),
    "groups": (lambda: layers.GroupNormalization(2), VECTORS, "(GroupNormalization) holds variables"),
    "root mean square": (lambda: layers.RMSNormalization(), VECTORS, "(RMSNormalization) holds variables"),
    "the same, by an option": (
        lambda: layers.LayerNormalization(rms_scaling=True),
        VECTORS,
        "(LayerNormalization) divides by the root mean square",
    ),
    "spectral": (
        lambda: layers.SpectralNormalization(layers.Dense(2)),
        VECTORS,
        "(SpectralNormalization) holds",
    ),
    "attention": (
        lambda: Written(lambda m, x: m.a(x, x), a=layers.MultiHeadAttention(2, 2)),
        STEPS,
        "EinsumDense",
    ),
    "learned slope": (lambda: layers.PReLU(), VECTORS, "(PReLU) holds variables"),
    "learned slope inside": (
        lambda: layers.Dense(2, activation=layers.PReLU()),
        VECTORS,
        "beside what Dense holds",
    ),
    "plain recurrent": (lambda: layers.SimpleRNN(3), STEPS, "(SimpleRNNCell) holds variables"),
    "cells": (lambda: layers.RNN([layers.LSTMCell(2)]), STEPS, "(LSTMCell) holds variables"),
    "over images": (lambda: layers.ConvLSTM1D(2, 2), draw(1, 3, 5, 4), "holds variables and is none"),
    "reset before": (lambda: layers.GRU(3, reset_after=False), STEPS, "(GRU) applies its reset gate before"),
    "hard sigmoid": (
        lambda: layers.LSTM(3, recurrent_activation="hard_sigmoid"),
        STEPS,
        "(LSTM) has other activations than tanh and sigmoid",
    ),
    "another activation": (lambda: layers.GRU(3, activation="relu"), STEPS, "(GRU) has other activations"),
    "stateful": (lambda: layers.LSTM(3, stateful=True), STEPS, "(LSTM) keeps its state from batch to batch"),
    "several axes": (
        lambda: layers.LayerNormalization(axis=(1, 2), center=False, scale=False),
        STEPS,
        "(LayerNormalization) normalises over several axes",
    ),
    "another axis": (
        lambda: layers.LayerNormalization(axis=1),
        STEPS,
        "(LayerNormalization) normalises over axis 1, not the last",
    ),
    "rows": (lambda: layers.BatchNormalization(axis=2), IMAGES, "(BatchNormalization) normalises over axis 2"),
    "a sum of products": (lambda: layers.EinsumDense("ab,bc->ac", 3), VECTORS, "(EinsumDense) holds variables"),
    "derived": (lambda: Doubled(2), VECTORS, "(Doubled) has a call of its own"),
    "patched": (lambda: Patched(2), VECTORS, "(Patched) has a call of its own"),
    "another convolution": (lambda: Standardized(2, 2), IMAGES, "(Standardized) has a call of its own"),
    "own variable": (lambda: Scaled(), VECTORS, "(Scaled) holds variables and is none of Dense, "),
    "more than a layer": (lambda: Masked(4), VECTORS, "beside what Dense holds"),
    "convolutions at each step": (
        lambda: layers.TimeDistributed(layers.Conv1D(2, 2)),
        draw(1, 3, 5, 4),
        "(Conv1D) is applied to each step by TimeDistributed",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("seen", [False, True], ids=["without", "with"])
def test_what_is_not_known_is_named(backend, case, seen):
    build, x, reason = REFUSED[case]
    model = Written(lambda m, x: m.inner(x), inner=keras.Sequential([layers.Identity(), build()]))
    model(x)
    with pytest.raises(UnknownLayer) as raised:
        backend.export(model, x if seen else None)
    assert str(raised.value).startswith("layer 'inner.")
    assert reason in str(raised.value)
    with pytest.raises(UnknownLayer):
        backend.load(model, backend.export(plain(4)), x if seen else None)


def test_what_holds_its_kernel_in_another_form_is_refused(backend):
    adapted, quantized = plain(4), plain(4)
    adapted.layers[0].enable_lora(2)
    quantized.quantize("int8")
    for model in (adapted, quantized):
        with pytest.raises(UnknownLayer, match="another form"):
            backend.export(model)


def test_a_projection_that_is_bent_is_refused(backend):
    model = built(capped(), TOKENS)
    with pytest.raises(UnknownLayer, match="logit_soft_cap"):
        backend.export(model, TOKENS)


def test_rows_of_an_image_are_no_channels(backend):
    model = keras.Sequential([layers.Conv2D(3, 2), layers.BatchNormalization(axis=1)])
    with pytest.raises(UnknownLayer, match=r"normalises over axis 1, and the channels .* stand on axis 3"):
        backend.export(built(model, IMAGES), IMAGES)


@pytest.mark.parametrize(
    "call",
    [
        lambda m, x: m.a(x) + m.a.bias,
        lambda m, x: m.a(x * m.a.kernel[0]),
        lambda m, x: m.a(x) * m.a.bias.value,
        lambda m, x: ops.einsum("ni,oi,o->no", m.a(x), m.a.kernel, m.a.bias),
        lambda m, x: ops.matmul(m.a(x), m.a.kernel[:, :2]),
        lambda m, x: ops.transpose(ops.matmul(m.a.kernel, ops.transpose(m.a(x)))),
        lambda m, x: ops.matmul(m.a(x), m.a.kernel * 2),
    ],
)
def test_arithmetic_of_one_s_own_is_seen_and_refused(backend, call):
    model = built(Written(call, a=dense()), VECTORS)
    with pytest.raises(UnknownLayer, match="with a variable of layer 'a' outside of the layer"):
        backend.export(model, VECTORS)


def test_a_product_with_a_kernel_is_a_use_and_one_with_its_transpose_no_tie(backend):
    model = built(Written(lambda m, x: ops.matmul(m.a(x), m.a.kernel), a=layers.Dense(4)), VECTORS)
    parameters = backend.export(model, VECTORS)
    assert [layer.path for layer in parameters.layers] == ["a", "a@2"]
    assert parameters.ties == (("a.weight", "a@2.weight"),)
    turned = built(
        Written(lambda m, x: ops.matmul(m.a(x), ops.transpose(m.a.kernel)), a=layers.Dense(4)), VECTORS
    )
    with pytest.raises(UnknownLayer, match="two orientations"):
        backend.export(turned, VECTORS)


def test_what_asks_for_a_shape_computes_nothing(backend):
    model = Written(
        lambda m, x: m.a(ops.reshape(ops.cast(x, m.a.kernel.dtype), (-1, ops.shape(m.a.kernel)[0]))),
        a=dense(),
    )
    assert backend.export(built(model, VECTORS), VECTORS).ordered


def test_what_is_not_registered_is_seen_and_refused(backend):
    hidden = layers.Dense(4)
    scale = tf.Variable(tf.ones(4))
    fixed = tf.Variable(tf.ones(4), trainable=False)
    for call in (
        lambda m, x: m.a(hidden(x)),
        lambda m, x: m.a(x) * scale,
        lambda m, x: m.a(x) + fixed,
    ):
        model = built(Written(call, a=layers.Dense(4)), VECTORS)
        with pytest.raises(UnknownLayer, match="with a variable that it has not registered"):
            backend.export(model, VECTORS)


def test_a_layer_without_variables_asks_for_a_first_batch(backend):
    for model in (keras.Sequential([layers.Dense(3)]), turned(None), layers.Dense(3)):
        for x in (None, VECTORS):
            with pytest.raises(ValueError, match="has no variables yet; call it on a first batch"):
                backend.export(model, x)


def test_what_is_no_keras_model_is_refused(backend):
    with pytest.raises(UnknownLayer, match="is no Keras model"):
        backend.export(lambda x: x)


# -- other life ---------------------------------------------------------------------------------------------


def test_a_call_that_remembers_is_made_to_forget(backend):
    class Counting(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.calls = layers.Dense(4, activity_regularizer="l2"), 0
            self.seed, self.seen = keras.random.SeedGenerator(1), keras.metrics.Mean()

        def call(self, x):
            self.calls += 1
            self.seen.update_state(1.0)
            self.last = self.dense(x) + keras.random.uniform((4,), seed=self.seed)
            return self.last

    model = built(Counting(), VECTORS)
    before, calls = state(model), model.calls
    backend.export(model, VECTORS)
    assert model.calls == calls
    assert state(model) == before
    backend.carrier().step(model, VECTORS, draw(3, 4), 0.125)
    assert model.calls == calls


def test_a_model_that_fails_is_left_as_it_was(backend):
    def call(m, x):
        x = m.dense(x)
        if m.broken:
            raise RuntimeError("on purpose")
        return x

    model = Written(call, dense=layers.Dense(4, activation="tanh"), broken=False)
    built(model, VECTORS)
    model.broken = True
    before = state(model)
    with pytest.raises(RuntimeError, match="on purpose"):
        backend.export(model, VECTORS)
    assert state(model) == before
    assert not tf.config.functions_run_eagerly()


def test_dropout_and_noise_do_nothing_and_running_statistics_stay(backend):
    model = built(
        keras.Sequential(
            [layers.Dense(4), layers.BatchNormalization(), layers.Dropout(0.5), layers.GaussianNoise(1)]
        ),
        VECTORS,
    )
    before = state(model)
    first, second = (backend.carrier().forward(model, VECTORS) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    backend.export(model, VECTORS)
    assert state(model) == before


def test_loading_goes_through_to_compiled_functions_and_optimizers(backend):
    model, other = filled(plain(4, 4)), filled(plain(4, 4), seed=4)
    model.compile(keras.optimizers.SGD(0.125, 0.5), "mse")
    model.fit(VECTORS, VECTORS, verbose=0)
    function = tf.function(model)
    function(VECTORS)
    variables = [id(one.value.handle) for one in model.weights]
    backend.load(function, backend.export(other))
    assert [id(one.value.handle) for one in model.weights] == variables
    for given in (function(VECTORS), model(VECTORS), model.predict(VECTORS, verbose=0)):
        np.testing.assert_allclose(given, other(VECTORS), rtol=1e-6)
    model.fit(VECTORS, VECTORS, verbose=0)
    assert not np.array_equal(model(VECTORS), other(VECTORS))


def test_what_was_loaded_is_a_copy(backend):
    source, target = filled(plain(4, 3)), plain(4, 3)
    given = {path: array.copy() for path, array in backend.export(source).items()}
    parameters = backend.export(source)
    mine = ParameterSet(parameters.layers, given, parameters.ties)
    backend.load(target, mine)
    for array in given.values():
        array[...] = 0
    again = backend.export(target)
    assert all(same_bits(again[path], parameters[path]) for path in parameters)


def test_a_view_stays_a_view_where_rows_have_been_written(backend):
    """Once an optimizer has written single rows, TensorFlow hands out copies, and no view is claimed."""
    model = built(keras.Sequential([layers.Embedding(7, 3)]), TOKENS)
    assert backend.export(model, copy=False).shared == {"embedding.weight"}
    backend.carrier().step(model, TOKENS, draw(2, 3, 3), 0.125)
    parameters = backend.export(model, TOKENS, copy=False)
    assert not parameters.shared
    assert same_bits(parameters["embedding.weight"], model.layers[0].embeddings.numpy())


def test_a_frozen_layer_is_carried_and_does_not_move(backend):
    model = filled(plain(4, 2))
    model.layers[0].trainable = False
    backend.load(model, backend.export(filled(plain(4, 2), seed=6)))
    before = model.layers[0].kernel.numpy()
    assert len(backend.carrier().step(model, VECTORS, draw(3, 2), 0.125).gradients) == 2
    assert same_bits(model.layers[0].kernel.numpy(), before)
    model.trainable = False
    assert not backend.carrier().step(model, VECTORS, draw(3, 2), 0.125).gradients


def test_a_tied_embedding_s_gradient_is_that_of_both_uses(backend):
    y = draw(2, 3, 7)
    gradients = []
    for project in (by_layer, by_product):
        model = built(language_model(project)(TOKENS), TOKENS)
        step = backend.carrier().step(model, TOKENS, y, 0.0)
        first = backend.carrier().structure(model, TOKENS).layers[0].arrays[0]
        gradients.append(step.gradients[first.storage])
    np.testing.assert_allclose(*gradients, atol=1e-7)

    def loss(nudge):
        model.embedding.embeddings.assign(start + nudge)
        return np.mean((model(TOKENS).numpy().astype("float64") - y) ** 2)

    start, nudge = model.embedding.embeddings.numpy(), np.zeros((7, 5), "float32")
    nudge[2, 1] = 2**-7
    assert gradients[0][2, 1] == pytest.approx((loss(nudge) - loss(-nudge)) * 2**6, rel=2e-2)


@pytest.mark.parametrize("case", ["a tie", "a dtype", "a shape", "a setting"])
def test_what_fails_changes_no_bit(backend, case):
    def model(second=None, last=2, epsilon=1e-3, dtype="float32"):
        first, norm = layers.Dense(4), layers.LayerNormalization(epsilon=epsilon)
        second = Tied(4, first) if second else layers.Dense(4)
        return keras.Sequential([keras.Input((4,)), first, norm, second, layers.Dense(last, dtype=dtype)])

    options = {
        "a tie": {},
        "a dtype": {"dtype": "float64"},
        "a shape": {"last": 3},
        "a setting": {"epsilon": 0.5},
    }
    source, target = filled(model(**options[case]), seed=1), filled(model(second=case == "a tie"))
    before = state(target)
    with pytest.raises((LoadError, MatchError)):
        backend.load(target, backend.export(source))
    assert state(target) == before
