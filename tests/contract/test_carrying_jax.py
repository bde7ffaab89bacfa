"""Flax models as their users write them: what is carried out of them, and into them."""

from __future__ import annotations

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.core import FrozenDict, freeze, unfreeze
from flax.traverse_util import flatten_dict

from backends.jax import JaxBackend
from backends.layers.numpy import NumpyLayers
from backends.models.jax import retyped
from d2lparams.carrying import LoadError
from d2lparams.interface import Flattened, Layer, UnknownLayer, with_summed_biases
from d2lparams.matching import MatchError
from d2lparams.parameter_set import ParameterSet, same_bits


@pytest.fixture
def backend():
    return JaxBackend()


def drawn(*shape, seed=0, dtype="float32"):
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype(dtype)


def filled(module, x, seed=1, looks=False, **choices):
    """The module with values of our own, no two the same; variances are positive."""
    variables = (
        module.init(jax.random.key(0), x, **choices)
        if looks
        else jax.eval_shape(lambda x: module.init(jax.random.key(0), x, **choices), x)
    )
    random = np.random.RandomState(seed)

    def values(path, leaf):
        low = 0.5 if jax.tree_util.keystr(path).endswith("['var']") else -1
        return jnp.asarray(random.uniform(low, 1, leaf.shape), leaf.dtype)

    return module, jax.tree_util.tree_map_with_path(values, variables)


def tokens(*shape):
    return np.random.RandomState(3).randint(0, 7, shape).astype("int32")


def leaves(model):
    return {place: np.array(leaf) for place, leaf in flatten_dict(model[1]).items()}


def unchanged(model, before):
    after = leaves(model)
    return list(after) == list(before) and all(same_bits(after[place], before[place]) for place in before)


# -- models ----------------------------------------------------------------------------------------------------


def compact():
    class Compact(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(2):
                x = nn.tanh(nn.Dense(5)(x))
            return nn.Dense(5, use_bias=False, name="a_last")(x)

    return Compact(), drawn(3, 5)


def other_order():
    """Its layers are all alike, and are registered in another order than they are applied in."""

    class OtherOrder(nn.Module):
        def setup(self):
            self.c, self.a, self.b = nn.Dense(4), nn.Dense(4), nn.Dense(4)

        def __call__(self, x):
            return self.c(nn.tanh(self.b(nn.tanh(self.a(x)))))

    return OtherOrder(), drawn(3, 4)


def nested():
    inner = nn.Sequential([nn.Dense(5), nn.Sequential([nn.tanh, nn.Dense(5)]), nn.tanh])
    return nn.Sequential([nn.Dense(5), inner, nn.Dense(5)]), drawn(3, 5)


def shared():
    one = nn.Dense(5)
    return nn.Sequential([one, nn.tanh, nn.Sequential([one, nn.tanh]), nn.Dense(5), one]), drawn(3, 5)


def tied_parameters():
    layers = nn.Sequential([nn.Dense(5), nn.tanh, nn.Dense(5), nn.tanh, nn.Dense(5)])
    ties = {("layers_4", "kernel"): ("layers_0", "kernel")}
    return retyped(layers, ties), drawn(3, 5)


def images():
    class Images(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.Conv(6, (3, 3), use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, epsilon=1e-3)(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
            x = nn.Conv(4, (2, 3), padding="VALID", feature_group_count=2)(x)
            x = nn.LayerNorm(use_bias=False)(nn.Dropout(0.5, deterministic=not train)(x))
            return nn.Dense(3)(nn.relu(nn.Dense(8)(x.reshape((x.shape[0], -1)))))

    return Images(), drawn(2, 8, 10, 3)


def transposed_images():
    class Transposed(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(4, (3, 3))(x))
            return nn.Dense(5)(x.transpose((0, 3, 1, 2)).reshape((x.shape[0], -1)))

    return Transposed(), drawn(2, 5, 6, 3)


def two_heads():
    class Heads(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(4, (3, 3))(x)).reshape((x.shape[0], -1))
            box, label = nn.Dense(4, name="box")(x), nn.Dense(7, name="label")(x)
            return jnp.concatenate([box, nn.Dense(3)(nn.tanh(label))], 1)

    return Heads(), drawn(2, 4, 4, 2)


def branches():
    """Side by side, then one number for each channel; the last branch's channels divide them all."""

    class Branches(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = jnp.concatenate([nn.relu(nn.Conv(4, (size, size))(x)) for size in (1, 3)], -1)
            return nn.Dense(3)(x.mean((1, 2)))

    return Branches(), drawn(2, 5, 5, 2)


def flattened_branches():
    class Branches(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = jnp.concatenate([nn.relu(nn.Conv(4, (size, size))(x)) for size in (1, 3)], -1)
            return nn.Dense(3)(nn.max_pool(x, (2, 2), (2, 2)).reshape((x.shape[0], -1)))

    return Branches(), drawn(2, 4, 4, 2)


def sequences():
    class Sequences(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(6, (3,), padding="CAUSAL")(x))
            x = nn.BatchNorm(use_running_average=True)(x)
            return nn.Dense(3)(x.reshape((x.shape[0], -1)))

    return Sequences(), drawn(2, 7, 4)


def recurrent():
    """Two levels, both directions; then a level of its own backwards, time first."""

    class Recurrent(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Bidirectional(nn.RNN(nn.LSTMCell(3)), nn.RNN(nn.OptimizedLSTMCell(3)))(x)
            x = nn.Bidirectional(nn.RNN(nn.GRUCell(4)), nn.RNN(nn.GRUCell(4)))(x)
            backwards = nn.RNN(nn.GRUCell(5), reverse=True, time_major=True, name="backwards")
            return backwards(jnp.moveaxis(x, 0, 1))

    return Recurrent(), drawn(2, 6, 4)


def language():
    class Language(nn.Module):
        def setup(self):
            self.embed, self.rnn = nn.Embed(7, 4), nn.RNN(nn.GRUCell(4))
            self.norm = nn.LayerNorm(epsilon=1e-3)

        def __call__(self, x):
            return self.embed.attend(self.norm(self.rnn(self.embed(x))))

    return Language(), tokens(2, 5)


def lifted():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x + nn.Dense(4)(nn.tanh(nn.Dense(4)(x)))

    # What is compiled for one is taken for the others, too, and for one that is applied again.
    jitted, again = nn.jit(Block), nn.jit(Block)()
    return nn.Sequential([nn.remat(Block)(), jitted(), jitted(), again, nn.tanh, again, nn.Dense(4)]), drawn(
        3, 4
    )


def trained_by_field():
    class Field(nn.Module):
        training: bool = True

        @nn.compact
        def __call__(self, x):
            plain = {"use_scale": False, "use_bias": False}
            x = nn.BatchNorm(use_running_average=not self.training, **plain)(nn.Dense(4)(x))
            x = nn.Dropout(0.5, deterministic=not self.training)(x)
            return nn.LayerNorm(**plain)(x)

    return Field(), drawn(3, 4)


def looks_at_values():
    class Looks(nn.Module):
        def setup(self):
            self.a, self.b = nn.Dense(4), nn.Dense(4)

        def __call__(self, x):
            return self.a(self.b(x)) if float(x.sum()) > 1e6 else self.b(self.a(x))

    return Looks(), drawn(3, 4)


def one_layer():
    return nn.Dense(3), drawn(2, 4)


def wide():
    layers = [nn.Dense(5, param_dtype="float64"), nn.tanh, nn.Dense(3, param_dtype="float64")]
    return nn.Sequential(layers), drawn(3, 4, dtype="float64")


MODELS = {
    compact: "dense dense dense",
    other_order: "dense dense dense",
    nested: "dense dense dense dense",
    shared: "dense dense dense dense",
    tied_parameters: "dense dense dense",
    images: "conv2d batchnorm conv2d layernorm dense dense",
    transposed_images: "conv2d dense",
    two_heads: "conv2d dense dense dense",
    branches: "conv2d conv2d dense",
    flattened_branches: "conv2d conv2d dense",
    sequences: "conv1d batchnorm dense",
    recurrent: "lstm lstm gru gru gru",
    language: "embedding gru layernorm dense",
    lifted: "dense dense dense dense dense dense dense dense dense dense dense",
    trained_by_field: "dense batchnorm",
    looks_at_values: "dense dense",
    one_layer: "dense",
}
CHOICES = {images: {"train": False}}

every = pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)


def made(build, seed=1):
    module, x = build()
    return filled(module, x, seed, build is looks_at_values, **CHOICES.get(build, {})), x


# -- out and in ------------------------------------------------------------------------------------------------


@every
def test_values_come_back_bit_by_bit(backend, build, tmp_path):
    model, x = made(build)
    backend.export(model, x).save(tmp_path / "model.safetensors")
    other, _ = made(build, seed=2)
    places, before = leaves(other), list(flatten_dict(other[1]))
    assert backend.load(other, ParameterSet.open(tmp_path / "model.safetensors"), x) is other
    assert unchanged(other, leaves(model))
    assert list(flatten_dict(other[1])) == before
    assert not any(same_bits(value, leaves(other)[place]) for place, value in places.items())
    carrier = backend.carrier()
    assert same_bits(carrier.forward(model, x), carrier.forward(other, x))


@every
def test_layers_are_seen_in_order_of_application(backend, build):
    model, x = made(build)
    structure = backend.carrier().structure(model, x)
    assert " ".join(layer.kind for layer in structure.layers) == MODELS[build]
    assert structure.ordered
    paths = [layer.path for layer in structure.layers]
    assert len(set(paths)) == len(paths)
    assert paths == [path for path, _ in backend.carrier().outputs(model, x)]


@every
def test_looking_changes_nothing(backend, build):
    model, x = made(build)
    before, objects = leaves(model), jax.tree.leaves(model[1])
    backend.export(model, x)
    backend.carrier().outputs(model, x)
    backend.carrier().forward(model, x)
    assert unchanged(model, before)
    assert all(one is other for one, other in zip(jax.tree.leaves(model[1]), objects, strict=True))


@every
def test_the_output_is_that_of_apply(backend, build, near):
    (module, variables), x = model, _ = made(build)
    if build is trained_by_field:
        module = module.clone(training=False)
    apply = (
        module.apply if build is looks_at_values else jax.jit(partial(module.apply, **CHOICES.get(build, {})))
    )
    expected = np.asarray(apply(variables, x))
    assert backend.carrier().forward(model, x) == near(expected, 1e-5)


def test_order_is_told_from_registration_and_needs_no_input(backend):
    model, x = made(other_order)
    assert [layer.path for layer in backend.carrier().structure(model, x).layers] == ["a", "b", "c"]
    assert [layer.path for layer in backend.carrier().structure(model, None).layers] == ["a", "b", "c"]
    other, _ = made(nested)
    four = [layer.path for layer in backend.carrier().structure(other, None).layers]
    assert four == ["layers_0", "layers_1.layers_0", "layers_1.layers_1.layers_1", "layers_2"]


def test_what_comes_in_order_of_registration_is_refused_as_ambiguous(backend):
    model, x = made(other_order)
    chain = filled(nn.Sequential([nn.Dense(4), nn.Dense(4), nn.Dense(4)]), x, seed=5)
    told = backend.export(model, x)
    # As another framework exports that class without an example input.
    arrays = dict(told)
    registered = ParameterSet([told.layers[place] for place in (2, 0, 1)], arrays, ordered=False)
    before = leaves(chain)
    with pytest.raises(MatchError, match="neither names nor an order of application tell which is which"):
        backend.load(chain, registered, x)
    assert unchanged(chain, before)
    backend.load(chain, told, x)
    assert same_bits(backend.carrier().forward(chain, x), np.asarray(chain[0].apply(chain[1], x)))
    back = filled(other_order()[0], x, seed=6)
    backend.load(back, backend.export(chain), x)
    assert unchanged(back, leaves(model))


def test_two_inputs_of_one_kind_are_more_than_can_be_tried(backend):
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x, y):
            return nn.Dense(3)(x) + nn.Dense(3)(y)

    module = Two()
    model = module, module.init(jax.random.key(0), drawn(1, 2), drawn(1, 2))
    with pytest.raises(ValueError, match=r"none of the inputs that were tried fits; pass an example input x\Z"):
        backend.export(model)


def test_an_image_s_size_is_found_where_it_can_be(backend):
    module, x = images()
    model = filled(module, drawn(1, 16, 16, 3), train=False)
    dense = backend.carrier().structure(model, None).layers[4]
    assert dense.flattened == Flattened(4, channels_last=True)
    with pytest.raises(ValueError, match="pass an example input x"):
        backend.export(filled(module, x, train=False))


# -- uses and ties ---------------------------------------------------------------------------------------------


def test_a_shared_layer_has_a_path_for_each_use(backend):
    model, x = made(shared)
    found = backend.export(model, x)
    assert [layer.path for layer in found.layers] == ["layers_0", "layers_0@2", "layers_3", "layers_0@3"]
    assert [list(group) for group in found.ties] == [
        ["layers_0.weight", "layers_0@2.weight", "layers_0@3.weight"],
        ["layers_0.bias", "layers_0@2.bias", "layers_0@3.bias"],
    ]


def test_parameters_that_are_mapped_are_one_storage(backend):
    model, x = made(tied_parameters)
    found = backend.export(model, x)
    assert [layer.path for layer in found.layers] == ["layers_0", "layers_2", "layers_4"]
    assert found.ties == (("layers_0.weight", "layers_4.weight"),)


def test_one_array_at_two_places_is_no_tie(backend):
    module, x = nested()
    _, variables = model = filled(module, x)
    variables["params"]["layers_2"]["kernel"] = variables["params"]["layers_0"]["kernel"]
    assert backend.export(model, x).ties == ()


def test_an_embedding_that_projects_is_two_uses(backend):
    model, x = made(language)
    found = backend.export(model, x)
    assert [layer.path for layer in found.layers] == ["embed", "rnn.cell", "norm", "embed@2"]
    assert found.ties == (("embed.weight", "embed@2.weight"),)
    assert found["embed@2.weight"].shape == (7, 4)


def test_directions_and_levels_are_layers_of_their_own(backend):
    model, x = made(recurrent)
    structure = backend.carrier().structure(model, x)
    assert [layer.path for layer in structure.layers] == [
        "LSTMCell_0",
        "OptimizedLSTMCell_0",
        "GRUCell_0",
        "GRUCell_1",
        "GRUCell_2",
    ]
    assert [dict(layer.settings) for layer in structure.layers] == [
        {},
        {"reverse": True},
        {},
        {"reverse": True},
        {"reverse": True},
    ]


def test_settings_are_what_the_modules_say(backend):
    model, x = made(images)
    assert [dict(layer.settings) for layer in backend.export(model, x).layers[:4]] == [
        {},
        {"epsilon": 1e-3},
        {"groups": 2},
        {"epsilon": 1e-6},
    ]


# -- what layers compute ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "place", "expected"),
    [
        (images, 4, Flattened(4, True)),
        (images, 5, None),
        (transposed_images, 1, Flattened(4, False)),
        (two_heads, 1, Flattened(4, True)),
        (two_heads, 2, Flattened(4, True)),
        (two_heads, 3, None),
        (branches, 2, None),
        (flattened_branches, 2, Flattened(8, True)),
        (sequences, 2, Flattened(6, True)),
    ],
)
def test_how_an_image_is_flattened_is_seen(backend, build, place, expected):
    model, x = made(build)
    assert backend.carrier().structure(model, x).layers[place].flattened == expected


def reference(kind, values, x, epsilon=0.0):
    """What the reference computes of canonical values; they are what is exported."""
    if "weight" in values:
        values = {"bias": np.zeros(len(values["weight"])), **values}
    values = with_summed_biases(kind, values)
    layer = Layer(kind, 1, 1, epsilon=epsilon)
    return NumpyLayers().forward(dict(values), layer, np.asarray(x, "float64"))


def test_images_are_computed_as_their_canonical_values_say(backend, near):
    for build in (transposed_images, two_heads):
        model, x = made(build)
        found = backend.export(model, x)
        seen = dict(backend.carrier().outputs(model, x))
        canonical = np.moveaxis(x, -1, 1)
        padded = np.pad(canonical, ((0, 0), (0, 0), (1, 1), (1, 1)))
        image = reference("conv2d", found.of(found.layers[0]), padded)
        assert seen["Conv_0"] == near(image, 1e-5)
        for layer in found.layers[1:3]:
            # The canonical columns go channel by channel, whatever the model does.
            flat = np.maximum(image, 0).reshape(len(x), -1)
            assert seen[layer.path] == near(reference("dense", found.of(layer), flat), 1e-5)


def test_sequences_are_computed_as_their_canonical_values_say(backend, near):
    model, x = made(sequences)
    found = backend.export(model, x)
    seen = [output for _, output in backend.carrier().outputs(model, x)]
    convolution, norm, dense = (found.of(layer) for layer in found.layers)
    weight = convolution["weight"][:, :, None]
    before = np.pad(np.moveaxis(x, -1, 1), ((0, 0), (0, 0), (2, 0)))[:, :, None]
    given = reference("conv2d", {"weight": weight, "bias": convolution["bias"]}, before)[:, :, 0]
    assert seen[0] == near(given, 1e-5)
    normal = reference("batchnorm", norm, np.moveaxis(np.maximum(given, 0), 1, -1), 1e-5)
    assert seen[1] == near(np.moveaxis(normal, -1, 1), 1e-5)
    assert seen[2] == near(reference("dense", dense, np.moveaxis(normal, -1, 1).reshape(2, -1)), 1e-5)


def test_recurrent_layers_are_computed_as_their_canonical_values_say(backend, near):
    model, x = made(recurrent)
    found = backend.export(model, x)
    seen = [output for _, output in backend.carrier().outputs(model, x)]
    expected = []

    def run(place, x):
        layer = found.layers[place]
        step = -1 if layer.settings.get("reverse") else 1
        expected.append(reference(layer.kind, found.of(layer), x[:, ::step])[:, ::step])
        return expected[-1]

    level = np.concatenate([run(0, x), run(1, x)], -1)
    level = np.concatenate([run(2, level), run(3, level)], -1)
    run(4, level)
    for output, other in zip(seen, expected, strict=True):
        assert output == near(other, 1e-5)


def test_embeddings_and_norms_are_computed_as_their_canonical_values_say(backend, near):
    model, x = made(language)
    found = backend.export(model, x)
    seen = [output for _, output in backend.carrier().outputs(model, x)]
    weight = found["embed.weight"]
    states = reference("gru", found.of(found.layers[1]), weight[x])
    rows = reference("layernorm", found.of(found.layers[2]), states.reshape(-1, 4), 1e-3)
    for output, other in zip(seen, [weight[x], states, rows, rows @ weight.T], strict=True):
        assert output == near(other.reshape(output.shape), 1e-5)


def test_it_is_in_use_whatever_the_module_says(backend, near):
    model, x = made(trained_by_field)
    found = backend.export(model, x)
    (_, dense), (_, norm) = backend.carrier().outputs(model, x)
    mean, variance = found["BatchNorm_0.running_mean"], found["BatchNorm_0.running_variance"]
    assert norm == near((dense - mean) / np.sqrt(variance + 1e-5), 1e-5)
    assert list(found.of(found.layers[1])) == ["running mean", "running variance"]
    rows = norm - norm.mean(1, keepdims=True)
    expected = rows / np.sqrt(norm.var(1, keepdims=True) + 1e-6)
    assert backend.carrier().forward(model, x) == near(expected, 1e-4)


def test_what_has_been_compiled_is_neither_used_nor_changed(backend):
    """What nn.jit keeps of its tracing must not keep what we put in place of outputs."""

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(nn.relu(nn.Conv(4, (3, 3))(x)).reshape((x.shape[0], -1)))

    module, x = nn.jit(Block)(), drawn(2, 4, 4, 2)
    _, variables = model = filled(module, x)
    before = np.asarray(module.apply(variables, x))
    for _ in range(2):
        assert backend.carrier().structure(model, x).layers[1].flattened == Flattened(4, True)
        assert same_bits(np.asarray(module.apply(variables, x)), before)
    compiled = (jax.jit(module.apply), variables)
    assert [layer.path for layer in backend.export(compiled, x).layers] == ["Conv_0", "Dense_0"]


# -- training --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build", [shared, tied_parameters, images, recurrent, language, lifted], ids=lambda build: build.__name__
)
def test_a_step_is_that_of_gradient_descent(backend, build, near):
    (module, variables), x = model, _ = made(build)
    carrier, choices = backend.carrier(), CHOICES.get(build, {})
    structure = carrier.structure(model, x)
    output = carrier.forward(model, x)
    y = drawn(*output.shape, seed=9)

    def loss(params):
        return jnp.mean((module.apply({**variables, "params": params}, x, **choices) - y) ** 2)

    expected = flatten_dict(jax.jit(jax.grad(loss))(variables["params"]))
    before = leaves(model)
    step = carrier.step(model, x, y, 0.125)
    assert step.output == near(output, 1e-6)
    assert step.loss == pytest.approx(float(np.mean((output - y) ** 2)), rel=1e-5)
    assert {place for _, place in step.gradients} == {("params", *path) for path in expected}
    for (_, place), gradient in step.gradients.items():
        assert gradient == near(np.asarray(expected[place[1:]]), 1e-4)
        assert leaves(model)[place] == near(before[place] - 0.125 * gradient, 1e-6)
    for place, value in before.items():
        assert place[0] == "params" or same_bits(leaves(model)[place], value)
    held = {one.storage for layer in structure.layers for one in layer.arrays}
    assert set(step.gradients) <= held


def test_an_image_that_comes_out_has_its_channels_first(backend):
    class Denoise(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.sigmoid(nn.Conv(2, (3, 3))(nn.relu(nn.Conv(4, (3, 3))(x))))

    model = module, variables = filled(Denoise(), drawn(2, 5, 6, 3))
    x = backend.carrier().native_input(drawn(2, 3, 5, 6), "conv2d")
    expected = np.moveaxis(np.asarray(module.apply(variables, x)), -1, 1)
    assert backend.carrier().forward(model, x) == pytest.approx(expected, abs=1e-6)
    assert backend.carrier().step(model, x, np.zeros_like(expected), 0.125).output.shape == (2, 2, 5, 6)


# -- memory, dtypes, forms of variables ------------------------------------------------------------------------


def test_views_show_the_memory_of_jax_and_nobody_writes_it(backend):
    model, x = made(language)
    found = backend.export(model, x, copy=False)
    assert "embed.weight" in found.shared
    assert not any(path.startswith("rnn") for path in found.shared)
    view, held = found["embed.weight"], model[1]["params"]["embed"]["embedding"]
    assert view.ctypes.data == held.unsafe_buffer_pointer()
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 0
    kept = view.copy()
    backend.carrier().step(model, x, np.zeros((2, 5, 7), "float32"), 0.125)
    assert not same_bits(np.asarray(model[1]["params"]["embed"]["embedding"]), kept)
    # What is donated and deleted while we look at it is not given back before we stop.
    jax.jit(lambda array: array + 1, donate_argnums=0)(held)
    held.delete()
    assert same_bits(view, kept)
    dense, x = made(one_layer)
    assert backend.export(dense, x, copy=False).shared == {"weight", "bias"}
    assert backend.export(dense, x).shared == set()


def test_what_was_given_is_copied(backend):
    model, x = made(one_layer)
    values = {name: np.array(array) for name, array in backend.export(model, x).items()}
    backend.load(model, ParameterSet(backend.export(model, x).layers, values), x)
    before = leaves(model)
    values["weight"][...] = 0
    assert unchanged(model, before)


def test_another_model_with_the_same_dicts_keeps_its_values(backend):
    model, x = made(language)
    other = model[0], dict(model[1])
    before = leaves(other)
    backend.load(model, backend.export(made(language, seed=4)[0], x), x)
    assert unchanged(other, before)
    assert not unchanged(model, before)


def test_float64_is_kept_when_it_is_switched_off_meanwhile(backend, tmp_path):
    jax.config.update("jax_enable_x64", True)
    try:
        module, x = wide()
        model, other = filled(module, x), filled(module, x, seed=2)
        found = backend.export(model, x)
        assert {str(array.dtype) for array in found.values()} == {"float64"}
    finally:
        jax.config.update("jax_enable_x64", False)
    backend.load(other, found)
    assert unchanged(other, leaves(model))


def test_statistics_are_float32_in_a_float64_model(backend):
    jax.config.update("jax_enable_x64", True)
    try:
        module, x = nn.BatchNorm(param_dtype="float64", use_running_average=True), drawn(3, 4, dtype="float64")
        found = backend.export(filled(module, x), x)
    finally:
        jax.config.update("jax_enable_x64", False)
    assert [str(array.dtype) for array in found.values()] == ["float64", "float64", "float32", "float32"]


def test_variables_that_are_frozen_are_read_and_not_written(backend):
    (module, variables), x = made(language)
    frozen = module, freeze(variables)
    found = backend.export(frozen, x)
    assert all(same_bits(array, backend.export((module, variables), x)[path]) for path, array in found.items())
    with pytest.raises(ValueError, match=r"FrozenDict, which nothing can be written into; pass .*unfreeze"):
        backend.load(frozen, found, x)
    with pytest.raises(ValueError, match="FrozenDict"):
        backend.carrier().step(frozen, x, np.zeros((2, 5, 7), "float32"), 0.125)
    backend.load((module, unfreeze(frozen[1])), found, x)
    inner = module, {"params": freeze(variables["params"])}
    backend.load(inner, backend.export(made(language, seed=4)[0], x), x)
    assert type(inner[1]["params"]) is FrozenDict
    assert unchanged((module, unfreeze(freeze(inner[1]))), leaves(made(language, seed=4)[0]))


def test_boxes_and_numpy_arrays_stay_what_they_are(backend):
    module = nn.Dense(3, kernel_init=nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "out")))
    x = drawn(2, 4)
    model = module, module.init(jax.random.key(0), x)
    model[1]["params"]["bias"] = np.ones(3, "float32")
    other, _ = made(one_layer)
    found = backend.export(other, x)
    backend.load(model, found, x)
    kernel, bias = model[1]["params"]["kernel"], model[1]["params"]["bias"]
    assert isinstance(kernel, nn.Partitioned)
    assert kernel.names == ("in", "out")
    assert same_bits(np.asarray(kernel.value), np.asarray(other[1]["params"]["kernel"]))
    assert type(bias) is np.ndarray
    assert same_bits(bias, found["bias"])


# -- refused ---------------------------------------------------------------------------------------------------


def of(layer):
    """A layer between two that are known."""

    class Around(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4)(layer()(nn.Dense(4)(x)))

    return Around()


def own_parameter():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x * self.param("scale", nn.initializers.ones, (4,))

    return Own(name="own")


def stacked():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.tanh(nn.Dense(4)(x)), None

    lift = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
    return lambda x: lift()(x, None)[0]


def by_steps():
    class Steps(nn.Module):
        @nn.compact
        def __call__(self, x):
            cell = nn.LSTMCell(4, name="cell")
            return cell(cell.initialize_carry(jax.random.key(0), x[:, 0].shape), x[:, 0])[1][:, None]

    return Steps(name="steps")


def halved():
    def half(variables):
        return jax.tree.map(lambda leaf: leaf / 2, variables)

    return nn.map_variables(nn.Dense, "params", trans_in_fn=half, init=True)(4, name="halved")


REFUSED = {
    "own parameter": (own_parameter, r"layer 'own' \(Own\) holds 'scale', and is none of Dense, Conv, "),
    "group norm": (lambda: nn.GroupNorm(2), r"layer 'GroupNorm_0' \(GroupNorm\) holds '(scale|bias)'"),
    "rms norm": (lambda: nn.RMSNorm(), r"layer 'RMSNorm_0' \(RMSNorm\) holds 'scale'"),
    "instance norm": (lambda: nn.InstanceNorm(), r"layer 'InstanceNorm_0' \(InstanceNorm\) holds"),
    "weight norm": (lambda: nn.WeightNorm(nn.Dense(4)), r"layer 'WeightNorm_0' \(WeightNorm\) holds"),
    "attention": (lambda: nn.MultiHeadAttention(2), r"layer 'MultiHeadAttention_0.\w+' \(DenseGeneral\) holds"),
    "transposed": (lambda: nn.ConvTranspose(4, (3,)), r"layer 'ConvTranspose_0' \(ConvTranspose\) holds"),
    "a local convolution": (lambda: nn.ConvLocal(4, (3,)), r"layer 'ConvLocal_0' \(ConvLocal\) holds"),
    "three axes": (
        lambda: lambda x: nn.Conv(4, (1, 1, 1))(x[:, None, None])[:, 0, 0],
        r"layer 'Conv_0' \(Conv\) convolves over 3 axes; one and two are known",
    ),
    "a mask": (lambda: nn.Conv(4, (1,), mask=jnp.ones((1, 4, 4))), r"'Conv_0' \(Conv\) convolves with a mask"),
    "a dilated input": (
        lambda: nn.Conv(4, (1,), input_dilation=2, padding=((0, 0),)),
        r"'Conv_0' \(Conv\) dilates its input",
    ),
    "another product": (
        lambda: nn.Dense(4, dot_general=lambda *given, **named: jax.lax.dot_general(*given, **named)),
        r"'Dense_1' \(Dense\) multiplies by a function of its own",
    ),
    "statistics of two axes": (
        lambda: nn.BatchNorm(axis=(1, 2), use_running_average=True),
        r"'BatchNorm_0' \(BatchNorm\) keeps statistics over several axes",
    ),
    "a norm of two axes": (
        lambda: nn.LayerNorm(reduction_axes=(1, 2)),
        r"'LayerNorm_0' \(LayerNorm\) normalises over other axes than the last",
    ),
    "a plain cell": (
        lambda: nn.RNN(nn.SimpleCell(4), name="rnn"),
        r"layer 'rnn' \(RNN\) runs a SimpleCell; cells ",
    ),
    "another gate": (
        lambda: nn.RNN(nn.LSTMCell(4, gate_fn=nn.hard_sigmoid), name="rnn"),
        r"layer 'rnn' \(RNN\) has another recurrent activation than the sigmoid",
    ),
    "another activation": (
        lambda: nn.RNN(nn.GRUCell(4, activation_fn=nn.relu), name="rnn"),
        r"layer 'rnn' \(RNN\) has another activation than tanh",
    ),
    "another state": (
        lambda: nn.RNN(nn.GRUCell(4, carry_init=nn.initializers.ones), name="rnn"),
        r"layer 'rnn' \(RNN\) begins with another state than zeros",
    ),
    "a cell by itself": (
        by_steps,
        r"layer 'steps.cell' \(LSTMCell\) is applied step by step; .* nn.RNN\(cell\)",
    ),
    "stacked": (stacked, r"layer 'ScanBlock_0.Dense_0' \(Dense\) is applied inside of nn.scan"),
    "other values": (halved, r"layer 'halved' \(Dense\) computes with other values than its own 'kernel'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_that_is_not_known_is_refused_by_name(backend, name):
    layer, sentence = REFUSED[name]
    module, x = of(layer), drawn(2, 3, 4)
    model = module, jax.jit(module.init)(jax.random.key(0), x)
    before = leaves(model)
    with pytest.raises(UnknownLayer, match=sentence) as caught:
        backend.export(model, x)
    assert "\n" not in str(caught.value)
    assert unchanged(model, before)


def test_what_takes_a_flattened_image_and_is_not_dense_is_refused(backend):
    class Norm(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(4, (3, 3))(x).reshape((x.shape[0], -1))
            return nn.Dense(3)(nn.BatchNorm(use_running_average=True)(x))

    class Mixed(nn.Module):
        @nn.compact
        def __call__(self, x):
            flat = nn.Conv(4, (3, 3))(x).reshape((x.shape[0], -1))
            return nn.Dense(3)(jnp.concatenate([flat, x[:, 0, 0]], 1))

    x = drawn(2, 4, 4, 2)
    with pytest.raises(UnknownLayer, match=r"'BatchNorm_0' \(BatchNorm\) takes a flattened image"):
        backend.export(filled(Norm(), x), x)
    with pytest.raises(UnknownLayer, match="the input of layer 'Dense_0' mixes the channels"):
        backend.export(filled(Mixed(), x), x)


def test_layers_that_are_not_applied_are_not_left_out_silently(backend):
    class Auxiliary(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.Dense(4)(x)
            return (x, nn.Dense(2, name="auxiliary")(x)) if train else x

    x = drawn(2, 4)
    model = filled(Auxiliary(), x, train=True)
    with pytest.raises(UnknownLayer, match=r"array 'auxiliary\.\w+' belongs to no layer that"):
        backend.export(model, x)


def test_what_is_no_model_is_refused_in_a_sentence(backend):
    module, x = nn.Dense(3), drawn(2, 4)
    with pytest.raises(ValueError, match=r"\Athe model has no variables yet; module\.init"):
        backend.export((module, {}), x)
    variables = module.init(jax.random.key(0), x)
    exported = jax.export.export(jax.jit(module.apply))(variables, x)
    with pytest.raises(ValueError, match=r"\Aan exported program shows no layers; carry the module"):
        backend.export((exported, variables), x)
    with pytest.raises(ValueError, match=r"\Aa model is a pair .*, and function is no Flax module"):
        backend.export((lambda variables, x: x, variables), x)


@pytest.mark.parametrize("fault", ["wider", "an epsilon", "a layer more", "a tie"])
def test_a_load_that_fails_changes_no_bit(backend, fault):
    model, x = made(language)
    found = backend.export(model, x)
    if fault == "wider":
        found, error, sentence = found.astype("float64"), LoadError, "would lose precision"
    elif fault == "an epsilon":
        layers = [
            type(layer)(layer.path, layer.kind, layer.arrays, {"epsilon": 1e-5} if layer.settings else {})
            for layer in found.layers
        ]
        found, error, sentence = ParameterSet(layers, dict(found), found.ties), LoadError, "has epsilon 0.001"
    elif fault == "a layer more":
        found, error, sentence = backend.export(made(compact)[0]), MatchError, "the parameters have 3 layers"
    else:
        model, x = made(shared)
        other = filled(nn.Sequential([nn.Dense(5) for _ in range(4)]), x, seed=7)
        found, error, sentence = backend.export(other, x), LoadError, "are one storage in the model"
    before = leaves(model)
    with pytest.raises(error, match=re.escape(sentence)):
        backend.load(model, found, x)
    assert unchanged(model, before)
