"""Pictures: every one compiles and says in words what it shows; text from a run is data and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import vl_convert

from d2lparams.comparison import Comparison, compare_runs
from d2lparams.reports.charts import Chart, charts
from d2lparams.results import Form, Observation, Outcome, Run, ScenarioResult, Status

HOSTILE = "<script>alert('1')</script> datum.x['y'] \\\" {{7*7}}"


def run(name: str, *seen: Observation, status: Status = "ok", title: str = "") -> Run:
    cell = ScenarioResult("one", "6.2", "One", status, observations=list(seen))
    return Run(name, name, title or name.title(), name == "numpy", status=status, scenarios=[cell])


def compared(form: Form, *values: Any, kind: Any = "drawing") -> Comparison:
    """The reference and frameworks, each with one observation."""
    names = ("numpy", "torch", "jax", "mxnet")
    return compare_runs(
        [run(name, Observation("seen", kind, value, form=form)) for name, value in zip(names, values)]
    )


def svg(chart: Chart) -> str:
    """The picture; a specification that Vega-Lite does not take raises."""
    drawn: str = vl_convert.vegalite_to_svg(json.dumps(chart.spec), vl_version="6.4")
    return drawn


def found(value: Any, key: str) -> Iterator[Any]:
    """All that stands under a key, at any depth of a specification."""
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from found(one, key)


MATRIX = {"layer 0 weight": [[0.5, -0.25], [0.125, 1.0]], "layer 0 bias": [0.5, -2.0]}
TIES = [
    {"layer": 0, "role": "weight", "name": "0.weight", "storage": 0},
    {"layer": 1, "role": "weight", "name": "1.weight", "storage": 0},
    {"layer": 1, "role": "bias", "name": "1.bias", "storage": 2},
]
CURVES = {"tied": [1.0, 0.5, 0.25], "untied": [1.0, 0.6, 0.3]}
HISTOGRAMS = {
    "weight": {"edges": [-1.0, 0.0, 1.0], "counts": [3, 5]},
    "bias": {"edges": [0.0, 0.0], "counts": [8]},
}
FORMS: list[tuple[Form, Any]] = [
    ("matrices", MATRIX),
    ("ties", TIES),
    ("curves", CURVES),
    ("histograms", HISTOGRAMS),
]


@pytest.mark.parametrize(("form", "value"), FORMS)
def test_a_picture_compiles_and_says_what_it_shows(form: Form, value: Any) -> None:
    (chart, *_) = charts(compared(form, value, value, value), "one")
    assert "<svg" in svg(chart)
    assert (chart.name, chart.title) == ("seen", "seen")
    assert chart.caption
    assert "Torch" in chart.alt or form == "curves"
    assert list(found(chart.spec, "url")) == [], "all data stand in the specification"


@pytest.mark.parametrize(("form", "value"), FORMS)
@pytest.mark.parametrize("nothing", [None, "text", [], {}, [1, 2], {"a": None}, {"a": []}, {"a": {}}])
def test_what_does_not_have_the_form_is_not_drawn_and_does_no_harm(
    form: Form, value: Any, nothing: Any
) -> None:
    for chart in charts(compared(form, nothing, value, nothing), "one"):
        svg(chart)
    for chart in charts(compared(form, nothing, nothing), "one"):
        svg(chart)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("matrices", {HOSTILE: [[1.0, 2.0]]}),
        ("ties", [{"layer": 0, "role": HOSTILE, "name": HOSTILE, "storage": HOSTILE}]),
        ("curves", {HOSTILE: [1.0, 2.0]}),
        ("histograms", {HOSTILE: HISTOGRAMS["weight"]}),
    ],
)
def test_text_from_a_run_is_in_no_expression_and_names_no_field(form: Form, value: Any) -> None:
    runs = [run(name, Observation(HOSTILE, "drawing", value, form=form), title=HOSTILE) for name in "ab"]
    for chart in charts(compare_runs(runs), "one"):
        assert "<script>" not in svg(chart)
        vega = vl_convert.vegalite_to_vega(json.dumps(chart.spec), vl_version="6.4")
        for key in ("field", "expr", "signal", "test", "update", "init"):
            assert not any("alert" in one for one in found(vega, key) if isinstance(one, str)), key


def test_heat_maps_have_one_scale_around_zero() -> None:
    other = {"layer 0 weight": [[0.5, -8.0], [0.125, 1.0]], "layer 0 bias": [0.5, -2.0]}
    first, apart = charts(compared("matrices", MATRIX, MATRIX, other), "one")
    domains = [one for one in found(first.spec, "domain") if isinstance(one, list)]
    assert domains == [[-8.0, 8.0]] * 6
    assert apart.title == "seen, minus the reference"
    assert apart.caption.startswith("At most 7.8 apart")


def test_equal_heat_maps_have_no_picture_of_their_differences() -> None:
    (only,) = charts(compared("matrices", MATRIX, MATRIX), "one")
    assert only.title == "seen"


def test_a_large_array_is_cut_and_the_caption_says_so() -> None:
    (chart,) = charts(compared("matrices", {"w": [[0.5] * 100] * 100}), "one")
    assert "first 32 rows and columns" in chart.caption
    assert max(cell["row"] for values in found(chart.spec, "values") for cell in values) == 31


@pytest.mark.parametrize(
    ("form", "value"), [("matrices", {"w": [[1.0, "NaN"]]}), ("curves", {"tied": [1.0, "Infinity", 2.0]})]
)
def test_numbers_that_are_not_finite_are_left_out_and_counted(form: Form, value: Any) -> None:
    (chart,) = charts(compared(form, value), "one")
    assert "1 numbers are not finite" in chart.caption
    svg(chart)


def test_a_tie_is_a_storage_with_several_uses() -> None:
    (chart,) = charts(compared("ties", TIES, TIES), "one")
    assert "3 uses of 2 storages, tied are layer 0 weight and layer 1 weight" in chart.alt
    (data,) = found(chart.spec, "values")
    lines = [one for one in data if one["part"] == "line" and one["framework"] == "Torch"]
    assert [one["sharing"] for one in lines] == ["several uses", "several uses", "one use"]
    assert lines[0]["y2"] == lines[1]["y2"] != lines[2]["y2"]


def test_curves_show_how_far_they_are_from_the_reference() -> None:
    off = {"tied": [1.0, 0.5, 0.75], "untied": CURVES["untied"]}
    (chart,) = charts(compared("curves", CURVES, off, CURVES), "one")
    upper, lower = found(chart.spec, "values")
    assert len(upper) == 3 * 6
    assert lower == [{"framework": "Torch", "series": "tied", "step": 2, "distance": 0.5}]
    assert "at most 5.0e-01" in chart.caption


def test_equal_curves_say_that_they_are() -> None:
    (chart,) = charts(compared("curves", CURVES, CURVES), "one")
    assert "equal to the last bit" in chart.caption


def test_a_histogram_is_a_density_and_the_reference_has_none() -> None:
    (chart,) = charts(compared("histograms", HISTOGRAMS, HISTOGRAMS), "one")
    weight, bias = found(chart.spec, "values")
    assert sum(one["density"] * (one["to"] - one["from"]) for one in weight) == pytest.approx(1)
    assert [one["constant"] for one in bias] == [True]
    assert {one["framework"] for one in weight} == {"Torch"}


def test_a_column_that_is_not_there_is_named_with_its_reason() -> None:
    runs = [
        run("numpy", Observation("seen", "drawing", CURVES, form="curves")),
        run("mxnet", status="crashed", title="MXNet"),
    ]
    (chart,) = charts(compare_runs(runs), "one")
    assert "Not there: MXNet (crashed)." in chart.caption


def test_a_framework_has_the_same_colour_in_every_picture() -> None:
    by_form = [charts(compared(form, value, value, value), "one")[0] for form, value in FORMS[2:]]
    ranges = {json.dumps(one) for chart in by_form for one in found(chart.spec, "range") if "#8a8a8a" in one}
    assert ranges == {json.dumps(["#8a8a8a", "#e69f00", "#56b4e9"])}


def outcome(name: str, word: str) -> Observation:
    return Observation(name, "outcome", vars(Outcome(word, "copy.deepcopy(net)", {"output": "another"}, "")))


def test_outcomes_are_a_matrix_with_common_ways_first() -> None:
    runs = [
        run("numpy"),
        run("torch", outcome("alone", "kept"), outcome("a", "kept"), outcome("b", "broken")),
        run("jax", outcome("a", "refused"), outcome("b", HOSTILE)),
    ]
    (chart,) = charts(compare_runs(runs), "one")
    assert "<script>" not in svg(chart)
    (cells,) = found(chart.spec, "values")
    assert list(dict.fromkeys(cell["way"] for cell in cells)) == ["a", "b", "alone"]
    assert cells[-1]["said"] == "has no such way"
    assert "2 kept, 1 broken, 1 refused" in chart.alt


def test_two_outcomes_are_no_matrix() -> None:
    assert charts(compare_runs([run("torch", outcome("a", "kept"), outcome("b", "kept"))]), "one") == []
