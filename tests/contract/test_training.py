"""Training steps by each framework's own fast path, held against optimizers that are written out.

The learning rate, momentum and betas are numbers that binary32 holds exactly: MXNet and Keras keep them in it.
"""

from __future__ import annotations

import numpy as np
import pytest

from d2lparams.interface import MLP, SGD, Adam, unique

SIZES = (3, 5, 5, 5, 2)
GRADIENT_DESCENT = SGD(0.125)
MOMENTUM = SGD(0.125, 0.875)
ADAM = Adam(2**-7, 0.875, 1 - 2**-10, 2**-40)

# Adam's step size, corrected for the number of steps, is computed in binary32 by MXNet and Keras whatever the
# dtype of the model, so that float64 is no closer than that.
RTOL = {
    ("float64", SGD): 1e-12,
    ("float32", SGD): 1e-5,
    ("float64", Adam): 1e-6,
    ("float32", Adam): 1e-5,
}

optimizers = pytest.mark.parametrize(
    "optimizer", [GRADIENT_DESCENT, MOMENTUM, ADAM], ids=["gradient descent", "momentum", "adam"]
)


@optimizers
@pytest.mark.parametrize("tied", [(), ((1, 2),)], ids=["untied", "tied"])
def test_one_and_twenty_steps_are_those_of_the_reference(pair, near, dtype, optimizer, tied):
    rtol = RTOL[dtype, type(optimizer)]
    models = pair(MLP(SIZES, "tanh", tied=tied, dtype=dtype))
    x, y = models.batch()
    trainer = models.backend.trainer(models.model, optimizer)
    judge = models.reference.trainer(models.judge, optimizer)
    for step in range(1, 21):
        assert trainer.step(x, y) == near(judge.step(x, y), rtol)
        if step in (1, 20):
            for actual, expected in models.values():
                assert actual == near(expected, rtol)
    assert len(unique(models.parameters())) == (6 if tied else 8)


@optimizers
def test_the_loss_is_the_one_before_the_step(pair, near, dtype, rtol, optimizer):
    models = pair(MLP(SIZES, dtype=dtype))
    x, y = models.batch()
    trainer = models.backend.trainer(models.model, optimizer)
    for _ in range(2):
        before = np.mean((models.backend.forward(models.model, x) - y) ** 2)
        loss = trainer.step(x, y)
        assert type(loss) is float
        assert loss == near(before, rtol)


def test_making_a_trainer_changes_no_value(pair):
    models = pair(MLP(SIZES))
    models.backend.trainer(models.model, ADAM)
    assert all(np.array_equal(actual, expected) for actual, expected in models.values())


def test_a_parameter_listed_before_training_reads_what_training_made_of_it(pair, near):
    models = pair(MLP(SIZES, dtype="float64"))
    listed = models.backend.parameter(models.model, 1, "weight")
    x, y = models.batch()
    models.backend.trainer(models.model, MOMENTUM).step(x, y)
    models.reference.trainer(models.judge, MOMENTUM).step(x, y)
    assert listed.value == near(models.reference.parameter(models.judge, 1, "weight").value, 1e-12)


def test_the_batch_may_have_another_length_in_every_step(pair, near):
    models = pair(MLP(SIZES, dtype="float64"))
    x, y = models.batch()
    trainer = models.backend.trainer(models.model, MOMENTUM)
    judge = models.reference.trainer(models.judge, MOMENTUM)
    for rows in (6, 1, 4):
        assert trainer.step(x[:rows], y[:rows]) == near(judge.step(x[:rows], y[:rows]), 1e-12)
    for actual, expected in models.values():
        assert actual == near(expected, 1e-12)


def test_a_trainer_goes_on_from_values_assigned_between_two_steps(pair, near):
    models = pair(MLP(SIZES, tied=((1, 2),), dtype="float64"))
    x, y = models.batch()
    trainer = models.backend.trainer(models.model, MOMENTUM)
    judge = models.reference.trainer(models.judge, MOMENTUM)
    for _ in range(2):
        assert trainer.step(x, y) == near(judge.step(x, y), 1e-12)
        models.assign(2, "weight", models.uniform(5, 5))
    assert trainer.step(x, y) == near(judge.step(x, y), 1e-12)
    for actual, expected in models.values():
        assert actual == near(expected, 1e-12)


def test_looking_at_gradients_between_two_steps_disturbs_no_training(pair, near):
    models = pair(MLP(SIZES, dtype="float64"))
    x, y = models.batch()
    trainer = models.backend.trainer(models.model, MOMENTUM)
    judge = models.reference.trainer(models.judge, MOMENTUM)
    for _ in range(3):
        assert trainer.step(x, y) == near(judge.step(x, y), 1e-12)
        models.backend.gradients(models.model, -x, y)
    for actual, expected in models.values():
        assert actual == near(expected, 1e-12)
