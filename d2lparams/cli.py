"""The command `d2lparams`: reads what the user asked for, and shows what came out.

Results go to standard output, progress and errors to standard error. Exit code 0: everything ran and every
invariant agrees; 1: an invariant disagrees, or a column or a scenario failed, or there is nothing to show; 2:
bad usage; 128 and the number of the signal: interrupted.

Modules are imported by the commands that need them, so that `--help` and a usage error come at once.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import d2lparams
from d2lparams.columns import (
    Column,
    UsageError,
    adapters,
    left_out,
    parse_column,
    parse_columns,
    parse_scenarios,
    unknown,
)
from d2lparams.scenarios import scenarios as all_scenarios

if TYPE_CHECKING:
    from d2lparams.comparison import Comparison
    from d2lparams.environments import Environment
    from d2lparams.reports.scripts import Way
    from d2lparams.results import Run
    from d2lparams.scenarios import Scenario

app = typer.Typer(
    name="d2lparams",
    help="Parameter management on PyTorch, MXNet, JAX/Flax and TensorFlow/Keras, side by side, run for real.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
env = typer.Typer(help="The environments that the frameworks run in.", no_args_is_help=True)
app.add_typer(env, name="env")

output = Console()
errors = Console(stderr=True)

Columns = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[COLUMN]...", help="torch, mxnet, jax, tensorflow, or a backend's file. Default: all."
    ),
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.001, metavar="SECONDS", help="Limit of one scenario on one column.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Use only what is on this machine.")]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Columns that run at once. Default: one a core.")
]


def main() -> None:
    """The entry point: turns what the user or the machine got wrong into one sentence."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except UsageError as error:
        _complain(str(error))
        sys.exit(2)
    except OSError as error:
        # What is still buffered cannot be written either, and must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # the reader (`| head`) has seen enough
            _complain(str(error))
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if version:
        output.print(f"d2lparams {d2lparams.__version__}", highlight=False)
        raise typer.Exit


@app.command()
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
    to: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write it as .json, or as a picture, .svg; - is JSON on standard output.",
        ),
    ] = None,
    timeout: Timeout = 60.0,
    jobs: Jobs = None,
    offline: Offline = False,
) -> None:
    """Run the scenarios on the frameworks, each in its own environment, and show them side by side.

    The reference, written in NumPy, always runs beside them. The first run builds the environments, which
    takes some minutes; after that they are used again.
    """
    from d2lparams.comparison import compare_runs
    from d2lparams.reports.terminal import ComparisonView

    target = _target(to)
    asked, chosen = parse_columns(columns or []), parse_scenarios(scenario or [], full=full)
    runs, number = _run(asked, chosen, timeout, jobs, offline)
    comparison = compare_runs(
        runs, scenarios=chosen, left_out=left_out(scenario or [], chosen), interrupted=bool(number)
    )
    written = _write(comparison, target)
    if target != Path("-"):
        output.print(ComparisonView(comparison, {column.name: column.argument for column in asked}))
    if number:
        raise typer.Exit(128 + number)
    if not (comparison.ok and written):
        raise typer.Exit(1)


@app.command()
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
) -> None:
    """Print the program, in the framework alone, that shows what a way does.

    The scenario is run first. The programs go to standard output, so that `> repro.py` keeps them; the Python
    in `d2lparams env path COLUMN` runs them.
    """
    from d2lparams.reports.scripts import nothing_to_show, ways_of

    asked, folder = parse_column(column), _folder(to)
    (run,), number = _run([asked], parse_scenarios([scenario]), timeout, None, offline)
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


@app.command(name="list")
def list_() -> None:
    """Show the backends, with their versions and environments, and the scenarios."""
    from d2lparams.environments import find

    backends = _listing("backend", "framework", "versions", "environment", "also called")
    for name, adapter in adapters().items():
        environment = find(Column(name, adapter))
        versions = (
            environment.versions
            if environment
            else {f"{one.name}{one.specifier}": "" for one in adapter.requirements}
        )
        backends.add_row(
            Text(name, "bold"),
            adapter.title + ("\nthe reference" if adapter.reference else ""),
            "\n".join(f"{one} {version}".strip() for one, version in versions.items()),
            _state(environment),
            "\n".join(adapter.aliases),
        )
    scenarios, group = _listing("scenario", "section", "what it shows"), None
    for one in all_scenarios().values():
        if one.group != group:
            if group:
                scenarios.add_row()
            scenarios.add_row(Text(f"-s {one.group}", "cyan"))
            group = one.group
        title = Text(one.title).append(" (--full)" if one.full else "", "yellow")
        scenarios.add_row(Text(one.name, "bold"), one.section, title)
    output.print(backends, "", scenarios, "")
    output.print(Text("-s takes names, groups and patterns such as 'tied-*'."))
    if any(one.full for one in all_scenarios().values()):
        output.print(Text("(--full) takes long: it runs only with --full, or when -s asks for it."))


@app.command()
def schema() -> None:
    """Print the JSON Schema of what `compare --output` writes."""
    import json

    from d2lparams.reports.document import schema as document_schema

    print(json.dumps(document_schema(), indent=2))  # noqa: T201  (plain text, whatever the width)


@env.command("list")
def env_list() -> None:
    """Show which environments are there, and where."""
    from d2lparams.environments import cache_root, find, location

    table = _listing("column", "state", "Python", "versions", "folder")
    for name, adapter in adapters().items():
        column = Column(name, adapter)
        found = find(column)
        table.add_row(
            Text(name, "bold"),
            _state(found),
            found.python_version if found else adapter.requires_python,
            "\n".join(f"{one} {version}" for one, version in found.versions.items()) if found else "",
            location(column).name,
        )
    output.print(table)
    output.print(Text(f"\nin {cache_root() / 'envs'}"), soft_wrap=True)


@env.command("path")
def env_path(column: Annotated[str, typer.Argument(help="The column, for instance torch.")]) -> None:
    """Print the folder of a column's environment; its interpreter is bin/python in it."""
    from d2lparams.environments import find

    found = find(parse_column(column))
    if found is None:
        errors.print(
            f"{column} has no environment yet; `d2lparams env build {column}` makes one", soft_wrap=True
        )
        raise typer.Exit(1)
    print(found.path)  # noqa: T201  (for `$(...)`, so without wrapping)


@env.command("build")
def env_build(
    columns: Columns = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build anew what is there already.")] = False,
    jobs: Jobs = None,
    offline: Offline = False,
) -> None:
    """Build environments ahead of the first run."""
    from d2lparams.reports.terminal import versions

    asked = [parse_column(text) for text in columns or adapters()]
    runs, number = _run(asked, [], 60.0, jobs, offline, rebuild)
    for run in runs:
        if run.error:
            command = f"\n  command: {run.error.command}" if run.error.command else ""
            log = f"\n  log: {run.log}" if run.log else ""
            errors.print(f"{run.name}: {run.error.message}{command}{log}", soft_wrap=True, markup=False)
        else:
            output.print(Text(f"{run.name}: ready, {versions(run)}, Python {run.python}"))
    if number:
        raise typer.Exit(128 + number)
    if any(run.error for run in runs):
        raise typer.Exit(1)


@env.command("clean")
def env_clean(columns: Columns = None) -> None:
    """Remove environments: the named ones, or without a name all of them, leftovers included."""
    from d2lparams.environments import clean

    removed = clean([parse_column(text) for text in columns] if columns else None)
    for path in removed:
        output.print(Text(f"removed {path}"), soft_wrap=True)
    if not removed:
        output.print("there was nothing to remove", highlight=False)


def _complain(sentence: str) -> None:
    errors.print(Text.assemble(("Error: ", "bold red"), sentence), soft_wrap=True)


def _state(environment: Environment | None) -> Text:
    return Text("ready", "green") if environment else Text("not built", "yellow")


def _listing(*headings: str) -> Table:
    """A table without lines, in which nothing is cut off."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _run(
    columns: list[Column],
    scenarios: Iterable[Scenario],
    timeout: float,
    jobs: int | None,
    offline: bool,
    rebuild: bool = False,
) -> tuple[list[Run], int]:
    """The runs, and the number of the signal that ended them early, or 0. Progress is shown meanwhile."""
    from d2lparams.reports.progress import Progress
    from d2lparams.runner import Interrupted, run

    chosen = list(scenarios)
    try:
        with Progress(errors, [one.name for one in columns], [one.name for one in chosen]) as progress:
            runs = run(
                columns,
                chosen,
                timeout=timeout,
                jobs=jobs,
                offline=offline,
                rebuild=rebuild,
                on_event=progress,
                # A shutdown or a closed terminal ends a run as Ctrl-C does: nothing is left behind or lost.
                heed=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
            )
    except Interrupted as interrupted:
        return interrupted.runs, interrupted.signal_number
    except OSError as error:
        raise UsageError(
            f"cannot write to the cache folder: {error}; set D2LPARAMS_CACHE to another one"
        ) from None
    return runs, 0


def _explain(run: Run) -> bool:
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


def _hand_over(ways: list[Way], folder: Path | None) -> bool:
    """Print the scripts as they are, or write them. False when that failed, which is said."""
    from d2lparams.reports.scripts import in_files, in_one

    if folder is None:
        print(in_one(ways), end="")  # noqa: T201  (a program, whatever the width)
        return True
    for name, program in in_files(ways).items():
        try:
            (folder / name).write_text(program, encoding="utf-8")
        except OSError as error:
            _complain(f"could not write {folder / name}: {error}")
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


def _target(text: str | None) -> Path | None:
    """Where the comparison is to be written; checked before the work, not after it."""
    if text is None or text == "-":
        return None if text is None else Path("-")
    path = Path(text)
    if path.suffix not in (".json", ".svg"):
        raise UsageError(f"cannot write {text}: name a file that ends in .json, or in .svg for a picture")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {text}: there is no folder {path.parent}")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"cannot write {text}: it is a folder, or its folder cannot be written to")
    return path


def _write(comparison: Comparison, target: Path | None) -> bool:
    """Write the document, whole or not at all. False when that failed, which is said."""
    from d2lparams.reports.document import to_json
    from d2lparams.reports.picture import to_svg

    if target is None:
        return True
    if target == Path("-"):
        sys.stdout.buffer.write(to_json(comparison))
        sys.stdout.flush()
        return True
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        document = to_svg(comparison).encode() if target.suffix == ".svg" else to_json(comparison)
        partial.write_bytes(document)
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        _complain(f"could not write {target}: {error}")
        return False
    return True
