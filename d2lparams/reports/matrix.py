"""The outcomes of a scenario for a terminal: ways down and frameworks across, and below it what went otherwise.

Ways that one framework alone has are no comparison, and most of a table of them would be dashes: they are named
below it, by framework and outcome.

Where a framework's cell can hold a short word, the ways are a table; where it cannot, each way names the
frameworks by outcome.
"""

from __future__ import annotations

import shlex
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import groupby
from textwrap import indent
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from d2lparams.comparison import Comparison, Row
from d2lparams.reports.marks import CLAIMS, DASH, OUTCOMES, absence, mark, subject, text
from d2lparams.reports.values import plain, short, wrap
from d2lparams.results import Outcome, Run

NARROWEST_CELL = 11  # "! corrupted"
ROOMY_CELL = 26  # with less, expressions take so many lines that the matrix is no longer one look
WIDEST_CELL = 48
NARROWEST_WAY = 16
WIDEST_WAY = 26
INDENT = 4
GAP = 3  # between two columns of the table

# What is enough to see why, by outcome, and in which order. Of other outcomes all evidence is shown.
TELLING = {
    "kept": ("but",),
    "broken": ("warning", "storages", "a training step", "a write"),
    "changed": ("warning", "output", "layers", "a training step"),
    "corrupted": ("original", "error"),
    "refused": ("error", "original"),
    "no longer holds": ("the book has", "there is now"),
}
MOST_EVIDENCE = 2

Evidence = Set[tuple[str, Hashable]]


def matrix_view(comparison: Comparison, rows: Sequence[Row], width: int) -> RenderableType:
    """The outcomes of one scenario: ways down, frameworks across.

    Args:
        comparison: whose rows these are.
        rows: outcomes of one scenario.
        width: of the screen.
    """
    runs = comparison.frameworks
    common, alone = by_company(rows, runs)
    parts: list[RenderableType] = []
    if common:
        way, cell = _widths(comparison, common, width)
        narrow = way < min(NARROWEST_WAY, _longest(common))
        parts.append(_lists(runs, common, width) if narrow else _matrix(runs, common, way, cell))
        if any(row.absent.get(run.name) == "not-applicable" for row in common for run in runs):
            parts.append(Text(f"{DASH} {nothing(rows)}", "dim"))
    if alone:
        parts.append(_own_ways(runs, alone, width))
    return Group(*parts)


def details_view(
    comparison: Comparison, rows: Sequence[Row], width: int, arguments: Mapping[str, str]
) -> RenderableType | None:
    """For each cell that is not as one would wish: what shows it, and the command that prints its script.

    Args:
        comparison: whose rows these are.
        rows: outcomes of one scenario.
        width: of the screen.
        arguments: what the command calls a column, where that is not its name.
    """
    usual = usual_evidence(rows)
    _, cell = _widths(comparison, rows, width)
    lines: list[Text] = []
    for row in rows:
        for run in comparison.frameworks:
            outcome = Outcome.of(row.values.get(run.name))
            if run.name not in row.values or (mark(outcome.outcome).good and "but" not in outcome.evidence):
                continue
            head = Text.assemble((plain(run.title), "bold"), f", {plain(row.observation)}: ")
            head.append(_word(outcome), mark(outcome.outcome).style)
            how = Text("" if cell >= ROOMY_CELL else plain(outcome.how), "dim")
            lines += _flow([head, how, Text(telling(outcome, usual))], width)
            if outcome.script:
                argument = arguments.get(run.name, run.name)
                asked = " ".join([row.scenario, *run.variation.options])
                command = repro_command(argument, asked, row.observation, width - INDENT)
                lines.append(Text(indent(command, " " * INDENT), "cyan"))
    return Group(*lines) if lines else None


def outcome_counts(outcomes: Mapping[str, int]) -> Iterator[Text]:
    """A line for the ways, the files and the claims, as far as there are any: how many ended how."""
    for what, words in groupby(in_order(outcomes), subject):
        line = Text(f"{what}: ")
        parts = [Text(f"{outcomes[word]} {CLAIMS.get(word, plain(word))}", mark(word).style) for word in words]
        yield line.append_text(Text(", ").join(parts))


def outcome_legend(outcomes: Iterable[str]) -> list[str]:
    """What the words mean that are not claims', which say it themselves."""
    return [
        f"{mark(word).symbol} {word}: {mark(word).meaning}" for word in in_order(outcomes) if mark(word).meaning
    ]


def usual_evidence(rows: Iterable[Row]) -> Evidence:
    """What the ways that went well have shown: by its name and its value."""
    outcomes = (Outcome.of(value) for row in rows for value in row.values.values())
    return {
        (name, _hashable(value))
        for outcome in outcomes
        if mark(outcome.outcome).good
        for name, value in outcome.evidence.items()
    }


def _hashable(value: Any) -> Hashable:
    """JSON data as something that is equal to another one's exactly where the data are."""
    if isinstance(value, list):
        return "list", tuple(map(_hashable, value))
    if isinstance(value, dict):
        return "dict", frozenset((key, _hashable(item)) for key, item in value.items())
    one: Hashable = value
    return one


def telling(outcome: Outcome, usual: Evidence = frozenset()) -> str:
    """The evidence that matters, as one short text.

    Args:
        outcome: whose evidence it is.
        usual: of ways that went well, see `usual_evidence`; what these have shown, too, explains nothing.
    """
    wanted = TELLING.get(outcome.outcome, tuple(outcome.evidence))
    seen = {name: outcome.evidence[name] for name in wanted if name in outcome.evidence}
    remarkable = {name: value for name, value in seen.items() if (name, _hashable(value)) not in usual}
    shown = list((remarkable or seen or outcome.evidence).items())[:MOST_EVIDENCE]
    return "; ".join(f"{plain(name)}: {short(value, lines=False)}" for name, value in shown)


def repro_command(argument: str, scenario: str, way: str, width: int) -> str:
    """What prints the script of an outcome, on lines that can be copied to a shell as they are."""
    first, last = f"d2lparams repro {shlex.quote(argument)} {scenario}", shlex.quote(plain(way))
    return f"{first} {last}" if len(first) + 1 + len(last) <= width else f"{first} \\\n    {last}"


def _matrix(runs: Sequence[Run], rows: Sequence[Row], way: int, width: int) -> Table:
    """Ways down, frameworks across; with the expressions where a cell has room for them."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    heading = {"ways": "way", "files": "format", "claims": "claim"}[subject_of(rows)]
    table.add_column(heading, width=way, overflow="fold")
    for run in runs:
        title = wrap(run.title, width).replace("\n  ", "\n")
        table.add_column(text(title, "bold"), width=width, overflow="fold")
    for row in rows:
        table.add_row(text(wrap(row.observation, way)), *(_cell(row, run, width) for run in runs))
    return table


def _cell(row: Row, run: Run, width: int) -> Text:
    if run.name in row.absent:
        reason = absence(row.absent[run.name])
        return reason if len(reason) <= width else Text(reason.plain.replace("-", "-\n"), reason.style)
    outcome = Outcome.of(row.values[run.name])
    shown = Text.assemble((wrap(_word(outcome), width), mark(outcome.outcome).style))
    if width >= ROOMY_CELL and outcome.how:
        shown.append("\n" + wrap(plain(outcome.how), width), "dim")
    return shown


def by_company(rows: Iterable[Row], runs: Sequence[Run]) -> tuple[list[Row], list[Row]]:
    """The rows of ways that several frameworks have, and those of ways that one has alone."""
    common: list[Row] = []
    alone: list[Row] = []
    for row in rows:
        (alone if is_alone(row, runs) else common).append(row)
    return common, alone


def is_alone(row: Row, runs: Sequence[Run]) -> bool:
    """Whether one of several frameworks has this way, and the others have none or cannot do any of it."""
    without = [run for run in runs if row.absent.get(run.name) in ("not-applicable", "unsupported")]
    return len(runs) > 1 and len(without) == len(runs) - 1


def _own_ways(runs: Sequence[Run], rows: Sequence[Row], width: int) -> Table:
    """A line for each framework and outcome, which names the ways that no other framework has."""
    table = _pairs(min(max(cell_len(plain(run.title)) for run in runs) + len(" alone"), width // 3), above=1)
    for run in runs:
        ended = [(*_ending(row, run, rows), plain(row.observation)) for row in rows if run.name in row.values]
        if ended:
            table.add_row(text(f"{run.title} alone"), _by_word(ended, " · "))
    return table


def _lists(runs: Sequence[Run], rows: Sequence[Row], width: int) -> Table:
    """Each way with a line per outcome that names the frameworks; for screens where no table fits."""
    way = min(WIDEST_WAY, width // 3)
    table = _pairs(way)
    for row in rows:
        ended = [(*_ending(row, run, rows), plain(run.title)) for run in runs]
        table.add_row(text(wrap(row.observation, way)), _by_word(ended, ", "))
    return table


def _pairs(width: int, above: int = 0) -> Table:
    """Two columns without a frame, the first of this width, with so many lines above each row."""
    table = Table(box=None, padding=(above, 1, 0, 0), show_header=False)
    table.add_column(width=width, overflow="fold")
    table.add_column(overflow="fold")
    return table


def _ending(row: Row, run: Run, rows: Sequence[Row]) -> tuple[str, str | Style]:
    """How a way ended on a framework, or why there is nothing, and its style."""
    if run.name not in row.absent:
        outcome = Outcome.of(row.values[run.name])
        return _word(outcome), mark(outcome.outcome).style
    reason = row.absent[run.name]
    return nothing(rows) if reason == "not-applicable" else reason, absence(reason).style


def _by_word(ended: Iterable[tuple[str, str | Style, str]], between: str) -> Text:
    """A line for each word, with the names that it holds for, in the order in which words come first."""
    named: dict[str, list[str]] = {}
    styles = {}
    for word, style, name in ended:
        named.setdefault(word, []).append(name)
        styles[word] = style
    lines = [Text.assemble((word, styles[word]), f": {between.join(names)}") for word, names in named.items()]
    return Text("\n").join(lines)


def _flow(parts: Iterable[Text], width: int) -> list[Text]:
    """Parts beside each other where they fit, and below each other where they do not."""
    lines: list[Text] = []
    for part in parts:
        if lines and part and lines[-1].cell_len + 2 + part.cell_len <= width:
            lines[-1].append("  ").append_text(part)
        elif part:
            margin = " " * INDENT if lines else ""
            lines.append(Text(indent(wrap(part.plain, width - INDENT), margin), part.style) if lines else part)
    return lines


def _widths(comparison: Comparison, rows: Sequence[Row], width: int) -> tuple[int, int]:
    """Of the column of ways, and of a framework's cell."""
    columns = len(comparison.frameworks)
    way = min(width - columns * (NARROWEST_CELL + GAP), WIDEST_WAY, _longest(rows))
    return way, min((width - way) // columns - GAP, WIDEST_CELL)


def _longest(rows: Iterable[Row]) -> int:
    """What the longest way needs, or the heading."""
    return max(len("claim"), *(cell_len(plain(row.observation)) for row in rows))


def _word(outcome: Outcome) -> str:
    but = ", but" if "but" in outcome.evidence else ""
    return f"{mark(outcome.outcome).symbol} {plain(outcome.outcome)}{but}"


def subject_of(rows: Iterable[Row]) -> str:
    """What these are: "ways", "files" or "claims"."""
    return next(subject(Outcome.of(value).outcome) for row in rows for value in row.values.values())


def nothing(rows: Iterable[Row]) -> str:
    """What a dash in the matrix means."""
    return {
        "ways": "has no such way",
        "files": "has no such format",
        "claims": "the book says nothing on it there",
    }[subject_of(rows)]


def in_order(outcomes: Iterable[str]) -> list[str]:
    """From good to bad, those that nobody has foreseen behind them, and claims last."""
    known = list(OUTCOMES)
    subjects = ["ways", "files", "claims"]

    def place(one: str) -> tuple[int, int]:
        return subjects.index(subject(one)), known.index(one) if one in known else len(known)

    return sorted(outcomes, key=place)
