"""Comparisons of several machines or days as one. Pure: data in, data out, and what goes in is not changed.

All columns stand beside each other, and every row is judged anew. Nothing is lost: a scenario that only some
ran is "not-run" on the others, with the reason; a column whose name stands in several comparisons is told apart
by the framework's version, or else by the comparison's label. One reference judges, the first (of those that
used the same numbers and models, where a seed or a form was asked for). It is completed
by what only later ones saw; a later one that says the same needs no column of its own, and one that says
something else is judged like any other column, so that this is seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from d2lparams.comparison import Comparison, Row, compare_runs, strain
from d2lparams.results import Code, Failure, Observation, Run, ScenarioResult


@dataclass(frozen=True)
class _Column:
    """A run, and the label of the comparison that it comes from."""

    label: str
    run: Run


def merge(comparisons: Mapping[str, Comparison]) -> Comparison:
    """One comparison of all columns.

    Args:
        comparisons: by label, which is a file's name or whatever else tells them apart for a reader.
    """
    order = _order(comparisons.values())
    columns = _told_apart(
        [_Column(label, run) for label, comparison in comparisons.items() for run in comparison.columns]
    )
    asked = _asked(columns)
    variations = dict.fromkeys(column.run.variation for column in columns)
    columns = _distinct(
        [
            column
            for variation in variations
            for column in _one_reference([one for one in columns if one.run.variation == variation])
        ]
    )
    if len(comparisons) > 1:
        columns.sort(key=lambda column: not column.run.reference)
    titles = {
        one.name: one for column in reversed(columns) for one in reversed(column.run.scenarios)
    }  # the first that knows a scenario says what it is called
    whole = [replace(column, run=_filled(column, [titles[name] for name in order])) for column in columns]
    ran = {one.name for column in columns for one in column.run.scenarios}
    merged = compare_runs(
        [column.run for column in whole],
        left_out=dict.fromkeys(
            name for one in comparisons.values() for name in one.left_out if name not in ran
        ),
        interrupted=any(one.interrupted for one in comparisons.values()),
    )
    seen = _seen(whole)
    return replace(
        merged,
        rows=[_fair(row, whole, asked[row.scenario, row.observation], seen) for row in merged.rows],
        groups=_first_known(one.groups for one in comparisons.values()),
        questions=_first_known(one.questions for one in comparisons.values()),
    )


# -- scenarios -----------------------------------------------------------------------------------------------


def _order(comparisons: Iterable[Comparison]) -> list[str]:
    """The names of all scenarios, in the order of the first; further ones behind the others of their group."""
    order: list[str] = []
    groups: dict[str, str] = {}
    for comparison in comparisons:
        groups |= comparison.groups
        named = dict.fromkeys(one.name for run in comparison.columns for one in run.scenarios)
        known = set(order)
        further = [name for name in named if name not in known]
        if not order:
            order = further
            continue
        # What stands behind the last of its group, or for itself at the end, and others of its group behind it.
        last = {groups.get(name) or (name,): name for name in order}
        behind: dict[str, list[str]] = {}
        at_end: dict[Hashable, list[str]] = {}
        for name in further:
            group = groups.get(name) or (name,)
            if group in last:
                behind.setdefault(last[group], []).append(name)
            else:
                at_end.setdefault(group, []).append(name)
        order = [one for name in order for one in (name, *behind.get(name, ()))]
        order += chain.from_iterable(at_end.values())
    return order


def _filled(column: _Column, scenarios: Iterable[ScenarioResult]) -> Run:
    """The run with a result for each scenario; for those that it has not run, why."""
    ended = {one.name: one for one in column.run.scenarios}
    reason = Failure(f"not part of {column.label}")
    absent = {
        one.name: ScenarioResult(one.name, one.section, one.title, "not-run", error=reason) for one in scenarios
    }
    return replace(column.run, scenarios=[ended.get(name, missing) for name, missing in absent.items()])


# -- observations --------------------------------------------------------------------------------------------


def _told_apart(columns: Iterable[_Column]) -> list[_Column]:
    """The columns with another name for an observation whose kind is not the one that it had first.

    A row has one kind. Where releases of the program disagree on it, there are two rows.
    """
    kinds: dict[tuple[str, str], str] = {}

    def named(scenario: str, one: Observation, label: str) -> Observation:
        if kinds.setdefault((scenario, one.name), one.kind) == one.kind:
            return one
        return replace(one, name=f"{one.name} ({one.kind} in {label})")

    return [
        replace(
            column,
            run=replace(
                column.run,
                scenarios=[
                    replace(
                        one, observations=[named(one.name, each, column.label) for each in one.observations]
                    )
                    for one in column.run.scenarios
                ],
            ),
        )
        for column in columns
    ]


def _asked(columns: Iterable[_Column]) -> dict[tuple[str, str], set[str]]:
    """By scenario and observation, the labels of the comparisons in which some column has made it."""
    asked: dict[tuple[str, str], set[str]] = {}
    for column in columns:
        for result in column.run.scenarios:
            for one in result.observations:
                asked.setdefault((result.name, one.name), set()).add(column.label)
    return asked


Seen = Mapping[tuple[str, str], Sequence[tuple[Run, Observation]]]
"""By scenario and observation, what each column has seen."""


def _fair(row: Row, columns: Sequence[_Column], asked: Collection[str], seen: Seen) -> Row:
    """The row without the blame for what a column was never asked.

    An observation that no column of a comparison has made was no part of its scenario there: another release
    of the program has made it. Where it is an outcome, the framework may just have no such way.
    """
    spared = {column.run.name for column in columns if column.label not in asked}
    spared = {name for name in spared if row.absent.get(name) == "ok"}
    if row.kind == "outcome" or not spared:
        return row
    absent = {name: "not-run" if name in spared else reason for name, reason in row.absent.items()}
    problems = {name: problem for name, problem in row.problems.items() if name not in spared}
    fair = replace(row, absent=absent, problems=problems)
    if row.verdict != "disagree" or problems:
        return fair
    made = seen[row.scenario, row.observation]
    judged = any(run.reference for run, _ in made) or all(one.expected is not None for _, one in made)
    return replace(fair, verdict="agree" if judged else "unjudged")


def _seen(columns: Iterable[_Column]) -> Seen:
    seen: dict[tuple[str, str], list[tuple[Run, Observation]]] = {}
    for column in columns:
        for result in column.run.scenarios:
            for one in result.observations:
                seen.setdefault((result.name, one.name), []).append((column.run, one))
    return seen


# -- columns -------------------------------------------------------------------------------------------------


def _distinct(columns: Sequence[_Column]) -> list[_Column]:
    """The columns with names that differ; titles tell the same, for that is what is read."""
    alike: dict[str, list[_Column]] = {}
    for column in columns:
        alike.setdefault(column.run.name, []).append(column)
    suffixes = {}
    for group in alike.values():
        versions = Counter(_version(column.run) for column in group)
        for column in group if len(group) > 1 else ():
            version = _version(column.run)
            suffix = f" {version}" if len(versions) > 1 and version else ""
            suffixes[id(column)] = suffix + (
                f" ({column.label})" if versions[version] > 1 or not version else ""
            )
    named = []
    taken: set[str] = set()
    for column in columns:
        suffix = suffixes.get(id(column), "")
        number, name = 1, column.run.name + suffix
        while name in taken:
            number += 1
            name = f"{column.run.name}{suffix} {number}"
        taken.add(name)
        title = column.run.title + suffix + (f" {number}" if number > 1 else "")
        named.append(replace(column, run=replace(column.run, name=name, title=title)))
    return named


def _version(run: Run) -> str:
    """The framework's own, which its environment declares first; "" where it was never installed."""
    return next(iter(run.versions.values()), "")


def _one_reference(columns: Sequence[_Column]) -> list[_Column]:
    """The columns with one reference among them, which has seen what any of them saw.

    Others of the first's own comparison are left as they are.
    """
    first = next((place for place, column in enumerate(columns) if column.run.reference), None)
    if first is None:
        return list(columns)
    label, judge = columns[first].label, columns[first].run
    kept = []
    for column in columns:
        if column.label == label or not column.run.reference:
            kept.append(column)
            continue
        if not _says_the_same(column.run, judge):
            kept.append(replace(column, run=replace(column.run, reference=False)))
        judge = _completed(judge, column)
    kept[first] = _Column(label, judge)
    return kept


def _says_the_same(other: Run, judge: Run) -> bool:
    """Whether nothing went wrong, and all invariants that both have seen agree as far as is asked."""
    if other.status != "ok" or other.error:
        return False
    for mine, theirs in _shared(judge, other):
        if theirs.status not in ("ok", mine.status):
            return False
        seen = {one.name: one for one in mine.observations if one.kind == "invariant"}
        for one in theirs.observations:
            if one.name in seen and strain(one.value, seen[one.name].value, one.rtol, one.atol) > 1:
                return False
    return True


def _completed(judge: Run, column: _Column) -> Run:
    """The reference, and what only another one has seen: scenarios, and observations in those that both ran."""
    other = column.run
    ended = {one.name: one for one in judge.scenarios if one.status != "not-run"}
    renamed = _renamed(judge.code, other.code, column.label)
    results = {one.name: one for one in judge.scenarios}
    for theirs in other.scenarios:
        mine = ended.get(theirs.name)
        if mine is None:
            called = {asked: renamed.get(name, name) for asked, name in theirs.called.items()}
            results[theirs.name] = replace(theirs, called=called)
            continue
        names = {one.name for one in mine.observations}
        further = [one for one in theirs.observations if one.name not in names]
        results[theirs.name] = replace(mine, observations=[*mine.observations, *further])
    code = {
        renamed.get(name, name): replace(one, helpers=[renamed.get(helper, helper) for helper in one.helpers])
        for name, one in other.code.items()
    }
    return replace(judge, scenarios=list(results.values()), code=code | judge.code)


def _renamed(mine: Mapping[str, Code], theirs: Mapping[str, Code], label: str) -> dict[str, str]:
    """New names for functions of another run whose names stand for other functions here."""
    return {name: f"{name} ({label})" for name, one in theirs.items() if mine.get(name, one) != one}


def _shared(one: Run, other: Run) -> Iterable[tuple[ScenarioResult, ScenarioResult]]:
    """The results of the scenarios that both have run."""
    ended = {result.name: result for result in other.scenarios if result.status != "not-run"}
    return [
        (result, ended[result.name])
        for result in one.scenarios
        if result.status != "not-run" and result.name in ended
    ]


def _first_known(mappings: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """All entries, of equal keys the first."""
    known: dict[str, str] = {}
    for key, value in chain.from_iterable(one.items() for one in mappings):
        known.setdefault(key, value)
    return known
