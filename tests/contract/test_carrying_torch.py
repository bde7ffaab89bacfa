"""PyTorch modules as their users write them: every layer is found, in its place, and its values come and go.

Layer by layer, what the carrier sees is held against the reference's layers, computed with the canonical
arrays.
"""

from __future__ import annotations

import copy
import gc
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (everybody calls it so)

from backends.torch import TorchBackend
from d2lparams.carrying import LoadError, MatchError, UnknownLayer
from d2lparams.parameter_set import ParameterSet, same_bits
from tests.contract.by_reference import computed


@pytest.fixture
def backend():
    return TorchBackend()


def draw(*shape, seed=0, dtype="float32"):
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype(dtype)


def filled(model, seed=0):
    """The model with values of our own, so that no two arrays and no two of their axes are alike."""
    random = np.random.RandomState(seed)
    with torch.no_grad():
        for name, one in model.state_dict().items():
            if one.is_floating_point():
                value = random.uniform(-1, 1, one.shape)
                one.copy_(torch.tensor(value + 2 if name.endswith("running_var") else value))
    return model


def relu(x):
    return np.maximum(x, 0)


class Written(nn.Module):
    """A module of given attributes with a given `forward`, as a class of the user's own would be."""

    def __init__(self, forward, **attributes):
        super().__init__()
        self._forward = forward
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self._forward(self, x)


# -- models, and what they compute when `of(path, x)` is what a layer computes ------------------------------


def nested():
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 3, (2, 3)), nn.BatchNorm2d(3, eps=2**-8), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(3 * 3 * 2, 5)), nn.Tanh(), nn.LayerNorm(5)),
        nn.Linear(5, 2, bias=False),
    )


def nested_by_hand(of, x):
    x = relu(of("0.1", of("0.0", x)))
    return of("2", of("1.3", np.tanh(of("1.1.0", x.reshape(len(x), -1)))))


def turned_round():
    """Layers of one shape, registered in another order than they are applied in."""
    return Written(
        lambda m, x: m.a(m.c(torch.relu(m.b(x)))), a=nn.Linear(4, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 4)
    )


def sequence():
    """Over time: a convolution, an LSTM in both directions, a dense layer on every step."""
    return Written(
        lambda m, x: m.output(m.lstm(torch.tanh(m.conv(x)).transpose(1, 2))[0]),
        output=nn.Linear(6, 2),
        lstm=nn.LSTM(4, 3, batch_first=True, bidirectional=True),
        conv=nn.Conv1d(2, 4, 3),
    )


def sequence_by_hand(of, x):
    x = np.swapaxes(np.tanh(of("conv", x)), 1, 2)
    return of("output", np.concatenate([of("lstm.l0", x), of("lstm.l0.reverse", x)], axis=-1))


def levels():
    return Written(
        lambda m, x: m.gru(m.lstm(x.transpose(0, 1))[0])[0].transpose(0, 1),
        lstm=nn.LSTM(3, 4, num_layers=2, dropout=0.5),
        gru=nn.GRU(4, 2, num_layers=2, bidirectional=True),
    )


def levels_by_hand(of, x):
    x = of("lstm.l1", of("lstm.l0", x))
    for level in ("gru.l0", "gru.l1"):
        x = np.concatenate([of(level, x), of(f"{level}.reverse", x)], axis=-1)
    return x


def channels_first():
    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 2))


def channels_last():
    """Flattened place by place, as where channels stand last."""
    return Written(
        lambda m, x: m.dense(m.pool(m.conv(x)).permute(0, 2, 3, 1).flatten(1)),
        dense=nn.Linear(12, 2),
        pool=nn.MaxPool2d(2),
        conv=nn.Conv2d(1, 3, 2),
    )


def flattened_by_hand(conv, dense):
    def by_hand(of, x):
        x = of(conv, x)
        n, channels, height, width = x.shape
        x = x.reshape(n, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))
        return of(dense, x.reshape(n, -1))

    return by_hand


def shared():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), nn.Sequential(layer, nn.Tanh()), nn.Linear(4, 2))


def called_again():
    return Written(
        lambda m, x: m.last(m.one(torch.tanh(m.one(m.one(x))))), one=nn.Linear(4, 4), last=nn.Linear(4, 2)
    )


def one_weight():
    """Two layers with one weight, as an object, and each with a bias of its own."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


def language_model(project):
    model = Written(
        lambda m, x: project(m, m.gru(m.embedding(x))[0]),
        embedding=nn.Embedding(7, 5, padding_idx=0),
        gru=nn.GRU(5, 5, batch_first=True, bias=False),
    )
    if project is by_layer:
        model.projection = nn.Linear(5, 7, bias=False)
        model.projection.weight = model.embedding.weight
    return model


def by_layer(m, x):
    return m.projection(x)


def by_linear(m, x):
    return F.linear(x, weight=m.embedding.weight)


def by_product(m, x):
    return x @ m.embedding.weight.T


def by_matmul(m, x):
    return torch.matmul(x, m.embedding.weight.transpose(0, 1))


def language_by_hand(projection):
    return lambda of, x: of(projection, of("gru", of("embedding", x)))


TOKENS = np.array([[1, 2, 6], [0, 3, 2]])
VECTORS = draw(3, 4)
# How to build it; a batch; and what it computes.
MODELS = {
    "nested": (nested, draw(2, 2, 4, 4), nested_by_hand),
    "turned round": (turned_round, VECTORS, lambda of, x: of("a", of("c", relu(of("b", x))))),
    "sequence": (sequence, draw(2, 2, 7), sequence_by_hand),
    "levels": (levels, draw(2, 5, 3), levels_by_hand),
    "channels first": (channels_first, draw(2, 1, 5, 5), flattened_by_hand("0", "3")),
    "channels last": (channels_last, draw(2, 1, 5, 5), flattened_by_hand("conv", "dense")),
    "shared": (shared, VECTORS, lambda of, x: of("3", np.tanh(of("2.0", np.tanh(of("0", x)))))),
    "called again": (
        called_again,
        VECTORS,
        lambda of, x: of("last", of("one@3", np.tanh(of("one@2", of("one", x))))),
    ),
    "one weight": (one_weight, VECTORS, lambda of, x: of("2", np.tanh(of("0", x)))),
    "a single layer": (lambda: nn.Linear(4, 3), VECTORS, lambda of, x: of("", x)),
    "without affine": (
        lambda: nn.Sequential(nn.BatchNorm1d(4, affine=False), nn.LayerNorm(4, elementwise_affine=False)),
        VECTORS,
        lambda of, x: of("1", of("0", x)),
    ),
    "half affine": (lambda: nn.LayerNorm(4, bias=False, eps=2**-6), VECTORS, lambda of, x: of("", x)),
    **{
        f"language model {project.__name__}": (
            lambda project=project: language_model(project),
            TOKENS,
            language_by_hand("projection" if project is by_layer else "embedding@2"),
        )
        for project in (by_layer, by_linear, by_product, by_matmul)
    },
}

models = pytest.mark.parametrize(("build", "x", "by_hand"), MODELS.values(), ids=MODELS.keys())


def state(model):
    """Everything that a look must not change."""
    return {
        "values": {name: one.numpy().tobytes() for name, one in model.state_dict().items()},
        "versions": [one._version for one in (*model.parameters(), *model.buffers())],
        "training": [one.training for one in model.modules()],
        "gradients": [one.grad if one.grad is None else one.grad.tolist() for one in model.parameters()],
        "hooks": [(len(one._forward_hooks), len(one._forward_pre_hooks)) for one in model.modules()],
        "attributes": [sorted(vars(one)) for one in model.modules()],
        "random": torch.random.get_rng_state().tolist(),
    }


def forward(model, x):
    with torch.no_grad():
        return copy.deepcopy(model).eval()(torch.tensor(x)).numpy()


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
        np.testing.assert_allclose(value, seen[path], atol=1e-5, err_msg=path)
    np.testing.assert_allclose(backend.carrier().forward(model, x), output, atol=1e-5)
    np.testing.assert_array_equal(backend.carrier().forward(model, x), forward(model, x))


@models
def test_a_fresh_model_takes_the_values_from_a_file_and_computes_the_same(backend, build, x, by_hand, tmp_path):
    model = filled(build(), seed=1)
    parameters = backend.export(model, x)
    parameters.save(tmp_path / "x.safetensors")
    other = backend.load(filled(build(), seed=2), ParameterSet.open(tmp_path / "x.safetensors"), x)
    again = backend.export(other, x)
    assert (again.ties, again.layers) == (parameters.ties, parameters.layers)
    assert all(same_bits(again[path], parameters[path]) for path in parameters)
    for name, one in model.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(one, other.state_dict()[name])
    np.testing.assert_array_equal(forward(model, x), forward(other, x))


@models
def test_looking_changes_nothing(backend, build, x, by_hand):
    model = filled(build())
    model.train()
    next(model.modules()).training = False
    for one in model.parameters():
        one.grad = torch.ones_like(one)
    before = state(model)
    backend.export(model, x)
    backend.export(model, x, copy=False)
    backend.carrier().outputs(model, x)
    backend.carrier().forward(model, x)
    assert state(model) == before


@models
def test_a_step_is_the_one_of_the_framework_s_own_loop(backend, build, x, by_hand):
    model, other = filled(build()), filled(build()).eval()
    y = draw(*forward(model, x).shape, seed=9)
    optimizer = torch.optim.SGD(list(other.parameters()), lr=0.125) if list(other.parameters()) else None
    loss = F.mse_loss(other(torch.tensor(x)), torch.tensor(y))
    if optimizer:
        loss.backward()
        optimizer.step()
    model.train()
    step = backend.carrier().step(model, x, y, 0.125)
    assert step.loss == loss.item()
    assert all(one.training for one in model.modules())
    for (name, one), (_, two) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(one, two), name
        assert one.grad is None
    layers = backend.carrier().structure(model, x).layers
    trained = {one.data_ptr(): two.grad.numpy() for one, two in zip(model.parameters(), other.parameters())}
    assert {storage[1] for storage in step.gradients} == set(trained)
    for array in (array for layer in layers for array in layer.arrays):
        if array.storage in step.gradients:
            np.testing.assert_array_equal(step.gradients[array.storage], trained[array.storage[1]])


@models
def test_a_view_shares_memory_cannot_be_written_and_keeps_it_alive(backend, build, x, by_hand):
    model = filled(build())
    parameters = backend.export(model, x, copy=False)
    # What stands in another order than here can be seen only as a copy.
    copied = {"dense.weight"} if build is channels_last else set()
    assert parameters.shared == set(parameters) - copied
    native = [one.detach().numpy() for one in model.state_dict().values()]
    for path, array in parameters.items():
        assert any(np.shares_memory(array, one) for one in native) == (path not in copied), path
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        if path not in copied:
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.flags.writeable = True
    before = {path: array.copy() for path, array in parameters.items()}
    del model, native
    gc.collect()
    assert all(same_bits(array, before[path]) for path, array in parameters.items())


# -- order ---------------------------------------------------------------------------------------------------


def test_a_sequential_says_its_order_and_a_class_does_not(backend):
    assert backend.export(nested()).ordered
    assert [layer.path for layer in backend.export(shared()).layers] == ["0", "2.0", "3"]
    plain = backend.export(turned_round())
    assert not plain.ordered
    assert [layer.path for layer in plain.layers] == ["a", "b", "c"]
    seen = backend.export(turned_round(), VECTORS)
    assert seen.ordered
    assert [layer.path for layer in seen.layers] == ["b", "c", "a"]


def test_layers_in_another_order_find_their_values_with_an_input_and_are_refused_without(backend):
    written = filled(turned_round(), seed=1)
    plain = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 4))
    backend.load(plain, backend.export(written, VECTORS), VECTORS)
    np.testing.assert_array_equal(forward(plain, VECTORS), forward(written, VECTORS))
    back = backend.load(turned_round(), backend.export(plain), VECTORS)
    np.testing.assert_array_equal(forward(back, VECTORS), forward(written, VECTORS))
    for model, parameters in ((plain, backend.export(written)), (turned_round(), backend.export(plain))):
        before = state(model)
        with pytest.raises(MatchError, match="pass an example input x"):
            backend.load(model, parameters)
        assert state(model) == before


def test_a_sequential_with_a_forward_of_its_own_says_no_order(backend):
    class Backwards(nn.Sequential):
        def forward(self, x):
            for one in reversed(self):
                x = one(x)
            return x

    model = Backwards(nn.Linear(4, 4), nn.Linear(4, 4))
    assert not backend.export(model).ordered
    assert [layer.path for layer in backend.export(model, VECTORS).layers] == ["1", "0"]


def test_a_layer_that_is_not_used_is_there_and_no_order_is_claimed(backend):
    model = Written(lambda m, x: m.used(x), spare=nn.Linear(4, 4), used=nn.Linear(4, 4))
    parameters = backend.export(model, VECTORS)
    assert not parameters.ordered
    assert [layer.path for layer in parameters.layers] == ["used", "spare"]


def test_a_projection_that_is_registered_and_never_called_is_no_layer_of_its_own(backend):
    model = language_model(by_layer)
    model._forward = lambda m, x: by_linear(m, m.gru(m.embedding(x))[0])
    parameters = backend.export(model, TOKENS)
    assert parameters.ordered
    assert [layer.path for layer in parameters.layers] == ["embedding", "gru", "embedding@2"]


# -- ties ----------------------------------------------------------------------------------------------------


def test_every_way_to_project_by_the_embedding_is_the_same_to_others(backend):
    parameters = backend.export(filled(language_model(by_layer), seed=3), TOKENS)
    assert parameters.ties == (("embedding.weight", "projection.weight"),)
    expected = forward(backend.load(language_model(by_layer), parameters, TOKENS), TOKENS)
    for project in (by_linear, by_product, by_matmul):
        model = backend.load(language_model(project), parameters, TOKENS)
        found = backend.export(model, TOKENS)
        assert found.ties == (("embedding.weight", "embedding@2.weight"),)
        assert [layer.kind for layer in found.layers] == ["embedding", "gru", "dense"]
        np.testing.assert_allclose(forward(model, TOKENS), expected, atol=1e-6)


def test_a_weight_that_looks_tokens_up_elsewhere_is_an_embedding(backend):
    model = Written(lambda m, x: m.out(F.embedding(x, m.out.weight)), out=nn.Linear(3, 7))
    parameters = backend.export(model, TOKENS)
    assert [(layer.path, layer.kind) for layer in parameters.layers] == [
        ("out", "embedding"),
        ("out@2", "dense"),
    ]
    assert parameters.ties == (("out.weight", "out@2.weight"),)


def test_two_parameters_at_one_address_are_one_storage(backend):
    model = filled(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)))
    model[2].weight = nn.Parameter(model[0].weight.detach())
    assert model[2].weight is not model[0].weight
    parameters = backend.export(model)
    assert parameters.ties == (("0.weight", "2.weight"),)
    before = model[0].weight.detach().clone()
    step = backend.carrier().step(model, VECTORS, draw(3, 4, seed=1), 0.125)
    (gradient,) = (value for key, value in step.gradients.items() if key[1] == model[0].weight.data_ptr())
    tied = filled(one_weight())
    tied[0].weight.data.copy_(before)
    tied[0].bias.data.copy_(torch.tensor(parameters["0.bias"]))
    tied[2].bias.data.copy_(torch.tensor(parameters["2.bias"]))
    (expected,) = (
        value
        for key, value in backend.carrier().step(tied, VECTORS, draw(3, 4, seed=1), 0.125).gradients.items()
        if key[1] == tied[0].weight.data_ptr()
    )
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    torch.testing.assert_close(model[0].weight, tied[0].weight)


def test_a_tie_across_a_transposition_or_of_a_part_has_no_neutral_form(backend):
    turned = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 4, bias=False))
    turned[1].weight = nn.Parameter(turned[0].weight.detach().T)
    part = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False))
    part[1].weight = nn.Parameter(part[0].weight.detach()[1:3])
    for model in (turned, part):
        with pytest.raises(UnknownLayer, match=r"'0\.weight' and '1\.weight' overlap in memory"):
            backend.export(model)
    # Side by side in one piece of memory is no tie.
    memory = torch.zeros(2, 4, 4)
    beside = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    beside[0].weight, beside[1].weight = nn.Parameter(memory[0]), nn.Parameter(memory[1])
    assert not backend.export(beside).ties


# -- flattened images ----------------------------------------------------------------------------------------


def test_both_orders_of_flattening_have_one_canonical_form(backend):
    x = draw(2, 1, 5, 5)
    last, first = filled(channels_last()), channels_first()
    parameters = backend.export(last, x)
    backend.load(first, parameters, x)
    np.testing.assert_allclose(forward(first, x), forward(last, x), atol=1e-6)
    assert not np.array_equal(first[3].weight.detach(), last.dense.weight.detach())
    again = backend.load(channels_last(), backend.export(first), x)
    assert torch.equal(again.dense.weight, last.dense.weight)


def flattenings(backend, model, x=None):
    layers = backend.carrier().structure(model, x).layers
    return {
        layer.path: (layer.flattened.channels, layer.flattened.channels_last)
        for layer in layers
        if layer.flattened
    }


def test_how_a_dense_layer_s_input_is_flattened_is_seen(backend):
    x = draw(2, 1, 5, 5)
    assert flattenings(backend, channels_first()) == {"3": (3, False)}
    assert flattenings(backend, channels_first(), x) == {"3": (3, False)}
    assert flattenings(backend, channels_last(), x) == {"dense": (3, True)}
    # Normalised before and after it is flattened, and padded.
    normalised = nn.Sequential(
        nn.Conv2d(1, 3, 2, padding=1),
        nn.BatchNorm2d(3),
        nn.ELU(inplace=True),
        nn.AvgPool2d(3, stride=1, padding=1),
        nn.Flatten(),
        nn.BatchNorm1d(507),
        nn.LayerNorm(507),
        nn.Linear(507, 3),
        nn.Linear(3, 6),
    )
    assert flattenings(backend, filled(normalised), draw(2, 1, 12, 12)) == dict.fromkeys("567", (3, False))
    around = Written(
        lambda m, x: m.dense((m.one(x) + m.two(torch.relu(m.one(x)))).movedim(1, -1).flatten(1)),
        one=nn.Conv2d(1, 4, 3, padding=1),
        two=nn.Conv2d(4, 4, 3, padding=1),
        dense=nn.Linear(100, 2),
    )
    assert flattenings(backend, filled(around), x) == {"dense": (4, True)}
    over_time = Written(
        lambda m, x: m.dense(m.conv(x).mT.flatten(1)), conv=nn.Conv1d(2, 3, 2), dense=nn.Linear(12, 2)
    )
    assert flattenings(backend, over_time, draw(2, 2, 5)) == {"dense": (3, True)}


def test_where_nothing_is_flattened_nothing_is_seen(backend):
    x = draw(2, 1, 5, 5)
    pooled = nn.Sequential(nn.Conv2d(1, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 6))
    single = nn.Sequential(nn.Conv2d(1, 1, 2), nn.Flatten(), nn.Linear(16, 2))
    every_step = Written(lambda m, x: m.dense(m.conv(x).mT), conv=nn.Conv1d(2, 3, 2), dense=nn.Linear(3, 9))
    assert flattenings(backend, pooled) == flattenings(backend, pooled, x) == {}
    assert flattenings(backend, every_step, draw(2, 2, 5)) == {}
    assert flattenings(backend, single, x) == {}
    every_place = Written(
        lambda m, x: m.dense(m.conv(x).flatten(2)), conv=nn.Conv2d(1, 2, 2), dense=nn.Linear(16, 3)
    )
    assert flattenings(backend, every_place, x) == {}


def test_what_cannot_be_certain_without_an_input_asks_for_one(backend):
    model = Written(lambda m, x: m.dense(m.conv(x).flatten(1)), conv=nn.Conv2d(1, 3, 2), dense=nn.Linear(48, 2))
    moved = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Unfold(2), nn.Flatten(), nn.Linear(108, 2))
    for one in (model, moved):
        with pytest.raises(ValueError, match="pass x, an example input"):
            backend.export(one)
    assert backend.export(model, draw(1, 1, 5, 5)).ordered


def test_a_norm_of_a_flattened_image_goes_channel_by_channel_too(backend):
    model = Written(
        lambda m, x: m.dense(m.norm(m.conv(x).permute(0, 2, 3, 1).flatten(1))),
        conv=nn.Conv2d(1, 3, 2),
        norm=nn.LayerNorm(48),
        dense=nn.Linear(48, 2),
    )
    found = backend.export(filled(model), draw(1, 1, 5, 5))
    by_place = found["norm.weight"].reshape(3, 16).T.reshape(-1)
    np.testing.assert_array_equal(by_place, model.norm.weight.detach().numpy())


def test_mixed_channels_are_refused(backend):
    model = Written(
        lambda m, x: m.dense(m.conv(x).flatten(1)[:, torch.randperm(48, generator=torch.manual_seed(0))]),
        conv=nn.Conv2d(1, 3, 2),
        dense=nn.Linear(48, 2),
    )
    with pytest.raises(UnknownLayer, match="mixes the channels"):
        backend.export(model, draw(1, 1, 5, 5))


# -- settings ------------------------------------------------------------------------------------------------


def test_settings_say_what_arrays_do_not(backend):
    model = nn.Sequential(nn.Conv1d(4, 6, 3, groups=2), nn.BatchNorm1d(6, eps=2**-7), nn.Conv1d(6, 2, 1))
    grouped, normal, plain = backend.export(model).layers
    assert (grouped.settings, normal.settings, plain.settings) == ({"groups": 2}, {"epsilon": 2**-7}, {})
    assert backend.export(model)["0.weight"].shape == (6, 2, 3)
    forwards, backwards = backend.export(nn.GRU(3, 2, bidirectional=True)).layers
    assert (forwards.path, backwards.path) == ("l0", "l0.reverse")
    assert (forwards.settings, backwards.settings) == ({}, {"reverse": True})


def test_another_epsilon_or_number_of_groups_is_an_error(backend):
    with pytest.raises(LoadError, match=r"has epsilon 1e-05, and the parameters were made with 0\.25"):
        backend.load(nn.LayerNorm(4), backend.export(nn.LayerNorm(4, eps=0.25)))
    backend.load(nn.LayerNorm(4), backend.export(nn.LayerNorm(4, eps=0.25)), settings=False)


# -- dtypes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_float_that_numpy_has_comes_and_goes(backend, dtype, tmp_path):
    model = filled(nested()).to(getattr(torch, dtype))
    parameters = backend.export(model, draw(1, 2, 4, 4, dtype=dtype))
    assert {str(array.dtype) for array in parameters.values()} == {dtype}
    parameters.save(tmp_path / "x.safetensors")
    other = backend.load(nested().to(getattr(torch, dtype)), ParameterSet.open(tmp_path / "x.safetensors"))
    assert all(same_bits(value, parameters[path]) for path, value in backend.export(other).items())


def test_one_that_numpy_does_not_have_is_refused(backend):
    with pytest.raises(UnknownLayer, match=r"'weight' of layer '0' is bfloat16.*\.float\(\)"):
        backend.export(nn.Sequential(nn.Linear(2, 2)).bfloat16())


# -- what is not known ---------------------------------------------------------------------------------------


def refused():
    from torch.nn.utils import parametrizations

    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    class Kept(nn.Module):
        def get_extra_state(self):
            return 1

    scaled = Written(lambda m, x: x * m.scale, scale=nn.Parameter(torch.ones(4)))
    buffered = Written(lambda m, x: x)
    buffered.register_buffer("table", torch.ones(4))
    masked = nn.Linear(4, 4)
    masked.register_buffer("mask", torch.ones(4))
    patched = nn.Linear(4, 4)
    patched.forward = lambda x: x
    return {
        "bilinear": (nn.Bilinear(2, 2, 2), "(Bilinear) holds 'weight', 'bias' and is none of Linear, "),
        "attention": (nn.MultiheadAttention(4, 2), "(MultiheadAttention) holds 'in_proj_weight'"),
        "transposed": (nn.ConvTranspose2d(2, 2, 2), "(ConvTranspose2d) holds"),
        "three axes": (nn.Conv3d(2, 2, 2), "(Conv3d) holds"),
        "groups": (nn.GroupNorm(2, 4), "(GroupNorm) holds"),
        "instances": (nn.InstanceNorm2d(4, affine=True), "(InstanceNorm2d) holds"),
        "root mean square": (nn.RMSNorm(4), "(RMSNorm) holds 'weight'"),
        "learned slope": (nn.PReLU(), "(PReLU) holds 'weight'"),
        "plain recurrent": (nn.RNN(2, 2), "(RNN) holds"),
        "cell": (nn.LSTMCell(2, 2), "(LSTMCell) holds"),
        "projected": (nn.LSTM(2, 4, proj_size=2), "(LSTM) projects its hidden state"),
        "bags": (nn.EmbeddingBag(4, 2), "(EmbeddingBag) holds"),
        "renormalised": (nn.Embedding(4, 2, max_norm=1.0), "(Embedding) changes its weight when it is used"),
        "several axes": (nn.LayerNorm((2, 3)), "(LayerNorm) normalises over 2 axes"),
        "each batch": (
            nn.BatchNorm1d(4, track_running_stats=False),
            "(BatchNorm1d) keeps no running statistics",
        ),
        "parametrized": (
            parametrizations.weight_norm(nn.Linear(4, 4)),
            "computes its arrays by a parametrization",
        ),
        "derived": (Doubled(4, 4), "(Doubled) has a forward of its own"),
        "patched": (patched, "(Linear) has a forward of its own"),
        "own parameter": (scaled, "(Written) holds 'scale' and is none of"),
        "own buffer": (buffered, "(Written) holds 'table' and is none of"),
        "more than a layer": (masked, "(Linear) holds 'mask' beside what Linear holds"),
        "extra state": (Kept(), "(Kept) keeps values that are no parameters"),
        "a list": (nn.ParameterList([torch.ones(2)]), "(ParameterList) holds '0'"),
    }


@pytest.mark.parametrize("case", list(refused()))
@pytest.mark.parametrize("x", [None, VECTORS], ids=["without", "with"])
def test_what_is_not_known_is_named(backend, case, x):
    layer, reason = refused()[case]
    model = nn.Sequential(nn.Linear(4, 4), nn.ModuleDict({"inner": layer}))
    with pytest.raises(UnknownLayer) as raised:
        backend.export(model, x)
    assert str(raised.value).startswith("layer '1.inner'")
    assert reason in str(raised.value)
    with pytest.raises(UnknownLayer):
        backend.load(model, backend.export(nn.Linear(4, 4)), x)


def test_what_only_decides_the_structure_is_no_value(backend):
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Softmax(-1), nn.InstanceNorm1d(4))
    model.register_buffer("mask", torch.ones(4), persistent=False)
    assert len(backend.export(model).layers) == 1


def test_arithmetic_of_one_s_own_is_seen_and_refused(backend):
    for forward_ in (
        lambda m, x: m.a(x) + m.a.bias,
        lambda m, x: m.a(x * m.a.weight[0]),
        lambda m, x: torch.einsum("ni,oi->no", m.a(x), m.a.weight),
        lambda m, x: m.a(x) @ m.a.weight,
        lambda m, x: m.a(x) @ m.a.weight[:2].T,
        lambda m, x: F.linear(m.a(x), m.a.weight, m.a.bias * 2),
    ):
        with pytest.raises(UnknownLayer, match="an array of layer 'a' outside of the layer"):
            backend.export(Written(forward_, a=nn.Linear(4, 4)), VECTORS)
    with pytest.raises(UnknownLayer, match="has not registered, by 'linear'"):
        backend.export(Written(lambda m, x: m.list[0](x), list=[nn.Linear(4, 4)]), VECTORS)
    # What asks for a shape or a dtype computes nothing.
    fine = Written(
        lambda m, x: m.a(x.to(m.a.weight.dtype).reshape(-1, m.a.weight.shape[1]).to(m.a.bias.device)),
        a=nn.Linear(4, 4),
    )
    assert backend.export(fine, VECTORS).ordered


def test_a_layer_without_values_asks_for_them(backend):
    model = nn.Sequential(nn.LazyLinear(3))
    for x in (None, VECTORS):
        with pytest.raises(ValueError, match=r"layer '0' \(LazyLinear\) is lazy.*first batch"):
            backend.export(model, x)
    model(torch.tensor(VECTORS))
    assert backend.export(model)["0.weight"].shape == (3, 4)
    with pytest.raises(ValueError, match="on the device 'meta'"):
        backend.export(nn.Linear(2, 2, device="meta"))


# -- other life ----------------------------------------------------------------------------------------------


def test_a_compiled_model_is_the_model_that_it_was_made_from(backend):
    net = filled(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)))
    compiled = torch.compile(net, backend="eager")
    inner = Written(lambda m, x: m.net(x), net=torch.compile(net, backend="eager"))
    x = torch.tensor(VECTORS)
    compiled(x)
    assert [layer.path for layer in backend.export(compiled, VECTORS).layers] == ["0", "2"]
    assert [layer.path for layer in backend.export(inner, VECTORS).layers] == ["net.0", "net.2"]
    other = filled(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)), seed=5)
    backend.load(compiled, backend.export(other), VECTORS)
    torch.testing.assert_close(compiled(x), other(x))
    torch.testing.assert_close(inner(x), other(x))


def test_a_script_is_refused(backend):
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        model = torch.jit.script(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(UnknownLayer, match="compiled by TorchScript"):
        backend.export(model)


def test_a_forward_that_remembers_is_made_to_forget(backend):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense, self.calls = nn.Linear(4, 4), 0
            self.register_buffer("seen", torch.zeros(()), persistent=False)

        def forward(self, x):
            self.calls += 1
            self.seen += 1
            self.last = self.dense(x) + torch.rand(4)
            return self.last

    model = Counting()
    before = state(model)
    backend.export(model, VECTORS)
    assert (model.calls, model.seen.item()) == (0, 0)
    assert state(model) == {**before, "versions": state(model)["versions"]}


def test_loading_goes_through_to_ties_optimizers_and_autograd(backend):
    model, other = filled(one_weight()), filled(one_weight(), seed=4)
    weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.125, momentum=0.5)
    kept = model(torch.tensor(VECTORS)).sum()
    backend.load(model, backend.export(other))
    assert model[0].weight is model[2].weight is weight is optimizer.param_groups[0]["params"][0]
    assert torch.equal(weight, other[0].weight)
    assert weight.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.backward()
    model(torch.tensor(VECTORS)).sum().backward()
    optimizer.step()
    assert not torch.equal(weight, other[0].weight)


def test_what_was_loaded_is_a_copy(backend, tmp_path):
    source, target = filled(nested()), nested()
    view = backend.export(source, copy=False)
    backend.load(target, view)
    expected = {path: array.copy() for path, array in backend.export(target).items()}
    with torch.no_grad():
        for one in source.parameters():
            one.zero_()
    assert not view["2.weight"].any()
    assert all(same_bits(value, expected[path]) for path, value in backend.export(target).items())


def test_a_frozen_parameter_is_carried_and_does_not_move(backend):
    model = filled(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)))
    model[0].requires_grad_(False)
    backend.load(model, backend.export(filled(copy.deepcopy(model), seed=6)))
    assert not model[0].weight.requires_grad
    before = model[0].weight.clone()
    step = backend.carrier().step(model, VECTORS, draw(3, 2), 0.125)
    assert len(step.gradients) == 2
    assert torch.equal(model[0].weight, before)
    model.requires_grad_(False)
    assert not backend.carrier().step(model, VECTORS, draw(3, 2), 0.125).gradients


def test_a_tied_embedding_s_gradient_is_that_of_both_uses_also_where_it_is_sparse(backend):
    y = draw(2, 3, 7)
    dense = filled(language_model(by_linear))
    step = backend.carrier().step(dense, TOKENS, y, 0.0)
    apart = language_model(by_layer)
    backend.load(apart, backend.export(dense, TOKENS), TOKENS)
    apart.projection.weight = nn.Parameter(apart.embedding.weight.detach().clone())
    both = backend.carrier().step(apart, TOKENS, y, 0.0)

    def of(model, parameter, gradients):
        return next(value for key, value in gradients.items() if key[1] == parameter.data_ptr())

    expected = of(apart, apart.embedding.weight, both.gradients) + of(
        apart, apart.projection.weight, both.gradients
    )
    np.testing.assert_allclose(of(dense, dense.embedding.weight, step.gradients), expected, atol=1e-6)
    sparse = nn.Sequential(nn.Embedding(7, 2, sparse=True))
    gradients = backend.carrier().step(sparse, TOKENS, draw(2, 3, 2), 0.125).gradients
    assert [value.shape for value in gradients.values()] == [(7, 2)]


@pytest.mark.parametrize("case", ["a tie", "a dtype", "a shape", "a setting"])
def test_what_fails_changes_no_bit(backend, case):
    def model(last=2, **options):
        return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4, **options), nn.Linear(4, 4), nn.Linear(4, last))

    source, target = filled(model(), seed=1), filled(model())
    if case == "a tie":
        target[2].weight = target[0].weight
    if case == "a dtype":
        source[3].double()
    if case == "a shape":
        source[3] = nn.Linear(4, 3)
    if case == "a setting":
        source[1].eps = 0.5
    before = state(target)
    with pytest.raises((LoadError, MatchError)):
        backend.load(target, backend.export(source))
    assert state(target) == before


def test_what_a_recurrent_layer_gives_is_told_batch_first_whatever_it_was_given(backend):
    x = draw(5, 2, 3)
    rnn = filled(nn.LSTM(3, 4, bidirectional=True))
    packed = Written(
        lambda m, x: nn.utils.rnn.pad_packed_sequence(
            m.rnn(input=nn.utils.rnn.pack_padded_sequence(x, [5, 5]), hx=None)[0]
        )[0],
        rnn=rnn,
    )
    expected = np.split(forward(packed, x).swapaxes(0, 1), 2, axis=2)
    for model in (rnn, packed):
        outputs = [value for _, value in backend.carrier().outputs(model, x)]
        np.testing.assert_allclose(outputs, expected, atol=1e-6)
    assert backend.carrier().forward(rnn, x).shape == (5, 2, 8)  # the model's own output stays as it is


def test_a_model_that_computes_in_another_dtype_is_looked_at(backend):
    model = Written(lambda m, x: torch.autocast("cpu", dtype=torch.bfloat16)(m.a)(x), a=nn.Linear(4, 4))
    assert backend.export(model, VECTORS)["a.weight"].dtype == "float32"
    ((_, output),) = backend.carrier().outputs(model, VECTORS)
    assert output.dtype == "float32"


def test_paths_are_unique(backend):
    block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    rnn = nn.LSTM(4, 2, bidirectional=True, batch_first=True)
    model = Written(lambda m, x: m.rnn(m.rnn(m.block(m.block(x))[:, None])[0])[0], block=block, rnn=rnn)
    paths = [layer.path for layer in backend.export(model, VECTORS).layers]
    assert paths == [
        *("block.0", "block.0@2"),
        *("rnn.l0", "rnn.l0.reverse", "rnn.l0@2", "rnn.l0.reverse@2"),
    ]
    outputs = backend.carrier().outputs(model, VECTORS)
    assert [path for path, _ in outputs] == paths
    for (_, one), (_, two) in pairwise(outputs[2:4]):
        assert not np.array_equal(one, two)
