"""The way from a process of ours to its parent: lines of strict JSON on the stdout that the parent gave it.

Frameworks print. So that stdout is kept for events before any of them is imported, and what they print on
theirs goes where errors go.

Standard library only: this runs inside every framework's environment.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

EVENT_LIMIT = 64 * 2**20
"""The longest event, in bytes: more than any scenario has reason to say, and less than a parent can hold."""


class Events:
    """The way to the parent."""

    def __init__(self, descriptor: int) -> None:
        self._stream = open(descriptor, "wb")  # noqa: SIM115  (a descriptor, kept to the end)

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


def take_stdout() -> Events:
    """Keep stdout for events, where no child of ours inherits it; what is printed goes where errors go."""
    events = Events(os.dup(1))
    os.dup2(2, 1)
    # A crash must not take the last lines along.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # both are TextIOWrapper at the start
    return events
