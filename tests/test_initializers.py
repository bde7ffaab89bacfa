"""Distributions are known again from samples of them."""

from __future__ import annotations

import numpy as np
import pytest

from d2lparams.scenarios.initializers import describe

RANDOM = np.random.RandomState(0)
SHAPE = (256, 512)  # (out, in)
FANS = (512, 256)


def orthogonal(*shape):
    rows, columns = max(shape), min(shape)
    matrix = np.linalg.qr(RANDOM.normal(size=(rows, columns)))[0]
    return matrix if shape == (rows, columns) else matrix.T


def cut_off(deviation):
    values = RANDOM.normal(size=4 * SHAPE[0] * SHAPE[1])
    return deviation / 0.87962566 * values[np.abs(values) < 2][: SHAPE[0] * SHAPE[1]].reshape(SHAPE)


CASES = {
    "zeros": np.zeros(SHAPE),
    "ones": np.ones(8),
    "all 2": np.full(8, 2.0),
    "by gate 0, 1, 0, 0": np.repeat([[0.0], [1.0], [0.0], [0.0]], 8, axis=1),
    "uniform within 0.07": RANDOM.uniform(-0.07, 0.07, SHAPE),
    "uniform within 1/√in": RANDOM.uniform(-(512**-0.5), 512**-0.5, SHAPE),
    "uniform within √(6/(in + out)), Glorot": RANDOM.uniform(-1, 1, SHAPE) * (6 / 768) ** 0.5,
    "uniform within 0.5": RANDOM.uniform(-0.5, 0.5, SHAPE),
    "normal, deviation 1": RANDOM.normal(size=SHAPE),
    "normal cut off at two deviations, deviation 1/√in, LeCun": cut_off(512**-0.5),
    "each gate orthogonal": np.stack([orthogonal(64, 64) for _ in range(4)]),
    "all gates together orthogonal": orthogonal(256, 64).reshape(4, 64, 64),
}


@pytest.mark.parametrize(("name", "values"), CASES.items(), ids=list(CASES))
def test_a_distribution_is_known_again(name, values):
    assert describe(values, FANS) == name


def test_what_is_not_known_is_not_named():
    skewed = RANDOM.uniform(0, 1, SHAPE) ** 3
    assert describe(skewed, FANS).startswith("of no known form")
