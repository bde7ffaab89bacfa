"""What commands share: where they write, how they complain, options of several of them, runs with progress."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from d2lparams.columns import Column, UsageError
from d2lparams.variation import FORMS

if TYPE_CHECKING:
    from rich.table import Table

    from d2lparams.environments import Environment
    from d2lparams.reports.progress import Progress
    from d2lparams.results import Run
    from d2lparams.scenarios import Scenario
    from d2lparams.variation import Variation

output = Console()


class _Errors(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads what is said beside the results. Rich would end the thread that says it."""
        self.quiet = True


errors = _Errors(stderr=True)

HEED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A shutdown or a closed terminal ends a run as Ctrl-C does: nothing is left behind or lost."""

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
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Draw other numbers; 0 is as always.")]
Form = Annotated[
    str, typer.Option("--form", help=f"Other models and numbers: {', '.join(FORMS)}. Default: the book's.")
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Columns that run at once. Default: one a core.")
]


def complain(sentence: str) -> None:
    """Say what is wrong, in one sentence, on standard error; where that cannot be written, nobody is there."""
    with suppress(OSError):
        errors.print(Text.assemble(("Error: ", "bold red"), sentence), soft_wrap=True)


def state(environment: Environment | None) -> Text:
    """Whether there is an environment."""
    return Text("ready", "green") if environment else Text("not built", "yellow")


def listing(*headings: str) -> Table:
    """A table without lines, in which nothing is cut off."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def run_columns(
    columns: list[Column],
    scenarios: Iterable[Scenario],
    timeout: float,
    jobs: int | None,
    offline: bool,
    rebuild: bool = False,
    variation: Variation | None = None,
) -> tuple[list[Run], int]:
    """The runs, and the number of the signal that ended them early, or 0. Progress is shown meanwhile."""
    from d2lparams.runner import Interrupted, run

    chosen = list(scenarios)
    try:
        with shown([one.name for one in columns], [one.name for one in chosen]) as progress:
            runs = run(
                columns,
                chosen,
                timeout=timeout,
                jobs=jobs,
                offline=offline,
                rebuild=rebuild,
                on_event=progress,
                variation=variation,
                heed=HEED,
            )
    except Interrupted as interrupted:
        return interrupted.runs, interrupted.signal_number
    return runs, 0


@contextmanager
def shown(columns: Sequence[str], scenarios: Sequence[str]) -> Iterator[Progress]:
    """Show the progress of a run. Without a place for its logs there is none, which is the user's to mend."""
    from d2lparams.reports.progress import Progress

    try:
        with Progress(errors, columns, scenarios) as progress:
            yield progress
    except OSError as error:
        raise UsageError(
            f"cannot write to the cache folder: {error}; set D2LPARAMS_CACHE to another one"
        ) from None
