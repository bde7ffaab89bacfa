"""A worker as its parent sees it: a process group, a pipe with events, and a log.

Nothing that a worker does, or that a framework does to it, gets past here: whatever is on the pipe comes out
as an event or as one of the exceptions below, and when the `with` block ends, the whole process group has.

POSIX only: process groups, and pipes in `selectors`.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from d2lparams import bootstrap
from d2lparams.columns import BACKENDS, Column
from d2lparams.results import Code, Failure, Observation
from d2lparams.worker import EVENT_LIMIT, SHOW_STACKS

TICK = 0.1
"""Seconds between two looks at whether the process lives and the user has not interrupted."""

_CHUNK = 2**20
_TAIL_LINES, _TAIL_BYTES = 40, 16 * 2**10


class _Message(msgspec.Struct, tag_field="event", tag=str.lower, frozen=True):
    """An event as the worker writes it, see `d2lparams.worker`."""


class Ready(_Message, frozen=True):
    """The backend is imported."""

    versions: dict[str, str]
    python: str
    platform: str
    seconds: float


class Failed(_Message, frozen=True):
    """The backend could not be imported."""

    error: Failure


class Started(_Message, frozen=True):
    """A scenario begins."""

    scenario: str


class Called(_Message, frozen=True):
    """A scenario has called a function of the adapter for the first time."""

    scenario: str
    asked: str
    name: str
    code: dict[str, Code]


class Observed(_Message, frozen=True):
    """What a scenario saw."""

    scenario: str
    observation: Observation


class Finished(_Message, frozen=True):
    """How a scenario ended."""

    scenario: str
    status: Literal["ok", "unsupported", "failed"]
    seconds: float
    error: Failure | None


class Done(_Message, frozen=True):
    """There is no more to run."""


AnyMessage = Ready | Failed | Started | Called | Observed | Finished | Done
_DECODER = msgspec.json.Decoder(AnyMessage)


class Stopped(Exception):
    """The user wants no more of it."""


class TimedOut(Exception):
    """The worker did not say anything until the deadline."""


class Crashed(Exception):
    """The worker ended before it said so, or said what is no event."""


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
        str(python),
        "-I",  # neither the user's PYTHON* variables nor the current folder are the framework's business
        *(["-B"] if sys.dont_write_bytecode else []),
        *("-X", "faulthandler", "-X", "utf8"),
        bootstrap.__file__,
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


class Worker:
    """A started worker; a context manager that leaves nothing running."""

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
        # A worker leaves without tidying up, so what frameworks write to the folder for temporary files goes
        # to one that is ours to remove.
        self._scratch = tempfile.TemporaryDirectory(prefix="d2lparams-", ignore_cleanup_errors=True)
        shares = {"OMP_NUM_THREADS": str(threads)} if threads else {}
        environ = {**shares, **(environ or {}), **os.environ, "TMPDIR": self._scratch.name}
        self._log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                arguments,
                env=environ,
                stdin=subprocess.PIPE,  # never written to: it closes with us, and the worker ends with it
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,  # a group of its own to kill, out of reach of the terminal's Ctrl-C
            )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._lines: deque[bytes] = deque()
        self._rest = bytearray()
        self._last_call: float | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        self._selector.close()
        self._scratch.cleanup()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def receive(self, deadline: float, stop: threading.Event) -> AnyMessage:
        """The next event.

        Args:
            deadline: on the clock of `time.monotonic`.
            stop: when it is set, there is no next event.

        Raises:
            Stopped: when `stop` is set.
            TimedOut: when the deadline passes first.
            Crashed: when the process ends first, or writes what is no event.
        """
        while not self._lines:
            if stop.is_set():
                raise Stopped
            # The end of the pipe says nothing: a child of the worker may hold it open, and a scenario may have
            # closed it. So the process is watched, and looked at before the pipe: what it wrote is there then.
            ended = self._process.poll() is not None
            late = time.monotonic() >= deadline
            # What stands in the pipe at the deadline still counts, for it may be us who were suspended; but
            # only once, or a scenario that never stops observing had no limit.
            if late and self._last_call == deadline:
                raise TimedOut
            self._last_call = deadline if late else None
            if not self._read(0.0 if ended or late else TICK) and ended:
                raise Crashed(self._end())
        line = self._lines.popleft()
        try:
            message: AnyMessage = _DECODER.decode(line)
        except msgspec.DecodeError as error:
            raise Crashed(f"the worker wrote what is no event ({error}): {line[:80]!r}") from None
        return message

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

    def kill(self) -> None:
        """End the process and everything that it started and that stayed in its group."""
        # A group can outlive its leader, so this is for a dead worker too. EPERM is how macOS says that only
        # dead processes are left in it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # A process that hangs in a driver cannot be killed, nor may it hold us.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)

    def _read(self, seconds: float) -> bool:
        """Wait for something on the pipe and take it; False when there was nothing."""
        if not self._selector.get_map():
            time.sleep(seconds)
            return False
        if not self._selector.select(seconds):
            return False
        chunk = os.read(self._pipe, _CHUNK)
        if not chunk:
            self._selector.unregister(self._pipe)
            return False
        *lines, rest = chunk.split(b"\n")
        if lines:
            self._lines.append(bytes(self._rest) + lines[0])
            self._lines.extend(lines[1:])
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > EVENT_LIMIT:
            raise Crashed(f"the worker wrote an event of more than {EVENT_LIMIT >> 20} MiB")
        return True

    def _end(self) -> str:
        code = self._process.returncode
        if code >= 0:
            return f"the worker left with exit code {code} before it had reported"
        names = {one.value: one.name for one in signal.Signals}
        hint = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
        return f"the worker was killed by {names.get(-code, f'signal {-code}')}{hint}"
