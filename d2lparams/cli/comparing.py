"""The commands that run scenarios, or show what there is to run: compare, repro, list, schema."""

import os
import shlex
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from d2lparams.cli.console import (
    Columns,
    Form,
    Jobs,
    Offline,
    Seed,
    Timeout,
    errors,
    output,
    run_columns,
    state,
)
from d2lparams.cli.writing import STANDARD_OUTPUT, Output, targets, write, write_whole
from d2lparams.columns import (
    Column,
    UsageError,
    adapters,
    left_out,
    parse_column,
    parse_columns,
    parse_scenarios,
    parse_variation,
    unknown,
)
from d2lparams.scenarios.catalog import catalog

if TYPE_CHECKING:
    from d2lparams.cli.rows import Cell
    from d2lparams.reports.scripts import Way
    from d2lparams.results import Run


def compare(
    columns: Columns = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            "--scenario",
            "-s",
            metavar="NAME",
            help="Run only these: a scenario, a group, or a pattern such as 'tied-*'; may be repeated.",
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Run those scenarios, too, that take long; `list` marks them.")
    ] = False,
    to: Output = None,
    timeout: Timeout = 60.0,
    jobs: Jobs = None,
    offline: Offline = False,
    seed: Seed = 0,
    form: Form = "",
) -> None:
    """Run the scenarios on the frameworks, each in its own environment, and show them side by side.

    The reference, written in NumPy, always runs beside them. The first run builds the environments, which
    takes some minutes; after that they are used again.
    """
    places = targets(to or [])
    asked, chosen = parse_columns(columns or []), parse_scenarios(scenario or [], full=full)
    variation = parse_variation(seed, form)
    runs, number = run_columns(asked, chosen, timeout, jobs, offline, variation=variation)

    from d2lparams.comparison import compare_runs
    from d2lparams.reports.terminal import ComparisonView

    comparison = compare_runs(
        runs, scenarios=chosen, left_out=left_out(scenario or [], chosen), interrupted=bool(number)
    )
    written = write(comparison, places)
    try:
        if STANDARD_OUTPUT not in places:
            output.print(ComparisonView(comparison, {column.name: column.argument for column in asked}))
    except OSError:
        if not number:  # whoever ends a run by closing its terminal expects no screen
            raise
    if number:
        raise typer.Exit(128 + number)
    if not (comparison.ok and written):
        raise typer.Exit(1)


def repro(
    column: Annotated[str, typer.Argument(metavar="COLUMN", help="One column, for instance torch.")],
    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help="A scenario; or a group or a pattern.")],
    way: Annotated[str | None, typer.Argument(metavar="[WAY]", help="Default: all that have a script.")] = None,
    to: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Write a file for each way into this folder."),
    ] = None,
    timeout: Timeout = 60.0,
    offline: Offline = False,
    seed: Seed = 0,
    form: Form = "",
) -> None:
    """Print the program, in the framework alone, that shows what a way does.

    The scenario is run first. The programs go to standard output, so that `> repro.py` keeps them; the Python
    in `d2lparams env path COLUMN` runs them.
    """
    from d2lparams.reports.scripts import nothing_to_show, ways_of

    asked, folder = parse_column(column), _folder(to)
    variation, chosen = parse_variation(seed, form), parse_scenarios([scenario])
    (run,), number = run_columns([asked], chosen, timeout, None, offline, variation=variation)
    seen, whole = ways_of(run), _explain(run)
    ways = [one for one in seen if way in (None, one.name)]
    if whole and seen and not ways:
        raise UsageError(unknown("way", str(way), {one.name for one in seen}))
    scripts = [one for one in ways if one.script]
    written = _hand_over(scripts, folder)
    if scripts and written:
        path = f"$(d2lparams env path {shlex.quote(asked.argument)})"
        errors.print(Text(f"what runs this: {path}/bin/python"), soft_wrap=True)
    elif whole and not scripts:
        errors.print(Text(nothing_to_show(run, ways)), soft_wrap=True)
    if number:
        raise typer.Exit(128 + number)
    if not (whole and scripts and written):
        raise typer.Exit(1)


def list_() -> None:
    """Show the backends, with their versions and environments, and the scenarios."""
    from d2lparams.cli.rows import in_columns

    for rows in (_backends(), _scenarios()):
        output.print(in_columns(rows, output.width), soft_wrap=True)
        output.print()
    output.print(Text("-s takes names, groups and patterns such as 'tied-*'."))
    if any(one.full for one in catalog().values()):
        output.print(Text("(--full) takes long: it runs only with --full, or when -s asks for it."))


def _backends() -> "list[list[Cell]]":
    from d2lparams.cli.rows import Cell
    from d2lparams.environments import find

    rows = [[Cell(text) for text in ("backend", "framework", "versions", "environment", "also called")]]
    for name, adapter in adapters().items():
        environment = find(Column(name, adapter))
        versions = (
            environment.versions
            if environment
            else {f"{one.name}{one.specifier}": "" for one in adapter.requirements}
        )
        ready = state(environment)
        rows.append(
            [
                Cell(name, "bold"),
                Cell(adapter.title + ("\nthe reference" if adapter.reference else "")),
                Cell("\n".join(f"{one} {version}".strip() for one, version in versions.items())),
                Cell(ready.plain, str(ready.style)),
                Cell("\n".join(adapter.aliases)),
            ]
        )
    return rows


def _scenarios() -> "list[list[Cell]]":
    from d2lparams.cli.rows import Cell

    rows = [[Cell(text) for text in ("scenario", "section", "what it shows")]]
    for group, ones in groupby(catalog().values(), lambda one: one.group):
        rows += [[]] * (len(rows) > 1) + [[Cell(f"-s {group}", "cyan")]]
        for one in ones:
            title = Cell(f"{one.title} (--full)", "yellow") if one.full else Cell(one.title)
            rows.append([Cell(one.name, "bold"), Cell(one.section), title])
    return rows


def schema() -> None:
    """Print the JSON Schema of what `compare --output` writes."""
    import json

    from d2lparams.reports.document import schema as document_schema

    print(json.dumps(document_schema(), indent=2))  # noqa: T201  (plain text, whatever the width)


def _explain(run: "Run") -> bool:
    """Whether every scenario ended well; where not, what went wrong is said."""
    from d2lparams.reports.marks import text
    from d2lparams.reports.terminal import failures

    for line in failures(run):
        errors.print(line, soft_wrap=True)
    unsupported = [one for one in run.scenarios if one.status == "unsupported"]
    for one in unsupported:
        reason = one.error.message if one.error else "it does not say why"
        errors.print(text(f"{run.name}: {one.name} unsupported: {reason}", "yellow"), soft_wrap=True)
    return run.status == "ok" and not unsupported


def _hand_over(ways: "list[Way]", folder: Path | None) -> bool:
    """Print the scripts as they are, or write them. False when that failed, which is said."""
    from d2lparams.reports.scripts import in_files, in_one

    if folder is None:
        print(in_one(ways), end="")  # noqa: T201  (a program, whatever the width)
        return True
    for name, program in in_files(ways).items():
        if not write_whole(folder / name, program.encode()):
            return False
        output.print(Text(f"wrote {folder / name}"), soft_wrap=True)
    return True


def _folder(text: str | None) -> Path | None:
    """Where scripts are to be written; checked before the work, not after it."""
    if text is None:
        return None
    if not Path(text).is_dir():
        raise UsageError(f"cannot write to {text}: there is no such folder")
    if not os.access(text, os.W_OK):
        raise UsageError(f"cannot write to {text}: the folder cannot be written to")
    return Path(text)
