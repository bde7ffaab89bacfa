"""A compiler that cannot do it, where one is waited for: nothing is lost, and whoever insists is told why."""

from __future__ import annotations

import numpy as np
import pytest

from d2lparams.interface import SGD, Price, Unsupported

X, Y = np.ones((6, 3), "float32"), np.zeros((6, 2), "float32")


def awkward_in_torch(backend):
    """A model whose code asks for a value, which no graph can hold, and its trainer's class and arguments."""
    torch = pytest.importorskip("torch")
    from backends.trainers.torch import TorchTrainer

    class Awkward(torch.nn.Sequential):
        def forward(self, x):
            return super().forward(x if float(x.sum()) > 0 else -x)

    model = Awkward(torch.nn.Linear(3, 2))
    return model, TorchTrainer, (model, backend.parameters(model), SGD(0.125), list(model.parameters()))


def awkward_in_tensorflow(backend):
    """A model with a Python function in its graph, which XLA does not know."""
    tf = pytest.importorskip("tensorflow")
    import keras

    from backends.trainers.tensorflow import GraphTrainer, trainable

    class Awkward(keras.Sequential):
        def call(self, x):
            return super().call(tf.ensure_shape(tf.py_function(lambda one: one, [x], x.dtype), x.shape))

    model = Awkward([keras.layers.Dense(2)])
    model(X)
    return model, GraphTrainer, (backend.parameters(model), model, trainable(model), SGD(0.125))


@pytest.fixture
def awkward(backend):
    makers = {"torch": awkward_in_torch, "tensorflow": awkward_in_tensorflow}
    if backend.name not in makers:
        pytest.skip("no step waits for a compiler here")
    return makers[backend.name](backend)


def test_a_step_that_cannot_be_compiled_goes_on_without(backend, awkward):
    model, trainer_class, arguments = awkward

    class Hasty(trainer_class):
        price = Price(compilation=1.0, step=1.0)

    hasty = Hasty(*arguments)
    losses = [hasty.step(X, Y) for _ in range(4)]
    losses += list(hasty.run(X, Y, 2))
    assert sorted(losses, reverse=True) == losses
    assert len(set(losses)) == 6
    assert np.mean(backend.forward(model, X) ** 2) < losses[-1]


def test_whoever_insists_on_compiling_is_told_why_it_cannot_be(backend, awkward):
    model, *_ = awkward
    trainer = backend.trainer(model, SGD(0.125), compile=True)
    with pytest.raises(Unsupported, match=r"\A(torch\.compile|XLA) cannot compile this step: .+\Z"):
        trainer.run(X, Y, 2)  # PyTorch's first step is not compiled
