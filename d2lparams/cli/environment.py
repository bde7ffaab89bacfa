"""The commands under `d2lparams env`: which environments there are, to build them, to remove them."""

from typing import Annotated

import typer
from rich.text import Text

from d2lparams.cli.console import Columns, Jobs, Offline, errors, listing, output, run_columns, state
from d2lparams.columns import Column, adapters, parse_column

env = typer.Typer(help="The environments that the frameworks run in.", no_args_is_help=True)


@env.command("list")
def env_list() -> None:
    """Show which environments are there, and where."""
    from d2lparams.environments import cache_root, find, location

    table = listing("column", "state", "Python", "versions", "folder")
    for name, adapter in adapters().items():
        column = Column(name, adapter)
        found = find(column)
        table.add_row(
            Text(name, "bold"),
            state(found),
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
    runs, number = run_columns(asked, [], 60.0, jobs, offline, rebuild)
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
