"""The comparison for a terminal: tables for each scenario, group by group, then a summary.

Where there is room, columns are the frameworks. Where there is not, each observation is a block with a line
per framework. Outcomes are a matrix in any width, see `matrix`. Symbols say what colours say, so that nothing
is lost without colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from d2lparams.comparison import Comparison, Row
from d2lparams.reports.marks import STATUS_STYLES, VERDICTS, absence, text, variations
from d2lparams.reports.matrix import details_view, matrix_view, outcome_counts, outcome_legend
from d2lparams.reports.values import plain, short, wrap
from d2lparams.results import Failure, Run, ScenarioResult, release

# What a column needs to be read; with less, the blocks read better.
NARROWEST_CELL = 20
NAME_WIDTH = 26

MEANINGS = {
    "agree": "agree",
    "disagree": "disagree",
    "unjudged": "nothing to hold it against",
    "differ": "the frameworks differ",
    "same": "they are the same",
}


class ComparisonView:
    """A comparison as something that rich prints; it takes the form that the width allows.

    Args:
        comparison: what is shown.
        arguments: what the command calls a column, where that is not its name; for the commands that are shown.
    """

    def __init__(self, comparison: Comparison, arguments: Mapping[str, str] = {}) -> None:
        self._comparison = comparison
        self._arguments = arguments

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Every scenario, under the heading of its group where there are several, then the summary."""
        groups = self._comparison.groups
        several, before = len(set(groups.values())) > 1, None
        for result in self._comparison.scenarios:
            group = groups.get(result.name)
            if several and group != before:
                yield Rule(text(group or "", "bold"), align="left", characters="━", style="dim")
                yield Text()
            before = group
            yield scenario_view(self._comparison, result, options.max_width, self._arguments)
            yield Text()
        yield summary(self._comparison, options.max_width)


def scenario_view(
    comparison: Comparison, result: ScenarioResult, width: int, arguments: Mapping[str, str] = {}
) -> RenderableType:
    """One scenario: a heading, its rows as a table or as blocks, and its outcomes."""
    heading = Text.assemble(
        (plain(result.title), "bold"), (plain(f"  {result.section} · {result.name}"), "dim")
    )
    outcomes = [row for row in comparison.of(result.name) if row.kind == "outcome"]
    rows = [row for row in comparison.of(result.name) if row.kind in ("invariant", "trait")]
    parts: list[RenderableType] = [Rule(heading, align="left", style="dim")]
    ended = list(_ended(comparison, result.name))
    if rows:
        # Between columns, and at both edges, the table has three characters of space.
        columns = len(comparison.columns)
        cell = (width - NAME_WIDTH - 1 - 3 * (columns + 2) - 1) // columns
        wide = cell >= NARROWEST_CELL
        parts.append(_table(comparison, rows, cell) if wide else _blocks(comparison, rows, width))
    if outcomes:
        parts += [Text()] if rows else []
        parts.append(matrix_view(comparison, outcomes, width))
    if ended:
        parts.append(Padding(Group(*ended), (0, 2)))
    if outcomes and (details := details_view(comparison, outcomes, width, arguments)):
        parts += [Text(), details]
    return Group(*parts)


def summary(comparison: Comparison, width: int = 80) -> RenderableType:
    """What ran where, what agreed, what did not, what was left out, and where the log of a failure is."""
    counts = comparison.counts
    columns = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for run in comparison.columns:
        columns.add_row(
            text(run.name, "bold"),
            text(versions(run) or "never started"),
            text(f"Python {run.python}" if run.python else "-"),
            Text(f"{run.seconds:.1f} s", "dim"),
            Text(run.status, STATUS_STYLES.get(run.status, "bold red")),
        )
    verdicts = Text("invariants: ")
    verdicts.append(f"{counts['agree']} agree", "green")
    verdicts.append(", ")
    verdicts.append(f"{counts['disagree']} disagree", "bold red" if counts["disagree"] else "")
    if counts["unjudged"]:
        verdicts.append(f", {counts['unjudged']} had no reference to be held against", "yellow")
    verdicts.append(f"; traits: {counts['differ']} different, {counts['same']} the same")
    rule = Rule(Text("Summary", "bold"), align="left", style="dim")
    varied = [text(line) for line in variations(comparison.columns)]
    lines: list[RenderableType] = [rule, columns, *varied, verdicts, *outcome_counts(comparison.outcomes)]
    lines += [Text(line, "dim") for line in _lines(_legend(comparison), width)]
    for row in comparison.disagreements:
        for column, problem in row.problems.items():
            lines.append(text(f"✗ {row.scenario}: {row.observation}: {column} {problem}", "red"))
    for run in comparison.columns:
        lines += failures(run)
    if drawings := sum(row.kind == "drawing" for row in comparison.rows):
        lines.append(
            Text(f"not shown here: {drawings} drawing{'s' * (drawings != 1)}; see `--output report.html`")
        )
    if comparison.left_out:
        number = len(comparison.left_out)
        which = f"{number} scenarios that take long" if number > 1 else "1 scenario that takes long"
        lines.append(Text(f"left out: {which}; `d2lparams compare --full` runs all"))
    if comparison.interrupted:
        lines.append(Text("Interrupted: what was known by then is shown.", "yellow"))
    return Group(*lines)


def versions(run: Run) -> str:
    """The framework's versions as its environment declares them; NumPy only where it is the framework."""
    return release(run.versions)


def failures(run: Run) -> Iterator[RenderableType]:
    """What went wrong on a column: the sentence, the last lines, the command, and where the whole log is."""
    failed = [one for one in run.scenarios if one.status not in ("ok", "unsupported", "not-run")]
    if run.error and not failed:
        yield text(f"{run.name}: {run.status}: {run.error.message}", "bold red")
        yield from _detail(run.error)
    for one in failed:
        message = one.error.message if one.error else "no more is known"
        yield text(f"{run.name}: {one.name} {one.status}: {message}", "bold red")
        if one.error:
            yield from _detail(one.error)
    if (run.error or failed) and run.log:
        yield text(f"  log: {run.log}", "dim")


def _table(comparison: Comparison, rows: list[Row], width: int) -> Table:
    """Rows are observations, columns the frameworks, each `width` characters wide."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", width=1)
    table.add_column("observation", width=NAME_WIDTH, overflow="fold")
    for run in comparison.columns:
        reference = " (reference)" if run.reference else ""
        heading = Text.assemble((plain(run.title), "bold"), reference, (plain(f"\n{versions(run)}"), "dim"))
        table.add_column(heading, width=width, overflow="fold")
    for row in rows:
        judged = comparison.is_judged(row)
        cells = [_cell(row, run, width, judged) for run in comparison.columns]
        table.add_row(Text(*VERDICTS[row.verdict]), text(row.observation), *cells)
    return table


def _cell(row: Row, run: Run, width: int, judged: bool, *, lines: bool = True) -> Text:
    if run.name in row.absent:
        return absence(row.absent[run.name])
    value = short(row.values[run.name], lines=lines)
    if run.name in row.problems:
        return Text(wrap(f"✗ {value}\n{plain(row.problems[run.name])}", width), "bold red")
    if row.verdict == "agree" and not run.reference:
        brief = value if len(value) <= NARROWEST_CELL else "as the reference" if judged else "as it must be"
        return Text.assemble(("✓ ", "green"), (brief, "dim"))
    return Text(wrap(value, width), "yellow" if row.verdict == "differ" and not run.reference else "")


def _blocks(comparison: Comparison, rows: list[Row], width: int) -> Table:
    """Each observation with a line per framework; one line where there is one thing to say."""
    cell = max(width - NAME_WIDTH - 4, 10)
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    table.add_column(width=1)
    table.add_column(width=NAME_WIDTH, overflow="fold")
    table.add_column(overflow="fold")
    for row in rows:
        # A trait is the frameworks'; the reference is shown only where there is no other.
        shown = [run for run in comparison.columns if row.kind == "invariant" or not run.reference]
        shown = shown or comparison.columns
        symbol, name = Text(*VERDICTS[row.verdict]), text(row.observation)
        if not row.absent and row.verdict in ("agree", "same"):
            value = short(row.values[shown[0].name], lines=False)
            table.add_row(symbol, name, Text(wrap(value, cell)))
            continue
        table.add_row(symbol, name, Text())
        judged = comparison.is_judged(row)
        for run in shown:
            table.add_row("", text(f"  {run.title}"), _cell(row, run, cell, judged, lines=False))
    return table


def _ended(comparison: Comparison, scenario: str) -> Iterator[Text]:
    """A line for each column where the scenario did not simply end well."""
    for run in comparison.columns:
        result = comparison.result(scenario, run.name)
        if result and result.status != "ok":
            style = STATUS_STYLES.get(result.status, "bold red")
            message = f": {plain(result.error.message)}" if result.error else ""
            yield Text.assemble(plain(run.title), " ", (result.status, style), message)


def _detail(failure: Failure) -> Iterator[RenderableType]:
    if failure.command:
        yield text(f"  command: {failure.command}", "dim")
    lines = failure.detail.strip().splitlines()
    if lines:
        yield Padding(text("\n".join(lines[-6:]), "dim"), (0, 0, 0, 4))


def _legend(comparison: Comparison) -> list[str]:
    """The symbols that are used, and what they mean."""
    verdicts = {row.verdict for row in comparison.rows if row.kind != "outcome"}
    meanings = [
        f"{VERDICTS[verdict][0]} {meaning}" for verdict, meaning in MEANINGS.items() if verdict in verdicts
    ]
    return meanings + outcome_legend(comparison.outcomes)


def _lines(items: Iterable[str], width: int) -> list[str]:
    """Items beside each other, three spaces between them, in lines of that width; no item is broken."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + 3 + len(item) <= width:
            lines[-1] += f"   {item}"
        else:
            lines.append(item)
    return lines
