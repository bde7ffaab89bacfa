"""Ctrl-C, and signals like it, taken down and not raised: who runs processes can stop them in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def interrupts(heed: Sequence[signal.Signals]) -> Iterator[Callable[[], int]]:
    """Take signals down instead of having them raise in the midst of things; gives what tells the first, or 0.

    So a second or third one, while processes are being killed, does no harm either. Where signals are not ours
    (in another thread than the main one, or where they are ignored, as under nohup) all stays as it is.
    """
    caught: list[int] = []
    before = {number: signal.getsignal(number) for number in heed}
    ours = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    if threading.current_thread() is not threading.main_thread():
        ours = []
    for number in ours:
        signal.signal(number, lambda number, frame: caught.append(number))
    try:
        yield lambda: caught[0] if caught else 0
    finally:
        for number in ours:
            signal.signal(number, before[number])
