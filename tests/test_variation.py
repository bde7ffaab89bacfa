"""A seed and a form: what they change, what they leave as it is, and who judges whom."""

from __future__ import annotations

import numpy as np
import pytest

import d2lparams
from backends.numpy import NumpyBackend
from d2lparams.columns import UsageError, parse_variation
from d2lparams.comparison import compare_runs, strain
from d2lparams.merging import merge
from d2lparams.reports.document import from_json, to_json
from d2lparams.reports.marks import variations
from d2lparams.results import Observation, Run, ScenarioResult
from d2lparams.scenarios import scenarios
from d2lparams.scenarios.inputs import batch, draw, formed, starting_values, varied
from d2lparams.scenarios.tying import ACROSS_DEPTHS, BY_PARAMETER, THREE_USES, TIED, TWO_TIES, WEIGHT_ONLY
from d2lparams.variation import FORMS, LARGEST_SEED, Variation
from d2lparams.worker import execute

SPECS = [TIED, BY_PARAMETER, WEIGHT_ONLY, THREE_USES, TWO_TIES, ACROSS_DEPTHS]


def run(name, value, *, reference=False, variation=Variation(), **within):  # noqa: B008  (it is frozen)
    seen = Observation("output", "invariant", value, **within)
    result = ScenarioResult("forward", "6.2", "Forward", "ok", observations=[seen])
    return Run(name, name, name, reference, status="ok", scenarios=[result], variation=variation)


def test_without_a_variation_the_numbers_are_those_of_always():
    assert (2**20 * draw(0, (4,), "float64")).tolist() == [102369, 451285, 215510, 94127]
    assert formed(TIED) == TIED


def test_a_seed_draws_other_numbers_and_the_same_ones_again():
    def drawn(seed):
        with varied(Variation(seed)):
            values = starting_values(TIED).values()
            return np.concatenate([value.ravel() for value in (*values, *batch(TIED, rows=6))])

    assert not np.array_equal(drawn(0), drawn(1))
    assert np.array_equal(drawn(1), drawn(1))
    assert len(drawn(LARGEST_SEED - 1))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spec", SPECS)
def test_a_form_keeps_which_layers_are_tied_and_that_the_last_one_is(spec, form):
    with varied(Variation(0, form)):
        other = formed(spec)
    assert len(other.tied) == len(spec.tied)
    for before, after in zip(spec.tied, other.tied):
        assert len(before) == len(after)
        assert (max(before) == spec.layers - 1) == (max(after) == other.layers - 1)
    assert (other.by, other.roles, other.nested) == (spec.by, spec.roles, spec.nested)


def test_what_the_forms_change():
    def of(form):
        with varied(Variation(0, form)):
            return formed(TIED), starting_values(TIED)[0, "weight"]

    usual, value = of("")
    assert set(of("one")[0].sizes) == {1}
    assert min(of("wide")[0].sizes) >= 64
    assert of("deep")[0].layers >= 12
    assert of("float32")[0].dtype == "float32"
    assert usual.dtype == "float64"
    assert np.array_equal(of("large")[1], 8 * value)
    assert np.array_equal(of("tiny")[1], value * 2**-20)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name", ["forward", "all-parameters-at-once", "tied-by-construction", "what-sharing-saves"]
)
def test_what_a_scenario_expects_follows_from_the_form(name, form):
    result = execute(scenarios()[name], NumpyBackend(), variation=Variation(5, form))
    assert (result.status, result.error) == ("ok", None)
    for seen in result.observations:
        if seen.expected is not None:
            assert strain(seen.value, seen.expected, seen.rtol, seen.atol) <= 1, seen.name


def test_a_variation_lasts_as_long_as_its_scenario():
    execute(scenarios()["forward"], NumpyBackend(), variation=Variation(5, "wide"))
    assert formed(TIED) == TIED


def test_a_column_is_judged_by_the_reference_that_used_the_same_numbers():
    seventh = Variation(7)
    runs = [
        run("numpy", 1.0, reference=True),
        run("torch", 1.0),
        run("numpy 7", 2.0, reference=True, variation=seventh),
        run("torch 7", 2.0, variation=seventh),
    ]
    assert [row.verdict for row in compare_runs(runs).rows] == ["agree"]
    runs[3] = run("torch 7", 1.0, variation=seventh)
    (row,) = compare_runs(runs).rows
    assert list(row.problems) == ["torch 7"]
    alone = compare_runs([runs[0], run("torch 7", 2.0, variation=seventh)])
    assert [row.verdict for row in alone.rows] == ["unjudged"]


def test_a_merged_report_keeps_each_columns_variation_and_judges_it_so():
    first = compare_runs([run("numpy", 1.0, reference=True), run("torch", 1.0)])
    other = Variation(7, "deep")
    second = compare_runs(
        [run("numpy", 2.0, reference=True, variation=other), run("torch", 2.0, variation=other)]
    )
    merged = from_json(to_json(merge({"a": first, "b": second})))
    assert merged.ok
    assert sorted(str(one.variation) for one in merged.columns) == ["", "", *["seed 7, form deep"] * 2]


def test_what_is_allowed_in_absolute_terms_holds_for_each_entry():
    value, reference = {"a": [1.0, 2.0], "b": 0.0}, {"a": [1.0, 2.5], "b": 1e-9}
    assert strain(value, reference, atol={"a": 1.0, "b": 1e-9}) == 1
    assert strain(value, reference, atol={"a": 1.0}) == float("inf")
    assert strain(value, reference, rtol=0.1, atol=0.25) == 1
    runs = [run("numpy", 0.0, reference=True, atol=1e-9), run("torch", 3e-9, atol=1e-9)]
    (row,) = compare_runs(runs).rows
    assert row.problems == {"torch": "is off by 3.0e-09 from the reference; 1e-09 is allowed"}


def test_the_summary_says_it_where_it_is_not_the_usual():
    usual, other = run("numpy", 1.0), run("torch", 1.0, variation=Variation(7, "wide"))
    assert variations([usual]) == []
    assert variations([other]) == ["scenarios used: seed 7, form wide"]
    assert variations([usual, other]) == ["scenarios of torch used: seed 7, form wide"]


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED, 1.5, True])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(UsageError, match="whole number from 0 to"):
        parse_variation(seed)


def test_a_form_that_is_not_there_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="wide"):
        d2lparams.compare(["torch"], form="wid")


def test_the_command_takes_a_seed_and_a_form(command, tmp_path):
    file = tmp_path / "result.json"
    done = command("compare", "numpy", "-s", "forward", "--seed", "7", "--form", "wide", "-o", file)
    assert done.returncode == 0, done.stderr
    assert "seed 7, form wide" in done.stdout
    (column,) = from_json(file.read_bytes()).columns
    assert column.variation == Variation(7, "wide")
    assert column.scenarios[0].observations[0].value
    again = command("report", file)
    assert "seed 7, form wide" in again.stdout
    assert command("compare", "numpy", "--form", "huge").returncode == 2
