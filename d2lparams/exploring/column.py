"""A column that runs programs: a process of its environment, started again whenever a program has ended it.

There are two processes. Some frameworks have a switch of the whole process for 64 bits, and a program must not
see what another has switched.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from d2lparams import environments
from d2lparams.bootstrap import EXPLORE
from d2lparams.child import Child, Crashed, TimedOut, interpreter
from d2lparams.columns import BACKENDS, Column
from d2lparams.exploring.generating import Offer
from d2lparams.exploring.program import Program
from d2lparams.exploring.seen import Seen

START = 120.0
"""Seconds that a framework may take to be imported."""


class CannotStart(Exception):
    """The backend could not be imported, or its process ended before it was. One sentence."""


class _Process(Child[dict[str, Any]]):
    """A started process that runs programs."""

    decoder = msgspec.json.Decoder(dict[str, Any])

    def order(self, program: Program, *, script: bool = False) -> None:
        """Have it run a program, or write a script for one."""
        assert self._process.stdin is not None
        line = json.dumps({"program": program.to_json(), "script": script}).encode()
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except OSError:
            self._process.wait(10)
            raise Crashed(self._end()) from None


class ExploredColumn:
    """Runs programs on one column; a context manager that leaves no process.

    Args:
        column: which.
        timeout: seconds that one operation may take.
        stop: ends a wait, when it is set.
        offline: build no environment from anything but what is on this machine.
        log: what the processes print is appended to this file.
        progress: is told what is being built.
    """

    def __init__(
        self,
        column: Column,
        *,
        timeout: float,
        stop: threading.Event,
        log: Path,
        offline: bool = False,
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.column, self.timeout, self._stop, self._log = column, timeout, stop, log
        self.environment = environments.ensure(column, offline=offline, progress=progress)
        self._processes: dict[bool, _Process] = {}
        self.offer: Offer
        self.restarts = 0
        self._processes[False] = self._started()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    @property
    def version(self) -> str:
        """Of the framework."""
        return self.environment.versions.get(self.column.adapter.distributions[0], "")

    @property
    def arguments(self) -> tuple[str, str]:
        """The module or the file of the backend, and the class in it."""
        adapter = self.column.adapter
        own = adapter.path.parent == BACKENDS
        return f"backends.{adapter.name}" if own else str(adapter.path), adapter.class_name

    def run(self, program: Program) -> list[Seen]:
        """Run a program; what was seen up to its end, or to what ended it.

        Raises:
            Stopped: when `stop` was set.
            CannotStart: when there is no process to run it.
        """
        seen: list[Seen] = []
        process = self._process(program.wide)
        try:
            process.order(program)
            while True:
                event = process.receive(time.monotonic() + self.timeout, self._stop)
                if event["event"] == "ended":
                    return seen
                seen.append(Seen.from_json(event["seen"]))
        except Crashed as crash:
            seen.append(Seen(ended=f"{crash}"))
        except TimedOut:
            seen.append(Seen(ended=f"it takes longer than {self.timeout:g} s"))
        self._lose(program.wide)
        return seen

    def own_script(self, program: Program) -> str:
        """A program in the framework alone for what a life cycle does, or ""; in a process of its own."""
        try:
            with self._started() as process:
                process.order(program, script=True)
                script: str = process.receive(time.monotonic() + self.timeout, self._stop)["script"]
        except (Crashed, TimedOut):
            return ""
        return script

    def _process(self, wide: bool) -> _Process:
        if wide not in self._processes:
            self._processes[wide] = self._started()
        return self._processes[wide]

    def _started(self) -> _Process:
        command = [*interpreter(self.environment.python), EXPLORE, *self.arguments]
        with self._log.open("ab") as log:
            process = _Process(command, self.environment.variables(self.column.adapter), log)
        try:
            event = process.receive(time.monotonic() + START, self._stop)
            if event["event"] != "ready":
                raise CannotStart(f"{self.column.name} cannot be imported: {event['error']}")
        except (Crashed, TimedOut) as error:
            process.close()
            raise CannotStart(f"{self.column.name} does not start: {error}") from None
        except BaseException:
            process.close()
            raise
        self.offer = Offer(**event["offer"])
        return process

    def _lose(self, wide: bool) -> None:
        self._processes.pop(wide).close()
        self.restarts += 1
