"""Building a model, and reading and writing what is in it."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from d2lparams.interface import MLP, Activation, unique

# Square weights with asymmetric values between ones that are not square: no transposition can hide.
SIZES = (3, 5, 5, 5, 2)
ROLES = ("weight", "bias")


def test_the_backend_has_the_name_of_its_module(backend, module):
    assert module.__name__ == f"backends.{backend.name}"


@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize("sizes", [SIZES, (4, 2)], ids=["deep", "one layer"])
def test_forward_is_that_of_the_reference(pair, near, dtype, rtol, activation, sizes):
    models = pair(MLP(sizes, activation, dtype=dtype))
    x, _ = models.batch()
    actual, expected = models.forward(x)
    assert actual == near(expected, rtol)


def test_a_framework_computes_in_the_dtype_of_the_model(backend, dtype):
    output = backend.forward(backend.mlp(MLP(SIZES, dtype=dtype)), np.ones((2, 3), dtype))
    assert output.dtype == ("float64" if backend.name == "numpy" else dtype)  # the judge rounds nothing


def test_forward_changes_no_value(pair):
    models = pair(MLP(SIZES))
    x, _ = models.batch()
    models.forward(x)
    assert all(np.array_equal(actual, expected) for actual, expected in models.values())


# -- the list of parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [(), ((1, 2),)], ids=["untied", "tied"])
def test_parameters_are_every_use_in_order_weight_before_bias(backend, tied):
    parameters = backend.parameters(backend.mlp(MLP(SIZES, tied=tied)))
    assert [(one.layer, one.role) for one in parameters] == [(n, role) for n in range(4) for role in ROLES]


def test_parameter_is_the_one_of_the_list(backend):
    model = backend.mlp(MLP(SIZES))
    for one in backend.parameters(model):
        same = backend.parameter(model, np.int64(one.layer), one.role)
        assert (same.access, same.storage, same.native_name) == (one.access, one.storage, one.native_name)


def test_shapes_are_canonical_and_the_native_ones_are_the_framework_s(backend):
    for one in backend.parameters(backend.mlp(MLP(SIZES))):
        outputs, inputs = SIZES[one.layer + 1], SIZES[one.layer]
        assert one.shape == ((outputs, inputs) if one.role == "weight" else (outputs,))
        assert one.native_shape in (one.shape, one.shape[::-1])
        assert one.native_shape == tuple(one.native.shape) == tuple(one.native_value.shape)
        assert one.value.shape == one.shape


def test_dtype_is_the_one_asked_for(backend, dtype):
    for one in backend.parameters(backend.mlp(MLP(SIZES, dtype=dtype))):
        assert one.dtype == one.value.dtype.name == dtype


@pytest.mark.parametrize("tied", [(), ((1, 2),), ((1, 2, 3),), ((1, 3), (2, 4))])
def test_storage_is_equal_exactly_for_tied_uses(backend, tied):
    spec = MLP((3, 5, 5, 5, 5, 5), tied=tied)
    parameters = backend.parameters(backend.mlp(spec))
    for one in parameters:
        for other in parameters:
            tied_uses = (spec.owner(one.layer), one.role) == (spec.owner(other.layer), other.role)
            assert (one.storage == other.storage) is tied_uses
    assert len(unique(parameters)) == 2 * len({spec.owner(layer) for layer in range(spec.layers)})


def test_two_models_share_no_storage(backend):
    one, other = backend.parameters(backend.mlp(MLP(SIZES))), backend.parameters(backend.mlp(MLP(SIZES)))
    assert not {parameter.storage for parameter in one} & {parameter.storage for parameter in other}


def test_different_parameters_have_different_names(backend):
    parameters = unique(backend.parameters(backend.mlp(MLP(SIZES, tied=((1, 2),)))))
    names = [one.native_name for one in parameters]
    assert all(names)
    assert len(set(names)) == len(names)


def test_a_fresh_start_makes_the_names_repeat(backend):
    seen = []
    for _ in range(2):
        with backend.fresh():
            model = backend.mlp(MLP(SIZES))
            seen.append(([one.native_name for one in backend.parameters(model)], backend.listings(model)))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("tied", [(), ((1, 2),)], ids=["untied", "tied"])
def test_an_access_expression_gives_the_native_parameter(backend, evaluate, tied):
    model = backend.mlp(MLP(SIZES, tied=tied))
    for one in backend.parameters(model):
        assert evaluate(one.access, model) is one.native


def test_listings_show_lines_by_expression(backend, evaluate):
    model = backend.mlp(MLP(SIZES))
    listings = backend.listings(model)
    assert listings
    for expression, lines in listings.items():
        evaluate(expression, model)
        assert lines
        assert all(isinstance(line, str) and line for line in lines)


@pytest.mark.parametrize("tied", [(), ((1, 2),)], ids=["untied", "tied"])
def test_counts_are_what_their_expressions_give(backend, evaluate, tied):
    model = backend.mlp(MLP(SIZES, tied=tied))
    counts = backend.counts(model)
    assert counts
    assert all(type(number) is int for number in counts.values())
    assert counts == {expression: evaluate(expression, model) for expression in counts}


# -- values --------------------------------------------------------------------------------------------------


def test_what_was_assigned_is_read_back_exactly(pair, dtype):
    models = pair(MLP(SIZES, dtype=dtype))
    for actual, expected in models.values():
        assert np.array_equal(actual, expected)


def test_assign_takes_any_memory_layout_and_a_narrower_type(backend):
    model = backend.mlp(MLP((3, 5, 2), dtype="float64"))
    drawn = np.random.RandomState(0).uniform(-1, 1, (3, 5)).astype("float32")
    for value in (drawn.T, drawn.T[::-1], drawn.T[:, ::-1]):
        backend.assign(model, 0, "weight", value)
        assert np.array_equal(backend.parameter(model, 0, "weight").value, value)


def test_assign_keeps_no_hold_on_the_array_it_was_given(backend):
    model = backend.mlp(MLP(SIZES))
    given = np.ones(5, "float32")
    backend.assign(model, 0, "bias", given)
    given[:] = 2
    assert np.array_equal(backend.parameter(model, 0, "bias").value, np.ones(5))


def test_a_value_is_a_copy(pair):
    models = pair(MLP(SIZES))
    for one in models.parameters():
        one.value[...] = 7
    assert all(np.array_equal(actual, expected) for actual, expected in models.values())


def test_a_parameter_reads_what_is_there_now(backend):
    model = backend.mlp(MLP(SIZES))
    bias = backend.parameter(model, 1, "bias")
    for number in (1, 2):
        backend.assign(model, 1, "bias", np.full(5, number, "float32"))
        assert np.array_equal(bias.value, np.full(5, number))


def test_assign_through_one_tied_use_shows_through_the_other(pair, near, dtype, rtol):
    models = pair(MLP(SIZES, "tanh", tied=((1, 2),), dtype=dtype))
    x, _ = models.batch()
    before = models.backend.forward(models.model, x)
    for layer, role in ((2, "weight"), (1, "bias")):
        value = models.uniform(*models.backend.parameter(models.model, layer, role).shape)
        models.assign(layer, role, value)
        for use in (1, 2):
            assert np.array_equal(models.backend.parameter(models.model, use, role).value, value)
    actual, expected = models.forward(x)
    assert actual == near(expected, rtol)
    assert not np.allclose(actual, before)


def test_all_that_was_assigned_at_once_is_read_back_exactly(backend, dtype):
    model = backend.mlp(MLP(SIZES, dtype=dtype))
    drawn = np.random.RandomState(0)
    values = {
        (one.layer, one.role): drawn.uniform(-1, 1, one.shape).astype(dtype)
        for one in reversed(backend.parameters(model)[1:])
    }
    before = backend.parameter(model, 0, "weight").value
    backend.assign_all(model, values)
    for use, value in values.items():
        assert np.array_equal(backend.parameter(model, *use).value, value)
    assert np.array_equal(backend.parameter(model, 0, "weight").value, before)


def test_the_last_of_several_values_for_tied_uses_counts(backend):
    model = backend.mlp(MLP(SIZES, tied=((1, 2),)))
    one, two = np.full((5, 5), 1, "float32"), np.full((5, 5), 2, "float32")
    for values in ({(1, "weight"): one, (2, "weight"): two}, {(2, "weight"): two, (1, "weight"): one}):
        backend.assign_all(model, values)
        for layer in (1, 2):
            assert np.array_equal(backend.parameter(model, layer, "weight").value, list(values.values())[-1])


def test_values_go_to_one_model_of_two(backend):
    models = [backend.mlp(MLP(SIZES)) for _ in range(2)]
    before = [one.value for one in backend.parameters(models[0])]
    ones = {(one.layer, one.role): np.ones_like(one.value) for one in backend.parameters(models[1])}
    backend.assign_all(models[1], ones)
    assert all(np.array_equal(one.value, old) for one, old in zip(backend.parameters(models[0]), before))


# -- lazy models ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [(), ((1, 2),)], ids=["untied", "tied"])
def test_a_lazy_model_takes_its_shapes_from_the_first_batch(pair, near, dtype, rtol, tied):
    spec = MLP(SIZES, "tanh", tied=tied, dtype=dtype, lazy=True)
    models = pair(spec)
    x, _ = models.batch()
    models.initialize(x)
    assert [one.shape for one in models.parameters() if one.role == "weight"] == [
        spec.weight_shape(layer) for layer in range(spec.layers)
    ]
    models.draw()
    actual, expected = models.forward(x)
    assert actual == near(expected, rtol)
    assert {one.dtype for one in models.parameters()} == {dtype}


def test_a_lazy_model_can_be_listed_and_counted_before_it_has_shapes(backend):
    model = backend.mlp(MLP(SIZES, lazy=True))
    before = backend.listings(model)
    assert all(isinstance(line, str) for lines in before.values() for line in lines)
    model = backend.initialize(model, np.ones((2, 3), "float32"))
    assert list(backend.listings(model)) == list(before)
    assert backend.listings(model) != before
