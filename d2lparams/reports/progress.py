"""What every column is doing while it runs: a live board on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from d2lparams.reports.marks import STATUS_STYLES
from d2lparams.reports.values import plain

if TYPE_CHECKING:
    from d2lparams.runner import Event

ROOMY = 100
"""The width of a terminal from which on the board has a column more."""


class Progress:
    """Takes the runner's events; use it as a context manager, and as the runner's `on_event`.

    Args:
        console: where it is shown; standard error, so that the results alone go to standard output.
        columns: the names of all columns, in the order in which they are shown.
        scenarios: the names of the scenarios, which the plain lines leave out.
    """

    def __init__(self, console: Console, columns: Iterable[str], scenarios: Collection[str] = ()) -> None:
        self._console = console
        self._scenarios = set(scenarios)
        self._events: dict[str, Event | None] = dict.fromkeys(columns)
        self._began: dict[str, float] = {}
        self._spinners = {name: Spinner("dots") for name in self._events}
        self._live = Live(get_renderable=self._board, console=console, transient=True, refresh_per_second=10)

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            with suppress(OSError):
                self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            with suppress(OSError):  # a terminal that was closed
                self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take an event of the runner."""
        before = self._events.get(event.column)
        self._began.setdefault(event.column, time.monotonic() - event.seconds)
        self._events[event.column] = event
        with suppress(OSError):  # a screen that is gone, or a full disk, costs no column anything
            self._say(event, before)

    def _say(self, event: Event, before: Event | None) -> None:
        """A plain line, where there is no terminal and something has changed."""
        if not self._console.is_terminal and event.activity not in self._scenarios:
            if event.status is not None:
                ended = f"{event.column}: {event.status} after {event.seconds:.1f} s"
                self._console.print(Text(ended))
            elif before is None or before.activity != event.activity:
                self._console.print(Text(plain(f"{event.column}: {event.activity}")))

    def _board(self) -> Table:
        """A line per column: how far it is, for how long, what it is doing; with room, what it runs on."""
        roomy = self._console.width >= ROOMY
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(width=1)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True, style="dim")
        table.add_column(no_wrap=True, overflow="ellipsis")
        if roomy:
            table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
        for name, event in self._events.items():
            if event is None:
                table.add_row("", Text(name), "", "", Text("waiting for its turn", "dim"))
                continue
            ended = event.status is not None
            seconds = event.seconds if ended else time.monotonic() - self._began[name]
            style = STATUS_STYLES.get(event.status, "bold red") if event.status else ""
            table.add_row(
                Text("✓" if event.status == "ok" else "✗", style) if ended else self._spinners[name],
                Text(name),
                f"{event.done}/{event.total}" if event.total else "",
                f"{seconds:.1f} s",
                Text(plain(event.activity), style),
                *([Text(plain(event.release))] if roomy else []),
            )
        return table
