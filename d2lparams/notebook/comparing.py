"""A cell, run as a scenario on several columns, and what is said where it did not end well."""

from __future__ import annotations

import ast
import html
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from d2lparams.comparison import Comparison, compare_runs
from d2lparams.notebook.arguments import CompareOptions
from d2lparams.reports.values import plain
from d2lparams.results import Failure, Run
from d2lparams.runner import Interrupted, run
from d2lparams.scenarios import Scenario, own_cell
from d2lparams.watcher import Event
from d2lparams.workers import Workers

WELL = ("ok", "unsupported", "not-run")


class Cell(NamedTuple):
    """A cell that can be run.

    Attributes:
        scenario: what it is called, and what it asks.
        source: its code.
        filename: what tracebacks call it.
    """

    scenario: Scenario
    source: str
    filename: str


def scenario_of(source: str, filename: str, title: str | None = None) -> Cell:
    """A cell as a scenario; a text at its top is the question.

    Args:
        source: of the cell; its lines are counted from its first one.
        filename: what tracebacks call it.
        title: in one line; when there is none, the cell is called as tracebacks call it.

    Raises:
        SyntaxError: when the cell is no Python; nothing of it is run here.
    """
    tree = ast.parse(source, filename)
    compile(source, filename, "exec", dont_inherit=True)  # a `return` at the margin can be parsed
    question = ast.get_docstring(tree) or ""
    title = title or filename.strip("<>").capitalize()
    return Cell(Scenario("cell", "6.2", title, question, own_cell.cell, "notebook"), source, filename)


def compare_cell(
    cell: Cell,
    options: CompareOptions,
    on_event: Callable[[Event], None],
    workers: Workers | None = None,
) -> Comparison:
    """Run a cell on each column, and put the results side by side.

    Args:
        cell: what to run.
        options: where, and how.
        on_event: is told of progress.
        workers: where the processes come from.

    Returns:
        The comparison; an interrupted one, where the user stopped it.
    """
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="d2lparams-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "cell.py"
        file.write_text(cell.source, encoding="utf-8")
        try:
            runs = run(
                options.columns,
                [cell.scenario],
                timeout=options.timeout,
                offline=options.offline,
                on_event=on_event,
                scenario_file=Path(own_cell.__file__),
                given={"source": str(file), "filename": cell.filename},
                workers=workers,
            )
        except Interrupted as stopped:
            runs, interrupted = stopped.runs, True
    return compare_runs(runs, scenarios=[cell.scenario], interrupted=interrupted)


def failures(runs: Iterable[Run]) -> dict[str, str] | None:
    """Why the cell did not end well on some columns, by MIME type; None where it did on all.

    Columns on which it went wrong in the same way are named together.
    """
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for one in runs:
        cell = one.scenarios[0]
        if cell.status in WELL and (one.status in WELL or one.error is None):
            continue
        wrong = one if cell.status in WELL else cell
        error = wrong.error or Failure("no more is known")
        log = one.log if wrong.status != "failed" and one.log else ""
        found.setdefault((wrong.status, error.message, error.detail.strip(), log), []).append(one.title)
    if not found:
        return None
    texts, blocks = [], []
    for (how, message, detail, log), titles in found.items():
        head = f"✗ {', '.join(titles)}: {how}: {plain(message)}"
        rest = "\n".join([*([plain(detail)] if detail else []), *([f"log: {log}"] if log else [])])
        texts.append(f"{head}\n{rest}".rstrip())
        blocks.append(
            f'<p style="margin:.5em 0 .25em"><b>{html.escape(head)}</b></p>'
            f'<pre style="margin:0;white-space:pre-wrap;overflow-wrap:anywhere">{html.escape(rest)}</pre>'
        )
    frame = "border-left:3px solid #d1495b;padding:.1em 0 .1em .8em;margin:.5em 0"
    return {
        "text/plain": "\n\n".join(texts),
        "text/html": f'<div role="alert" style="{frame}">{"".join(blocks)}</div>',
    }
