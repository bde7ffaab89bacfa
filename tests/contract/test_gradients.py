"""Gradients of the mean squared error: their values, and where the framework keeps them."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from d2lparams.interface import MLP, Activation

SIZES = (3, 5, 5, 5, 2)


@pytest.mark.parametrize("tied", [(), ((1, 2),), ((1, 2, 3),)], ids=["untied", "two tied", "three tied"])
@pytest.mark.parametrize("activation", get_args(Activation))
def test_gradients_are_those_of_the_reference(pair, near, dtype, rtol, activation, tied):
    models = pair(MLP((3, 5, 5, 5, 5, 2), activation, tied=tied, dtype=dtype))
    for actual, expected in models.gradients(*models.batch()):
        assert actual == near(expected, rtol)


def test_a_tied_gradient_is_the_sum_of_the_untied_ones(pair, near, dtype, rtol):
    tied, untied = (pair(MLP(SIZES, "tanh", tied=groups, dtype=dtype)) for groups in (((1, 2),), ()))
    for one in tied.parameters():
        untied.assign(one.layer, one.role, one.value)
    x, y = tied.batch()
    shared = tied.backend.gradients(tied.model, x, y)
    single = untied.backend.gradients(untied.model, x, y)
    for role in ("weight", "bias"):
        total = single[1, role] + single[2, role]
        assert shared[1, role] == near(total, rtol)
        assert np.array_equal(shared[1, role], shared[2, role])


def test_gradients_change_no_value(pair):
    models = pair(MLP(SIZES, tied=((1, 2),)))
    models.gradients(*models.batch())
    assert all(np.array_equal(actual, expected) for actual, expected in models.values())


def test_gradients_start_again_with_every_call(pair, near):
    models = pair(MLP(SIZES, dtype="float64"))
    x, y = models.batch()
    models.gradients(x, y)
    for actual, expected in models.gradients(-x, y):
        assert actual == near(expected, 1e-12)


def test_before_the_first_call_no_gradient_is_other_than_zero(backend):
    for one in backend.parameters(backend.mlp(MLP(SIZES))):
        gradient = one.gradient
        assert gradient.where
        assert gradient.value is None or (gradient.kept and gradient.value.shape == one.shape)
        assert gradient.value is None or not gradient.value.any()


@pytest.mark.parametrize("tied", [(), ((1, 2),)], ids=["untied", "tied"])
def test_gradients_that_are_kept_are_where_the_backend_says(pair, evaluate, tied):
    models = pair(MLP(SIZES, tied=tied))
    listed_before = models.parameters()
    returned = models.backend.gradients(models.model, *models.batch())
    for one in (*listed_before, *models.parameters()):
        if one.gradient.kept:
            assert np.array_equal(one.gradient.value, returned[one.layer, one.role])
            assert tuple(evaluate(one.gradient.where, models.model).shape) == one.native_shape
        else:
            assert one.gradient.value is None


def test_a_gradient_is_a_copy(pair):
    models = pair(MLP(SIZES))
    returned = models.backend.gradients(models.model, *models.batch())
    kept = [(one, one.gradient.value) for one in models.parameters()]
    for gradient in returned.values():
        gradient[...] = 7
    for one, value in kept:
        if value is not None:
            before = value.copy()
            value[...] = 7
            assert np.array_equal(one.gradient.value, before)
