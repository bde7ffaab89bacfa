"""Every planted error is flagged in the row that says what is wrong, and the true adapter beside it is not.

An error is a real adapter with one mistake (see `catalog`); it runs as a column of the real command.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from d2lparams.comparison import Comparison, Row, compare_runs
from d2lparams.results import Outcome, Run, ScenarioResult
from d2lparams.scenarios import scenarios
from tests.planted.catalog import ERRORS, HARMS, Planted
from tests.planted.running import Ran

FLAGGED = [one for one in ERRORS if not one.why_not]


@pytest.mark.parametrize("error", ERRORS, ids=lambda one: f"{one.backend}-{one.column}")
def test_an_error_is_flagged_where_it_shows(
    error: Planted, run: Callable[[str, str], Ran], score: dict[Planted, str]
) -> None:
    score[error] = ""
    if error.why_not:
        return
    comparison = run(error.backend, error.group).comparison
    rows = comparison.of(error.scenario)
    column, true = (_column(comparison, name) for name in (error.column, error.backend))
    assert true.status == "ok", true.error
    here = _result(column, error.scenario)
    if error.words:
        assert here.status == "failed"
        assert here.error is not None
        assert error.words in here.error.message
    else:
        assert here.status == "ok", here.error
        row = next(row for row in rows if row.observation == error.observation)
        assert _is_flagged(error, row), f"flagged elsewhere: {_elsewhere(error, comparison)}"
    score[error] = error.expected


@pytest.mark.parametrize("error", FLAGGED, ids=lambda one: f"{one.backend}-{one.column}")
def test_the_exit_code_follows_the_error(error: Planted, run: Callable[[str, str], Ran]) -> None:
    """The error alone makes the difference between 0 and 1; an outcome does not, for it is not judged."""
    ran = run(error.backend, error.group)
    reference, true, column = (_column(ran.comparison, name) for name in ("numpy", error.backend, error.column))
    # What the true adapter took over from a wrong one is the wrong one's.
    others = tuple(f" from {one.column}" for one in ERRORS)
    wrong = [row.observation for row in compare_runs([reference, true]).disagreements]
    assert [row for row in wrong if not row.endswith(others)] == []
    if not error.outcome:
        assert not compare_runs([reference, true, column]).ok
        assert ran.code == 1, ran.said


def test_errors_are_of_every_framework_and_name_rows_that_are_there() -> None:
    for backend in ("torch", "mxnet", "jax", "tensorflow"):
        assert len([one for one in ERRORS if one.backend == backend]) >= 6
    assert {one.scenario for one in FLAGGED} <= set(scenarios())
    assert {one.outcome for one in FLAGGED} <= {"", *HARMS}
    assert len({one.column for one in ERRORS}) == len(ERRORS)


def _is_flagged(error: Planted, row: Row) -> bool:
    """Whether a row is against the error's column and for the true adapter's."""
    if row.kind == "invariant":
        return not error.outcome and error.column in row.problems and error.backend not in row.problems
    assert row.kind == "outcome", f"a {row.kind} flags nothing"
    wrong, right = (Outcome.of(row.values[name]).outcome for name in (error.column, error.backend))
    return wrong == error.outcome != right


def _elsewhere(error: Planted, comparison: Comparison) -> list[str]:
    return [f"{row.scenario} / {row.observation}" for row in comparison.rows if error.column in row.problems]


def _column(comparison: Comparison, name: str) -> Run:
    return next(one for one in comparison.columns if one.name == name)


def _result(column: Run, scenario: str) -> ScenarioResult:
    return next(one for one in column.scenarios if one.name == scenario)
