"""A worker as its parent sees it: a child with a log, and the events that it reports.

Nothing that a worker does, or that a framework does to it, gets past here: whatever is on the pipe comes out
as an event or as one of the exceptions of `child`, and when the `with` block ends, the whole process group has.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from d2lparams.child import TICK, Child, Crashed, Message, Stopped, TimedOut, interpreter
from d2lparams.columns import BACKENDS, Column
from d2lparams.events import EVENT_LIMIT, SHOW_STACKS
from d2lparams.results import Code, Failure, Observation
from d2lparams.variation import Variation

__all__ = [
    "TICK",
    "AnyMessage",
    "Called",
    "Crashed",
    "Done",
    "Failed",
    "Finished",
    "Observed",
    "Ready",
    "Started",
    "Stopped",
    "Task",
    "TimedOut",
    "Worker",
    "command",
    "serving",
]

LOG_LIMIT, LOG_KEPT = 16 * 2**20, 2**20
"""Bytes that a worker may print; of what prints more, so many of the beginning and of the end are kept."""

SCENARIO_LIMIT = 2 * EVENT_LIMIT
"""Bytes of all that a scenario may report: more than any has reason to say, and less than a parent can hold."""

MOST_OBSERVATIONS = 5000
"""So many a scenario may make: more than anybody reads."""

_TO_REST = 2.0  # seconds from its last result to the end of its order, when it keeps nothing back

_TAIL_LINES, _TAIL_BYTES = 40, 16 * 2**10


class Ready(Message, frozen=True):
    """The backend is imported."""

    versions: dict[str, str]
    python: str
    platform: str
    seconds: float


class Failed(Message, frozen=True):
    """The backend could not be imported."""

    error: Failure


class Started(Message, frozen=True):
    """A scenario begins."""

    scenario: str


class Called(Message, frozen=True):
    """A scenario has called a function of the adapter for the first time."""

    scenario: str
    asked: str
    name: str
    code: dict[str, Code]


class Observed(Message, frozen=True):
    """What a scenario saw."""

    scenario: str
    observation: Observation


class Finished(Message, frozen=True):
    """How a scenario ended."""

    scenario: str
    status: Literal["ok", "unsupported", "failed"]
    seconds: float
    error: Failure | None


class Done(Message, frozen=True):
    """There is no more to run."""


AnyMessage = Ready | Failed | Started | Called | Observed | Finished | Done
"""What a worker reports, see `d2lparams.worker`."""


@dataclass(frozen=True)
class Task:
    """What a run asks of its workers beside the scenarios' names.

    Attributes:
        scenario_file: a file of scenarios to take instead of the program's own.
        stage: which stage of the scenarios to run.
        folder: one that all columns of the run see.
        given: what scenarios are given, by name.
        variation: the seed and the form of what scenarios use.
    """

    scenario_file: Path | None = None
    stage: int = 0
    folder: Path | None = None
    given: Mapping[str, str] = field(default_factory=dict)
    variation: Variation = field(default_factory=Variation)


def command(python: Path, column: Column, names: Sequence[str], task: Task | None = None) -> list[str]:
    """What starts a worker that runs the named scenarios on a column."""
    task = task or Task()
    return [*_started(python, column, task.scenario_file), *_order(column, names, task)]


def serving(python: Path, column: Column, scenario_file: Path | None) -> list[str]:
    """What starts a worker that runs what `Worker.order` tells it."""
    return [*_started(python, column, scenario_file), "--serve"]


def _started(python: Path, column: Column, scenario_file: Path | None) -> list[str]:
    adapter = column.adapter
    ours = adapter.path.parent == BACKENDS
    return [
        *interpreter(python),
        f"--adapter={f'backends.{adapter.name}' if ours else adapter.path}",
        f"--backend={adapter.class_name}",
        *(f"--distribution={name}" for name in adapter.distributions),
        *([f"--scenarios={scenario_file}"] if scenario_file else []),
    ]


def _order(column: Column, names: Sequence[str], task: Task) -> list[str]:
    return [
        *([f"--stage={task.stage}"] if task.stage else []),
        *([f"--folder={task.folder}"] if task.folder else []),
        f"--column={column.name}",
        *task.variation.options,
        *([f"--given={json.dumps(dict(task.given))}"] if task.given else []),
        "--",
        *names,
    ]


class Worker(Child[AnyMessage]):
    """A started worker; a context manager that leaves nothing running.

    Attributes:
        kept: whether it was started before the run that it is for.
    """

    what = "the worker"
    decoder = msgspec.json.Decoder(AnyMessage)

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        threads: int | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; it computes with so many threads, where neither user nor framework says otherwise.

        Args:
            arguments: the command, see `command`.
            log: what it prints is appended to this file.
            threads: how many it computes with; None leaves that to the framework.
            environ: variables of its environment that the user has not set.
        """
        self._take_log(log)
        self.kept = False
        self._reported = self._observations = 0  # of one scenario
        shares = {"OMP_NUM_THREADS": str(threads)} if threads else {}
        with log.open("ab") as output:
            super().__init__(arguments, {**shares, **(environ or {})}, output)

    def _take_log(self, log: Path) -> None:
        self._log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._left_out, self._note = 0, b""  # of the log: bytes, and the line that says so

    def order(self, column: Column, names: Sequence[str], task: Task, log: Path) -> None:
        """Have a worker that was started with `serving` run the named scenarios, and log to another file.

        Raises:
            Crashed: when it is not there any more.
        """
        assert self._process.stdin is not None
        log.touch()
        self._take_log(log)
        told = json.dumps({"log": str(log), "arguments": _order(column, names, task)})
        try:
            self._process.stdin.write(told.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise Crashed(f"{self.what} has ended") from None

    def rests(self) -> bool:
        """Whether a worker that was ordered has done all of it, and waits for the next order."""
        if self.exit_code is not None:
            return False
        try:
            return isinstance(self.receive(time.monotonic() + _TO_REST, threading.Event()), Done)
        except (TimedOut, Crashed):
            return False

    def receive(self, deadline: float, stop: threading.Event) -> AnyMessage:
        """The next event; a worker that reports without an end counts as crashed."""
        message = super().receive(deadline, stop)
        if isinstance(message, Started):
            self._reported = self._observations = 0
        elif isinstance(message, Observed):
            self._observations += 1
            if self._observations > MOST_OBSERVATIONS:
                raise Crashed(f"the worker reported over {MOST_OBSERVATIONS:,} observations in one scenario")
        return message

    def receive_line(self, deadline: float, stop: threading.Event) -> bytes:
        """The next event, as it was written; raises as `receive`."""
        line = super().receive_line(deadline, stop)
        self._reported += len(line)
        if self._reported > SCENARIO_LIMIT:
            raise Crashed(f"the worker reported more than {SCENARIO_LIMIT >> 20} MiB in one scenario")
        return line

    def tend(self) -> None:
        """Keep the log within bounds: what is printed without an end must not fill the disk."""
        with contextlib.suppress(OSError):  # a log that somebody removed has no need of it
            size = self._log.stat().st_size
            if size - self._log_start > LOG_LIMIT:
                self._shorten_log(size)

    def _shorten_log(self, size: int) -> None:
        first, last = self._log_start + LOG_KEPT, size - LOG_KEPT
        with self._log.open("rb") as log:
            log.seek(last)
            tail = log.read(LOG_KEPT)
        self._left_out += last - first - len(self._note)
        self._note = f"\n[... {self._left_out:,} bytes are left out here ...]\n".encode()
        # The worker appends, and so do we: what it prints meanwhile comes in between and is not written over.
        os.truncate(self._log, first)
        with self._log.open("ab") as log:
            log.write(self._note + tail)

    def log_tail(self, heading: str = "") -> str:
        """The last lines that this worker has printed; only those below a heading, when that is among them."""
        with self._log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
        if heading:
            text = text.rpartition(heading)[2]
        return "\n".join(text.splitlines()[-_TAIL_LINES:])

    def show_stacks(self) -> None:
        """Have the worker write the stacks of its threads into the log: that says where it hangs."""
        if self._process.poll() is None:
            self._process.send_signal(SHOW_STACKS)
            time.sleep(2 * TICK)
