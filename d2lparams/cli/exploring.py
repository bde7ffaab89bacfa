"""The command that searches a framework for what nobody has thought of: explore."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from d2lparams.cli.console import HEED, Offline, errors, output
from d2lparams.columns import UsageError, parse_column

if TYPE_CHECKING:
    from d2lparams.exploring.column import ExploredColumn
    from d2lparams.exploring.scripting import Script
    from d2lparams.exploring.searching import Finding, Search


def explore(
    column: Annotated[str, typer.Argument(metavar="COLUMN", help="As for compare; also numpy.")],
    minutes: Annotated[float, typer.Option("--minutes", "-m", min=0.01, help="How long to search.")] = 5.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same search.")] = 0,
    to: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where the scripts of findings are written."),
    ] = Path("findings"),
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Limit of one operation.")
    ] = 60.0,
    offline: Offline = False,
) -> None:
    """Search a framework with random models and random sequences of what is done to them.

    Each is held against what must hold: ties, values, output, gradients, steps. What does not is made as small
    as it gets, shown, and written as a script. What is known of the framework is counted, and not told again.
    """
    import tempfile

    from d2lparams.environments import InstallFailed
    from d2lparams.exploring.column import CannotStart, ExploredColumn
    from d2lparams.exploring.searching import search
    from d2lparams.interrupts import interrupts

    asked = parse_column(column)
    _check(to)
    with interrupts(HEED) as interrupted, tempfile.TemporaryDirectory(prefix="d2lparams-") as scratch:
        stop, log = _Stop(interrupted), Path(scratch) / "log"
        try:
            with (
                errors.status("") as status,
                ExploredColumn(
                    asked,
                    timeout=timeout,
                    stop=stop,
                    log=log,
                    offline=offline,
                    progress=lambda line: status.update(f"{asked.name}: {line}"),
                ) as explored,
            ):
                told = 0

                def tell(so_far: "Search") -> None:
                    nonlocal told
                    status.update(_line(asked.name, so_far))
                    for finding in so_far.found[told:]:
                        told += 1
                        _show(finding, explored, to, told, shown=not interrupted())

                found = search(
                    explored,
                    asked.adapter.name,
                    explored.offer,
                    seed=seed,
                    seconds=60 * minutes,
                    stopped=stop.is_set,
                    tell=tell,
                )
        except InstallFailed as error:
            errors.print(Text(f"{asked.name}: {error.failure.message}\n  log: {error.log}"), soft_wrap=True)
            raise typer.Exit(1) from None
        except CannotStart as error:
            errors.print(Text(f"{error}\n{_tail(log)}"), soft_wrap=True)
            raise typer.Exit(1) from None
        _sum_up(asked.name, found)
        if number := interrupted():
            raise typer.Exit(128 + number)
    if found.found:
        raise typer.Exit(1)


class _Stop(threading.Event):
    """Set as soon as there was an interrupt."""

    def __init__(self, interrupted: Callable[[], int]) -> None:
        super().__init__()
        self._interrupted = interrupted

    def is_set(self) -> bool:
        return bool(self._interrupted())


def _check(folder: Path) -> None:
    """Whether scripts can be written there; checked before the work, not after it."""
    there = folder if folder.exists() else folder.absolute().parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UsageError(f"cannot write to {folder}: it is no folder, or cannot be written to")


def _show(finding: "Finding", column: "ExploredColumn", folder: Path, number: int, *, shown: bool) -> None:
    """A finding in full, with its script where there is time to run one."""
    from d2lparams.exploring.judging import MUST
    from d2lparams.exploring.scripting import write_script

    deviation = finding.deviation
    lines = [
        Text(
            f"{number}. {column.column.adapter.title} {column.version}: {deviation.way or deviation.operation}",
            "bold",
        ),
        *(Text(f"   {line}") for line in str(finding.program).splitlines()),
        Text.assemble(("   must hold  ", "green"), MUST[deviation.violated]),
        Text.assemble(("   seen       ", "red"), f"{deviation.operation}: {deviation.seen}"),
    ]
    if not finding.shrunk:
        lines.append(Text("   not made as small as it gets: time was up", "yellow"))
    if shown:
        folder.mkdir(exist_ok=True)
        lines.append(_told(write_script(finding, column, folder, number)))
    if not finding.alone:
        lines.append(Text("   not seen each time: it hangs on what was run before", "yellow"))
    for line in lines:
        output.print(line, soft_wrap=True)
    output.print()


def _told(script: "Script") -> Text:
    whose = "the framework alone" if script.own else "by d2lparams' adapter"
    told = "shows it" if script.shows else "does NOT show it by itself"
    said = f"; {script.last_line}" if script.last_line else ""
    return Text(
        f"   script     {script.path} ({whose}) {told}: {script.ended}{said}", "" if script.shows else "yellow"
    )


def _line(name: str, so_far: "Search") -> str:
    return f"{name}: {so_far.ran} programs run, {len(so_far.found)} new findings"


def _sum_up(name: str, found: "Search") -> None:
    for one, times in found.known.most_common():
        violated = ", ".join(one.violated)
        output.print(Text(f"known, seen {times} times: {one.way} ({violated}): {one.why}"), soft_wrap=True)
    output.print(Text(_line(name, found), "bold"), soft_wrap=True)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
