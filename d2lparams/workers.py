"""Where a column's workers come from and where they go: started and ended, or kept for the next run.

A worker that is kept has its framework imported, so that the next run of its column begins at once. It is given
out again only where a new one would be the same: the same command, environment variables and folder, and files
that nobody has changed since. One that did not end in good order is not kept.

What is kept ends with us, whatever becomes of us: each worker holds a pipe of ours, see `leash`.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from d2lparams.building import MARKER
from d2lparams.columns import BACKENDS, Column
from d2lparams.environments import Environment
from d2lparams.process import Crashed, Task, Worker, command, serving


class Workers:
    """Starts a worker whenever one is needed, and ends it after its use."""

    def take(
        self,
        environment: Environment,
        column: Column,
        names: Sequence[str],
        task: Task,
        log: Path,
        threads: int | None,
    ) -> Worker:
        """A worker that runs the named scenarios on a column.

        Args:
            environment: of the column.
            column: what it runs on.
            names: of the scenarios.
            task: what is asked beside them.
            log: what it prints is appended to this file.
            threads: how many it computes with, see `Worker`; one that is kept stays with those that it has.

        Raises:
            OSError: when it cannot be started.
        """
        arguments = command(environment.python, column, names, task)
        return Worker(arguments, log, threads, environment.variables(column.adapter))

    def give_back(self, column: Column, worker: Worker) -> None:
        """Take back what `take` gave, whatever became of it."""
        worker.close()


@dataclass(frozen=True)
class _Recipe:
    """How a worker is started, and all that decides what it would be."""

    arguments: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]
    environ: tuple[tuple[str, str], ...]
    folder: str
    files: tuple[tuple[str, int, int], ...]


class KeptWorkers(Workers):
    """Keeps one worker of each column; from any thread, and in the process that made it only.

    Args:
        once: use each for one run only, and have `restock` start the next one ahead. So a run finds nothing of
            what the one before has left, and does not wait for an import either.
    """

    def __init__(self, *, once: bool = False) -> None:
        self._once = once
        self._lock = threading.Lock()
        self._idle: dict[str, tuple[_Recipe, Worker]] = {}
        self._busy: dict[Worker, tuple[_Recipe, int | None]] = {}
        self._used: dict[str, tuple[_Recipe, int | None]] = {}
        self._closed = False
        self._process = os.getpid()
        self._folder = tempfile.TemporaryDirectory(prefix="d2lparams-", ignore_cleanup_errors=True)

    @property
    def pids(self) -> dict[str, int]:
        """Of those that wait for the next run, by the name of the column."""
        with self._lock:
            return {name: worker.pid for name, (_, worker) in self._idle.items()}

    def take(
        self,
        environment: Environment,
        column: Column,
        names: Sequence[str],
        task: Task,
        log: Path,
        threads: int | None,
    ) -> Worker:
        """As `Workers.take`; one that is kept where there is one."""
        recipe = _recipe(environment, column, task)
        with self._lock:
            known, worker = self._idle.pop(column.name, (None, None))
        if worker is not None:
            try:
                if known == recipe and worker.exit_code is None:
                    worker.order(column, names, task, log)
                    worker.kept = True
                    return self._lent(worker, recipe, threads)
            except Crashed:
                pass
            worker.close()
        worker = Worker(recipe.arguments, log, threads, dict(recipe.variables))
        worker.order(column, names, task, log)
        return self._lent(worker, recipe, threads)

    def give_back(self, column: Column, worker: Worker) -> None:
        """As `Workers.give_back`; it is kept when it has done all that it was told."""
        rests = worker.rests()
        with self._lock:
            recipe, threads = self._busy.pop(worker)
            self._used[column.name] = recipe, threads
            keep = rests and not self._once and not self._closed and column.name not in self._idle
            if keep:
                self._idle[column.name] = recipe, worker
        if not keep:
            worker.close()

    def restock(self) -> None:
        """Start a worker ahead for each column that was used and has none; one that cannot be is left out."""
        with self._lock:
            missing = {name: used for name, used in self._used.items() if name not in self._idle}
            self._used.clear()
        for name, (recipe, threads) in missing.items():
            try:
                worker = Worker(
                    recipe.arguments, Path(self._folder.name) / f"{name}.log", threads, dict(recipe.variables)
                )
            except OSError:
                continue
            with self._lock:
                if keep := not self._closed and name not in self._idle:
                    self._idle[name] = recipe, worker
            if not keep:
                worker.close()

    def end(self) -> None:
        """End those that wait; the next run has new ones."""
        with self._lock:
            idle = [worker for _, worker in self._idle.values()]
            self._idle.clear()
            self._used.clear()
        for worker in idle:
            worker.close()

    def close(self) -> None:
        """End them all, those too that are at work. There is nothing to keep from then on."""
        if os.getpid() != self._process:
            return  # a fork of the process that has them, which goes on with them
        with self._lock:
            self._closed = True
            busy = list(self._busy)
        for worker in busy:
            worker.kill()  # who has it closes it
        self.end()
        self._folder.cleanup()

    def _lent(self, worker: Worker, recipe: _Recipe, threads: int | None) -> Worker:
        with self._lock:
            self._busy[worker] = recipe, threads
            closed = self._closed
        if closed:
            worker.kill()
        return worker


def _recipe(environment: Environment, column: Column, task: Task) -> _Recipe:
    adapter = column.adapter
    own = [adapter.path, *([task.scenario_file] if task.scenario_file else [])]
    files = [*own, environment.path / MARKER, *_ours()]
    return _Recipe(
        tuple(serving(environment.python, column, task.scenario_file)),
        tuple(environment.variables(adapter).items()),
        tuple(sorted(os.environ.items())),
        _folder(),
        tuple(_states(files)),
    )


@cache
def _ours() -> tuple[Path, ...]:
    """The files of this program; to list them takes longer than to look at each."""
    return tuple(path for folder in (Path(__file__).parent, BACKENDS) for path in folder.rglob("*.py"))


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return ""  # it is gone


def _states(files: Sequence[Path]) -> Iterator[tuple[str, int, int]]:
    """What tells whether a file has changed."""
    for file in files:
        try:
            found: Any = file.stat()
            yield str(file), found.st_mtime_ns, found.st_size
        except OSError:
            yield str(file), 0, -1
