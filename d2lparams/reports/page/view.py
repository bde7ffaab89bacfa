"""What a page shows, in the order in which it shows it: words, symbols and addresses, without any HTML.

Where a text comes from a run it is left as it is; the templates make it harmless, all of it, in one place.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import get_args

from d2lparams.comparison import Comparison, Row, Verdict
from d2lparams.reports.charts import Chart, charts
from d2lparams.reports.glance import Glance, glance
from d2lparams.reports.marks import mark, subject
from d2lparams.reports.matrix import by_company, in_order, nothing, subject_of
from d2lparams.reports.page.anchors import Anchors
from d2lparams.reports.page.functions import Function, functions
from d2lparams.reports.page.signs import Sign, of_nothing, of_outcome, of_status, of_verdict
from d2lparams.reports.page.wholes import cut, limit, says_all, whole
from d2lparams.reports.terminal import MEANINGS, versions
from d2lparams.reports.values import short
from d2lparams.results import Failure, Outcome, Run, ScenarioResult

BRIEF = 24  # characters of a value that stands beside a mark even where the mark says it all
MOST_NAMED = 6  # frameworks in the page's title
IN_TITLE = 80  # characters of a whole value for which a fold would be too much
LAST_LINES = 200  # of a traceback


@dataclass(frozen=True)
class Column:
    """A framework, as it stands above its cells.

    Attributes:
        index: its place, by which all that belongs to it is shown and hidden.
        versions: in words, the framework's own first.
        label: what tells it from the others in few words: its title, with its name where titles are the same.
    """

    index: int
    run: Run
    label: str
    versions: str
    status: Sign

    @property
    def began(self) -> str:
        """When it ran, to the minute."""
        return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*", r"\1 \2 UTC", self.run.date)

    @property
    def detail(self) -> str:
        """The end of what it said when it went wrong."""
        return _last(self.run.error)


@dataclass(frozen=True)
class Cell:
    """What a column has in a row.

    Attributes:
        sign: of an outcome, or of what agrees or does not; None where the value stands for itself.
        text: the value, short.
        note: what stands in its place, in our words.
        whole: the value, all of it, where that is more than `text` and there is room for it.
        hint: the same where it is so little more that it needs no fold.
        evidence: what was seen, by what was looked at.
    """

    column: Column
    sign: Sign | None = None
    text: str = ""
    whole: str = ""
    hint: str = ""
    note: str = ""
    problem: str = ""
    how: str = ""
    evidence: Mapping[str, str] = field(default_factory=dict)
    script: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Attributes:
        differs: whether it stays when only what differs is shown.
    """

    anchor: str
    name: str
    sign: Sign
    cells: Sequence[Cell]
    differs: bool


@dataclass(frozen=True)
class Ended:
    """How a scenario ended on a column where it did not simply end well."""

    column: Column
    status: Sign
    message: str
    detail: str


@dataclass(frozen=True)
class Asked:
    """Something that a scenario asked of the adapters.

    Attributes:
        word: the same for every adapter.
        sources: by column, the function that did it.
        others: by why there is none, the columns that have none.
    """

    word: str
    sources: Sequence[tuple[Column, Function]]
    others: Mapping[str, Sequence[Column]]


@dataclass(frozen=True)
class Part:
    """All that is shown of one scenario.

    Attributes:
        lines: its observations.
        ways: its outcomes of ways that several frameworks have.
        alone: those that one framework has.
        heading: what stands above the names of its outcomes: "way", "format" or "claim".
        nothing: what a dash among the outcomes means.
        signs: how many rows have each.
        asked: what was asked of the adapters, and which code did it.
    """

    anchor: str
    result: ScenarioResult
    group: str
    question: str
    ended: Sequence[Ended]
    lines: Sequence[Line]
    ways: Sequence[Line]
    alone: Sequence[Line]
    heading: str
    nothing: str
    signs: Sequence[Sign]
    charts: Sequence[Chart]
    asked: Sequence[Asked]
    glances: Sequence[tuple[Column, Glance]]


@dataclass(frozen=True)
class Alarm:
    """Something that is not as it must be, and where it is shown."""

    text: str
    address: str


@dataclass(frozen=True)
class View:
    """The whole page."""

    comparison: Comparison
    columns: Sequence[Column]
    frameworks: Sequence[Column]
    groups: Sequence[tuple[str, Sequence[Part]]]
    alarms: Sequence[Alarm]
    outcomes: Mapping[str, Sequence[tuple[Sign, int]]]
    legend: Sequence[tuple[Sign, str]]
    functions: Sequence[tuple[Sequence[Column], Sequence[Function]]]

    @property
    def headline(self) -> str:
        """The frameworks, as far as they are few."""
        labels = [column.label for column in self.frameworks]
        if len(labels) > MOST_NAMED:
            labels = [*labels[: MOST_NAMED - 1], f"{len(labels) - MOST_NAMED + 1} more"]
        named = " and ".join(part for part in (", ".join(labels[:-1]), *labels[-1:]) if part)
        return f"{named}, side by side" if len(labels) > 1 else named or "Nothing was run"

    @property
    def days(self) -> str:
        """The day of the runs, or the first and the last."""
        days = sorted({column.began.partition(" ")[0] for column in self.columns if column.began})
        return " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))

    @property
    def parts(self) -> list[Part]:
        """All scenarios, in order."""
        return [part for _, parts in self.groups for part in parts]


def view(comparison: Comparison) -> View:
    """Everything that the page shows of a comparison."""
    titles = Counter(run.title for run in comparison.columns)
    columns = [_column(index, run, titles[run.title] == 1) for index, run in enumerate(comparison.columns)]
    return _Viewer(comparison, columns).view()


class _Viewer:
    def __init__(self, comparison: Comparison, columns: Sequence[Column]) -> None:
        self._comparison = comparison
        self._columns = columns
        self._frameworks = [column for column in columns if comparison.is_framework(column.run)]
        self._anchors = Anchors()
        self._functions = functions([column.run for column in columns])
        self._wholes = {
            (row.scenario, row.observation, run.name): text
            for row in comparison.rows
            for judged in [comparison.is_judged(row)]
            for run in comparison.columns
            if (text := _whole(row, run, judged))
        }
        self._room = limit(self._wholes.values())

    def view(self) -> View:
        comparison = self._comparison
        parts = [self._part(result) for result in comparison.scenarios]
        outcomes = comparison.outcomes
        return View(
            comparison,
            self._columns,
            self._frameworks,
            [(group, list(some)) for group, some in groupby(parts, lambda part: part.group)],
            list(self._alarms(parts)),
            {
                what: [(of_outcome(word).several, outcomes[word]) for word in words]
                for what, words in groupby(in_order(outcomes), subject)
            },
            list(self._legend()),
            self._code(),
        )

    def _code(self) -> list[tuple[list[Column], list[Function]]]:
        """All functions, with the columns whose they are."""
        found: dict[int, tuple[list[Column], list[Function]]] = {}
        for column, own in zip(self._columns, self._functions):
            if own:
                found.setdefault(id(own), ([], list(own.values())))[0].append(column)
        return list(found.values())

    def _part(self, result: ScenarioResult) -> Part:
        comparison, anchor = self._comparison, self._anchors.make(result.name)
        rows = comparison.of(result.name)
        outcomes = [row for row in rows if row.kind == "outcome"]
        runs = comparison.frameworks
        common, alone = by_company(outcomes, runs)
        ended = [(column, self._result(column, result.name)) for column in self._columns]
        return Part(
            anchor,
            result,
            comparison.groups.get(result.name, ""),
            comparison.questions.get(result.name, ""),
            [
                Ended(column, of_status(one.status), one.error.message if one.error else "", _last(one.error))
                for column, one in ended
                if one.status != "ok"
            ],
            [self._line(row, self._columns) for row in rows if row.kind != "outcome"],
            [self._line(row, self._frameworks) for row in common],
            # By framework, as they are read; each with a single cell.
            [
                self._line(row, [column])
                for column in self._frameworks
                for row in alone
                if column.run.name in row.values
            ],
            {"ways": "way", "files": "format", "claims": "claim"}[subject_of(outcomes)] if outcomes else "",
            nothing(outcomes) if outcomes else "",
            _signs(rows, [run.name for run in runs]),
            charts(comparison, result.name),
            self._asked(result.name),
            [(column, glance(comparison, result.name, column.run.name)) for column in self._columns],
        )

    def _line(self, row: Row, columns: Sequence[Column]) -> Line:
        judged = self._comparison.is_judged(row)
        cells = [
            self._outcome(row, column) if row.kind == "outcome" else self._cell(row, column, judged)
            for column in columns
        ]
        return Line(
            self._anchors.make(row.scenario, row.observation),
            row.observation,
            of_verdict(row.verdict),
            cells,
            _differs(row, (column.run.name for column in self._frameworks)),
        )

    def _cell(self, row: Row, column: Column, judged: bool) -> Cell:
        name = column.run.name
        if name not in row.values:
            return _absent(row, column)
        text, problem = short(row.values[name]), row.problems.get(name, "")
        agrees = row.verdict == "agree" and not column.run.reference
        # What agrees has been shown once; only what is no longer than saying so is shown again. A drawing is
        # shown as one.
        note = "" if not agrees or len(text) <= BRIEF else _AS[judged]
        note = "see the chart" if row.kind == "drawing" else note
        full = cut(self._wholes.get((row.scenario, row.observation, name), ""), self._room)
        return Cell(
            column,
            of_verdict("disagree") if problem else of_verdict("agree") if agrees else None,
            "" if note else text,
            note=note,
            problem=problem,
            whole=full if len(full) > IN_TITLE else "",
            hint=full if len(full) <= IN_TITLE else "",
        )

    def _outcome(self, row: Row, column: Column) -> Cell:
        name = column.run.name
        if name not in row.values:
            return _absent(row, column)
        outcome = Outcome.of(row.values[name])
        return Cell(
            column,
            of_outcome(outcome.outcome, but="but" in outcome.evidence),
            how=outcome.how,
            evidence={name: short(value, lines=False) for name, value in outcome.evidence.items()},
            script=outcome.script.strip("\n"),
        )

    def _asked(self, scenario: str) -> list[Asked]:
        results = [self._result(column, scenario) for column in self._columns]
        words = dict.fromkeys(word for result in results for word in result.called)
        return [self._ask(word, results) for word in words]

    def _result(self, column: Column, scenario: str) -> ScenarioResult:
        """How a scenario ended on a column; a column that does not know it did not run it."""
        found = self._comparison.result(scenario, column.run.name)
        return found or ScenarioResult(scenario, "", "", "not-run")

    def _ask(self, word: str, results: Sequence[ScenarioResult]) -> Asked:
        sources: list[tuple[Column, Function]] = []
        others: dict[str, list[Column]] = {}
        for column, result in zip(self._columns, results):
            function = self._functions[column.index].get(result.called.get(word, ""))
            if function:
                sources.append((column, function))
            elif word in result.called:
                others.setdefault("code that was not kept", []).append(column)
            else:
                why = "not asked" if result.status == "ok" else result.status
                others.setdefault(why, []).append(column)
        return Asked(word, sources, others)

    def _alarms(self, parts: Sequence[Part]) -> Iterator[Alarm]:
        if self._comparison.interrupted:
            yield Alarm("It was interrupted: what was known by then is shown.", "_glance")
        for column in self._columns:
            failed = [one for one in column.run.scenarios if _bad(one)]
            if column.run.error and not failed:
                text = f"{column.label}: {column.run.status}: {column.run.error.message}"
                yield Alarm(text, f"_column-{column.index}")
        for part in parts:
            for ended in part.ended:
                if _bad(self._result(ended.column, part.result.name)):
                    text = f"{part.result.title}: {ended.column.label} {ended.status.word}"
                    yield Alarm(f"{text}: {ended.message}" if ended.message else text, part.anchor)
            for line in part.lines:
                for cell in line.cells:
                    if cell.problem:
                        yield Alarm(
                            f"{part.result.title}: {line.name}: {cell.column.label} {cell.problem}", line.anchor
                        )
                if line.sign == of_verdict("unjudged"):
                    yield Alarm(
                        f"{part.result.title}: {line.name}: there was nothing to hold it against", line.anchor
                    )

    def _legend(self) -> Iterator[tuple[Sign, str]]:
        verdicts = {row.verdict for row in self._comparison.rows if row.kind != "outcome"}
        for verdict, meaning in MEANINGS.items():
            if verdict in verdicts:
                yield of_verdict(verdict), meaning
        for word in in_order(self._comparison.outcomes):
            yield of_outcome(word), mark(word).meaning or word
        statuses = {one.status for run in self._comparison.columns for one in run.scenarios}
        for status in sorted(statuses - {"ok"}):
            yield of_status(status), _MEANT.get(status, "")


_AS = {True: "as the reference", False: "as it must be"}
_MEANT = {
    "unsupported": "the framework cannot do this, by design; the reason is given",
    "failed": "it raised",
    "timeout": "killed at the limit",
    "crashed": "the process ended, with the signal or the exit code",
    "install-failed": "the environment could not be built",
    "not-run": "something before it ended the column, or it was not asked for",
}


def _column(index: int, run: Run, alone: bool) -> Column:
    label = run.title if alone else f"{run.title} ({run.name})"
    return Column(index, run, label, versions(run), of_status(run.status))


def _whole(row: Row, run: Run, judged: bool) -> str:
    """All of a value, where it says more than what is shown of it anyway."""
    if run.name not in row.values or row.kind == "outcome":
        return ""
    # What agrees has been shown once, with the reference.
    if row.verdict == "agree" and judged and not run.reference:
        return ""
    value = row.values[run.name]
    text = whole(value)
    return "" if says_all(short(value), text) and row.kind != "drawing" else text


def _absent(row: Row, column: Column) -> Cell:
    reason = row.absent.get(column.run.name, "not-run")
    if reason == "not-applicable":
        return Cell(column, of_nothing(nothing([row])))
    status = of_status(reason)
    if column.run.name in row.problems:
        return Cell(column, of_verdict("disagree"), problem=row.problems[column.run.name])
    return Cell(column, status)


def _bad(result: ScenarioResult) -> bool:
    return result.status not in ("ok", "unsupported", "not-run")


def _differs(row: Row, frameworks: Iterable[str]) -> bool:
    """Whether frameworks differ here, or one of them is not as one would wish."""
    if row.verdict in ("differ", "disagree", "unjudged"):
        return True
    if row.kind == "outcome" and any(not mark(Outcome.of(value).outcome).good for value in row.values.values()):
        return True
    return any(row.absent.get(name, "not-applicable") != "not-applicable" for name in frameworks)


def _signs(rows: Sequence[Row], frameworks: Sequence[str]) -> list[Sign]:
    """How many observations have each verdict, and how many outcomes each word, as marks whose word is that."""
    verdicts = Counter(row.verdict for row in rows if row.kind in ("invariant", "trait"))
    outcomes = Counter(
        Outcome.of(row.values[name]).outcome
        for row in rows
        if row.kind == "outcome"
        for name in frameworks
        if name in row.values
    )
    return [
        *(of_verdict(verdict).times(verdicts[verdict]) for verdict in get_args(Verdict) if verdicts[verdict]),
        *(of_outcome(word).times(outcomes[word]) for word in in_order(outcomes)),
    ]


def _last(error: Failure | None) -> str:
    """What a failure left behind, without its beginning where it is long, and the command that failed."""
    if not error:
        return ""
    lines = error.detail.strip().splitlines()
    shown = lines[-LAST_LINES:]
    if len(lines) > len(shown):
        shown.insert(0, f"… {len(lines) - len(shown)} lines before")
    return "\n".join([*([f"$ {error.command}"] if error.command else []), *shown])
