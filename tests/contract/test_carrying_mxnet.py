"""Gluon blocks as their users write them: every layer is found, in its place, and its values come and go.

Layer by layer, what the carrier sees is held against the reference's layers, computed with the canonical
arrays.
"""

from __future__ import annotations

import gc

import numpy
import pytest

from d2lparams.carrying import LoadError, MatchError, UnknownLayer
from d2lparams.parameter_set import ParameterSet, same_bits
from tests.contract.by_reference import computed

# The adapter goes first: it switches to NumPy semantics, in which the blocks must be made.
from backends.mxnet import MXNetBackend  # isort: skip
import mxnet as mx
from mxnet import autograd, gluon, np, npx
from mxnet.gluon import contrib, nn, rnn


@pytest.fixture
def backend():
    return MXNetBackend()


def draw(*shape, seed=0, dtype="float32"):
    return numpy.random.RandomState(seed).uniform(-1, 1, shape).astype(dtype)


def each(model):
    """The parameters of a model, each once."""
    return list({id(one): one for one in model.collect_params().values()}.values())


def filled(model, seed=0, dtype="float32"):
    """The model with values of our own, so that no two arrays and no two of their axes are alike."""
    random = numpy.random.RandomState(seed)
    model.initialize()
    model.cast(dtype)
    for one in each(model):
        value = random.uniform(-1, 1, one.shape) + 2 * one.name.endswith("running_var")
        if one.grad_req != "null" or "running" in one.name:  # what is switched off stays as it is
            one.set_data(np.array(value, dtype=one.dtype))
    return model


def relu(x):
    return numpy.maximum(x, 0)


class Written(gluon.Block):
    """A block of given attributes with a given `forward`, as a class of the user's own would be."""

    def __init__(self, forward, **attributes):
        super().__init__()
        self._forward = forward
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self._forward(self, x)


def sequential(*blocks):
    model = nn.HybridSequential()
    model.add(*blocks)
    return model


def dense(outputs, inputs, **options):
    return nn.Dense(outputs, in_units=inputs, **options)


# -- models, and what they compute when `of(path, x)` is what a layer computes ------------------------------


def nested():
    model = nn.Sequential()
    model.add(
        sequential(nn.Conv2D(3, (2, 3), in_channels=2), nn.BatchNorm(epsilon=2**-8, in_channels=3)),
        nn.Activation("relu"),
        sequential(nn.Flatten(), sequential(dense(5, 18, activation="tanh")), nn.LayerNorm(in_channels=5)),
        nn.Dropout(0.5),
        dense(2, 5, use_bias=False),
    )
    return model


def nested_by_hand(of, x):
    x = relu(of("0.1", of("0.0", x)))
    return of("4", of("2.2", numpy.tanh(of("2.1.0", x.reshape(len(x), -1)))))


def turned_round():
    """Layers of one shape, registered in another order than they are applied in."""
    return Written(
        lambda m, x: m.a(m.c(npx.relu(m.b(x)))), a=dense(4, 4), b=dense(4, 4), c=dense(4, 4, flatten=False)
    )


def sequence():
    """Over time: a convolution, an LSTM in both directions, a dense layer on every step."""
    return Written(
        lambda m, x: m.output(m.lstm(m.conv(x).swapaxes(1, 2))),
        output=dense(2, 6, flatten=False),
        lstm=rnn.LSTM(3, layout="NTC", bidirectional=True, input_size=4),
        conv=nn.Conv1D(4, 3, in_channels=2, activation="tanh"),
    )


def sequence_by_hand(of, x):
    x = numpy.swapaxes(numpy.tanh(of("conv", x)), 1, 2)
    return of("output", numpy.concatenate([of("lstm.l0", x), of("lstm.l0.reverse", x)], axis=-1))


def levels():
    """Time first, as is Gluon's default; the states come in and go out."""
    return Written(
        lambda m, x: m.gru(m.lstm(x.swapaxes(0, 1), m.lstm.begin_state(len(x)))[0]).swapaxes(0, 1),
        lstm=rnn.LSTM(4, num_layers=2, dropout=0.5, input_size=3),
        gru=rnn.GRU(2, num_layers=2, bidirectional=True, input_size=4),
    )


def levels_by_hand(of, x):
    x = of("lstm.l1", of("lstm.l0", x))
    for level in ("gru.l0", "gru.l1"):
        x = numpy.concatenate([of(level, x), of(f"{level}.reverse", x)], axis=-1)
    return x


def channels_first():
    """Dense flattens by itself."""
    return sequential(nn.Conv2D(3, 2, in_channels=1), nn.MaxPool2D(2), dense(2, 12))


def channels_last():
    """Flattened place by place, as where channels stand last."""
    return Written(
        lambda m, x: m.dense(m.pool(m.conv(x)).transpose(0, 2, 3, 1)),
        dense=dense(2, 12),
        pool=nn.MaxPool2D(2),
        conv=nn.Conv2D(3, 2, in_channels=1, activation="relu"),
    )


def flattened_by_hand(conv, dense, activation=lambda x: x):
    def by_hand(of, x):
        x = activation(of(conv, x))
        n, channels, height, width = x.shape
        x = x.reshape(n, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))
        return of(dense, x.reshape(n, -1))

    return by_hand


def shared():
    layer = dense(4, 4, activation="tanh")
    return sequential(layer, sequential(layer), dense(2, 4))


def called_again():
    return Written(lambda m, x: m.last(m.one(np.tanh(m.one(m.one(x))))), one=dense(4, 4), last=dense(2, 4))


def by_parameters():
    """Two layers with the same parameters."""
    first = dense(4, 4)
    return sequential(first, nn.Activation("tanh"), dense(4, 4, params=first.params))


def one_weight():
    """Two layers with one weight, and each with a bias of its own."""
    first = dense(4, 4)
    taken = gluon.ParameterDict("other_")
    taken.update({"other_weight": first.weight})
    return sequential(first, nn.Activation("tanh"), dense(4, 4, params=taken))


def language_model():
    embedding = nn.Embedding(7, 5)
    return Written(
        lambda m, x: m.projection(m.gru(m.embedding(x))),
        embedding=embedding,
        gru=rnn.GRU(5, layout="NTC", input_size=5),
        projection=dense(7, 5, use_bias=False, flatten=False, params=embedding.params),
    )


TOKENS = numpy.array([[1, 2, 6], [0, 3, 2]])
VECTORS = draw(3, 4)
# How to build it; a batch; and what it computes.
MODELS = {
    "nested": (nested, draw(2, 2, 4, 4), nested_by_hand),
    "turned round": (turned_round, VECTORS, lambda of, x: of("a", of("c", relu(of("b", x))))),
    "sequence": (sequence, draw(2, 2, 7), sequence_by_hand),
    "levels": (levels, draw(2, 5, 3), levels_by_hand),
    "channels first": (channels_first, draw(2, 1, 5, 5), flattened_by_hand("0", "2")),
    "channels last": (channels_last, draw(2, 1, 5, 5), flattened_by_hand("conv", "dense", relu)),
    "shared": (
        shared,
        VECTORS,
        lambda of, x: of("2", numpy.tanh(of("1.0", numpy.tanh(of("0", x))))),
    ),
    "called again": (
        called_again,
        VECTORS,
        lambda of, x: of("last", of("one@3", numpy.tanh(of("one@2", of("one", x))))),
    ),
    "by parameters": (by_parameters, VECTORS, lambda of, x: of("2", numpy.tanh(of("0", x)))),
    "one weight": (one_weight, VECTORS, lambda of, x: of("2", numpy.tanh(of("0", x)))),
    "a single layer": (lambda: dense(3, 4), VECTORS, lambda of, x: of("", x)),
    "without affine": (
        lambda: sequential(
            nn.BatchNorm(scale=False, center=False, in_channels=4),
            nn.LayerNorm(scale=False, center=False, in_channels=4),
        ),
        VECTORS,
        lambda of, x: of("1", of("0", x)),
    ),
    "half affine": (
        lambda: sequential(
            nn.LayerNorm(center=False, epsilon=2**-6, in_channels=4), nn.BatchNorm(scale=False, in_channels=4)
        ),
        VECTORS,
        lambda of, x: of("1", of("0", x)),
    ),
    "language model": (
        language_model,
        TOKENS,
        lambda of, x: of("projection", of("gru", of("embedding", x))),
    ),
}

models = pytest.mark.parametrize(("build", "x", "by_hand"), MODELS.values(), ids=MODELS.keys())


def state(model):
    """Everything that a look must not change."""
    blocks = []
    model.apply(blocks.append)
    return {
        "values": {one.name: one.data().asnumpy().tobytes() for one in each(model)},
        "arrays": [id(one.data()) for one in each(model)],
        "gradients": [one.grad_req != "null" and one.grad().asnumpy().tolist() for one in each(model)],
        "hooks": [(len(one._forward_hooks), len(one._forward_pre_hooks)) for one in blocks],
        "compiled": [(getattr(one, "_active", None), id(getattr(one, "_cached_op", 0))) for one in blocks],
        "attributes": [sorted(vars(one)) for one in blocks],
    }


def forward(model, x):
    return model(np.array(x, dtype=x.dtype)).asnumpy()


# -- every model --------------------------------------------------------------------------------------------


@models
def test_every_use_gives_what_the_reference_gives_with_the_canonical_arrays(backend, build, x, by_hand):
    model = filled(build())
    parameters = backend.export(model, x)
    records = {record.path: record for record in parameters.layers}
    seen = {}

    def of(path, x):
        seen[path] = computed(records[path], parameters.of(records[path]), x)
        return seen[path]

    output = by_hand(of, x)
    assert list(seen) == list(records)
    outputs = dict(backend.carrier().outputs(model, x))
    inner = {path for path in records if path not in outputs}
    assert all(".l0" in path for path in inner)  # a recurrent layer tells only what its last level gives
    for path, value in outputs.items():
        numpy.testing.assert_allclose(value, seen[path], atol=1e-5, err_msg=path)
    numpy.testing.assert_allclose(backend.carrier().forward(model, x), output, atol=1e-5)
    numpy.testing.assert_array_equal(backend.carrier().forward(model, x), forward(model, x))


@models
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "hybridised"])
def test_a_fresh_model_takes_the_values_from_a_file(backend, build, x, by_hand, compiled, tmp_path):
    model, other = filled(build(), seed=1), filled(build(), seed=2)
    if compiled:
        other.hybridize(static_alloc=True, static_shape=True)
        forward(other, x)
    parameters = backend.export(model, x)
    parameters.save(tmp_path / "x.safetensors")
    assert backend.load(other, ParameterSet.open(tmp_path / "x.safetensors"), x) is other
    again = backend.export(other, x)
    assert (again.ties, again.layers) == (parameters.ties, parameters.layers)
    assert all(same_bits(again[path], parameters[path]) for path in parameters)
    for one, two in zip(each(model), each(other), strict=True):
        assert same_bits(one.data().asnumpy(), two.data().asnumpy())
    numpy.testing.assert_allclose(forward(other, x), forward(model, x), rtol=0, atol=1e-6 * compiled)


@models
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "hybridised"])
def test_looking_changes_nothing(backend, build, x, by_hand, compiled):
    model = filled(build())
    if compiled:
        model.hybridize()
        forward(model, x)
    for one in each(model):
        if one.grad_req != "null":
            one.grad()[:] = 1
    before = state(model)
    with autograd.record():
        backend.export(model, x)
        backend.export(model, x, copy=False)
        backend.carrier().outputs(model, x)
        backend.carrier().forward(model, x)
    assert state(model) == before


@models
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "hybridised"])
def test_a_step_is_the_one_of_gluon_s_own_loop(backend, build, x, by_hand, compiled):
    model, other = filled(build()), filled(build())
    if compiled:
        model.hybridize()
        other.hybridize()
    y = draw(*forward(model, x).shape, seed=9)
    trained = {one.name: one for one in other.collect_params().values() if one.grad_req != "null"}
    if not trained:
        step = backend.carrier().step(model, x, y, 0.125)
        assert step.gradients == {}
        assert step.loss == pytest.approx(numpy.mean((forward(model, x) - y) ** 2), rel=1e-6)
        return
    trainer = gluon.Trainer(list(trained.values()), "sgd", {"learning_rate": 0.125}, kvstore=None)
    # Max pooling has wrong gradients where it is not run in training mode.
    training = build in (channels_first, channels_last)
    with autograd.record(train_mode=training):
        loss = ((other(np.array(x, dtype=x.dtype)) - np.array(y)) ** 2).mean()
    loss.backward(train_mode=training)
    trainer.step(1)
    mine = gluon.Trainer(model.collect_params(), "sgd", kvstore=None) if build is nested else None
    step = backend.carrier().step(model, x, y, 0.125)
    assert step.loss == float(loss)
    pairs = list(zip(each(model), each(other), strict=True))
    gradients = [two.grad().asnumpy() for one, two in pairs if two.grad_req != "null"]
    assert len(step.gradients) == len(gradients)
    storages = [id(one.data()) for one, two in pairs if two.grad_req != "null"]
    for storage, gradient in zip(storages, gradients, strict=True):
        numpy.testing.assert_array_equal(step.gradients[storage], gradient)
    for one, two in pairs:
        numpy.testing.assert_array_equal(one.data().asnumpy(), two.data().asnumpy(), err_msg=one.name)
        assert one.grad_req == "null" or not one.grad().asnumpy().any()  # put back
        assert one._trainer is mine
    held = {one.storage for layer in backend.carrier().structure(model, x).layers for one in layer.arrays}
    assert set(step.gradients) <= held


def test_max_pooling_has_its_gradient_and_nothing_is_dropped_or_counted(backend):
    """MXNet's own gradient of it is wrong on a CPU, outside of training mode, where nothing is dropped."""
    x, y = draw(2, 1, 5, 5), draw(2, 2, seed=1)
    norm = nn.BatchNorm(in_channels=3)
    model = filled(
        sequential(nn.Conv2D(3, 2, in_channels=1), norm, nn.MaxPool2D(2), nn.Dropout(0.5), dense(2, 12))
    )
    weight, statistics = model[0].weight, norm.running_mean.data().asnumpy()
    value, expected = weight.data().asnumpy(), numpy.zeros(weight.shape)
    for place in numpy.ndindex(*weight.shape):
        losses = []
        for nudge in (2**-11, -(2**-11)):
            moved = value.copy()
            moved[place] += nudge
            weight.set_data(np.array(moved))
            losses.append(numpy.mean((forward(model, x).astype("float64") - y) ** 2))
        expected[place] = (losses[0] - losses[1]) * 2**10
    weight.set_data(np.array(value))
    step = backend.carrier().step(model, x, y, 0.125)
    numpy.testing.assert_allclose(step.gradients[id(weight.data())], expected, atol=1e-3)
    assert same_bits(norm.running_mean.data().asnumpy(), statistics)
    assert not autograd.is_training()


def kernels(parameters):
    """The paths of kernels, which oneDNN moves, so that they are copied."""
    convolutions = [layer for layer in parameters.layers if layer.kind.startswith("conv")]
    return {path for layer in convolutions for path in layer.keys}


@models
def test_a_view_shares_memory_cannot_be_written_and_keeps_it_alive(backend, build, x, by_hand):
    model = filled(build())
    parameters = backend.export(model, x, copy=False)
    # What stands in another order than here can be seen only as a copy.
    copied = kernels(parameters) | ({"dense.weight"} if build is channels_last else set())
    assert parameters.shared == set(parameters) - copied
    for path, array in parameters.items():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        if path not in copied:
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.flags.writeable = True
    before = {path: array.copy() for path, array in parameters.items()}
    for one in each(model):
        one.set_data(one.data() + 1)
    mx.nd.waitall()
    for path, array in parameters.items():
        off = numpy.zeros(()) if path in copied else numpy.ones(())
        numpy.testing.assert_array_equal(array, before[path] + off.astype(array.dtype), err_msg=path)
    after = {path: array.copy() for path, array in parameters.items()}
    del model
    gc.collect()
    np.zeros((64, 64)).wait_to_read()
    assert all(same_bits(array, after[path]) for path, array in parameters.items())


# -- order ---------------------------------------------------------------------------------------------------


def test_a_sequential_says_its_order_and_a_class_does_not(backend):
    assert backend.export(filled(nested())).ordered
    assert [layer.path for layer in backend.export(filled(shared())).layers] == ["0", "1.0", "2"]
    plain = backend.export(filled(turned_round()))
    assert not plain.ordered
    assert [layer.path for layer in plain.layers] == ["a", "b", "c"]
    seen = backend.export(filled(turned_round()), VECTORS)
    assert seen.ordered
    assert [layer.path for layer in seen.layers] == ["b", "c", "a"]


def test_layers_in_another_order_find_their_values_with_an_input_and_are_refused_without(backend):
    written = filled(turned_round(), seed=1)
    plain = filled(sequential(dense(4, 4, activation="relu"), dense(4, 4), dense(4, 4)))
    backend.load(plain, backend.export(written, VECTORS), VECTORS)
    numpy.testing.assert_array_equal(forward(plain, VECTORS), forward(written, VECTORS))
    back = backend.load(filled(turned_round()), backend.export(plain), VECTORS)
    numpy.testing.assert_array_equal(forward(back, VECTORS), forward(written, VECTORS))
    for model, parameters in (
        (plain, backend.export(written)),
        (filled(turned_round()), backend.export(plain)),
    ):
        before = state(model)
        with pytest.raises(MatchError, match="pass an example input x"):
            backend.load(model, parameters)
        assert state(model) == before


def test_a_sequential_that_computes_otherwise_says_no_order(backend):
    class Backwards(nn.HybridSequential):
        def hybrid_forward(self, F, x):  # noqa: N803
            for one in reversed(self._children.values()):
                x = one(x)
            return x

    backwards = Backwards()
    backwards.add(dense(4, 4), dense(4, 4))
    beside = contrib.nn.HybridConcurrent(axis=1)
    beside.add(dense(4, 4), dense(4, 4))
    within = nn.Sequential()
    within.add(dense(4, 4), nn.Lambda(lambda x: backwards(x)), dense(4, 4))
    for model in (backwards, beside, within):
        assert not backend.export(filled(model)).ordered
    seen = backend.export(backwards, VECTORS)
    assert seen.ordered
    assert [layer.path for layer in seen.layers] == ["1", "0"]


def test_a_layer_that_is_not_used_is_there_and_stays_where_it_is(backend):
    model = filled(Written(lambda m, x: m.used(x), spare=dense(4, 4), used=dense(4, 4)))
    parameters = backend.export(model, VECTORS)
    assert not parameters.ordered
    assert [layer.path for layer in parameters.layers] == ["used", "spare"]
    step = backend.carrier().step(model, VECTORS, draw(3, 4, seed=1), 0.125)
    assert set(step.gradients) == {id(model.used.weight.data()), id(model.used.bias.data())}
    assert same_bits(model.spare.weight.data().asnumpy(), parameters["spare.weight"])


def test_a_hybridised_class_around_a_recurrent_layer_is_looked_into(backend):
    """MXNet cannot run it compiled: it takes the size of the batch for zero."""

    class Tagger(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.output = dense(2, 3, flatten=False)
            self.lstm = rnn.LSTM(3, layout="NTC", input_size=4)

        def hybrid_forward(self, F, x):  # noqa: N803
            return self.output(self.lstm(x))

    model = filled(Tagger())
    model.hybridize()
    assert [layer.path for layer in backend.export(model, draw(2, 5, 4)).layers] == ["lstm", "output"]
    with pytest.raises(mx.MXNetError, match="Shape inconsistent"):
        forward(model, draw(2, 5, 4))


def test_a_network_of_the_model_zoo_comes_and_goes(backend):
    def build(seed):
        net = gluon.model_zoo.vision.get_resnet(2, 18, thumbnail=True, classes=3)
        net.initialize()
        net(np.zeros((1, 3, 32, 32)))
        return filled(net, seed)

    x, model, other = draw(2, 3, 32, 32), build(0), build(1)
    model.hybridize()
    parameters = backend.export(model, x)
    assert parameters.ordered
    assert len(parameters.layers) == 39
    assert "weight" not in parameters.layers[0].arrays  # ResNet V2 begins with a norm without scale and shift
    backend.load(other, parameters, x)
    numpy.testing.assert_allclose(forward(other, x), forward(model, x), rtol=1e-5)
    # Only a run tells how a class of the zoo flattens.
    with pytest.raises(ValueError, match="pass x, an example input"):
        backend.export(model)


# -- flattened images ----------------------------------------------------------------------------------------


def flattenings(backend, model, x=None):
    layers = backend.carrier().structure(filled(model), x).layers
    return {
        layer.path: (layer.flattened.channels, layer.flattened.channels_last)
        for layer in layers
        if layer.flattened
    }


def test_both_orders_of_flattening_have_one_canonical_form(backend):
    x = draw(2, 1, 5, 5)
    last, first = filled(channels_last()), filled(channels_first())
    parameters = backend.export(last, abs(x))
    first[0].act = nn.Activation("relu")
    backend.load(first, parameters, x)
    numpy.testing.assert_allclose(forward(first, x), forward(last, x), atol=1e-6)
    assert not numpy.array_equal(first[2].weight.data().asnumpy(), last.dense.weight.data().asnumpy())
    again = backend.load(filled(channels_last(), seed=3), backend.export(first), x)
    assert same_bits(again.dense.weight.data().asnumpy(), last.dense.weight.data().asnumpy())


def test_how_a_dense_layer_s_input_is_flattened_is_seen(backend):
    x = draw(2, 1, 5, 5)
    assert flattenings(backend, channels_first()) == {"2": (3, False)}
    assert flattenings(backend, channels_first(), x) == {"2": (3, False)}
    assert flattenings(backend, channels_last(), x) == {"dense": (3, True)}
    # Normalised and padded before it is flattened.
    normalised = sequential(
        nn.Conv2D(3, 2, padding=1, in_channels=1),
        nn.BatchNorm(in_channels=3),
        nn.ELU(),
        nn.AvgPool2D(3, strides=1, padding=1),
        nn.Flatten(),
        dense(6, 507),
        dense(6, 6),
    )
    assert flattenings(backend, normalised) == {"5": (3, False)}
    assert flattenings(backend, normalised, draw(2, 1, 12, 12)) == {"5": (3, False)}
    moved = Written(
        lambda m, x: m.dense(m.norm(m.conv(x).transpose(0, 2, 3, 1))),
        dense=dense(2, 48),
        norm=nn.BatchNorm(axis=-1, in_channels=3),
        conv=nn.Conv2D(3, 2, in_channels=1),
    )
    assert flattenings(backend, moved, x) == {"dense": (3, True)}
    assert dict(backend.carrier().outputs(moved, x))["norm"].shape == (2, 3, 4, 4)
    over_time = Written(
        lambda m, x: m.dense(m.conv(x).swapaxes(1, 2)),
        conv=nn.Conv1D(3, 2, in_channels=2),
        dense=dense(2, 12),
    )
    assert flattenings(backend, over_time, draw(2, 2, 5)) == {"dense": (3, True)}


def test_where_nothing_is_flattened_nothing_is_seen(backend):
    x = draw(2, 1, 5, 5)
    pooled = sequential(nn.Conv2D(3, 2, in_channels=1), nn.GlobalAvgPool2D(), dense(6, 3))
    every_step = Written(
        lambda m, x: m.dense(m.conv(x).swapaxes(1, 2)),
        conv=nn.Conv1D(3, 2, in_channels=2),
        dense=dense(9, 3, flatten=False),
    )
    assert flattenings(backend, pooled) == flattenings(backend, pooled, x) == {}
    assert flattenings(backend, every_step, draw(2, 2, 5)) == {}


def test_what_cannot_be_certain_without_an_input_asks_for_one(backend):
    conv = nn.Conv2D(3, 2, in_channels=1)
    written = Written(lambda m, x: m.dense(m.conv(x)), conv=conv, dense=dense(2, 48))

    def turn(F, x):  # noqa: N803  (Gluon's own name)
        return x.transpose(0, 2, 3, 1)

    turned = sequential(conv, nn.HybridLambda(turn), dense(2, 48))
    for model, last in ((written, False), (turned, True)):
        with pytest.raises(ValueError, match="pass x, an example input"):
            backend.export(filled(model))
        ((_, found),) = flattenings(backend, model, draw(1, 1, 5, 5)).values()
        assert found is last


def test_mixed_channels_are_refused(backend):
    order = numpy.random.RandomState(0).permutation(48)
    model = Written(
        lambda m, x: m.dense(np.take(m.conv(x).reshape(len(x), -1), np.array(order), axis=1)),
        conv=nn.Conv2D(3, 2, in_channels=1),
        dense=dense(2, 48),
    )
    with pytest.raises(UnknownLayer, match="mixes the channels"):
        backend.export(filled(model), draw(1, 1, 5, 5))


# -- settings, dtypes, frozen parameters ---------------------------------------------------------------------


def test_settings_say_what_arrays_do_not(backend):
    model = filled(
        sequential(
            nn.Conv1D(6, 3, groups=2, in_channels=4),
            nn.BatchNorm(epsilon=2**-7, in_channels=6),
            nn.Conv1D(2, 1, in_channels=6),
        )
    )
    grouped, normal, plain = backend.export(model).layers
    assert (grouped.settings, normal.settings, plain.settings) == ({"groups": 2}, {"epsilon": 2**-7}, {})
    assert backend.export(model)["0.weight"].shape == (6, 2, 3)
    forwards, backwards = backend.export(filled(rnn.GRU(2, bidirectional=True, input_size=3))).layers
    assert (forwards.path, backwards.path) == ("l0", "l0.reverse")
    assert (forwards.settings, backwards.settings) == ({}, {"reverse": True})


def test_another_epsilon_is_an_error(backend):
    wide, plain = (filled(nn.LayerNorm(in_channels=4, **one)) for one in ({"epsilon": 0.25}, {}))
    before = state(plain)
    with pytest.raises(LoadError, match=r"has epsilon 1e-05, and the parameters were made with 0\.25"):
        backend.load(plain, backend.export(wide))
    assert state(plain) == before
    backend.load(plain, backend.export(wide), settings=False)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_every_float_comes_and_goes(backend, dtype, tmp_path):
    x = draw(1, 2, 4, 4, dtype=dtype)
    model = filled(nested(), dtype=dtype)
    # Gluon keeps a batch normalisation in float32 where all else is cast to float16.
    parameters = backend.export(model, x if dtype == "float64" else None)
    norm = {"float16": "float32"}.get(dtype, dtype)
    assert {str(array.dtype) for path, array in parameters.items() if not path.startswith("0.1")} == {dtype}
    assert {str(array.dtype) for path, array in parameters.items() if path.startswith("0.1")} == {norm}
    parameters.save(tmp_path / "x.safetensors")
    other = filled(nested(), seed=1, dtype=dtype)
    backend.load(other, ParameterSet.open(tmp_path / "x.safetensors"))
    assert all(same_bits(value, parameters[path]) for path, value in backend.export(other).items())


def test_frozen_parameters_are_carried_and_do_not_move(backend):
    model, other = filled(sequential(dense(4, 4), nn.LayerNorm(in_channels=4), dense(2, 4))), filled(nested())
    model[0].collect_params().setattr("grad_req", "null")
    model[1].gamma.grad_req = "null"
    parameters = backend.export(model)
    assert len(parameters) == 6
    step = backend.carrier().step(model, VECTORS, draw(3, 2, seed=1), 0.125)
    assert len(step.gradients) == 3
    after = backend.export(model)
    assert {path for path in after if not same_bits(after[path], parameters[path])} == {
        "1.bias",
        "2.weight",
        "2.bias",
    }
    other = filled(sequential(dense(4, 4), nn.LayerNorm(in_channels=4), dense(2, 4)), seed=1)
    other.collect_params().setattr("grad_req", "null")
    backend.load(other, parameters)
    assert {one.grad_req for one in each(other)} == {"null"}


def test_gradients_that_add_up_do_not_get_into_a_step(backend):
    model, other = filled(dense(2, 4)), filled(dense(2, 4))
    model.collect_params().setattr("grad_req", "add")
    for one in each(model):
        one.grad()[:] = 7
    y = draw(3, 2, seed=1)
    steps = [backend.carrier().step(one, VECTORS, y, 0.125) for one in (model, other)]
    for one, two in zip(*(step.gradients.values() for step in steps), strict=True):
        numpy.testing.assert_array_equal(one, two)
    assert all((one.grad().asnumpy() == 7).all() for one in each(model))


def test_values_get_through_to_a_trainer_and_a_compiled_graph(backend):
    """The arrays stay the ones that both know."""
    model = filled(sequential(dense(4, 4, activation="tanh"), dense(2, 4)))
    model.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 0.125, "momentum": 0.5})
    with autograd.record():
        loss = (model(np.array(VECTORS)) ** 2).mean()
    loss.backward()
    trainer.step(1)
    values = backend.export(filled(sequential(dense(4, 4, activation="tanh"), dense(2, 4)), seed=5))
    arrays = [id(one.data()) for one in each(model)]
    with autograd.record():
        backend.load(model, values)
    assert [id(one.data()) for one in each(model)] == arrays
    plain = backend.load(filled(sequential(dense(4, 4, activation="tanh"), dense(2, 4))), values)
    numpy.testing.assert_allclose(forward(model, VECTORS), forward(plain, VECTORS), atol=1e-6)
    with autograd.record():
        loss = (model(np.array(VECTORS)) ** 2).mean()
    loss.backward()
    trainer.step(1)
    moved = backend.export(model)
    assert not any(same_bits(moved[path], values[path]) for path in values)


def test_a_kernel_that_onednn_has_put_into_its_order_comes_and_goes(backend):
    x, model = draw(2, 6, 8, 8), filled(nn.Conv2D(16, 5, in_channels=6))
    before = model.weight.data().asnumpy()
    lent = backend.export(model, copy=False)
    forward(model, x)
    assert same_bits(backend.export(model)["weight"], before)
    assert same_bits(lent["weight"], before)
    assert lent.shared == set()
    other = filled(nn.Conv2D(16, 5, in_channels=6), seed=1)
    other.hybridize()
    forward(other, x)
    backend.load(other, lent)
    numpy.testing.assert_array_equal(forward(other, x), forward(model, x))


# -- what is not known ---------------------------------------------------------------------------------------


def refused():
    class Doubled(nn.Dense):
        def hybrid_forward(self, F, x, weight, bias):  # noqa: N803
            return 2 * super().hybrid_forward(F, x, weight, bias)

    class Scaled(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.scale = self.params.get("scale", shape=(4,))

        def hybrid_forward(self, F, x, scale):  # noqa: N803
            return x * scale

    patched = dense(4, 4)
    patched.hybrid_forward = lambda _, x, weight, bias: x
    hidden = Written(lambda m, x: x)
    hidden.params.get("table", shape=(4,))
    constant = Written(lambda m, x: x)
    constant.table = constant.params.get_constant("table", np.ones(4))
    off = nn.LayerNorm(center=False, beta_initializer="ones", in_channels=4)
    norm = nn.BatchNorm(center=False, beta_initializer="ones", in_channels=4)
    return {
        "transposed": (nn.Conv2DTranspose(2, 2, in_channels=2), "(Conv2DTranspose) holds parameters and is "),
        "three axes": (nn.Conv3D(2, 2, in_channels=2), "(Conv3D) holds"),
        "groups": (nn.GroupNorm(2), "(GroupNorm) holds"),
        "instances": (nn.InstanceNorm(in_channels=4), "(InstanceNorm) holds"),
        "learned slope": (nn.PReLU(), "(PReLU) holds"),
        "with an activation": (nn.BatchNormReLU(in_channels=4), "(BatchNormReLU) holds"),
        "over devices": (contrib.nn.SyncBatchNorm(in_channels=4), "(SyncBatchNorm) holds"),
        "plain recurrent": (rnn.RNN(2, input_size=4), "(RNN) holds"),
        "projected cell": (contrib.rnn.LSTMPCell(2, 3, input_size=4), "(LSTMPCell) holds"),
        "projected": (rnn.LSTM(4, projection_size=2, input_size=4), "(LSTM) projects its hidden state"),
        "clipped": (
            rnn.LSTM(4, state_clip_min=-1, state_clip_max=1, input_size=4),
            "(LSTM) clips its state",
        ),
        "another activation": (
            rnn.LSTMCell(2, input_size=4, activation="relu"),
            "(LSTMCell) has the activations relu and sigmoid",
        ),
        "channels last": (nn.Conv2D(2, 2, layout="NHWC", in_channels=2), "(Conv2D) has layout NHWC"),
        "another axis": (nn.LayerNorm(axis=1, in_channels=4), "(LayerNorm) normalises over axis 1"),
        "a shift that is off and not": (off, "(LayerNorm) is built without beta, computes with it"),
        "the same of a batch": (norm, "(BatchNorm) is built without beta, computes with it"),
        "derived": (Doubled(4, in_units=4), "(Doubled) holds"),
        "patched": (patched, "(Dense) holds"),
        "own parameter": (Scaled(), "(Scaled) holds"),
        "own parameter without an attribute": (hidden, "(Written) holds"),
        "own constant": (constant, "(Written) holds"),
    }


@pytest.mark.parametrize("case", list(refused()))
@pytest.mark.parametrize("x", [None, VECTORS], ids=["without", "with"])
def test_what_is_not_known_is_named(backend, case, x):
    layer, reason = refused()[case]
    model = sequential(dense(4, 4), sequential(nn.Flatten()))
    model[1].register_child(layer, "inner") if isinstance(layer, gluon.HybridBlock) else None
    if len(model[1]) == 1:
        model = nn.Sequential()
        model.add(dense(4, 4), Written(lambda m, x: x, inner=layer))
    model.initialize()
    with pytest.raises(UnknownLayer) as raised:
        backend.export(model, x)
    assert str(raised.value).startswith("layer '1.inner'")
    assert reason in str(raised.value)


def test_what_only_decides_the_structure_is_no_value(backend):
    model = sequential(dense(4, 4), nn.Dropout(0.5), nn.LeakyReLU(0.1), nn.GELU())
    assert len(backend.export(filled(model), VECTORS).layers) == 1


def test_values_that_are_not_there_yet_are_asked_for(backend):
    lazy, bare = sequential(nn.Dense(3)), sequential(dense(3, 4))
    lazy.initialize()
    for model in (lazy, bare):
        for x in (None, VECTORS):
            with pytest.raises(ValueError, match=r"\Alayer '0' \(Dense\) has no arrays yet; call initialize"):
                backend.export(model, x)
    lazy(np.array(VECTORS))
    assert backend.export(lazy, VECTORS)["0.weight"].shape == (3, 4)


def test_cells_are_carried_but_not_run(backend):
    """MXNet has them for its legacy arrays only."""
    pair = rnn.BidirectionalCell(rnn.GRUCell(2, input_size=3), rnn.GRUCell(2, input_size=3))
    stack = rnn.SequentialRNNCell()
    stack.add(rnn.LSTMCell(3, input_size=4))
    stack.add(pair)
    model = filled(stack)
    parameters = backend.export(model)
    assert [(layer.path, layer.kind, dict(layer.settings)) for layer in parameters.layers] == [
        ("0", "lstm", {}),
        ("1.l_cell", "gru", {}),
        ("1.r_cell", "gru", {"reverse": True}),
    ]
    fused = filled(rnn.LSTM(3, input_size=4), seed=2)
    backend.load(fused, backend.export(model._children["0"]))
    assert same_bits(fused.l0_i2h_weight.data().asnumpy(), model._children["0"].i2h_weight.data().asnumpy())
    with pytest.raises(ValueError, match="does not compute with NumPy semantics; leave x out"):
        backend.export(model, VECTORS)


def test_an_imported_graph_has_no_layers(backend, tmp_path):
    model = filled(sequential(dense(3, 4)))
    model.hybridize()
    forward(model, VECTORS)
    model.export(str(tmp_path / "net"))
    imported = gluon.SymbolBlock.imports(
        str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params")
    )
    with pytest.raises(UnknownLayer, match=r"'the model itself' \(SymbolBlock\) is an imported graph"):
        backend.export(imported, VECTORS)
