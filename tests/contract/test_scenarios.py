"""Every scenario runs on the backend to its end, and its invariants are those of the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from d2lparams.scenarios import scenarios
from d2lparams.worker import execute

SCENARIOS = scenarios()


def invariants(result):
    return {one.name: one for one in result.observations if one.kind == "invariant"}


def compared(observation):
    """The observation; of a drawing all but its value, which may be drawn at random."""
    return replace(observation, value=None) if observation.kind == "drawing" else observation


def numbers(value):
    """The numbers in JSON data, in order, and the data with a place for each."""
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, list | tuple):
        parts = [numbers(item) for item in value]
        return [number for found, _ in parts for number in found], [form for _, form in parts]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [value], "a number"
    return [], value


def assert_agrees(actual, expected, rtol, atol):
    """Equal in all but the numbers; those as close as is allowed, relative to the largest, and absolutely."""
    if isinstance(atol, dict):
        assert list(actual) == list(expected) == list(atol)
        for key, within in atol.items():
            assert_agrees(actual[key], expected[key], rtol, within)
        return
    (found, form), (judges, judged_form) = numbers(actual), numbers(expected)
    assert form == judged_form
    if judges:
        error = np.max(np.abs(np.subtract(found, judges)))
        assert error <= rtol * np.max(np.abs(judges)) + atol


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_ends_well_and_its_invariants_agree_with_the_reference(backend, reference, name):
    result, judge = execute(SCENARIOS[name], backend), execute(SCENARIOS[name], reference)
    if result.status == "unsupported":
        assert result.error.message  # the reason, for the reader; which ones these are is seen on the road
        return
    assert (result.status, result.error) == ("ok", None)
    judged = invariants(judge)
    if judge.status == "ok":
        assert list(invariants(result)) == list(judged)
    for invariant in invariants(result).values():
        assert_agrees(invariant.value, judged[invariant.name].value, invariant.rtol, invariant.atol)
        if invariant.expected is not None:
            assert_agrees(invariant.value, invariant.expected, invariant.rtol, invariant.atol)


# Those that take long do the same as others of their group, on further forms of models.
@pytest.mark.parametrize("name", [name for name, one in SCENARIOS.items() if not one.full])
def test_a_scenario_sees_the_same_when_it_runs_again(backend, name):
    first, again = (execute(SCENARIOS[name], backend) for _ in range(2))
    assert [*map(compared, first.observations)] == [*map(compared, again.observations)]
