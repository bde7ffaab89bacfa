"""A worker as its parent sees it: a child with a log, and the events that it reports.

Nothing that a worker does, or that a framework does to it, gets past here: whatever is on the pipe comes out
as an event or as one of the exceptions of `child`, and when the `with` block ends, the whole process group has.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from d2lparams.child import TICK, Child, Crashed, Message, Stopped, TimedOut, interpreter
from d2lparams.columns import BACKENDS, Column
from d2lparams.results import Code, Failure, Observation
from d2lparams.worker import SHOW_STACKS

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
]

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
    """

    scenario_file: Path | None = None
    stage: int = 0
    folder: Path | None = None
    given: Mapping[str, str] = field(default_factory=dict)


def command(python: Path, column: Column, names: Sequence[str], task: Task | None = None) -> list[str]:
    """What starts a worker that runs the named scenarios on a column."""
    task, adapter = task or Task(), column.adapter
    ours = adapter.path.parent == BACKENDS
    return [
        *interpreter(python),
        f"--adapter={f'backends.{adapter.name}' if ours else adapter.path}",
        f"--backend={adapter.class_name}",
        *(f"--distribution={name}" for name in adapter.distributions),
        *([f"--scenarios={task.scenario_file}"] if task.scenario_file else []),
        *([f"--stage={task.stage}"] if task.stage else []),
        *([f"--folder={task.folder}"] if task.folder else []),
        f"--column={column.name}",
        *([f"--given={json.dumps(dict(task.given))}"] if task.given else []),
        "--",
        *names,
    ]


class Worker(Child[AnyMessage]):
    """A started worker; a context manager that leaves nothing running."""

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
        self._log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        shares = {"OMP_NUM_THREADS": str(threads)} if threads else {}
        with log.open("ab") as output:
            super().__init__(arguments, {**shares, **(environ or {})}, output)

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
