"""A mistake gets the same sentence on every backend, as a ValueError, before anything changed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from d2lparams.interface import MLP, SGD

X, Y = np.ones((6, 3), "float32"), np.ones((6, 2), "float32")
WIDE = np.ones((6, 3), "float64")

ORDER = "this model has 0 to 3, in order of application"
LOSSY = "convert it with .astype('float32') if the loss of precision is meant"
X_FITS = "this model takes (n, 3) with n of at least 1"
Y_FITS = "for these inputs it must be (6, 2)"

# Dense layers 0 to 3 have the weights (5, 3), (5, 5), (5, 5) and (2, 5); float32.
SIZES = (3, 5, 5, 5, 2)

LAYERS = {
    "a negative layer": (-1, f"there is no dense layer -1; {ORDER}"),
    "a layer past the last": (4, f"there is no dense layer 4; {ORDER}"),
    "a bool for a layer": (True, f"there is no dense layer True; {ORDER}"),
    "a float for a layer": (1.0, f"there is no dense layer 1.0; {ORDER}"),
    "a name for a layer": ("0", f"there is no dense layer '0'; {ORDER}"),
}

VALUES = {
    "a transposed weight": (
        (0, "weight", np.ones((3, 5), "float32")),
        "the value has shape (3, 5), but layer 0's weight has (5, 3)",
    ),
    "a bias as a column": (
        (3, "bias", np.ones((2, 1), "float32")),
        "the value has shape (2, 1), but layer 3's bias has (2,)",
    ),
    "one number for all": (
        (3, "bias", np.float32(1)),
        "the value has shape (), but layer 3's bias has (2,)",
    ),
    "float64 into float32": (
        (3, "bias", np.ones(2)),
        f"the value is float64, but layer 3's bias is float32; {LOSSY}",
    ),
    "an unknown role": (
        (0, "kernel", np.ones((5, 3), "float32")),
        "role must be one of 'weight', 'bias'; got 'kernel'",
    ),
}

INPUTS = {
    "too wide": (np.ones((6, 4), "float32"), f"x has shape (6, 4); {X_FITS}"),
    "one example without its axis": (np.ones(3, "float32"), f"x has shape (3,); {X_FITS}"),
    "three axes": (np.ones((2, 3, 3), "float32"), f"x has shape (2, 3, 3); {X_FITS}"),
    "no examples": (np.ones((0, 3), "float32"), f"x has shape (0, 3); {X_FITS}"),
    "float64": (WIDE, f"x is float64, but the model is float32; {LOSSY}"),
}

TARGETS = {
    "too wide": (np.ones((6, 3), "float32"), f"y has shape (6, 3); {Y_FITS}"),
    "other examples": (np.ones((5, 2), "float32"), f"y has shape (5, 2); {Y_FITS}"),
    "without an axis": (np.ones(6, "float32"), f"y has shape (6,); {Y_FITS}"),
    "float64": (np.ones((6, 2)), f"y is float64, but the model is float32; {LOSSY}"),
}

LABELS = {
    "one for each output": (
        np.ones((6, 2), "int64"),
        "y has shape (6, 2); for these inputs it must be (6,), labels",
    ),
    "other examples": (np.ones(5, "int64"), "y has shape (5,); for these inputs it must be (6,), labels"),
    "one for all": (np.int64(1), "y has shape (); for these inputs it must be (6,), labels"),
    "past the last": (
        np.array([0, 1, 2, 0, 1, 0]),
        "y has the label 2; a model of 2 outputs has labels 0 to 1",
    ),
    "negative": (
        np.array([0, 1, -1, 0, 1, 0]),
        "y has the label -1; a model of 2 outputs has labels 0 to 1",
    ),
    "fractions": (
        np.ones(6, "float32"),
        "y is float32, but labels are whole numbers; convert it with .astype('int64')",
    ),
    "truths": (
        np.ones(6, "bool"),
        "y is bool, but labels are whole numbers; convert it with .astype('int64')",
    ),
    "words": (None, "y is object, but labels are whole numbers; convert it with .astype('int64')"),
}

TIES = {
    "to itself": ((1, 1), "layer 1 cannot be tied to itself; name two different layers"),
    "of another shape": (
        (1, 0),
        "layer 1 has weight (5, 5) and layer 0 has (5, 3); only layers of one shape can be tied",
    ),
    "to a layer that is not there": ((1, 4), f"there is no dense layer 4; {ORDER}"),
    "of a layer that is not there": ((-1, 1), f"there is no dense layer -1; {ORDER}"),
}


def cases(table):
    return pytest.mark.parametrize(("given", "sentence"), table.values(), ids=table.keys())


@pytest.fixture
def model(pair):
    """A model that must be as it was when the test is over."""
    models = pair(MLP(SIZES))
    x, _ = models.batch()
    storages = [one.storage for one in models.parameters()]
    output = models.backend.forward(models.model, x)
    yield models.model
    assert all(np.array_equal(actual, expected) for actual, expected in models.values())
    assert [one.storage for one in models.parameters()] == storages
    assert np.array_equal(models.backend.forward(models.model, x), output)


def refuses(sentence):
    """A ValueError that says this and nothing else."""
    return pytest.raises(ValueError, match=rf"\A{re.escape(sentence)}\Z")


@cases(LAYERS)
def test_parameter_of_a_layer_that_is_not_there(backend, model, given, sentence):
    with refuses(sentence):
        backend.parameter(model, given, "weight")


def test_parameter_of_an_unknown_role(backend, model):
    with refuses("role must be one of 'weight', 'bias'; got 'gamma'"):
        backend.parameter(model, 0, "gamma")


@cases(LAYERS)
def test_assign_to_a_layer_that_is_not_there(backend, model, given, sentence):
    with refuses(sentence):
        backend.assign(model, given, "bias", np.ones(5, "float32"))


@cases(VALUES)
def test_assign_of_what_does_not_fit(backend, model, given, sentence):
    with refuses(sentence):
        backend.assign(model, *given)


@cases(VALUES)
def test_assign_of_many_of_which_one_does_not_fit_writes_none(backend, model, given, sentence):
    layer, role, value = given
    before = [one.value for one in backend.parameters(model)]
    fits = {(one.layer, one.role): one.value + 1 for one in backend.parameters(model)}
    fits.pop((layer, role), None)
    with refuses(sentence):
        backend.assign_all(model, {**fits, (layer, role): value})
    assert all(np.array_equal(one.value, old) for one, old in zip(backend.parameters(model), before))


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ([1.0], "got a list"),
        ({"weight": 1.0}, "got 'weight' for one"),
        ({(0, "weight", 1): 1.0}, "got (0, 'weight', 1) for one"),
    ],
    ids=["a list", "a name", "three"],
)
def test_assign_of_many_by_what_are_no_uses(backend, model, given, got):
    with refuses(f"values must be by (layer, role), such as {{(0, 'weight'): array}}; {got}"):
        backend.assign_all(model, given)


@cases(INPUTS)
def test_inputs_that_do_not_fit(backend, model, given, sentence):
    with refuses(sentence):
        backend.forward(model, given)
    with refuses(sentence):
        backend.gradients(model, given, Y)
    with refuses(sentence):
        backend.trainer(model, SGD(0.125)).step(given, Y)


@cases(TARGETS)
def test_targets_that_do_not_fit(backend, model, given, sentence):
    with refuses(sentence):
        backend.gradients(model, X, given)
    with refuses(sentence):
        backend.trainer(model, SGD(0.125)).step(X, given)


@cases(LABELS)
def test_labels_that_do_not_fit(backend, model, given, sentence):
    trainer = backend.trainer(model, SGD(0.125), loss="softmax cross-entropy")
    with refuses(sentence):
        trainer.step(X, given)
    with refuses(sentence):
        trainer.run(X, given, 2)


@pytest.mark.parametrize("steps", [-1, 1.0, True, "2", None])
def test_a_number_of_steps_that_is_none(backend, model, steps):
    with refuses(f"steps must be a whole number, zero or more; got {steps!r}"):
        backend.trainer(model, SGD(0.125)).run(X, Y, steps)


def test_a_loss_that_is_none(backend, model):
    with refuses("loss must be one of 'mean squared error', 'softmax cross-entropy'; got 'hinge'"):
        backend.trainer(model, SGD(0.125), loss="hinge")


@pytest.mark.parametrize("word", ["yes", None, 1])
def test_a_word_for_compile_that_is_none(backend, model, word):
    with refuses(f"compile must be 'auto', True or False; got {word!r}"):
        backend.trainer(model, SGD(0.125), compile=word)


@cases(TIES)
def test_ties_that_cannot_be(backend, model, given, sentence):
    with refuses(sentence):
        backend.tie(model, *given)


@pytest.mark.parametrize("optimizer", ["sgd", None, SGD])
def test_what_is_no_optimizer(backend, model, optimizer):
    with refuses(f"optimizer must be SGD(...), Adam(...) or AdamW(...); got {optimizer!r}"):
        backend.trainer(model, optimizer)
