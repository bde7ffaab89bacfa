"""The command `d2lparams`: reads what the user asked for, and shows what came out.

Results go to standard output, progress and errors to standard error. Exit code 0: everything ran and every
invariant agrees; 1: an invariant disagrees, or a column or a scenario failed, or there is nothing to show; 2:
bad usage; 128 and the number of the signal: interrupted.

Modules are imported by the commands that need them, so that `--help` and a usage error come at once. Help is
plain text, for typer's other kind loads a reader of Markdown. And the modules of commands write annotations as
they are, without `from __future__ import annotations`: of text, typer would compile each, each time.
"""

import os
import signal
import sys
from typing import Annotated

import typer

import d2lparams
from d2lparams.cli import comparing, conventions, converting, exploring, files, reporting, transferring
from d2lparams.cli.console import HEED, complain, output
from d2lparams.cli.environment import env
from d2lparams.columns import UsageError
from d2lparams.interrupts import Ended, raising

app = typer.Typer(
    name="d2lparams",
    help="Parameter management on PyTorch, MXNet, JAX/Flax and TensorFlow/Keras, side by side, run for real.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(env, name="env")
app.command()(comparing.compare)
app.command()(reporting.report)
app.command()(comparing.repro)
app.command(name="list")(comparing.list_)
app.command()(comparing.schema)
app.command()(files.inspect)
app.command()(converting.convert)
app.command()(transferring.transfer)
app.command()(conventions.conventions)
app.command()(exploring.explore)


def main() -> None:
    """The entry point: turns what the user or the machine got wrong into one sentence."""
    try:
        with raising(HEED):
            code = _outcome()
    except Ended as ended:
        code = 128 + ended.number
        for number in HEED:  # on the way out, a further one could only spoil the exit code
            signal.signal(number, signal.SIG_IGN)
        _give_up_output()  # what is still buffered is half a result
    sys.exit(code)


def _outcome() -> int:
    """Run the command; its exit code."""
    code = 1
    try:
        try:
            app()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        complain(str(error))
        return 2
    except OSError as error:
        _give_up_output()
        if not isinstance(error, BrokenPipeError):  # the reader (`| head`) has seen enough
            complain(str(error))
        return code or 1
    return code


def _give_up_output() -> None:
    """What is still buffered must not be tried again at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if version:
        output.print(f"d2lparams {d2lparams.__version__}", highlight=False)
        raise typer.Exit
