"""What every column is doing while a cell runs: one display, rewritten, which goes when the cell has ended.

Events come from any thread and are only taken down; a thread of its own shows them, a few times in a second. In
a terminal, where nothing can be rewritten later, it is the command's own board.
"""

from __future__ import annotations

import contextvars
import html
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from d2lparams.reports.values import plain
from d2lparams.watcher import Event

BEFORE_IT_SHOWS = 0.4
"""A cell that ends within so many seconds shows no board."""

BETWEEN_LOOKS = 0.5

STYLE = "border-collapse:collapse;border:0;background:none;font-variant-numeric:tabular-nums;"
CELL = "padding:1px 14px 1px 0;border:0;background:none;text-align:left;white-space:nowrap;"


class Board:
    """Takes events; a context manager, within which it is shown.

    Args:
        titles: what each column is called on it, in the order in which they are shown.
        live: whether there is a notebook that can rewrite a display.
        quiet: show nothing.
    """

    def __init__(self, titles: Mapping[str, str], *, live: bool, quiet: bool = False) -> None:
        self._titles = dict(titles)
        self._events: dict[str, Event] = {}
        self._began: dict[str, float] = {}
        self._end = threading.Event()
        self._id = uuid.uuid4().hex
        self._displayed = False
        self._live = live and not quiet
        self._terminal: Any = None if live or quiet else _terminal(titles)
        self._around: AbstractContextManager[Any] = self._terminal or nullcontext()

    def __enter__(self) -> Board:
        self._around.__enter__()
        if self._live:
            # A display belongs to the cell that is running, and what says which is kept for each context.
            context = contextvars.copy_context()
            self._thread = threading.Thread(target=context.run, args=(self._look,), name="board", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._around.__exit__(*exception)
        self._end.set()
        if self._live:
            self._thread.join()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if self._terminal is not None:
            self._terminal(event)
        self._began.setdefault(event.column, time.monotonic() - event.seconds)
        self._events[event.column] = event

    def show(self, bundle: Mapping[str, str] | None) -> None:
        """Put this in the place of the board, after it has ended; None leaves an empty place, or none."""
        if self._displayed:
            self._publish(dict(bundle or {"text/plain": "", "text/html": ""}))
        elif bundle:
            _display(dict(bundle))

    def _look(self) -> None:
        wait = BEFORE_IT_SHOWS
        while not self._end.wait(wait):
            self._publish(self.bundle())
            wait = BETWEEN_LOOKS

    def _publish(self, bundle: dict[str, str]) -> None:
        _display(bundle, self._id, update=self._displayed)
        self._displayed = True

    def bundle(self) -> dict[str, str]:
        """What it looks like now, by MIME type."""
        lines, rows = [], []
        for name, title in self._titles.items():
            event = self._events.get(name)
            if event is None:
                symbol, seconds, activity = "·", "", "waiting for its turn"
            else:
                ended = event.status is not None
                since = event.seconds if ended else time.monotonic() - self._began[name]
                symbol = ("✓" if event.status == "ok" else "✗") if ended else "…"
                seconds, activity = f"{since:.1f} s", _brief(event.activity)
            lines.append(f"{symbol} {title:<18} {seconds:>8}  {activity}".rstrip())
            cells = [symbol, f"<b>{html.escape(title)}</b>", seconds, html.escape(activity)]
            rows.append("".join(f'<td style="{CELL}">{cell}</td>' for cell in cells))
        table = "".join(f'<tr style="background:none">{row}</tr>' for row in rows)
        return {
            "text/plain": "\n".join(lines),
            "text/html": f'<table role="status" aria-live="off" style="{STYLE}">{table}</table>',
        }


def _brief(activity: str) -> str:
    text = " ".join(plain(activity).split())
    return text if len(text) <= 80 else f"{text[:79]}…"


def _terminal(titles: Mapping[str, str]) -> Any:
    from rich.console import Console

    from d2lparams.reports.progress import Progress

    return Progress(Console(stderr=True), titles)


def _display(bundle: dict[str, str], identity: str | None = None, *, update: bool = False) -> None:
    from IPython.display import display, update_display

    if update:
        update_display(bundle, display_id=identity, raw=True)
    elif identity:
        display(bundle, display_id=identity, raw=True)
    else:
        display(bundle, raw=True)
