"""Comparisons of several machines or days as one: all columns, one judge, and nothing lost."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from d2lparams.comparison import Comparison, Row, compare_runs
from d2lparams.merging import merge
from d2lparams.results import Code, Failure, Observation, Outcome, Run, ScenarioResult


def output(value: Any, rtol: float = 1e-6, name: str = "output") -> Observation:
    return Observation(name, "invariant", value, rtol=rtol)


def trait(name: str, value: Any) -> Observation:
    return Observation(name, "trait", value)


def way(name: str) -> Observation:
    return Observation(name, "outcome", vars(Outcome("kept", "copy(net)", {}, "")))


def result(name: str, *seen: Observation, **facts: Any) -> ScenarioResult:
    return ScenarioResult(name, "6.2", name.title(), **{"status": "ok", "observations": list(seen), **facts})


def column(name: str, *results: ScenarioResult, version: str = "1.0", **facts: Any) -> Run:
    versions = {name: version} if version else {}
    return Run(
        name, name, name.title(), **{"versions": versions, "status": "ok", "scenarios": list(results), **facts}
    )


def numpy(*results: ScenarioResult, **facts: Any) -> Run:
    return column("numpy", *results, reference=True, **facts)


def compared(*runs: Run, group: str = "access", **facts: Any) -> Comparison:
    made = compare_runs(runs, **facts)
    names = [one.name for one in made.scenarios]
    made.groups, made.questions = dict.fromkeys(names, group), {name: f"What of {name}?" for name in names}
    return made


def names(comparison: Comparison) -> list[str]:
    return [run.name for run in comparison.columns]


def row(comparison: Comparison, observation: str) -> Row:
    (found,) = [row for row in comparison.rows if row.observation == observation]
    return found


# -- nothing is lost -----------------------------------------------------------------------------------------


def random_comparison(seed: int) -> Comparison:
    """Some scenarios on some columns, with all that a run may hold."""
    draw = random.Random(seed)
    chosen = [f"scenario-{number}" for number in range(draw.randint(1, 4))]
    runs = []
    for name in ["numpy", *draw.sample(["torch", "mxnet", "jax"], draw.randint(0, 3))]:
        results = []
        for scenario in chosen:
            status = draw.choice(["ok", "ok", "unsupported", "failed", "not-run"])
            seen = [
                output(draw.choice([1.0, 1.0, 2.0])),
                trait("a way", draw.choice("ab")),
                way(f"way of {name}"),
            ]
            error = None if status == "ok" else Failure(f"{name} cannot", "detail", "command")
            kept = seen[: draw.randint(0, 3)] if status != "not-run" else []
            results.append(result(scenario, *kept, status=status, error=error, called={"mlp": f"{name}._mlp"}))
        worst = next((one.status for one in results if one.status not in ("ok", "unsupported")), "ok")
        code = {f"{name}._mlp": Code(f"backends/{name}.py", 1, "def _mlp(): ...")}
        runs.append(
            column(name, *results, status=worst, log=f"/logs/{name}.log", code=code, reference=name == "numpy")
        )
    return compared(*runs, interrupted=draw.random() < 0.5)


@pytest.mark.parametrize("seed", range(30))
def test_a_comparison_alone_stays_as_it_is(seed: int) -> None:
    one = random_comparison(seed)
    assert merge({"monday": one}) == one


@pytest.mark.parametrize("seed", range(30))
def test_a_comparison_merged_with_itself_loses_nothing(seed: int) -> None:
    one = random_comparison(seed)
    merged = merge({"monday": one, "tuesday": one})
    assert [(row.scenario, row.observation, row.kind) for row in merged.rows] == [
        (row.scenario, row.observation, row.kind) for row in one.rows
    ]
    for run in one.columns:
        twins = [other for other in merged.columns if other.backend == run.backend]
        assert len(twins) == (1 if run.reference and run.status == "ok" else 2)
        for twin in twins:
            assert (twin.log, twin.error, twin.code, twin.status) == (run.log, run.error, run.code, run.status)
            assert twin.scenarios == run.scenarios
    for before, after in zip(one.rows, merged.rows, strict=True):
        assert set(before.problems.values()) == set(after.problems.values())
    assert (merged.groups, merged.questions, merged.interrupted) == (one.groups, one.questions, one.interrupted)


@pytest.mark.parametrize("seed", range(0, 30, 2))
def test_every_observation_and_every_error_of_two_is_there(seed: int) -> None:
    both = {"monday": random_comparison(seed), "tuesday": random_comparison(seed + 1)}
    before = copy.deepcopy(both)
    merged = merge(both)
    assert both == before, "what goes in is not changed"
    found = [(run.backend, run.log) for run in merged.columns]
    assert len(set(names(merged))) == len(merged.columns)
    for one in both.values():
        for run in one.columns:
            assert (run.backend, run.log) in found
            for ended in run.scenarios:
                kept = [
                    other
                    for twin in merged.columns
                    if twin.backend == run.backend
                    for other in twin.scenarios
                    if other.name == ended.name
                ]
                if not run.reference:
                    assert ended in kept
                for seen in ended.observations:
                    assert any(seen.name == other.name for each in kept for other in each.observations)
    for run in merged.columns:
        assert [one.name for one in run.scenarios] == [one.name for one in merged.scenarios]
    for each in merged.rows:
        assert each.values.keys() | each.absent.keys() == set(names(merged))


def test_nothing_merged_is_nothing() -> None:
    assert merge({}) == compare_runs([])


# -- scenarios -----------------------------------------------------------------------------------------------


def test_a_scenario_that_only_some_ran_is_not_run_on_the_others_and_says_why() -> None:
    one = compared(numpy(result("first", output(1))), column("torch", result("first", output(1))))
    other = compared(numpy(result("second", output(2))), column("jax", result("second", output(2))))
    merged = merge({"monday": one, "tuesday": other})
    assert names(merged) == ["numpy", "torch", "jax"]
    assert [one.name for one in merged.scenarios] == ["first", "second"]
    numpy_, torch, jax = merged.columns
    assert [one.status for one in numpy_.scenarios] == ["ok", "ok"]
    assert [one.status for one in torch.scenarios] == ["ok", "not-run"]
    assert torch.scenarios[1].error == Failure("not part of monday")
    assert jax.scenarios[0].error == Failure("not part of tuesday")
    assert jax.scenarios[0].title == "First"
    assert merged.ok
    assert [row.verdict for row in merged.rows] == ["agree", "agree"]


def test_further_scenarios_stand_behind_the_others_of_their_group() -> None:
    one = compared(numpy(result("a"), result("b")))
    one.groups = {"a": "access", "b": "tying"}
    other = compared(numpy(result("b"), result("c"), result("d")))
    other.groups = {"b": "tying", "c": "access", "d": "claims"}
    merged = merge({"1": one, "2": other})
    assert [one.name for one in merged.scenarios] == ["a", "c", "b", "d"]


def test_further_scenarios_keep_their_order_and_stand_with_their_group() -> None:
    first = compared(numpy(*map(result, ("a", "b", "c"))))
    first.groups = {"a": "access", "b": "tying", "c": "access"}
    second = compared(numpy(*map(result, ("z", "d", "p", "e", "f", "q", "o"))))
    second.groups = {"d": "access", "e": "tying", "f": "access", "p": "new", "q": "new"}
    merged = merge({"first": first, "second": second})
    assert [one.name for one in merged.scenarios] == ["a", "b", "e", "c", "d", "f", "z", "p", "q", "o"]


def test_what_one_left_out_and_another_ran_is_not_left_out() -> None:
    one = compared(numpy(result("a")), left_out=["b", "c"])
    assert merge({"1": one, "2": compared(numpy(result("b")))}).left_out == ["c"]


def test_one_that_was_interrupted_makes_the_whole_unfinished() -> None:
    merged = merge({"1": compared(numpy(result("a"))), "2": compared(numpy(result("a")), interrupted=True)})
    assert merged.interrupted
    assert not merged.ok


# -- columns -------------------------------------------------------------------------------------------------


def test_columns_of_one_name_are_told_apart_by_version() -> None:
    old, new = (compared(column("torch", result("a"), version=version)) for version in ("2.4.1", "2.13.0"))
    merged = merge({"monday": old, "tuesday": new})
    assert names(merged) == ["torch 2.4.1", "torch 2.13.0"]
    assert [run.title for run in merged.columns] == ["Torch 2.4.1", "Torch 2.13.0"]


def test_columns_of_one_version_are_told_apart_by_label() -> None:
    again = compared(column("torch", result("a")))
    assert names(merge({"monday": again, "tuesday": again})) == ["torch (monday)", "torch (tuesday)"]


def test_columns_of_which_some_have_one_version_are_told_apart_by_both() -> None:
    new = compared(column("torch", result("a"), version="2"))
    old = compared(column("torch", result("a")))
    broken = compared(column("torch", result("a"), version=""))
    merged = merge({"x": old, "y": new, "z": new, "w": broken})
    assert names(merged) == ["torch 1.0", "torch 2 (y)", "torch 2 (z)", "torch (w)"]


def test_columns_that_nothing_tells_apart_are_numbered() -> None:
    twice = compared(column("torch", result("a")), column("torch", result("a")))
    assert names(merge({"x": twice})) == ["torch (x)", "torch (x) 2"]


def test_rows_speak_of_the_columns_by_their_new_names() -> None:
    one = compared(numpy(result("a", output(1))), column("torch", result("a", output(1))))
    other = compared(numpy(result("a", output(1))), column("torch", result("a", output(2))))
    found = row(merge({"x": one, "y": other}), "output")
    assert found.values == {"numpy": 1, "torch (x)": 1, "torch (y)": 2}
    assert list(found.problems) == ["torch (y)"]


# -- the reference -------------------------------------------------------------------------------------------


def test_a_further_reference_that_agrees_is_not_shown() -> None:
    near = compared(numpy(result("a", output(1 + 1e-9))), column("jax", result("a", output(1))))
    merged = merge({"x": compared(numpy(result("a", output(1)))), "y": near})
    assert names(merged) == ["numpy", "jax"]
    assert row(merged, "output").values["numpy"] == 1


def test_a_further_reference_that_does_not_agree_is_judged_by_the_first() -> None:
    far = compared(numpy(result("a", output(1.5))), column("jax", result("a", output(1.5))))
    merged = merge({"x": compared(numpy(result("a", output(1.0)))), "y": far})
    assert names(merged) == ["numpy (x)", "numpy (y)", "jax"]
    assert [run.reference for run in merged.columns] == [True, False, False]
    assert set(row(merged, "output").problems) == {"numpy (y)", "jax"}
    assert not merged.ok


@pytest.mark.parametrize("status", ["failed", "crashed", "not-run"])
def test_a_further_reference_that_went_wrong_is_kept_with_its_error(status: str) -> None:
    error = Failure("no memory")
    broken = numpy(result("a", status=status, error=error), status=status, error=error, log="/log")
    merged = merge({"x": compared(numpy(result("a", output(1)))), "y": compared(broken)})
    kept = merged.columns[1]
    assert (kept.name, kept.error, kept.log) == ("numpy (y)", error, "/log")
    assert not merged.ok


def test_the_reference_is_completed_by_what_only_a_later_one_saw() -> None:
    first = numpy(result("a", output(1)), result("b", status="not-run"), code={"f": Code("n.py", 1, "old")})
    theirs = {"f": Code("n.py", 1, "new", ["g"]), "g": Code("n.py", 9, "g")}
    later = numpy(
        result("a", output(1), output(7, name="further")),
        result("b", output(2), called={"mlp": "f"}),
        code=theirs,
    )
    jax = column("jax", result("a", output(1), output(8, name="further")), result("b", output(2)))
    merged = merge({"x": compared(first), "y": compared(later, jax)})
    assert names(merged) == ["numpy", "jax"]
    judge = merged.columns[0]
    assert judge.scenarios[1].called == {"mlp": "f (y)"}
    assert judge.code == {"f": first.code["f"], "f (y)": theirs["f"], "g": theirs["g"]}
    assert row(merged, "further").problems.keys() == {"jax"}


def test_a_reference_that_comes_later_stands_first() -> None:
    merged = merge(
        {"x": compared(column("torch", result("a", output(1)))), "y": compared(numpy(result("a", output(1))))}
    )
    assert names(merged) == ["numpy", "torch"]
    assert row(merged, "output").verdict == "agree"


# -- releases of the program ---------------------------------------------------------------------------------


def test_a_column_is_not_blamed_for_an_observation_that_its_release_did_not_make() -> None:
    old = compared(numpy(result("a", output(1))), column("torch", result("a", output(1))))
    new = compared(
        numpy(result("a", output(1), output(2, name="new"), trait("way", 1))),
        column("jax", result("a", output(1), output(2, name="new"), trait("way", 1))),
    )
    merged = merge({"old": old, "new": new})
    assert merged.ok
    assert row(merged, "new").absent == {"torch": "not-run"}
    assert row(merged, "new").verdict == "agree"
    assert row(merged, "way").absent == {"torch": "not-run"}


def test_a_column_is_blamed_for_what_another_of_its_own_comparison_has_made() -> None:
    one = compared(numpy(result("a", output(1))), column("torch", result("a")))
    merged = merge({"x": one, "y": compared(column("jax", result("a", output(1))))})
    assert merged.rows[0].problems == {"torch": "never made this observation"}


def test_without_a_reference_what_was_spared_leaves_the_rest_unjudged() -> None:
    merged = merge(
        {
            "x": compared(column("torch", result("a"))),
            "y": compared(column("jax", result("a", output(1)))),
        }
    )
    assert merged.rows[0].verdict == "unjudged"


def test_a_way_that_a_framework_does_not_have_is_still_not_applicable() -> None:
    merged = merge(
        {"x": compared(column("torch", result("a", way("save")))), "y": compared(column("jax", result("a")))}
    )
    assert merged.rows[0].absent == {"jax": "not-applicable"}


def test_an_observation_that_became_another_kind_has_a_row_of_its_own() -> None:
    old = compared(column("torch", result("a", output(1, name="names"))))
    new = compared(column("jax", result("a", trait("names", "x"))))
    merged = merge({"old": old, "new": new})
    assert [(row.observation, row.kind) for row in merged.rows] == [
        ("names", "invariant"),
        ("names (trait in new)", "trait"),
    ]
