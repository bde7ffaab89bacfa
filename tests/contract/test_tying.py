"""Tying layers of a model that is built already."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from d2lparams.interface import MLP, SGD, Unsupported

SIZES = (3, 5, 5, 5, 5, 2)  # dense layers 1, 2 and 3 have one shape

sequences = pytest.mark.parametrize(
    "ties",
    [
        [(2, 1)],
        [(1, 2)],
        [(1, 3)],
        [(2, 1), (3, 2)],
        [(1, 2), (2, 3)],
        [(3, 1), (2, 3)],
        [(2, 1), (1, 2)],
        [(2, 1), (2, 3)],
    ],
    ids=lambda ties: " then ".join(f"{layer} to {to}" for layer, to in ties),
)


def partition(parameters):
    """For every use, the place of the first use of the same storage."""
    storages = [one.storage for one in parameters]
    return [storages.index(storage) for storage in storages]


@sequences
def test_a_model_tied_afterwards_is_that_of_the_reference(pair, near, dtype, rtol, ties):
    models = pair(MLP(SIZES, "tanh", dtype=dtype))
    x, y = models.batch()
    for layer, to in ties:
        models.tie(layer, to)
        assert partition(models.parameters()) == partition(models.reference.parameters(models.judge))
        assert all(np.array_equal(actual, expected) for actual, expected in models.values())
    actual, expected = models.forward(x)
    assert actual == near(expected, rtol)
    for actual, expected in models.gradients(x, y):
        assert actual == near(expected, rtol)


@sequences
def test_a_model_tied_afterwards_trains_as_the_reference_does(pair, near, ties):
    models = pair(MLP(SIZES, "tanh", dtype="float64"))
    x, y = models.batch()
    for layer, to in ties:
        models.tie(layer, to)
    trainer = models.backend.trainer(models.model, SGD(0.125, 0.875))
    judge = models.reference.trainer(models.judge, SGD(0.125, 0.875))
    for _ in range(3):
        assert trainer.step(x, y) == near(judge.step(x, y), 1e-12)
    for actual, expected in models.values():
        assert actual == near(expected, 1e-12)
    assert partition(models.parameters()) == partition(models.reference.parameters(models.judge))


@pytest.mark.parametrize(("layer", "to"), [(2, 1), (1, 2)])
def test_a_model_tied_afterwards_equals_one_tied_from_the_start(pair, near, dtype, rtol, layer, to):
    built, later = (pair(MLP(SIZES, "tanh", tied=groups, dtype=dtype)) for groups in (((1, 2),), ()))
    later.tie(layer, to)
    for one in built.parameters():
        later.assign(one.layer, one.role, one.value)
    assert partition(later.parameters()) == partition(built.parameters())
    x, y = built.batch()
    assert later.backend.forward(later.model, x) == near(built.backend.forward(built.model, x), rtol)
    expected = built.backend.gradients(built.model, x, y)
    for key, actual in later.backend.gradients(later.model, x, y).items():
        assert actual == near(expected[key], rtol)


@pytest.mark.parametrize(("layer", "to"), [(2, 1), (1, 2)])
def test_the_tied_layer_takes_the_other_s_values(pair, layer, to):
    models = pair(MLP(SIZES))
    kept = {(one.layer, one.role): one.value for one in models.parameters()}
    models.tie(layer, to)
    for one in models.parameters():
        assert np.array_equal(one.value, kept[to if one.layer == layer else one.layer, one.role])


@pytest.mark.parametrize("ties", [[(2, 1)], [(1, 2)]])
@pytest.mark.parametrize("again", [(2, 1), (1, 2)])
def test_tying_what_is_tied_gives_the_model_back_as_it_is(pair, ties, again):
    models = pair(MLP(SIZES))
    for layer, to in ties:
        models.tie(layer, to)
    before = models.model
    models.tie(*again)
    assert models.model is before
    assert all(np.array_equal(actual, expected) for actual, expected in models.values())


def test_tying_the_last_layer_works_or_says_why_not(pair, near):
    models = pair(MLP((5, 5, 5), "tanh", dtype="float64"))
    x, _ = models.batch()
    try:
        models.tie(1, 0)
    except Unsupported as reason:
        assert str(reason)  # noqa: PT017  (both ways are right)
    else:
        assert partition(models.parameters()) == [0, 1, 0, 1]
    actual, expected = models.forward(x)
    assert actual == near(expected, 1e-12)


@sequences
def test_access_expressions_hold_in_a_model_tied_afterwards(pair, evaluate, ties):
    models = pair(MLP(SIZES))
    for layer, to in ties:
        models.tie(layer, to)
    for one in models.parameters():
        assert evaluate(one.access, models.model) is one.native


def test_the_backend_says_how_its_framework_ties(backend):
    assert backend.tying


# -- by parameter, by role, across depths --------------------------------------------------------------------

FORMS = {
    "by parameter": MLP(SIZES, "tanh", tied=((1, 2),), by="parameter"),
    "weight only": MLP(SIZES, "tanh", tied=((1, 2),), by="parameter", roles=("weight",)),
    "bias only": MLP(SIZES, "tanh", tied=((1, 2),), by="parameter", roles=("bias",)),
    "three by parameter": MLP(SIZES, "tanh", tied=((3, 1, 2),), by="parameter"),
    "three uses": MLP(SIZES, "tanh", tied=((3, 1, 2),)),
    "two ties": MLP((3, 5, 5, 5, 5, 5, 2), "tanh", tied=((1, 3), (2, 4))),
    "nested": MLP(SIZES, "tanh", nested=True),
    "nested and tied inside": MLP(SIZES, "tanh", tied=((1, 2),), nested=True),
    "across depths": MLP((3, 5, 5, 5), "tanh", tied=((1, 2),), nested=True),
    "across depths by parameter": MLP((3, 5, 5, 5), "tanh", tied=((1, 2),), nested=True, by="parameter"),
    "first and last": MLP((5, 5, 5, 5), "relu", tied=((0, 2),), nested=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_tie_of_any_form_is_that_of_the_reference(pair, near, dtype, rtol, form):
    try:
        models = pair(replace(FORMS[form], dtype=dtype))
    except Unsupported as reason:
        assert str(reason)  # noqa: PT017  (the reader is told why)
        return
    assert partition(models.parameters()) == partition(models.reference.parameters(models.judge))
    x, y = models.batch()
    actual, expected = models.forward(x)
    assert actual == near(expected, rtol)
    for actual, expected in models.gradients(x, y):
        assert actual == near(expected, rtol)


@pytest.mark.parametrize("form", FORMS)
def test_a_tie_of_any_form_trains_as_the_reference_does(pair, near, form):
    try:
        models = pair(replace(FORMS[form], dtype="float64"))
    except Unsupported as reason:
        assert str(reason)  # noqa: PT017
        return
    x, y = models.batch()
    trainer = models.backend.trainer(models.model, SGD(0.125, 0.875))
    judge = models.reference.trainer(models.judge, SGD(0.125, 0.875))
    for _ in range(3):
        assert trainer.step(x, y) == near(judge.step(x, y), 1e-12)
    for actual, expected in models.values():
        assert actual == near(expected, 1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_access_expressions_hold_in_a_tie_of_any_form(backend, evaluate, form):
    try:
        model = backend.mlp(FORMS[form])
    except Unsupported:
        return
    for one in backend.parameters(model):
        assert evaluate(one.access, model) is one.native


@pytest.mark.parametrize("roles", [("weight", "bias"), ("weight",), ("bias",)])
@pytest.mark.parametrize(("layer", "to"), [(2, 1), (1, 2)])
def test_tying_by_parameter_afterwards(pair, near, roles, layer, to):
    models = pair(MLP(SIZES, "tanh", dtype="float64"))
    try:
        models.model = models.backend.tie(models.model, layer, to, "parameter", roles)
    except Unsupported as reason:
        assert str(reason)  # noqa: PT017
        return
    models.judge = models.reference.tie(models.judge, layer, to, "parameter", roles)
    assert partition(models.parameters()) == partition(models.reference.parameters(models.judge))
    assert all(np.array_equal(actual, expected) for actual, expected in models.values())
    actual, expected = models.forward(models.batch()[0])
    assert actual == near(expected, 1e-12)


def test_the_ways_of_tying_that_are_named_are_those_that_work(backend):
    for by in ("module", "parameter"):
        try:
            backend.mlp(MLP(SIZES, tied=((1, 2),), by=by))
        except Unsupported:
            assert by not in backend.tying
        else:
            assert by in backend.tying
