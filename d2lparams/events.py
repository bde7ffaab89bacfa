"""The way from a process of ours to its parent: lines of strict JSON on the stdout that the parent gave it.

Frameworks print. So that stdout is kept for events before any of them is imported, and what they print on
theirs goes where errors go.

Standard library only: this runs inside every framework's environment.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

EVENT_LIMIT = 64 * 2**20
"""The longest event, in bytes: more than any scenario has reason to say, and less than a parent can hold."""

SHOW_STACKS = signal.SIGUSR1
"""Makes a worker write the stacks of all its threads into the log."""


def heading(scenario: str) -> str:
    """The line in the log that what a scenario prints comes under."""
    return f"--- {scenario}\n"


class Events:
    """The way to the parent."""

    def __init__(self, descriptor: int, log: int) -> None:
        """Take two descriptors and keep them to the end.

        Args:
            descriptor: where events go.
            log: where goes what is printed.
        """
        self._stream = open(descriptor, "wb")  # noqa: SIM115  (kept to the end)
        self._log = log

    def send(self, event: str, **fields: Any) -> None:
        """Write one event and see it off.

        Raises:
            ValueError: for an event that is too long, or that JSON cannot hold.
        """
        text = json.dumps({"event": event, **fields}, ensure_ascii=False, allow_nan=False)
        # A lone surrogate, as in a file name that is not UTF-8, has no place in JSON; it becomes a "?".
        line = text.encode("utf-8", "replace") + b"\n"
        if len(line) > EVENT_LIMIT:
            raise ValueError(f"an observation of {len(line) >> 20} MiB is more than {EVENT_LIMIT >> 20} MiB")
        self._stream.write(line)
        self._stream.flush()

    def log_to(self, path: str) -> None:
        """Have the log be another file from now on; one that cannot be written to leaves it where it was."""
        with suppress(OSError):
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            os.dup2(file, self._log, inheritable=False)
            os.close(file)
        self.point_to_log()

    def point_to_log(self) -> None:
        """Have standard output and standard error go to the log, whatever has become of them."""
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            os.dup2(self._log, descriptor)
            if getattr(getattr(sys, name), "closed", True):
                # A line at a time: a crash must not take the last ones along.
                stream = open(  # noqa: SIM115
                    descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
                )
                setattr(sys, name, stream)


def take_stdout() -> Events:
    """Keep stdout for events, where no child of ours inherits it; what is printed goes where errors go."""
    events = Events(os.dup(1), os.dup(2))
    events.point_to_log()
    # A crash must not take the last lines along.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # both are TextIOWrapper at the start
    return events
