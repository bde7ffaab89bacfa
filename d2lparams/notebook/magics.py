"""The magics as IPython calls them: from the text of a cell to what it displays.

%%compare torch jax        the cell is a scenario: it runs on each column, and the results stand side by side
%%tab torch jax            native code, in a process of each framework that keeps its state
%tab --restart torch       those processes: listed, started anew, ended
"""

from __future__ import annotations

import atexit
import signal
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from d2lparams.columns import UsageError
from d2lparams.interrupts import interrupts
from d2lparams.notebook.arguments import compare_options, tab_options, tab_orders
from d2lparams.notebook.splitting import numbered, parts
from d2lparams.notebook.tabs import Order, Tabs
from d2lparams.notebook.view import bundle, title
from d2lparams.workers import KeptWorkers

TABS = Tabs()
"""Those of this kernel."""

atexit.register(TABS.stop)

WORKERS = KeptWorkers(once=True)
"""Those of this kernel's cells. A cell may leave anything behind, a default dtype or a patched module, so it
has processes of its own; they are started when the one before has ended, and wait with what they import."""

atexit.register(WORKERS.close)


class Failed(Exception):
    """A cell that did not end well; what went wrong is shown above it, so that the traceback would be ours."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class BadSyntax(Failed):
    """A cell that is no Python, shown as IPython shows one; nothing of it has been run."""

    def __init__(self, error: SyntaxError, shell: Any) -> None:
        super().__init__(str(error))
        self._lines = shell.SyntaxTB.structured_traceback(SyntaxError, error, [])

    def _render_traceback_(self) -> list[str]:
        return list(self._lines)


class Interrupted(KeyboardInterrupt):
    """A cell that the user stopped; what was known by then is shown above it."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def register(shell: Any) -> None:
    """Give a shell the magics."""
    for kind, name, magic in (("cell", "compare", compare), ("cell", "tab", tab), ("line", "tab", tab_line)):
        shell.register_magic_function(_bound(magic, shell), kind, name)


def remove(shell: Any) -> None:
    """Take the magics away, and end all processes."""
    for kind, name in (("cell", "compare"), ("cell", "tab"), ("line", "tab")):
        shell.magics_manager.magics[kind].pop(name, None)
    TABS.stop()
    WORKERS.end()


def compare(shell: Any, line: str, cell: str) -> Any:
    """Run this cell on each framework, in its own environment, and show the results side by side.

        %%compare torch jax mxnet
        "What does a framework call its first weight?"
        model = backend.mlp(MLP(sizes=(4, 8, 1)))
        observe.trait("name", backend.parameter(model, 0, "weight").native_name)

    The cell finds `backend`, an adapter with the same words for every framework, and `observe`, which takes
    down what it sees: `observe.invariant` for what all must agree on with the reference, `observe.trait` for a
    framework's own way. Also np, MLP, SGD, Adam, AdamW and Unsupported. A text at its top is the question.

    Its result is the comparison. What a cell does to its process is gone with it: each cell finds a new one,
    which was started while you read what the last one showed; `%unload_ext d2lparams` ends those that wait.

        COLUMN...       torch, mxnet, jax, tensorflow, NAME@VERSION, a backend's file; none: all four
        --timeout S     seconds that it may take on one column (60)
        --title TEXT    what it is called
        --name VAR      the comparison is also the variable VAR
        --offline       use only what is on this machine
        --quiet         show no progress
    """
    from d2lparams.notebook.board import Board
    from d2lparams.notebook.comparing import compare_cell, failures, scenario_of

    options = compare_options(line)
    live = _is_notebook(shell)
    try:
        asked = scenario_of(numbered(cell), _name_of(shell), options.title)
    except SyntaxError as error:
        raise BadSyntax(error, shell) from None
    titles = {column.name: title(column) for column in options.columns}
    with Board(titles, live=live, quiet=options.quiet) as board:
        comparison = compare_cell(asked, options, board, WORKERS)
    WORKERS.restock()
    board.show(failures(comparison.columns))
    if options.name:
        shell.user_ns[options.name] = comparison
    if not live:
        from rich.console import Console

        from d2lparams.reports.terminal import ComparisonView

        Console().print(ComparisonView(comparison))
    if comparison.interrupted:
        from IPython.display import display

        display(comparison)
        raise Interrupted("Interrupted: what was known by then is shown.")
    return comparison


def tab(shell: Any, line: str, cell: str) -> None:
    """Run native code of one framework in a process that has it, and keep its state for the next cell.

        %%tab torch
        import torch
        torch.arange(3)
        %%tab jax
        import jax.numpy as jnp
        jnp.arange(3)

    Each line `%%tab` begins the code of another framework; the parts run at the same time. What each printed,
    the value of its last expression and its figures are shown in tabs. Names are each framework's own: nothing
    comes into this notebook's variables.

        COLUMN...         whose process: torch, mxnet, jax, tensorflow, all, NAME@VERSION, a backend's file
        --with PACKAGE    what its environment has besides, such as matplotlib; may be repeated
        --offline         build the environment from what is on this machine
        --quiet           show no progress
    """
    from d2lparams.notebook.board import Board

    cells = [(tab_options(part.line), part.source) for part in parts(line, cell)]
    filename = _name_of(shell)
    orders = [
        Order(options.columns, source, filename, options.requirements, options.offline)
        for options, source in cells
    ]
    titles = {column.name: title(column) for order in orders for column in order.columns}
    quiet = any(options.quiet for options, _ in cells)
    with (
        interrupts((signal.SIGINT,)) as interrupted,
        Board(titles, live=_is_notebook(shell), quiet=quiet) as board,
    ):
        outputs = TABS.run(orders, interrupted, board)
        stopped = interrupted()
    board.show(bundle(outputs))
    wrong = [f"{title(output.column)}: {output.error.message}" for output in outputs if output.error]
    if stopped:
        raise Interrupted("Interrupted.")
    if wrong:
        raise Failed("; ".join(wrong))


def tab_line(shell: Any, line: str) -> None:
    """List the processes of the tabs, start them anew, or end them.

    %tab                      which there are
    %tab --restart torch      a new process, in the same environment; without a name: all
    %tab --stop torch         ends the process; without a name: all
    """
    orders = tab_orders(line)
    names = [column.name for column in orders.columns]
    match orders.action:
        case "restart":
            ended, what = TABS.restart(names), "the next cell starts a new process"
        case "stop":
            ended, what = TABS.stop(names), "its process has ended"
        case _:
            ended, what = [], ""
            for name, running in TABS.running.items():
                extras = f", with {' and '.join(running.requirements)}" if running.requirements else ""
                _say(f"{name}: process {running.pid}{extras}")
    for name in ended:
        _say(f"{name}: what was defined is gone; {what}")
    if not ended and not TABS.running:
        _say("no process runs; `%%tab torch` starts one")


def _bound(magic: Callable[..., Any], shell: Any) -> Callable[..., Any]:
    """A magic for one shell, whose complaints are shown as IPython shows those of its own."""

    @wraps(magic)
    def call(*arguments: str) -> Any:
        from IPython.core.error import UsageError as Complaint

        try:
            return magic(shell, *arguments)
        except UsageError as error:
            raise Complaint(str(error)) from None

    return call


def _is_notebook(shell: Any) -> bool:
    """Whether there is somebody who can rewrite a display; in a terminal there is not."""
    return getattr(shell, "kernel", None) is not None


def _name_of(shell: Any) -> str:
    """What tracebacks call the cell that runs."""
    return f"<cell {shell.execution_count}>"


_say = partial(print, flush=True)
