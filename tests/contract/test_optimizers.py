"""What a framework's optimizers do beside a plain step: state, decay, a new learning rate."""

from __future__ import annotations

import numpy as np
import pytest

from d2lparams.interface import MLP, SGD, Adam, AdamW, Unsupported, unique

TIED = MLP((3, 5, 5, 5, 2), "tanh", tied=((1, 2),), dtype="float64")


@pytest.mark.parametrize(
    ("rule", "kept"),
    [(SGD(0.125, 0.875), 1), (Adam(0.125), 2)],
    ids=["momentum", "Adam"],
)
def test_the_state_of_a_tied_parameter_exists_once(pair, rule, kept):
    models = pair(TIED)
    trainer = models.backend.trainer(models.model, rule)
    trainer.step(*models.batch())
    values = sum(one.size for one in unique(models.parameters()))
    assert sum(int(np.prod(shape)) for shape in trainer.slots().values()) == kept * values


def test_a_new_learning_rate_holds_from_the_next_step_on(pair, near):
    models = pair(TIED)
    x, y = models.batch()
    trainers = [
        models.backend.trainer(models.model, SGD(0.125)),
        models.reference.trainer(models.judge, SGD(0.125)),
    ]
    for rate in (0.125, 0.03125, 0.5):
        for trainer in trainers:
            trainer.set_learning_rate(rate)
            trainer.step(x, y)
        for actual, expected in models.values():
            assert actual == near(expected, 1e-12)


def test_adamw_takes_decay_from_the_weight_beside_the_step(pair, near):
    models, plain = pair(TIED), pair(TIED)
    x, y = models.batch()
    settings = {"learning_rate": 2**-7, "beta1": 0.875, "beta2": 1 - 2**-10, "epsilon": 2**-20}
    start = [one.value for one in models.parameters()]
    try:
        models.backend.trainer(models.model, AdamW(**settings, weight_decay=0.5)).step(x, y)
    except Unsupported as reason:
        pytest.skip(f"the framework has no AdamW: {reason}")
    plain.backend.trainer(plain.model, Adam(**settings)).step(x, y)
    for one, other, before in zip(models.parameters(), plain.parameters(), start):
        assert one.value == near(other.value - 2**-7 * 0.5 * before, 1e-6)


def test_decay_pulls_the_weights_towards_zero(pair):
    models, plain = pair(TIED), pair(TIED)
    x, y = models.batch()
    start = models.backend.parameter(models.model, 1, "weight").value
    models.backend.trainer(models.model, SGD(0.125, weight_decay=0.5)).step(x, y)
    plain.backend.trainer(plain.model, SGD(0.125)).step(x, y)
    weight, without = (one.backend.parameter(one.model, 1, "weight").value for one in (models, plain))
    np.testing.assert_allclose(weight - without, -0.125 * 0.5 * start, rtol=1e-6, atol=1e-9)


def test_defaults_are_those_that_an_optimizer_really_has(backend):
    defaults = backend.optimizers().defaults()
    assert {"SGD", "Adam"} <= set(defaults) <= {"SGD", "Adam", "AdamW"}
    assert any(key in defaults["Adam"] for key in ("eps", "epsilon"))
    assert all(
        isinstance(value, (int, float, str, bool, type(None)))
        for one in defaults.values()
        for value in one.values()
    )
