"""What a cell of the matrix of scenarios and columns says: never nothing, and the gravest first."""

from __future__ import annotations

import pytest

from d2lparams.comparison import Comparison, compare_runs
from d2lparams.reports.glance import glance
from d2lparams.results import Failure, Observation, Outcome, Run, ScenarioResult, Status


def way(name: str, outcome: str) -> Observation:
    return Observation(name, "outcome", vars(Outcome(outcome, "copy(net)", {}, "")))


def column(
    name: str, *seen: Observation, status: Status = "ok", reason: str = "", reference: bool = False
) -> Run:
    error = Failure(reason) if reason else None
    result = ScenarioResult("one", "6.2", "One", status, 0.1, list(seen), error)
    return Run(name, name, name.title(), reference, status=status, scenarios=[result])


def output(value: float) -> Observation:
    return Observation("output", "invariant", value)


def numpy(*seen: Observation) -> Run:
    return column("numpy", *seen, reference=True)


def cell(comparison: Comparison, name: str) -> tuple[str, str]:
    found = glance(comparison, "one", name)
    return found.words, found.level


def test_counts_stand_behind_their_symbols() -> None:
    trait = Observation("lives in", "trait", "grad")
    other = Observation("lives in", "trait", "nowhere")
    compared = compare_runs(
        [numpy(output(1)), column("torch", output(1), trait), column("jax", output(2), other)]
    )
    assert cell(compared, "numpy") == ("✓ 1", "good")
    assert cell(compared, "torch") == ("✓ 1 ≠ 1", "differs")
    assert cell(compared, "jax") == ("✗ 1 ≠ 1", "bad")
    assert glance(compared, "one", "jax").spoken == "1 disagree, 1 differ"


def test_the_reference_takes_no_part_in_traits() -> None:
    seen = Observation("lives in", "trait", "nowhere")
    compared = compare_runs([numpy(output(1), seen), column("torch", output(1), seen)])
    assert cell(compared, "numpy") == ("✓ 1", "good")
    assert cell(compared, "torch") == ("✓ 1", "good")
    assert glance(compared, "one", "torch").spoken == "1 agree, 1 the same"


def test_traits_alone_that_are_the_same_are_said() -> None:
    compared = compare_runs([column("torch", Observation("lives in", "trait", "grad"))])
    assert cell(compared, "torch") == ("= 1", "good")


def test_outcomes_have_their_own_symbols_and_no_digits_among_them() -> None:
    ways = [way("a", "kept"), way("b", "first wins"), way("c", "broken"), way("d", "corrupted")]
    compared = compare_runs([numpy(), column("torch", *ways)])
    assert cell(compared, "torch") == ("✓ 2 ≠ 1 ! 1", "differs")
    assert glance(compared, "one", "torch").spoken == "1 kept, 1 first wins, 1 broken, 1 corrupted"


def test_what_is_kept_but_not_quite_is_to_be_looked_at() -> None:
    half = Observation("b", "outcome", vars(Outcome("kept", "copy(net)", {"but": "it cannot be trained"}, "")))
    compared = compare_runs([numpy(), column("torch", way("a", "kept"), half)])
    assert cell(compared, "torch") == ("✓ 2", "differs")
    assert glance(compared, "one", "torch").spoken == "1 kept, 1 kept, but"


@pytest.mark.parametrize(
    ("status", "words", "level"),
    [
        ("failed", "✗ failed", "bad"),
        ("timeout", "✗ timeout", "bad"),
        ("crashed", "✗ crashed", "bad"),
        ("install-failed", "✗ install-failed", "bad"),
        ("unsupported", "– unsupported", "none"),  # noqa: RUF001
        ("not-run", "· not-run", "none"),
    ],
)
def test_a_scenario_that_did_not_end_well_says_how(status: Status, words: str, level: str) -> None:
    compared = compare_runs(
        [numpy(output(1)), column("torch", output(1), status=status, reason="no\x1b[1m luck")]
    )
    assert cell(compared, "torch") == (words, level)
    assert glance(compared, "one", "torch").spoken == f"{status}: no luck"


def test_what_disagreed_before_a_crash_is_not_lost() -> None:
    compared = compare_runs([numpy(output(1)), column("torch", output(2), status="crashed")])
    assert cell(compared, "torch") == ("✗ crashed ✗ 1", "bad")


def test_an_observation_that_was_never_made_disagrees() -> None:
    compared = compare_runs([numpy(output(1)), column("torch")])
    assert cell(compared, "torch") == ("✗ 1", "bad")


def test_what_no_reference_judged_is_asked_about() -> None:
    assert cell(compare_runs([column("torch", output(1))]), "torch") == ("? 1", "differs")


def test_what_is_not_there_is_said() -> None:
    compared = compare_runs([numpy(output(1)), column("torch", output(1))])
    assert cell(compared, "nobody") == ("· not-run", "none")
    assert glance(compared, "nothing", "torch").words == "· not-run"
    assert cell(compare_runs([numpy(way("a", "kept")), column("torch")]), "torch") == ("–", "none")  # noqa: RUF001


def test_a_drawing_is_there_to_look_at() -> None:
    seen = Observation("weights", "drawing", {"w": [[1.0]]}, form="matrices")
    assert cell(compare_runs([numpy(seen), column("torch", seen)]), "torch") == ("▦ 1", "none")
