"""The judge: what counts as equal, what each verdict means, and the document that all of it goes into."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import Any

import jsonschema
import msgspec
import pytest

from d2lparams.comparison import Comparison, Row, compare_runs, deviation
from d2lparams.reports.document import from_json, schema, to_json
from d2lparams.results import SCHEMA_VERSION, Failure, Observation, Run, ScenarioResult, Status
from d2lparams.scenarios import Scenario

HUGE = 10**400


def invariant(value: Any, expected: Any = None, rtol: float = 0.0, name: str = "x") -> Observation:
    return Observation(name, "invariant", value, expected, rtol)


def trait(value: Any, name: str = "x") -> Observation:
    return Observation(name, "trait", value)


def outcome(word: str, name: str = "x", **details: Any) -> Observation:
    return Observation(name, "outcome", {"outcome": word, "how": "", "evidence": {}, "script": "", **details})


def column(name: str, *observations: Observation, status: Status = "ok") -> Run:
    """One that ran one scenario; `numpy` is the reference."""
    cell = ScenarioResult("only", "0", "The only one", status, observations=list(observations))
    return Run(name, name, name.title(), name == "numpy", status=status, scenarios=[cell])


def judged(*columns: Run) -> Row:
    """The only row of a comparison."""
    (row,) = compare_runs(columns).rows
    return row


# -- how far one value is from another -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        (0.0, -0.0),
        (1, 1.0),
        ([1, 2], [1.0, 2.0]),
        ([], []),
        ("relu", "relu"),
        (True, True),
        (None, None),
        ("NaN", "NaN"),
        (["NaN", "-Infinity", 1.0], ["NaN", "-Infinity", 1.0]),
        ({"a": [1.0], "b": "x"}, {"b": "x", "a": [1.0]}),
        ({}, {}),
        (10**30, 10**30),
    ],
)
def test_equal_values_are_at_no_distance(value: Any, reference: Any) -> None:
    assert deviation(value, reference) == 0.0


@pytest.mark.parametrize(
    ("value", "reference", "expected"),
    [
        (1.5, 1.0, 0.5),
        (1.0, -2.0, 1.5),
        (3, 2, 0.5),
        # An array counts as a whole: the largest difference, by the largest magnitude in the reference.
        ([2.0, 4.0], [1.0, 4.0], 0.25),
        ([[0.0, 1.0], [0.0, -8.0]], [[1.0, 1.0], [2.0, -8.0]], 0.25),
        ([100.0, 1.0], [1.0, 1.0], 99.0),
        # The values of a dict count each for itself, so that a small one cannot hide behind a large one.
        ({"small": [2.0], "large": [100.0]}, {"small": [1.0], "large": [100.0]}, 1.0),
        # What is not finite is equal to itself, and no measure for the others.
        (["NaN", 1.0], ["NaN", 2.0], 0.5),
        (["Infinity", 1.0], ["Infinity", 2.0], 0.5),
        (2**53 + 1, 2**53, 2.0**-53),
    ],
)
def test_the_distance_is_relative_to_the_largest_magnitude(value: Any, reference: Any, expected: float) -> None:
    assert deviation(value, reference) == expected


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        ([1.0], [1.0, 2.0]),
        ([[1.0], [2.0]], [1.0, 2.0]),
        ([[1.0, 2.0]], [[1.0], [2.0]]),
        ([1.0], 1.0),
        ([], [0.0]),
        ([0.0], []),
        ([], [[]]),
        (1.0, 0.0),
        ([1e-300], [0.0]),
        ("NaN", 1.0),
        (1.0, "NaN"),
        (["NaN", 1.0], [1.0, 1.0]),
        ("Infinity", "-Infinity"),
        ("Infinity", 1e308),
        ("1.0", 1.0),
        ("relu", "tanh"),
        (True, 1),
        (0, False),
        ([True], [1]),
        ({"a": True}, {"a": 1}),
        (None, 0),
        ({"a": 1.0}, {"b": 1.0}),
        ({"a": 1.0}, {"a": 1.0, "b": 1.0}),
        ({"a": 1.0}, [1.0]),
    ],
)
def test_what_is_of_another_kind_is_infinitely_far(value: Any, reference: Any) -> None:
    assert deviation(value, reference) == math.inf


@pytest.mark.parametrize("value", [1.0, -HUGE, [HUGE, 1.0], "Infinity"], ids=lambda value: str(value)[:3])
def test_whole_numbers_beyond_any_float_do_no_harm(value: Any) -> None:
    """JSON knows no largest integer, and a worker may report one that no float can hold."""
    assert deviation(value, HUGE) > 0
    assert deviation(HUGE, value) > 0


# -- verdicts on invariants ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "rtol", "verdict"),
    [
        ([1.0, 8.0], 0.0, "agree"),
        ([1.0, 9.0], 0.125, "agree"),
        ([1.0, 7.0], 0.125, "agree"),
        ([1.0, 9.5], 0.125, "disagree"),
        ([1.0, "NaN"], 1.0, "disagree"),
        ([1.0], 1.0, "disagree"),
        ("text", 1.0, "disagree"),
    ],
)
def test_an_invariant_is_held_against_the_reference(value: Any, rtol: float, verdict: str) -> None:
    row = judged(
        column("numpy", invariant([1.0, 8.0], rtol=rtol)), column("torch", invariant(value, rtol=rtol))
    )
    assert (row.kind, row.verdict) == ("invariant", verdict)
    assert list(row.problems) == ([] if verdict == "agree" else ["torch"])
    assert row.values == {"numpy": [1.0, 8.0], "torch": value}


def test_only_the_column_that_is_off_has_a_problem() -> None:
    row = judged(
        column("numpy", invariant(2.0, rtol=1e-3)),
        column("torch", invariant(2.0, rtol=1e-3)),
        column("jax", invariant(2.5, rtol=1e-3)),
        column("mxnet", invariant([2.0], rtol=1e-3)),
    )
    assert row.verdict == "disagree"
    assert row.problems == {
        "jax": "is off by 2.5e-01 of the largest entry of the reference; 1e-03 is allowed",
        "mxnet": "is not what the reference says",
    }


def test_the_problem_names_the_entry_that_is_worst() -> None:
    values = {"layer 0 weight": [1.0], "layer 0 bias": [1.0]}
    off = {"layer 0 weight": [1.25], "layer 0 bias": [1.5]}
    row = judged(column("numpy", invariant(values, rtol=0.125)), column("torch", invariant(off, rtol=0.125)))
    assert row.problems["torch"].startswith("layer 0 bias is off by 5.0e-01")


def test_the_definition_stands_above_the_reference() -> None:
    row = judged(column("numpy", invariant(120, expected=121)), column("torch", invariant(121, expected=121)))
    assert row.verdict == "disagree"
    assert row.problems["numpy"].startswith("is off by 8.3e-03 of the largest entry of the definition")
    assert row.problems["torch"].startswith("is off by 8.3e-03 of the largest entry of the reference")


def test_without_a_reference_the_definition_judges() -> None:
    crashed = column("numpy", status="crashed")
    row = judged(crashed, column("torch", invariant(121, expected=121)))
    assert (row.verdict, row.absent) == ("agree", {"numpy": "crashed"})
    row = judged(
        crashed, column("torch", invariant(121, expected=121)), column("jax", invariant(120, expected=121))
    )
    assert row.verdict == "disagree"
    assert list(row.problems) == ["jax"]


def test_without_any_judge_an_invariant_is_unjudged() -> None:
    crashed = column("numpy", status="crashed")
    comparison = compare_runs([crashed, column("torch", invariant(1.0)), column("jax", invariant(2.0))])
    (row,) = comparison.rows
    assert (row.verdict, row.problems) == ("unjudged", {})
    assert comparison.unjudged == [row]
    assert comparison.disagreements == []


def test_an_observation_that_was_never_made_disagrees() -> None:
    row = judged(column("numpy", invariant(1.0)), column("torch"))
    assert row.verdict == "disagree"
    assert row.problems == {"torch": "never made this observation"}
    assert row.absent == {"torch": "ok"}


@pytest.mark.parametrize("status", ["unsupported", "failed", "timeout", "crashed", "install-failed", "not-run"])
def test_a_column_that_did_not_get_there_is_absent_and_spoils_no_verdict(status: Status) -> None:
    row = judged(column("numpy", invariant(1.0)), column("torch", invariant(1.0)), column("jax", status=status))
    assert (row.verdict, row.absent, row.problems) == ("agree", {"jax": status}, {})
    assert "jax" not in row.values


def test_what_a_column_saw_before_it_crashed_is_judged() -> None:
    both = [invariant(1.0, name="before"), invariant(2.0, name="after")]
    crashed = column("torch", invariant(1.5, name="before"), status="crashed")
    before, after = compare_runs([column("numpy", *both), crashed]).rows
    assert (before.verdict, list(before.problems)) == ("disagree", ["torch"])
    assert (after.verdict, after.absent) == ("agree", {"torch": "crashed"})


# -- verdicts on traits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (("None", "None"), "same"),
        (("None", "zeros"), "differ"),
        (([1, 2], [2, 1]), "differ"),
        (({"a": 1, "b": 2}, {"b": 2, "a": 1}), "same"),
    ],
)
def test_a_trait_is_the_same_or_differs(values: tuple[Any, Any], verdict: str) -> None:
    row = judged(column("torch", trait(values[0])), column("mxnet", trait(values[1])))
    assert (row.kind, row.verdict, row.problems) == ("trait", verdict, {})


def test_the_reference_has_no_say_in_a_trait() -> None:
    row = judged(
        column("numpy", trait("returned")), column("torch", trait("kept")), column("mxnet", trait("kept"))
    )
    assert row.verdict == "same"
    assert row.values == {"numpy": "returned", "torch": "kept", "mxnet": "kept"}


def test_a_trait_that_a_column_did_not_see_is_absent_there() -> None:
    row = judged(column("torch", trait("kept")), column("jax", status="timeout"), column("mxnet"))
    assert row.verdict == "same"
    assert row.absent == {"jax": "timeout", "mxnet": "ok"}
    assert row.problems == {}


# -- verdicts on outcomes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "verdict"), [(("kept", "kept"), "same"), (("kept", "broken"), "differ"), (("kept",), "same")]
)
def test_outcomes_are_compared_by_their_word_alone(words: tuple[str, ...], verdict: str) -> None:
    """How the way is written, what was seen and the script are each framework's own."""
    names = ("torch", "jax")[: len(words)]
    row = judged(
        *(
            column(name, outcome(word, how=name, evidence={name: 1}, script=name))
            for name, word in zip(names, words)
        )
    )
    assert (row.kind, row.verdict, row.problems, row.absent) == ("outcome", verdict, {}, {})
    assert row.values["torch"]["how"] == "torch"


def test_the_reference_has_no_say_in_an_outcome() -> None:
    row = judged(
        column("numpy", outcome("broken")), column("torch", outcome("kept")), column("jax", outcome("kept"))
    )
    assert row.verdict == "same"


def test_a_framework_that_has_no_such_way_says_so_and_is_no_trouble() -> None:
    comparison = compare_runs([column("numpy"), column("torch", outcome("kept")), column("mxnet")])
    (row,) = comparison.rows
    assert (row.verdict, row.problems) == ("same", {})
    assert row.absent == {"numpy": "not-applicable", "mxnet": "not-applicable"}
    assert comparison.ok


@pytest.mark.parametrize("status", ["unsupported", "failed", "timeout", "crashed", "install-failed", "not-run"])
def test_whether_a_framework_has_a_way_is_not_known_where_the_scenario_did_not_end_well(status: Status) -> None:
    row = judged(column("torch", outcome("kept")), column("mxnet", status=status))
    assert row.absent == {"mxnet": status}


def test_outcomes_are_counted_by_cell_of_the_frameworks_and_apart_from_traits() -> None:
    columns = [
        column("numpy", outcome("kept", "a"), trait(1, "t")),
        column("torch", outcome("kept", "a"), outcome("broken", "b"), trait(1, "t")),
        column("jax", outcome("kept", "a"), trait(2, "t")),
    ]
    comparison = compare_runs(columns)
    assert comparison.outcomes == {"kept": 2, "broken": 1}
    assert {verdict: number for verdict, number in comparison.counts.items() if number} == {"differ": 1}
    assert repr(comparison) == "<Comparison of numpy, torch, jax: 1 differ, 2 kept, 1 broken>"


def test_an_outcome_that_went_badly_is_no_failure_of_the_run() -> None:
    assert compare_runs([column("numpy"), column("torch", outcome("corrupted"))]).ok


# -- the comparison as a whole -------------------------------------------------------------------------------


def test_rows_stand_in_the_order_in_which_they_were_seen() -> None:
    crashed = column("numpy", trait(1, name="first"), status="crashed")
    whole = column("torch", *(trait(1, name=name) for name in ("first", "second", "third")))
    comparison = compare_runs([crashed, whole])
    assert [row.observation for row in comparison.rows] == ["first", "second", "third"]
    assert comparison.of("only") == comparison.rows
    assert comparison.of("another") == []


def test_what_is_found_by_name_is_what_is_there_now() -> None:
    comparison = compare_runs([column("numpy", trait(1, name="a")), column("torch", status="crashed")])
    assert comparison.run("torch") is comparison.columns[1]
    assert comparison.run("jax") is None
    assert comparison.result("only", "torch") is comparison.columns[1].scenarios[0]
    assert comparison.result("another", "torch") is comparison.result("only", "jax") is None
    comparison.of("only").clear()
    comparison.rows.append(replace(comparison.rows[0], observation="b"))
    comparison.rows.append(replace(comparison.rows[0], scenario="another"))
    assert [row.observation for row in comparison.of("only")] == ["a", "b"]
    assert comparison.of("another") == comparison.rows[2:]
    comparison.columns = [column("jax")]
    assert (comparison.run("torch"), comparison.run("jax")) == (None, comparison.columns[0])
    comparison.rows = []
    assert comparison.of("only") == []


def test_what_is_found_by_name_is_no_part_of_the_data() -> None:
    one, other = (compare_runs([column("numpy", trait(1, name="a"))]) for _ in range(2))
    one.of("only")
    assert one == other
    assert to_json(one) == to_json(other)
    assert asdict(one) == asdict(other)


@pytest.mark.parametrize("reference", [True, False])
def test_a_framework_is_what_is_no_reference_unless_there_is_nothing_else(reference: bool) -> None:
    runs = [replace(column(name), reference=True) for name in ("numpy", "numpy 2")]
    runs += [] if reference else [column("torch")]
    comparison = compare_runs(runs)
    assert [run for run in runs if comparison.is_framework(run)] == comparison.frameworks


def test_every_column_is_in_every_row() -> None:
    runs = [
        column("numpy", trait(1, name="a"), invariant(1, name="b")),
        column("torch", trait(1, name="a"), status="crashed"),
        column("jax", status="install-failed"),
        column("mxnet", invariant(1, name="b")),
    ]
    for row in compare_runs(runs).rows:
        assert sorted([*row.values, *row.absent]) == ["jax", "mxnet", "numpy", "torch"]


def test_it_is_ok_when_everything_ran_and_every_invariant_agrees() -> None:
    reference, torch = (
        column("numpy", invariant(1.0), trait("a", "y")),
        column("torch", invariant(1.0), trait("b", "y")),
    )
    assert compare_runs([reference, torch]).ok
    assert compare_runs([]).ok

    assert not compare_runs([reference, torch], interrupted=True).ok
    assert not compare_runs([reference, column("torch", invariant(2.0))]).ok
    assert not compare_runs([column("numpy"), column("torch", invariant(1.0))]).ok
    assert not compare_runs([column("torch", invariant(1.0))]).ok, "nothing to hold it against"
    for status in ("failed", "timeout", "crashed", "install-failed", "not-run"):
        assert not compare_runs([reference, column("torch", invariant(1.0), trait("b", "y"), status=status)]).ok


def test_what_is_unsupported_by_design_is_ok() -> None:
    """As the runner has it: the scenario says so, and the column is ok."""
    torch = column("torch", status="unsupported")
    torch.status = "ok"
    assert compare_runs([column("numpy", invariant(1.0)), torch]).ok


def test_groups_and_what_was_left_out_are_taken_down() -> None:
    scenario = Scenario("only", "0", "The only one", "?", print, "tying")
    comparison = compare_runs([column("numpy")], scenarios=[scenario], left_out=["another"])
    assert (comparison.groups, comparison.left_out) == ({"only": "tying"}, ["another"])
    assert compare_runs([column("numpy")]).groups == {}


def test_its_repr_is_one_line_that_says_what_came_out() -> None:
    columns = [column(name, invariant(1.0), trait(name, "y")) for name in ("numpy", "torch", "jax")]
    assert repr(compare_runs(columns)) == "<Comparison of numpy, torch, jax: 1 agree, 1 differ>"
    assert repr(compare_runs([])) == "<Comparison of nothing: no rows>"


# -- the document --------------------------------------------------------------------------------------------


@pytest.fixture
def comparison() -> Comparison:
    """Something of everything that a document can hold."""
    numbers = [0.1, -0.0, 5e-324, 1.7976931348623157e308, "NaN", "Infinity", 2**63, None, True]
    crashed = column("jax", trait("lächeln ☺ \u0000 <script>"), status="crashed")
    crashed.error = Failure("it crashed", "Traceback", "uv pip install 'x'")
    crashed.scenarios[0].error = Failure("killed by SIGSEGV")
    crashed.log = "/tmp/jax.log"
    crashed.versions, crashed.python, crashed.seconds = {"jax": "0.10.2"}, "3.11.7", 1.5
    torch = column("torch", trait({"a": [], "b": {}}), invariant(numbers, 1, 0.5, name="y"))
    torch.scenarios[0].observations.append(
        outcome(
            "broken", "z", how="copy(net)", evidence={"storages": 2, "a write": "is lost"}, script="x = 1\n"
        )
    )
    return compare_runs(
        [column("numpy", trait(1), invariant(1, name="y")), torch, crashed],
        scenarios=[Scenario("only", "0", "The only one", "?", print, "tying")],
        left_out=["another"],
        interrupted=True,
    )


@pytest.fixture
def document(comparison: Comparison) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(to_json(comparison))
    return document


def test_a_document_is_read_back_as_it_was(comparison: Comparison) -> None:
    written = to_json(comparison)
    assert from_json(written) == comparison
    assert to_json(from_json(written)) == written
    assert written.endswith(b"}\n")
    assert b"NaN," not in written.replace(b'"NaN"', b""), "it is strict JSON"


def test_the_document_holds_everything(comparison: Comparison, document: dict[str, Any]) -> None:
    assert document == asdict(comparison)
    assert document["schema_version"] == SCHEMA_VERSION
    assert {"name", "backend", "versions", "python", "status", "seconds", "error", "log", "scenarios"} <= set(
        document["columns"][0]
    )
    cell = document["columns"][0]["scenarios"][0]
    assert {"name", "section", "status", "seconds", "observations", "error"} <= set(cell)
    assert {"name", "kind", "value"} <= set(cell["observations"][0])
    assert {"scenario", "observation", "kind", "verdict", "values"} <= set(document["rows"][0])


def test_the_schema_is_one(document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator(schema()).validate(document)
    jsonschema.Draft202012Validator(schema()).validate(json.loads(to_json(compare_runs([]))))


def spoil(document: dict[str, Any], path: list[Any], value: Any) -> dict[str, Any]:
    """The document with another value at a path; `...` removes what is there."""
    *way, last = path
    place: Any = document
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["columns"], ...),
        (["rows"], ...),
        (["rows"], {}),
        (["schema_version"], "1"),
        (["schema_version"], SCHEMA_VERSION + 1),
        (["columns", 0, "name"], ...),
        (["columns", 0, "name"], None),
        (["columns", 0, "status"], "great"),
        (["columns", 0, "versions"], ["numpy"]),
        (["columns", 0, "seconds"], "soon"),
        (["columns", 1, "scenarios", 0, "section"], 6.2),
        (["columns", 1, "scenarios", 0, "observations", 0, "kind"], "rumour"),
        (["columns", 2, "error"], "it crashed"),
        (["rows", 0, "verdict"], "guilty"),
        (["rows", 0, "values"], [1, 2]),
        (["rows", 0, "absent", "jax"], ""),
        (["rows", 0, "absent", "jax"], "no such way"),
        (["groups"], ["tying"]),
        (["left_out"], "another"),
    ],
)
def test_what_is_no_such_document_is_refused(document: dict[str, Any], path: list[Any], value: Any) -> None:
    wrong = spoil(document, path, value)
    with pytest.raises(msgspec.ValidationError):
        from_json(json.dumps(wrong).encode())
    assert not jsonschema.Draft202012Validator(schema()).is_valid(wrong)


@pytest.mark.parametrize(
    "value", ["broken", {}, {"outcome": "broken"}, {"outcome": 1, "how": "", "evidence": {}, "script": ""}]
)
@pytest.mark.parametrize(
    "place", [["columns", 1, "scenarios", 0, "observations", 2, "value"], ["rows", 2, "values", "torch"]]
)
def test_the_schema_knows_what_an_outcome_holds(document: dict[str, Any], place: list[Any], value: Any) -> None:
    """And of no other kind what its value is."""
    assert document["rows"][2]["absent"] == {"numpy": "not-applicable", "jax": "crashed"}
    assert not jsonschema.Draft202012Validator(schema()).is_valid(spoil(document, place, value))
    from_json(json.dumps(document).encode())


@pytest.mark.parametrize(
    "wrong", [b"", b"null", b"[]", b"{}", b"d2lparams", b"\xff\xfe", b'{"columns": [NaN]}']
)
def test_what_is_no_document_is_refused(wrong: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        from_json(wrong)


def test_a_truncated_document_is_refused(comparison: Comparison) -> None:
    written = to_json(comparison)
    for end in range(0, len(written) - 2, 97):
        with pytest.raises(msgspec.DecodeError):
            from_json(written[:end])


def test_a_drawing_is_shown_and_not_compared():
    runs = [
        Run(
            name,
            name,
            name,
            name == "numpy",
            status="ok",
            scenarios=[
                ScenarioResult(
                    "one",
                    "6.2",
                    "One",
                    "ok",
                    observations=[Observation("drawn", "drawing", {"a": [number]}, form="curves")],
                )
            ],
        )
        for number, name in enumerate(("numpy", "torch", "jax"))
    ]
    comparison = compare_runs(runs)
    (row,) = comparison.rows
    assert (row.verdict, row.form, row.values["jax"]) == ("shown", "curves", {"a": [2]})
    assert not any(comparison.counts.values())
    assert comparison.ok
