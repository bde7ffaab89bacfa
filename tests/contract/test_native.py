"""Models as a user of the framework writes them, without us: the harness reads, computes and trains them too.

Each framework's function gives ways to build a model, by a name that says what it is: `TWO`; `SHARED` or
`FOUR`, where the name says "shared" or "four"; `TWO` without biases; or no MLP, where it says "without a dense
layer".
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from d2lparams.interface import MLP, SGD, Unsupported

TWO = MLP((3, 5, 2), "tanh")
FOUR = MLP((3, 5, 5, 5, 2), "tanh")
SHARED = MLP((3, 5, 5, 5, 2), "tanh", tied=((1, 2),))
BATCH = np.random.RandomState(1).uniform(-1, 1, (6, 3)).astype("float32")
TARGETS = np.random.RandomState(2).uniform(-1, 1, (6, 2)).astype("float32")

# What `mlp` builds is the framework's own class, nothing derived from it.
OWN_CLASS = {
    "numpy": "backends.numpy:Network",
    "torch": "torch.nn:Sequential",
    "mxnet": "mxnet.gluon.nn:HybridSequential",
    "jax": "flax.linen:Sequential",
    "tensorflow": "keras:Sequential",
}


def numpy_models():
    from backends.numpy import Dense, Network

    first, shared, last = Dense(5, 3, "float32"), Dense(5, 5, "float32"), Dense(2, 5, "float32")
    return {
        "four layers": lambda: Network([first, shared, Dense(5, 5, "float32"), last], "tanh"),
        "a list": lambda: Network([first, last], "tanh"),
        "a shared layer": lambda: Network([first, shared, shared, last], "tanh"),
        "without a dense layer": lambda: Network([]),
    }


def torch_models():
    from torch import nn

    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Sequential(first, tanh)
            self.output = last

        def forward(self, x):
            return self.output(self.hidden(x))

    first, shared, last, tanh = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2), nn.Tanh()
    other = nn.Linear(5, 5)
    other.weight, other.bias = shared.weight, shared.bias

    class Four(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.d(tanh(self.c(tanh(self.b(tanh(self.a(x)))))))

    bare_first, bare_last = nn.Linear(3, 5, bias=False), nn.Linear(5, 2, bias=False)
    return {
        "four layers, a class": Four,
        "a Sequential": lambda: nn.Sequential(first, tanh, last),
        "nested": lambda: nn.Sequential(nn.Sequential(first, tanh), nn.Sequential(last)),
        "a class": Written,
        "a shared layer": lambda: nn.Sequential(first, tanh, shared, tanh, shared, tanh, last),
        "shared parameters": lambda: nn.Sequential(first, tanh, shared, tanh, other, tanh, last),
        "without biases": lambda: nn.Sequential(bare_first, tanh, bare_last),
        "without a dense layer": lambda: nn.Sequential(nn.LayerNorm(3)),
    }


def mxnet_models():
    from mxnet import np as mxnp
    from mxnet.gluon import nn

    class Written(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            self.hidden, self.output = hidden(), nn.Dense(2)

        def hybrid_forward(self, F, x):  # noqa: N803  (Gluon's own name)
            return self.output(self.hidden(x))

    class Four(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = hidden(), hidden(), hidden(), nn.Dense(2)

        def hybrid_forward(self, F, x):  # noqa: N803  (Gluon's own name)
            return self.d(self.c(self.b(self.a(x))))

    def hidden(**options):
        return nn.Dense(5, activation="tanh", **options)

    def sequential(*blocks):
        net = nn.HybridSequential()
        net.add(*blocks)
        return net

    def initialized(build):
        net = build()
        net.initialize()
        net(mxnp.array(BATCH))
        return net

    shared = hidden()
    other = hidden(params=shared.params)
    models = {
        "four layers, a class": Four,
        "four layers, nested": lambda: sequential(hidden(), sequential(hidden(), hidden()), nn.Dense(2)),
        "a HybridSequential": lambda: sequential(hidden(), nn.Dense(2)),
        "activations apart": lambda: sequential(nn.Dense(5), nn.Activation("tanh"), nn.Dense(2)),
        "nested": lambda: sequential(sequential(hidden()), sequential(nn.Dense(2))),
        "a class": Written,
        "a shared layer": lambda: sequential(hidden(), shared, shared, nn.Dense(2)),
        "shared parameters": lambda: sequential(hidden(), shared, other, nn.Dense(2)),
        "without biases": lambda: sequential(hidden(use_bias=False), nn.Dense(2, use_bias=False)),
        "without a dense layer": lambda: sequential(nn.LayerNorm()),
    }
    return {kind: partial(initialized, build) for kind, build in models.items()}


def jax_models():
    import jax
    from flax import linen as nn

    class Compact(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2, name="output")(nn.tanh(nn.Dense(5, name="hidden")(x)))

    class Shared(nn.Module):
        def setup(self):
            self.first, self.shared, self.last = nn.Dense(5), nn.Dense(5), nn.Dense(2)

        def __call__(self, x):
            x = nn.tanh(self.first(x))
            for _ in range(2):
                x = nn.tanh(self.shared(x))
            return self.last(x)

    def initialized(build):
        module = build()
        return module, module.init(jax.random.key(0), BATCH)

    bare_first, bare_last = nn.Dense(5, use_bias=False), nn.Dense(2, use_bias=False)

    class Four(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(3):
                x = nn.tanh(nn.Dense(5)(x))
            return nn.Dense(2)(x)

    tanh = (nn.Dense(5), nn.tanh, nn.Dense(5), nn.tanh, nn.Dense(5), nn.tanh)
    models = {
        "four layers, a class": Four,
        "four layers": lambda: nn.Sequential([*tanh, nn.Dense(2)]),
        "a Sequential": lambda: nn.Sequential([nn.Dense(5), nn.tanh, nn.Dense(2)]),
        "nested": lambda: nn.Sequential([nn.Sequential([nn.Dense(5), nn.tanh]), nn.Dense(2)]),
        "a compact module": Compact,
        "a module with a shared layer": Shared,
        "without biases": lambda: nn.Sequential([bare_first, nn.tanh, bare_last]),
        "without a dense layer": lambda: nn.Sequential([nn.LayerNorm()]),
    }
    return {kind: partial(initialized, build) for kind, build in models.items()}


def tensorflow_models():
    import keras
    from keras.layers import Activation, Dense, LayerNormalization

    class Written(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.last = Dense(5, "tanh"), Dense(2)
            self(BATCH)

        def call(self, x):
            return self.last(self.hidden(x))

    def sequential(*layers):
        return keras.Sequential([keras.Input((3,)), *layers])

    def functional(*layers):
        inputs = outputs = keras.Input((3,))
        for layer in layers:
            outputs = layer(outputs)
        return keras.Model(inputs, outputs)

    first, shared, last = Dense(5, "tanh"), Dense(5, "tanh"), Dense(2)
    bare_first, bare_last = Dense(5, "tanh", use_bias=False), Dense(2, use_bias=False)
    return {
        "four layers": lambda: sequential(first, Dense(5, "tanh"), Dense(5, "tanh"), last),
        "four layers, functional": lambda: functional(first, Dense(5, "tanh"), Dense(5, "tanh"), last),
        "a Sequential": lambda: sequential(first, last),
        "activations apart": lambda: sequential(Dense(5), Activation("tanh"), last),
        "nested": lambda: sequential(keras.Sequential([first]), keras.Sequential([last])),
        "a functional model": lambda: functional(first, last),
        "a class": Written,
        "a shared layer": lambda: sequential(first, shared, shared, last),
        "a functional model with a shared layer": lambda: functional(first, shared, shared, last),
        "without biases": lambda: sequential(bare_first, bare_last),
        "without a dense layer": lambda: sequential(LayerNormalization()),
    }


MODELS = {
    "numpy": numpy_models,
    "torch": torch_models,
    "mxnet": mxnet_models,
    "jax": jax_models,
    "tensorflow": tensorflow_models,
}


@dataclass
class Native:
    """A user's model, and the reference's model that it equals."""

    model: Any
    judge: Any
    roles: tuple[str, ...]


def pytest_generate_tests(metafunc):
    if "native" in metafunc.fixturenames:
        name = metafunc.config.getoption("--backend", default="numpy")
        # The adapter goes first: MXNet's switches to NumPy semantics, in which the blocks must be made.
        pkgutil.resolve_name(f"backends.{name}")
        kinds = [kind for kind in MODELS[name]() if kind != "without a dense layer"]
        if metafunc.function is test_a_tie_computes_or_is_refused:
            kinds = [kind for kind in kinds if "four" in kind]
        metafunc.parametrize("native", kinds, indirect=True)


@pytest.fixture
def native(request, backend, reference):
    """One of the user's models, with values drawn by us in it and in the reference's model."""
    model = MODELS[backend.name]()[request.param]()
    four = FOUR if "four" in request.param else TWO
    judge = reference.mlp(SHARED if "shared" in request.param else four)
    roles = ("weight",) if request.param == "without biases" else ("weight", "bias")
    random = np.random.RandomState(0)
    for one in reference.parameters(judge):
        if one.role in roles:
            value = random.uniform(-1, 1, one.shape).astype("float32")
            backend.assign(model, one.layer, one.role, value)
            reference.assign(judge, one.layer, one.role, value)
    return Native(model, judge, roles)


def judged(native, reference):
    return [one for one in reference.parameters(native.judge) if one.role in native.roles]


def test_it_is_read_as_the_layers_that_it_has(backend, reference, evaluate, native):
    actual, expected = backend.parameters(native.model), judged(native, reference)
    assert [(one.layer, one.role, one.shape) for one in actual] == [
        (one.layer, one.role, one.shape) for one in expected
    ]
    for one, other in zip(actual, expected, strict=True):
        assert np.array_equal(one.value, other.value)
        assert evaluate(one.access, native.model) is one.native
    storages, judges = [one.storage for one in actual], [one.storage for one in expected]
    assert [storages.index(one) for one in storages] == [judges.index(one) for one in judges]


def test_it_computes_what_the_reference_computes(backend, reference, near, native):
    assert backend.forward(native.model, BATCH) == near(reference.forward(native.judge, BATCH), 1e-5)
    actual = backend.gradients(native.model, BATCH, TARGETS)
    expected = reference.gradients(native.judge, BATCH, TARGETS)
    assert list(actual) == [key for key in expected if key[1] in native.roles]
    for key, gradient in actual.items():
        assert gradient == near(expected[key], 1e-5)


def test_it_trains(backend, reference, near, native):
    loss = np.mean((reference.forward(native.judge, BATCH) - TARGETS) ** 2)
    trainer = backend.trainer(native.model, SGD(0.125, 0.875))
    assert trainer.step(BATCH, TARGETS) == near(loss, 1e-5)
    gradients = reference.gradients(native.judge, BATCH, TARGETS)
    for one, before in zip(backend.parameters(native.model), judged(native, reference), strict=True):
        assert one.value == near(before.value - 0.125 * gradients[one.layer, one.role], 1e-5)


def test_a_tie_computes_or_is_refused(backend, reference, near, native):
    """A tie that only the listing knows of would be the worst of all."""
    try:
        model = backend.tie(native.model, 2, to=1)
    except Unsupported:
        assert backend.forward(native.model, BATCH) == near(reference.forward(native.judge, BATCH), 1e-5)
        return
    judge = reference.tie(native.judge, 2, to=1)
    assert backend.forward(model, BATCH) == near(reference.forward(judge, BATCH), 1e-5)
    for layer in (1, 2):
        value = backend.parameter(model, layer, "weight").value + 0.5
        backend.assign(model, layer, "weight", value)
        reference.assign(judge, layer, "weight", value)
        assert backend.forward(model, BATCH) == near(reference.forward(judge, BATCH), 1e-5)


def test_it_is_listed_and_counted(backend, native):
    assert all(backend.listings(native.model).values())
    assert all(number > 0 for number in backend.counts(native.model).values())


def test_a_bias_that_is_not_there_is_named(backend, native):
    if "bias" in native.roles:
        assert backend.parameter(native.model, 0, "bias").role == "bias"
    else:
        with pytest.raises(ValueError, match=r"\Alayer 0 has no bias; it was built without one\Z"):
            backend.parameter(native.model, 0, "bias")


def test_a_model_without_a_dense_layer_is_refused(backend):
    model = MODELS[backend.name]()["without a dense layer"]()
    with pytest.raises(
        ValueError, match=r"\Athe model has no dense layer; the harness looks at dense layers\Z"
    ):
        backend.parameters(model)


def test_what_we_build_is_the_framework_s_own_model(backend):
    model = backend.mlp(TWO)
    if backend.name == "jax":
        model, variables = model
        assert type(variables) is dict
    assert type(model) is pkgutil.resolve_name(OWN_CLASS[backend.name])
