"""The formulas that frameworks are held against: each is told from the others, by hand-made numbers."""

from __future__ import annotations

import numpy as np
import pytest

from d2lparams.interface import SGD, Adam, AdamW
from d2lparams.scenarios import formulas

START = np.array([1.0, -2.0])
GRADIENTS = [np.array([0.5, 1.0]), np.array([0.25, -1.0])]


def test_the_two_momentums_are_one_while_the_rate_is():
    same = (0.125, 0.125)
    one = formulas.velocity_of_gradients(START, GRADIENTS, same, 0.5)
    other = formulas.velocity_of_steps(START, GRADIENTS, same, 0.5)
    assert np.array_equal(one, other)


def test_the_two_momentums_part_ways_when_the_rate_changes():
    # v = 0.5 * 0.5 + 0.25 = 0.5; w = 1 - 0.5 * 0.5 - 0.25 * 0.5
    assert formulas.velocity_of_gradients(START, GRADIENTS, (0.5, 0.25), 0.5)[0] == 0.625
    # v = 0.5 * -0.25 - 0.25 * 0.25 = -0.1875; w = 1 - 0.25 - 0.1875
    assert formulas.velocity_of_steps(START, GRADIENTS, (0.5, 0.25), 0.5)[0] == 0.5625


def test_decay_in_the_gradient_is_carried_on_by_momentum():
    rule = SGD(0.5, momentum=0.5, weight_decay=0.25)
    # v = 0.5 + 0.25 = 0.75, w = 0.625; v = 0.375 + 0.25 + 0.15625, w = 0.625 - 0.390625
    assert formulas.decay_in_gradient(START, GRADIENTS, rule)[0] == 0.234375
    # v = 0.5, w = 1 - 0.5 * (0.5 + 0.25) = 0.625; v = 0.5, w = 0.625 - 0.5 * (0.5 + 0.15625)
    assert formulas.decay_apart(START, GRADIENTS, rule)[0] == 0.296875


def test_the_place_of_epsilon():
    steps = formulas.first_step(np.array([1.0]), Adam(0.5, beta2=0.75, epsilon=1.0))
    assert steps["after the bias correction"][0] == 0.25
    assert steps["before the bias correction"][0] == pytest.approx(0.5 / 3)


def test_adamw_has_a_formula_for_each_decay_and_each_epsilon():
    found = formulas.adamw_first_step(
        np.array([2.0]), np.array([1.0]), AdamW(0.5, beta2=0.75, epsilon=1.0, weight_decay=0.25)
    )
    assert found["learning rate * decay * w, epsilon after the bias correction"][0] == 2 - 0.25 - 0.25
    assert found["decay * w, epsilon after the bias correction"][0] == 2 - 0.25 - 0.5
    assert len({float(value[0]) for value in found.values()}) == 4


def test_the_formula_is_named_or_there_is_none():
    forms = {"one": START + 1, "other": START + 2}
    assert formulas.follows(START + 2, forms, START) == "other"
    assert formulas.follows(START + 2 * (1 + 1e-7), forms, START) == "other"
    assert formulas.follows(START + 2.1, forms, START) == formulas.NEITHER
    assert formulas.follows(START + np.nan, forms, START) == formulas.NEITHER


def test_formulas_that_cannot_be_told_apart_are_both_named():
    assert formulas.follows(START + 1, {"one": START + 1, "other": START + 1}, START) == "one or other"
