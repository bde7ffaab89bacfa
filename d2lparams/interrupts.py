"""Ctrl-C, and signals like it, without a traceback: taken down, or raised as one exception that says which.

Who runs processes takes them down, so that these can be stopped in good order. All else is left at once, by way
of whatever tidies up.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

PATIENCE = 2.0
"""Seconds in which a second signal is the same wish as the first."""


@contextmanager
def interrupts(heed: Sequence[signal.Signals]) -> Iterator[Callable[[], int]]:
    """Take signals down instead of having them raise in the midst of things; gives what tells the first, or 0.

    So a second or third one, while processes are being killed, does no harm either. Where signals are not ours
    (in another thread than the main one, or where they are ignored, as under nohup) all stays as it is.
    """
    caught: list[int] = []
    with _handled(heed, lambda number, frame: caught.append(number)):
        yield lambda: caught[0] if caught else 0


class Ended(BaseException):
    """A signal that ends the command; no Exception, so that nothing takes it for a mishap of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by signal {number}")
        self.number = number


@contextmanager
def raising(heed: Sequence[signal.Signals]) -> Iterator[None]:
    """Have these signals raise `Ended`, where they are ours; who presses Ctrl-C twice means it once."""
    last = -math.inf

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        # The first is on its way out, and tidies up.
        if last - before > PATIENCE:
            raise Ended(number)

    with _handled(heed, end):
        yield


@contextmanager
def _handled(
    heed: Sequence[signal.Signals], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in heed}
    ours = [number for number, former in before.items() if former not in (signal.SIG_IGN, None)]
    if threading.current_thread() is not threading.main_thread():
        ours = []
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
