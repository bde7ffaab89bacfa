"""Bounds on rounding errors: no right answer is outside of them, and no wrong one inside, in any form."""

from __future__ import annotations

import numpy as np
import pytest

from backends.numpy import NumpyBackend
from d2lparams.comparison import compare_runs
from d2lparams.interface import MLP, SGD, Adam
from d2lparams.results import Run
from d2lparams.scenarios import scenarios
from d2lparams.scenarios.inputs import batch, starting_values, varied
from d2lparams.scenarios.tolerances import (
    Look,
    computed,
    gamma,
    gradient_bounds,
    output_bound,
    rounded_up,
    training_bounds,
)
from d2lparams.variation import FORMS, Variation
from d2lparams.worker import execute

SPEC = MLP(sizes=(4, 8, 8, 8, 1), activation="tanh", tied=((1, 2),), dtype="float64")
IN_FLOAT64 = ["", *(form for form in FORMS if form != "float32")]


class Rounding(NumpyBackend):
    """Passes what it computes through float32, as an adapter does that forgets a dtype."""

    def _forward(self, model, x):
        return single(super()._forward(model, x))

    def _gradients(self, model, x, y):
        return {key: single(value) for key, value in super()._gradients(model, x, y).items()}

    def _trainer(self, model, optimizer):
        trainer = super()._trainer(model, optimizer)
        step = trainer._step

        def rounding(x, y):
            loss = step(x, y)
            for layer in model.layers:
                layer.weight[...] = single(layer.weight)
            return loss

        trainer._step = rounding
        return trainer


def single(values):
    return values.astype("float32").astype("float64")


def in_float32(spec, values, x):
    """The net's output, computed in float32 from front to back."""
    at = x.astype("float32")
    for layer in range(spec.layers):
        weight, bias = (values[layer, role].astype("float32") for role in ("weight", "bias"))
        total = np.zeros((len(x), len(bias)), "float32")
        for place in range(weight.shape[1]):  # one by one, which rounds the most
            total += at[:, place : place + 1] * weight[:, place]
        total += bias
        at = np.tanh(total) if layer < spec.layers - 1 else total
    return at


@pytest.mark.parametrize("seed", range(20))
def test_an_output_computed_in_float32_is_within_float32s_bound_and_far_outside_float64s(seed):
    with varied(Variation(seed)):
        values, (x, _) = starting_values(SPEC), batch(SPEC, rows=6)
    exact = computed(SPEC, values, x, np.zeros((6, 1))).output.value
    off = np.max(np.abs(in_float32(SPEC, values, x) - exact))
    single_spec = MLP(sizes=SPEC.sizes, activation="tanh", tied=SPEC.tied, dtype="float32")
    assert 0 < off <= output_bound(single_spec, values, x) < 1e-3
    assert off > 1e3 * output_bound(SPEC, values, x)


@pytest.mark.parametrize("seed", range(20))
def test_gradients_are_those_of_the_reference_within_the_bounds(seed):
    backend = NumpyBackend()
    with varied(Variation(seed)):
        values, (x, y) = starting_values(SPEC), batch(SPEC, rows=6)
    model = backend.mlp(SPEC)
    for (layer, role), value in values.items():
        backend.assign(model, layer, role, value)
    bounds, formula = gradient_bounds(SPEC, values, x, y), computed(SPEC, values, x, y)
    for key, gradient in backend.gradients(model, x, y).items():
        assert np.max(np.abs(gradient - formula.gradients[key].value)) <= bounds[key]
        assert bounds[key] < 1e-9 * np.max(np.abs(gradient))


def test_where_a_kink_may_be_on_either_side_the_gradient_may_be_too():
    spec = MLP(sizes=(2, 1, 1), dtype="float32")
    x, y = np.array([[1.0, 1.0]]), np.array([[1.0]])
    # 0.1 and 0.2 are no binary numbers: what is left of the sum is a rounding, or none.
    values = {
        (0, "weight"): np.array([[0.1, 0.2]]),
        (0, "bias"): np.array([-0.3]),
        (1, "weight"): np.array([[1.0]]),
        (1, "bias"): np.array([0.0]),
    }
    assert gradient_bounds(spec, values, x, y)[0, "weight"] > 1
    values[0, "bias"] = np.array([-0.5])
    assert gradient_bounds(spec, values, x, y)[0, "weight"] < 1e-5


@pytest.mark.parametrize("rule", [SGD(0.125, momentum=0.875), Adam(2**-7, beta1=0.875, epsilon=2**-20)])
def test_a_training_from_a_start_that_is_off_by_a_rounding_stays_within_its_bound(rule):
    backend = NumpyBackend()
    values, (x, y) = starting_values(SPEC), batch(SPEC, rows=32)
    ends = []
    for factor in (1, 1 + 2**-52):
        model = backend.mlp(SPEC)
        for (layer, role), value in values.items():
            backend.assign(model, layer, role, value * factor)
        trainer = backend.trainer(model, rule)
        for _ in range(50):
            trainer.step(x, y)
        ends.append(backend.parameter(model, 1, "weight").value)
    looks = {"weight": Look([50], lambda state: state.values[1, "weight"])}
    bound = training_bounds(SPEC, values, x, y, rule, looks)["weight"]
    assert 0 < np.max(np.abs(ends[0] - ends[1])) <= bound < 1e-4


@pytest.mark.parametrize("form", IN_FLOAT64)
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("tied-three-times", {"output", "gradient of the weight of layers 1, 2 and 3"}),
        ("train-step", {"parameters after 1 step", "parameters after 100 steps"}),
        ("training-curves", {"parameter norm", "gradient norm"}),
    ],
)
def test_numbers_that_went_through_float32_are_found_out_in_every_form(name, rows, form):
    variation = Variation(3, form)
    results = [execute(scenarios()[name], one, variation=variation) for one in (NumpyBackend(), Rounding())]
    runs = [
        Run(column, column, column, reference=column == "numpy", scenarios=[result], status="ok")
        for column, result in zip(("numpy", "rounding"), results)
    ]
    assert rows <= {row.observation for row in compare_runs(runs).disagreements}


def test_what_a_bound_is_made_of():
    assert gamma(8, "float64") == pytest.approx(8 * 2**-53)
    assert rounded_up(1.234e-15) == 1.3e-15
    assert rounded_up(0.0) == 0
