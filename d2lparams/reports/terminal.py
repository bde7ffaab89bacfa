"""The comparison for a terminal: a table per scenario, then a summary.

Where there is room, columns are the frameworks. Where there is not, each observation is a block with a line
per framework. Symbols say what colours say, so that nothing is lost without colour.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from d2lparams.comparison import Comparison, Row
from d2lparams.reports.values import plain, short, wrap
from d2lparams.results import Failure, Run, ScenarioResult, Status

# What a column needs to be read; with less, the blocks read better.
NARROWEST_CELL = 20
NAME_WIDTH = 26

VERDICTS = {
    "agree": ("✓", "green"),
    "disagree": ("✗", "bold red"),
    "unjudged": ("?", "yellow"),
    "same": ("=", "dim"),
    "differ": ("≠", "yellow"),
}
STATUS_STYLES: dict[Status, str] = {"ok": "green", "unsupported": "yellow", "not-run": "dim"}


class ComparisonView:
    """A comparison as something that rich prints; it takes the form that the width allows."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Every scenario, then the summary."""
        for result in self._comparison.scenarios:
            yield scenario_view(self._comparison, result, options.max_width)
            yield Text()
        yield summary(self._comparison)


def scenario_view(comparison: Comparison, result: ScenarioResult, width: int) -> RenderableType:
    """One scenario: a heading, and its rows as a table or as blocks, whichever the width allows."""
    heading = Text.assemble((result.title, "bold"), (f"  {result.section} · {result.name}", "dim"))
    rows = comparison.of(result.name)
    parts: list[RenderableType] = [Rule(heading, align="left", style="dim")]
    ended = list(_ended(comparison, result.name))
    if rows:
        # Between columns, and at both edges, the table has three characters of space.
        columns = len(comparison.columns)
        cell = (width - NAME_WIDTH - 1 - 3 * (columns + 2) - 1) // columns
        wide = cell >= NARROWEST_CELL
        parts.append(_table(comparison, rows, cell) if wide else _blocks(comparison, rows, width))
    if ended:
        parts.append(Padding(Group(*ended), (0, 2)))
    return Group(*parts)


def summary(comparison: Comparison) -> RenderableType:
    """What ran where, what agreed, what did not, and where the log of a failure is."""
    counts = comparison.counts
    columns = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for run in comparison.columns:
        columns.add_row(
            _text(run.name, "bold"),
            _text(versions(run) or "never started"),
            Text(f"Python {run.python}" if run.python else "-"),
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
    legend = Text("✓ agree   ✗ disagree   ≠ the frameworks differ   = they are the same", "dim")
    rule = Rule(Text("Summary", "bold"), align="left", style="dim")
    lines: list[RenderableType] = [rule, columns, verdicts, legend]
    for row in comparison.disagreements:
        for column, problem in row.problems.items():
            lines.append(_text(f"✗ {row.scenario}: {row.observation}: {column} {problem}", "red"))
    for run in comparison.columns:
        lines += _failures(run)
    if comparison.interrupted:
        lines.append(Text("Interrupted: what was known by then is shown.", "yellow"))
    return Group(*lines)


def versions(run: Run) -> str:
    """The framework's versions as its environment declares them; NumPy only where it is the framework."""
    shown = [f"{name} {version}" for name, version in run.versions.items() if name != "numpy"]
    return ", ".join(shown or [f"{name} {version}" for name, version in run.versions.items()])


def _table(comparison: Comparison, rows: list[Row], width: int) -> Table:
    """Rows are observations, columns the frameworks, each `width` characters wide."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", width=1)
    table.add_column("observation", width=NAME_WIDTH, overflow="fold")
    for run in comparison.columns:
        reference = " (reference)" if run.reference else ""
        heading = Text.assemble((plain(run.title), "bold"), reference, (f"\n{versions(run)}", "dim"))
        table.add_column(heading, width=width, overflow="fold")
    for row in rows:
        cells = [_cell(row, run, width) for run in comparison.columns]
        table.add_row(Text(*VERDICTS[row.verdict]), _text(row.observation), *cells)
    return table


def _cell(row: Row, run: Run, width: int, *, lines: bool = True) -> Text:
    if run.name in row.absent:
        return Text(row.absent[run.name], STATUS_STYLES.get(row.absent[run.name], "bold red"))
    text = short(row.values[run.name], lines=lines)
    if run.name in row.problems:
        return Text(wrap(f"✗ {text}\n{plain(row.problems[run.name])}", width), "bold red")
    if row.verdict == "agree" and not run.reference:
        brief = text if len(text) <= NARROWEST_CELL else "as the reference"
        return Text.assemble(("✓ ", "green"), (brief, "dim"))
    return Text(wrap(text, width), "yellow" if row.verdict == "differ" and not run.reference else "")


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
        symbol, name = Text(*VERDICTS[row.verdict]), _text(row.observation)
        if not row.absent and row.verdict in ("agree", "same"):
            value = short(row.values[shown[0].name], lines=False)
            table.add_row(symbol, name, Text(wrap(value, cell)))
            continue
        table.add_row(symbol, name, Text())
        for run in shown:
            table.add_row("", _text(f"  {run.title}"), _cell(row, run, cell, lines=False))
    return table


def _ended(comparison: Comparison, scenario: str) -> Iterator[Text]:
    """A line for each column where the scenario did not simply end well."""
    for run in comparison.columns:
        for result in run.scenarios:
            if result.name == scenario and result.status != "ok":
                style = STATUS_STYLES.get(result.status, "bold red")
                message = f": {plain(result.error.message)}" if result.error else ""
                yield Text.assemble(plain(run.title), " ", (result.status, style), message)


def _failures(run: Run) -> Iterator[RenderableType]:
    """What went wrong on a column: the sentence, the last lines, the command, and where the whole log is."""
    failed = [one for one in run.scenarios if one.status not in ("ok", "unsupported", "not-run")]
    if run.error and not failed:
        yield _text(f"{run.name}: {run.status}: {run.error.message}", "bold red")
        yield from _detail(run.error)
    for one in failed:
        message = one.error.message if one.error else "no more is known"
        yield _text(f"{run.name}: {one.name} {one.status}: {message}", "bold red")
        if one.error:
            yield from _detail(one.error)
    if (run.error or failed) and run.log:
        yield _text(f"  log: {run.log}", "dim")


def _detail(failure: Failure) -> Iterator[RenderableType]:
    if failure.command:
        yield _text(f"  command: {failure.command}", "dim")
    lines = failure.detail.strip().splitlines()
    if lines:
        yield Padding(_text("\n".join(lines[-6:]), "dim"), (0, 0, 0, 4))


def _text(content: str, style: str = "") -> Text:
    """Text from elsewhere: no markup in it counts, and no control character gets through."""
    return Text(plain(content), style)
