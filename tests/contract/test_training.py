"""Training steps by each framework's own fast path, held against optimizers that are written out.

The learning rate, momentum and betas are numbers that binary32 holds exactly: MXNet and Keras keep them in it.
"""

from __future__ import annotations

import numpy as np
import pytest

from d2lparams.interface import LOSSES, MLP, SGD, SOFTMAX_CROSS_ENTROPY, Adam, unique

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


@pytest.mark.parametrize("optimizer", [GRADIENT_DESCENT, MOMENTUM], ids=["gradient descent", "momentum"])
def test_large_layers_are_stepped_as_small_ones_are(pair, near, optimizer):
    # From 32768 numbers on PyTorch's and MXNet's trainers take other functions for the same rule.
    models = pair(MLP((3, 200, 200, 2), "tanh", dtype="float64"))
    x, y = models.batch()
    trainer = models.backend.trainer(models.model, optimizer)
    judge = models.reference.trainer(models.judge, optimizer)
    for _ in range(3):
        assert trainer.step(x, y) == near(judge.step(x, y), 1e-12)
    for actual, expected in models.values():
        assert actual == near(expected, 1e-12)


# -- softmax cross-entropy -----------------------------------------------------------------------------------


def labels(models, rows=6):
    """One for each input, of each kind that there is."""
    return np.arange(rows) % models.spec.sizes[-1]


@pytest.mark.parametrize("tied", [(), ((1, 2),)], ids=["untied", "tied"])
@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAM], ids=["momentum", "adam"])
def test_steps_by_the_cross_entropy_are_those_of_the_reference(pair, near, dtype, optimizer, tied):
    # MXNet takes log_softmax of float32 from oneDNN, whose gradient is off by 2e-6 at each step.
    rtol = RTOL[dtype, type(optimizer)] if dtype == "float64" else 1e-4
    models = pair(MLP(SIZES, "tanh", tied=tied, dtype=dtype))
    (x, _), y = models.batch(), labels(models)
    trainer = models.backend.trainer(models.model, optimizer, loss=SOFTMAX_CROSS_ENTROPY)
    judge = models.reference.trainer(models.judge, optimizer, loss=SOFTMAX_CROSS_ENTROPY)
    for step in range(1, 21):
        assert trainer.step(x, y) == near(judge.step(x, y), rtol)
        if step in (1, 20):
            for actual, expected in models.values():
                assert actual == near(expected, rtol)


def test_the_cross_entropy_is_that_of_its_formula(pair, near, dtype, rtol):
    models = pair(MLP(SIZES, dtype=dtype))
    (x, _), y = models.batch(), labels(models)
    logits = models.backend.forward(models.model, 64 * x).astype("float64")  # exp of some is past float32
    wanted = np.mean(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(y)), y])
    trainer = models.backend.trainer(models.model, GRADIENT_DESCENT, loss=SOFTMAX_CROSS_ENTROPY)
    assert trainer.step(64 * x, y) == near(wanted, rtol)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "int64", list])
def test_labels_may_be_whole_numbers_of_any_kind(pair, near, kind):
    models = pair(MLP(SIZES, dtype="float64"))
    (x, _), y = models.batch(), labels(models)
    trainer = models.backend.trainer(models.model, GRADIENT_DESCENT, loss=SOFTMAX_CROSS_ENTROPY)
    judge = models.reference.trainer(models.judge, GRADIENT_DESCENT, loss=SOFTMAX_CROSS_ENTROPY)
    given = y.tolist() if kind is list else y.astype(kind)
    assert trainer.step(x, given) == near(judge.step(x, y), 1e-12)


# -- many steps at once --------------------------------------------------------------------------------------


@optimizers
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("tied", [(), ((1, 2),)], ids=["untied", "tied"])
def test_a_run_is_so_many_steps(pair, near, optimizer, loss, tied):
    rtol = RTOL["float64", type(optimizer)]
    models = pair(MLP(SIZES, "tanh", tied=tied, dtype="float64"))
    x, y = models.batch()
    y = y if loss != SOFTMAX_CROSS_ENTROPY else labels(models)
    trainer = models.backend.trainer(models.model, optimizer, loss=loss)
    judge = models.reference.trainer(models.judge, optimizer, loss=loss)
    for count in (3, 1, 12):
        found = trainer.run(x, y, count)
        assert (type(found), found.shape, found.dtype) == (np.ndarray, (count,), "float64")
        assert found == near([judge.step(x, y) for _ in range(count)], rtol)
        assert trainer.step(x, y) == near(judge.step(x, y), rtol)
    for actual, expected in models.values():
        assert actual == near(expected, rtol)


def test_a_run_takes_the_learning_rate_that_is_set(pair, near):
    models = pair(MLP(SIZES, "tanh", dtype="float64"))
    x, y = models.batch()
    trainer = models.backend.trainer(models.model, GRADIENT_DESCENT)
    judge = models.reference.trainer(models.judge, GRADIENT_DESCENT)
    for rate in (0.125, 0.5, 0.0625):
        for one in (trainer, judge):
            one.set_learning_rate(rate)
        assert trainer.run(x, y, 4) == near(judge.run(x, y, 4), 1e-12)
    for actual, expected in models.values():
        assert actual == near(expected, 1e-12)


def test_a_long_run_tells_every_loss(pair, near):
    models = pair(MLP((3, 2), dtype="float64"))
    x, y = models.batch()
    trainer = models.backend.trainer(models.model, SGD(2**-10))
    judge = models.reference.trainer(models.judge, SGD(2**-10))
    assert trainer.run(x, y, 1500) == near(judge.run(x, y, 1500), 1e-10)


def test_a_run_of_no_steps_changes_nothing(pair):
    models = pair(MLP(SIZES, dtype="float64"))
    x, y = models.batch()
    assert models.backend.trainer(models.model, MOMENTUM).run(x, y, 0).shape == (0,)
    assert all(np.array_equal(actual, expected) for actual, expected in models.values())


# -- compiled ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "loss"), [(MOMENTUM, SOFTMAX_CROSS_ENTROPY), (ADAM, LOSSES[0])], ids=["momentum", "adam"]
)
def test_compiled_steps_and_runs_are_those_of_the_reference(pair, near, optimizer, loss):
    # A compiled Adam counts its steps in binary32 in PyTorch, too.
    rtol = RTOL["float64", type(optimizer)]
    models = pair(MLP(SIZES, "tanh", tied=((1, 2),), dtype="float64"))
    x, y = models.batch()
    y = y if loss != SOFTMAX_CROSS_ENTROPY else labels(models)
    trainer = models.backend.trainer(models.model, optimizer, loss=loss, compile=True)
    judge = models.reference.trainer(models.judge, optimizer, loss=loss)
    for _ in range(3):
        assert trainer.step(x, y) == near(judge.step(x, y), rtol)
    assert trainer.run(x, y, 5) == near(judge.run(x, y, 5), rtol)
    models.assign(2, "weight", models.uniform(5, 5))
    for actual, expected in zip([trainer.step(x, y), *trainer.run(x, y, 4)], judge.run(x, y, 5), strict=True):
        assert actual == near(expected, rtol)
    for actual, expected in models.values():
        assert actual == near(expected, rtol)
    assert len(unique(models.parameters())) == 6


@optimizers
def test_steps_without_a_compiler_are_those_of_the_reference(pair, near, optimizer):
    rtol = RTOL["float64", type(optimizer)]
    models = pair(MLP(SIZES, "tanh", tied=((1, 2),), dtype="float64"))
    x, y = models.batch()
    trainer = models.backend.trainer(models.model, optimizer, compile=False)
    judge = models.reference.trainer(models.judge, optimizer)
    for _ in range(2):
        assert trainer.step(x, y) == near(judge.step(x, y), rtol)
    assert trainer.run(x, y, 2) == near(judge.run(x, y, 2), rtol)
    for actual, expected in models.values():
        assert actual == near(expected, rtol)
