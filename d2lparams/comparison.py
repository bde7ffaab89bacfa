"""Runs side by side, with a verdict per row. Pure: data in, data out, no screen and no file.

An invariant is held against the reference, and against what it must be by definition where that is known. A
column is right when every number is within the stated tolerance; a shape or a length that differs is never
right. A trait is not judged: the frameworks' values are the same, or they differ, and the difference is what
the reader came for. The reference takes no part in that, for it is no framework. Nor is an outcome judged: a
framework's way ended as it did. Frameworks are compared by the word for that; the rest is each one's own. A
drawing is not compared at all: it is shown.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from d2lparams.results import (
    NON_FINITE,
    SCHEMA_VERSION,
    Form,
    Kind,
    Observation,
    Outcome,
    Run,
    ScenarioResult,
    Status,
)
from d2lparams.variation import Variation

if TYPE_CHECKING:
    from pandas import DataFrame

    from d2lparams.scenarios import Scenario

Verdict = Literal["agree", "disagree", "unjudged", "same", "differ", "shown"]
Absence = Status | Literal["not-applicable"]
"""Why a column has no value in a row. Not applicable: a framework that has no such way, or no such claim."""


@dataclass
class Row:
    """One observation, on every column.

    Attributes:
        verdict: an invariant's is "agree" or "disagree", or "unjudged" when nothing was there to hold it
            against; a trait's is "same" or "differ", and so is an outcome's, by its word alone; a drawing's
            is "shown".
        values: by column, where there is one.
        absent: by column, where there is none: how the scenario ended there; or "not-applicable", where it
            ended well without an outcome, for a framework makes only those of the ways that it has.
        problems: by column, why it disagrees, in one sentence.
        form: how the values can be drawn, see `Observation`.
    """

    scenario: str
    observation: str
    kind: Kind
    verdict: Verdict
    values: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, Absence] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    form: Form = ""


@dataclass(repr=False)
class Comparison:
    """Several runs side by side.

    Attributes:
        columns: the runs, in the order in which they are shown.
        rows: observations in the order in which scenarios made them.
        interrupted: whether the user stopped it before it was done.
        groups: by scenario, the group that it belongs to.
        left_out: the scenarios that were left out because nobody asked for them by name, and they take long.
        questions: by scenario, what it asks and what to look for.
    """

    columns: list[Run]
    rows: list[Row]
    interrupted: bool = False
    groups: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    schema_version: Literal[1] = SCHEMA_VERSION
    questions: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{number} {word}" for word, number in (self.counts | self.outcomes).items() if number
        )
        columns = ", ".join(run.name for run in self.columns)
        return f"<Comparison of {columns or 'nothing'}: {counts or 'no rows'}>"

    def _repr_html_(self) -> str:
        # A notebook asks an object how it looks: the one step back on the road, taken when it asks.
        from d2lparams.reports.notebook import comparison_html

        return comparison_html(self)

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many rows have each verdict; those of outcomes are not counted, see `outcomes`, nor drawings."""
        verdicts = Counter(row.verdict for row in self.rows if row.kind in ("invariant", "trait"))
        return {verdict: verdicts[verdict] for verdict in get_args(Verdict) if verdict != "shown"}

    @property
    def outcomes(self) -> dict[str, int]:
        """How many cells of the frameworks have each outcome, in the order in which they were first seen."""
        names = [run.name for run in self.frameworks]
        rows = [row for row in self.rows if row.kind == "outcome"]
        return dict(
            Counter(Outcome.of(row.values[one]).outcome for row in rows for one in names if one in row.values)
        )

    @property
    def frameworks(self) -> list[Run]:
        """The columns without the reference; where there are no others, the reference."""
        return [run for run in self.columns if self.is_framework(run)]

    def is_framework(self, run: Run) -> bool:
        """Whether a column is one of `frameworks`."""
        return not run.reference or all(one.reference for one in self.columns)

    def is_judged(self, row: Row) -> bool:
        """Whether the reference is in a row; without it, it is the definition that a value agrees with."""
        return any(run.reference and run.name in row.values for run in self.columns)

    @property
    def ok(self) -> bool:
        """Everything ran to its end, and every invariant agrees."""
        ran = all(run.status == "ok" for run in self.columns)
        return ran and not self.interrupted and not self.disagreements and not self.unjudged

    @property
    def disagreements(self) -> list[Row]:
        """The rows whose invariant does not hold on every column."""
        return [row for row in self.rows if row.verdict == "disagree"]

    @property
    def unjudged(self) -> list[Row]:
        """The rows whose invariant had nothing to be held against."""
        return [row for row in self.rows if row.verdict == "unjudged"]

    @property
    def scenarios(self) -> list[ScenarioResult]:
        """One result per scenario, for its name, section and title; every column lists the same ones."""
        return self.columns[0].scenarios if self.columns else []

    def of(self, scenario: str) -> list[Row]:
        """The rows of one scenario."""
        return list(self._index.rows.get(scenario, ()))

    def run(self, column: str) -> Run | None:
        """The column of a name; None where there is none."""
        return self._index.runs.get(column)

    def result(self, scenario: str, column: str) -> ScenarioResult | None:
        """How a scenario ended on a column; None where there is no such column, or none such on it."""
        return self._index.results.get(column, {}).get(scenario)

    @property
    def _index(self) -> _Index:
        """What is found by name. Reports ask for it once for each cell, and to search would be to read all."""
        found: _Index | None = self.__dict__.get("_found")
        if found is None or not found.holds(self):
            found = self.__dict__["_found"] = _Index(self)
        return found

    def to_frame(self) -> DataFrame:
        """The rows as a table of pandas.

        Returns:
            A frame indexed by scenario and observation, with the columns "kind" and "verdict" and one for each
            run, which holds the value or, where there is none, the word that says why.

        Raises:
            ModuleNotFoundError: when pandas is not installed, with the line that installs it.
        """
        try:
            from pandas import DataFrame, MultiIndex
        except ModuleNotFoundError as error:
            if error.name != "pandas":
                raise
            raise ModuleNotFoundError(
                "to_frame() needs pandas, which is not installed here: python -m pip install pandas",
                name="pandas",
            ) from None
        names = [run.name for run in self.columns]
        cells = [
            [row.kind, row.verdict, *(row.values.get(name, row.absent.get(name, "not-run")) for name in names)]
            for row in self.rows
        ]
        index = MultiIndex.from_tuples(
            [(row.scenario, row.observation) for row in self.rows], names=["scenario", "observation"]
        )
        return DataFrame(cells, index=index, columns=["kind", "verdict", *names], dtype=object)


class _Index:
    """Rows by scenario, runs by column, and results by both; of equal names the first is found.

    It holds as long as the comparison has the same lists of rows and of columns, and as many in them.
    """

    def __init__(self, comparison: Comparison) -> None:
        self._rows, self._columns = comparison.rows, comparison.columns
        self._numbers = len(comparison.rows), len(comparison.columns)
        self.rows: dict[str, list[Row]] = {}
        for row in comparison.rows:
            self.rows.setdefault(row.scenario, []).append(row)
        self.runs = {run.name: run for run in reversed(comparison.columns)}
        self.results = {
            name: {one.name: one for one in reversed(run.scenarios)} for name, run in self.runs.items()
        }

    def holds(self, comparison: Comparison) -> bool:
        """Whether nothing was added, taken away or replaced as a whole since."""
        same = comparison.rows is self._rows and comparison.columns is self._columns
        return same and (len(self._rows), len(self._columns)) == self._numbers


def compare_runs(
    runs: Sequence[Run],
    *,
    scenarios: Iterable[Scenario] = (),
    left_out: Iterable[str] = (),
    interrupted: bool = False,
) -> Comparison:
    """Put runs of the same scenarios side by side and judge each observation.

    Args:
        runs: one for each column.
        scenarios: what was run, for the groups and questions; runs alone know names only.
        left_out: the names of the scenarios that a run of everything leaves out.
        interrupted: whether the user stopped the runs before they were done.
    """
    rows = []
    judges = _judges(runs)
    results: dict[str, dict[str, ScenarioResult]] = {}
    for run in runs:
        for one in run.scenarios:
            results.setdefault(one.name, {})[run.name] = one
    for result in runs[0].scenarios if runs else []:
        ended = results[result.name]
        for seen in _seen(ended).values():
            absent = {column: one.status for column, one in ended.items() if column not in seen}
            row = _row(result.name, seen, absent, judges)
            row.form = next(iter(seen.values())).form
            rows.append(row)
    known = list(scenarios)
    return Comparison(
        list(runs),
        rows,
        interrupted,
        groups={one.name: one.group for one in known},
        left_out=list(left_out),
        questions={one.name: one.question for one in known},
    )


def deviation(value: Any, reference: Any) -> float:
    """How far a value is from the reference, relative to the largest magnitude in the reference.

    Lists are arrays and count as a whole; the values of a dict count each for itself. 0 means equal; infinity
    means another structure, another text, or a number that is not finite where the other is another one.
    """
    if isinstance(value, dict) and isinstance(reference, dict):
        if value.keys() != reference.keys():
            return math.inf
        return max((deviation(value[key], reference[key]) for key in reference), default=0.0)
    furthest, scale = _apart(value, reference)
    return _over(furthest, scale)


def strain(value: Any, reference: Any, rtol: float = 0.0, atol: float | dict[str, float] = 0.0) -> float:
    """How far a value is from the reference, as a part of what is allowed: up to 1 it agrees.

    Args:
        value: an observation's.
        reference: what it is held against.
        rtol: relative to the largest magnitude in the reference.
        atol: in absolute terms, beside it; for each entry of a dict where it is one itself.
    """
    if isinstance(value, dict) and isinstance(reference, dict):
        if value.keys() != reference.keys():
            return math.inf
        return max((strain(value[key], reference[key], rtol, _of(atol, key)) for key in reference), default=0.0)
    furthest, scale = _apart(value, reference)
    return _over(furthest, rtol * scale + _of(atol, ""))


def _of(atol: float | dict[str, float], key: str) -> float:
    """What is allowed for one entry of a dict; for one that is not named, nothing."""
    return atol.get(key, 0.0) if isinstance(atol, dict) else atol


def _over(furthest: float, scale: float) -> float:
    """The quotient; of nothing and nothing it is nothing."""
    return (furthest / scale if scale else math.inf) if furthest else 0.0


def _apart(value: Any, reference: Any) -> tuple[float, float]:
    """The largest distance of two numbers of equal place, and the largest magnitude in the reference.

    Where they cannot be held against each other, the distance is infinite.
    """
    mine, theirs = _numbers(value), _numbers(reference)
    if mine is None or theirs is None:
        return (0.0 if _equal(value, reference) else math.inf), 0.0
    if _shape(value) != _shape(reference):
        return math.inf, 0.0
    try:
        furthest = max(_distance(one, other) for one, other in zip(mine, theirs, strict=True))
        return furthest, max((abs(other) for other in theirs if math.isfinite(other)), default=0.0)
    except OverflowError:  # a whole number that no float can hold
        return (0.0 if mine == theirs else math.inf), 0.0


def _seen(ended: Mapping[str, ScenarioResult]) -> dict[str, dict[str, Observation]]:
    """By name the observations of a scenario, in the order in which they were made, on each column."""
    seen: dict[str, dict[str, Observation]] = {}
    for column, result in ended.items():
        for one in result.observations:
            seen.setdefault(one.name, {})[column] = one
    return seen


def _judges(runs: Sequence[Run]) -> dict[str, str]:
    """By column, the reference that it is held against: the first that used the same numbers and models."""
    first: dict[Variation, str] = {}
    for run in runs:
        if run.reference:
            first.setdefault(run.variation, run.name)
    own = {run.name: run.name for run in runs if run.reference}
    return {run.name: first[run.variation] for run in runs if run.variation in first} | own


def _row(
    scenario: str, seen: dict[str, Observation], absent: dict[str, Status], judges: Mapping[str, str]
) -> Row:
    """A row; a reference is its own judge, which is how it is known here."""
    references = {column for column, judge in judges.items() if column == judge}
    first = next(iter(seen.values()))
    match first.kind:
        case "invariant":
            return _invariant(scenario, seen, absent, judges)
        case "trait":
            ways = [one.value for column, one in seen.items() if column not in references]
            return _own_ways(scenario, seen, dict(absent), ways)
        case "outcome":
            ways = [Outcome.of(one.value).outcome for column, one in seen.items() if column not in references]
            gaps = {column: _absence(status) for column, status in absent.items()}
            return _own_ways(scenario, seen, gaps, ways)
        case "drawing":
            values = {column: observation.value for column, observation in seen.items()}
            return Row(scenario, first.name, first.kind, "shown", values, dict(absent))


def _absence(status: Status) -> Absence:
    """Why a column has no outcome: a scenario that ended well has tried all ways that the framework has."""
    return "not-applicable" if status == "ok" else status


def _own_ways(
    scenario: str, seen: dict[str, Observation], absent: dict[str, Absence], ways: Sequence[Any]
) -> Row:
    """A row of what has no right and no wrong: whether the frameworks' ways are the same."""
    first = next(iter(seen.values()))
    verdict: Verdict = "same" if all(_equal(way, ways[0]) for way in ways) else "differ"
    values = {column: observation.value for column, observation in seen.items()}
    return Row(scenario, first.name, first.kind, verdict, values, absent)


def _invariant(
    scenario: str, seen: dict[str, Observation], absent: dict[str, Status], judges: Mapping[str, str]
) -> Row:
    values = {column: observation.value for column, observation in seen.items()}
    problems = {}
    judged = True
    for column, observation in seen.items():
        judge = judges.get(column)
        others = [values[judge]] if judge in values and judge != column else []
        if problem := _problem(observation, others):
            problems[column] = problem
        judged = judged and (judge in values or observation.expected is not None)
    problems |= {column: "never made this observation" for column, status in absent.items() if status == "ok"}
    verdict: Verdict = "disagree" if problems else "agree" if judged else "unjudged"
    name = next(iter(seen.values())).name
    return Row(scenario, name, "invariant", verdict, values, dict(absent), problems)


def _problem(observation: Observation, judges: Sequence[Any]) -> str:
    """Why an invariant does not hold; empty when it does."""
    held = [("the reference", judge) for judge in judges]
    if observation.expected is not None:
        held.insert(0, ("the definition", observation.expected))
    for name, other in held:
        where, rtol, atol = _worst(observation, other)
        if isinstance(observation.value, dict) and where:
            mine, theirs = observation.value[where], other[where]
        else:
            mine, theirs = observation.value, other
        entry = f"{where} " if where else ""
        off = deviation(mine, theirs)
        if off == math.inf and (not atol or _apart(mine, theirs)[0] == math.inf):
            return f"{entry}is not what {name} says"
        if strain(mine, theirs, rtol, atol) > 1:
            if atol:
                furthest, scale = _apart(mine, theirs)
                permitted = rtol * scale + _of(atol, "")
                return f"{entry}is off by {furthest:.1e} from {name}; {permitted:.0e} is allowed"
            return f"{entry}is off by {off:.1e} of the largest entry of {name}; {rtol:.0e} is allowed"
    return ""


def _worst(observation: Observation, other: Any) -> tuple[str, float, float | dict[str, float]]:
    """In a dict the entry that is off most, and what is allowed there; else no entry, and what is allowed."""
    value, rtol, atol = observation.value, observation.rtol, observation.atol
    if isinstance(value, dict) and isinstance(other, dict) and value.keys() == other.keys() and value:
        worst = max(other, key=lambda key: strain(value[key], other[key], rtol, _of(atol, key)))
        return worst, rtol, _of(atol, worst)
    return "", rtol, atol


def _equal(value: Any, reference: Any) -> bool:
    """Equality that tells True from 1, at any depth."""
    if isinstance(value, list) and isinstance(reference, list):
        return len(value) == len(reference) and all(map(_equal, value, reference))
    if isinstance(value, dict) and isinstance(reference, dict):
        return value.keys() == reference.keys() and all(_equal(value[key], reference[key]) for key in value)
    return isinstance(value, bool) == isinstance(reference, bool) and bool(value == reference)


def _shape(value: Any) -> tuple[Any, ...]:
    """The nesting of lists, with their lengths."""
    return (len(value), *(_shape(item) for item in value)) if isinstance(value, list) else ()


def _numbers(value: Any) -> list[float] | None:
    """All numbers of a nested list in order, or None when there is something else in it, or nothing."""
    if isinstance(value, list):
        parts = [_numbers(item) for item in value]
        if not parts or any(part is None for part in parts):
            return None
        return [number for part in parts if part is not None for number in part]
    if isinstance(value, str):
        return [float(value)] if value in NON_FINITE else None
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _distance(one: float, other: float) -> float:
    """The absolute difference; two that are no number are equal, and infinity is far from all but itself."""
    if one == other or (one != one and other != other):
        return 0.0
    distance = abs(one - other)
    return distance if math.isfinite(distance) else math.inf
