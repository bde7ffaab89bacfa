"""Takes one column from its environment to its Run: starts its worker, watches it, starts it again.

What goes wrong here costs its own cells and says why in them: an environment that cannot be built, a backend
that cannot be imported, a scenario that raises, hangs or takes its process along. What was seen before is kept,
and a cell is never missing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from d2lparams import environments
from d2lparams.columns import Column
from d2lparams.events import heading
from d2lparams.failures import failure
from d2lparams.process import (
    AnyMessage,
    Called,
    Crashed,
    Failed,
    Finished,
    Observed,
    Ready,
    Started,
    Stopped,
    Task,
    TimedOut,
    Worker,
)
from d2lparams.results import Failure, Run, ScenarioResult, Status, release
from d2lparams.workers import Workers

START_LIMIT = 300.0
"""Seconds until a worker must be ready. An import from a cold disk takes long."""

INTERRUPTED = "interrupted"
"""The reason in the cells that Ctrl-C cost."""


@dataclass(frozen=True)
class Event:
    """What a column has just come to, for a progress display.

    Attributes:
        column: its name.
        activity: a step of the build, "starting", or the scenario that runs; at the end the column's status.
        done: how many scenarios have ended.
        total: how many there are.
        seconds: since the column began.
        status: None while the column is at work.
        release: what its environment has installed, such as "torch 2.13.0"; "" until there is one.
    """

    column: str
    activity: str
    done: int
    total: int
    seconds: float
    status: Status | None = None
    release: str = ""


def run_column(
    column: Column,
    scenarios: Sequence[ScenarioResult],
    *,
    log: Path,
    timeout: float = 60.0,
    offline: bool = False,
    rebuild: bool = False,
    threads: int | None = None,
    task: Task | None = None,
    on_event: Callable[[Event], None] | None = None,
    stop: threading.Event | None = None,
    workers: Workers | None = None,
) -> Run:
    """Run scenarios on one column, from its environment to its results. What goes wrong stands in the Run.

    Without the last three arguments it can be pickled, with all that it takes and gives.

    Args:
        column: what to run on.
        scenarios: what to run, as results that are still blank; they are not changed.
        log: the file that the worker's output is appended to.
        timeout: wall-clock seconds that one scenario may take.
        offline: build no environment from anything but what is on this machine.
        rebuild: build the environment anew when it is there already.
        threads: how many the worker computes with, where nobody says otherwise.
        task: what is asked of its workers beside the scenarios.
        on_event: as for `run`.
        stop: when it is set, the worker is killed and what has not ended is not run.
        workers: where its workers come from; by default each is started for it and ended after it.
    """
    watched = _Column(column, scenarios, log, timeout, threads, on_event, stop, workers)
    return watched.run(offline, rebuild, task or Task())


class _NotStarted(Exception):
    """A worker ended before it was ready: how that is entered."""

    def __init__(self, status: Status, error: Failure, reason: str) -> None:
        super().__init__(error.message)
        self.status, self.error, self.reason = status, error, reason


class _Column:
    """One column on its way from environment to Run."""

    def __init__(
        self,
        column: Column,
        scenarios: Sequence[ScenarioResult],
        log: Path,
        timeout: float,
        threads: int | None,
        on_event: Callable[[Event], None] | None,
        stop: threading.Event | None,
        workers: Workers | None,
    ) -> None:
        self._column = column
        self._result = blank_run(column, scenarios)
        self._pending = list(self._result.scenarios)  # the first is the one that runs, or runs next
        self._log = log
        self._timeout = timeout
        self._threads = threads
        self._on_event = on_event
        self._stop = stop or threading.Event()
        self._workers = workers or Workers()
        self._began = time.monotonic()
        self._ready = False
        self._turn = 0.0  # when the worker was started, or last began or ended a scenario

    def run(self, offline: bool, rebuild: bool, task: Task) -> Run:
        """Everything; see `run_column`."""
        result, began = self._result, self._began
        try:
            environment = environments.ensure(
                self._column, offline=offline, rebuild=rebuild, progress=self._tell, cancelled=self._stop
            )
            result.versions, result.python = environment.versions, environment.python_version
            result.log = str(self._log)
            if self._pending:
                began = time.monotonic()  # of the work; where there is none, to build was all of it
            mended = False
            while self._pending:
                try:
                    self._follow(environment, task)
                except _NotStarted as mishap:
                    # Its framework could be imported once. Where it no longer can, the environment was harmed.
                    if mended or mishap.status == "timeout" or not self._mend(environment, offline):
                        self._give_up(mishap.status, mishap.error, mishap.reason)
                    mended = True
        except environments.InstallFailed as error:
            result.log = str(error.log)
            self._give_up("install-failed", error.failure, "the environment could not be built")
        except (environments.Cancelled, Stopped):
            self._give_up("not-run", Failure(INTERRUPTED), INTERRUPTED)
        except Exception as error:
            # What nobody foresaw, a full disk say, costs this column and not those beside it.
            self._give_up("failed", failure(error), "the column could not be run")
        self._conclude()
        result.seconds = time.monotonic() - began
        return result

    def _mend(self, environment: environments.Environment, offline: bool) -> bool:
        return environments.mend(
            self._column, environment, offline=offline, progress=self._tell, cancelled=self._stop
        )

    def _follow(self, environment: environments.Environment, task: Task) -> None:
        """Start a worker for what has not run yet, and follow it to its end."""
        self._tell("starting")
        names = [cell.name for cell in self._pending]
        try:
            worker = self._workers.take(environment, self._column, names, task, self._log, self._threads)
        except OSError as error:
            raise _NotStarted("failed", failure(error), "the worker could not be started") from error
        try:
            self._work(worker)
        except _NotStarted:
            # One that was kept has died meanwhile: that says nothing of the next, which is new.
            if not worker.kept:
                raise
            worker.kill()
        except BaseException:
            worker.kill()
            raise
        finally:
            self._workers.give_back(self._column, worker)

    def _work(self, worker: Worker) -> None:
        """Follow one worker. It takes at least one scenario off the list, so that there is an end to them."""
        self._ready, self._turn = False, time.monotonic()
        limit = START_LIMIT
        try:
            while self._pending:
                limit = self._timeout if self._ready else START_LIMIT
                self._take(worker.receive(self._turn + limit, self._stop))
        except TimedOut:
            worker.show_stacks()
            self._lose("timeout", f"killed after {limit:g} s", worker)
        except Crashed as error:
            self._lose("crashed", str(error), worker)

    def _take(self, message: AnyMessage) -> None:
        """Enter what a worker reports; it can only be about the scenario whose turn it is."""
        cell = self._pending[0]
        match message:
            case Ready() if not self._ready:
                self._result.versions, self._result.python = message.versions, message.python
                self._result.platform = message.platform
                self._ready, self._turn = True, time.monotonic()
            case Failed() if not self._ready:
                raise _NotStarted("failed", message.error, "the backend could not be imported")
            case Started(scenario=cell.name) if self._ready:
                self._turn = time.monotonic()
                self._tell(cell.name)
            case Called(scenario=cell.name):
                cell.called[message.asked] = message.name
                self._result.code |= message.code
            case Observed(scenario=cell.name):
                cell.observations.append(message.observation)
            case Finished(scenario=cell.name):
                cell.status, cell.seconds, cell.error = message.status, message.seconds, message.error
                self._turn = time.monotonic()
                del self._pending[0]
            case _:
                raise Crashed(f"the worker reported out of turn: {message!r:.80}")

    def _lose(self, status: Status, message: str, worker: Worker) -> None:
        """Enter that a worker did not report an end: of the scenario whose turn it was, or of its own start."""
        worker.kill()
        if not self._ready:
            error = Failure(f"{message}; it was still importing the backend", worker.log_tail())
            raise _NotStarted(status, error, "the worker could not be started")
        cell = self._pending.pop(0)
        cell.status, cell.error = status, Failure(message, worker.log_tail(heading(cell.name)))
        cell.seconds = time.monotonic() - self._turn

    def _give_up(self, status: Status, error: Failure, reason: str) -> None:
        """Nothing more can be run on this column."""
        self._result.status, self._result.error = status, error
        for cell in self._pending:
            cell.error = Failure(reason)
        self._pending.clear()

    def _conclude(self) -> None:
        """The column's status, where it has not been given up: that of the first scenario that went wrong.

        A scenario's comes before that of a column given up, for it came first.
        """
        result = self._result
        wrong = [cell for cell in result.scenarios if cell.status not in ("ok", "unsupported", "not-run")]
        if wrong:
            result.status = wrong[0].status
            error = wrong[0].error or Failure(wrong[0].status)
            result.error = replace(error, message=f"{wrong[0].name}: {error.message}")
        elif result.error is None:
            result.status = "ok"

    def _tell(self, activity: str) -> None:
        if self._on_event is not None:
            total = len(self._result.scenarios)
            seconds = time.monotonic() - self._began
            done = total - len(self._pending)
            installed = release(self._result.versions)
            self._on_event(Event(self._column.name, activity, done, total, seconds, release=installed))


def blank_run(column: Column, scenarios: Sequence[ScenarioResult]) -> Run:
    """A column's run before it began."""
    adapter = column.adapter
    cells = [replace(cell, observations=[], called={}) for cell in scenarios]
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return Run(column.name, adapter.name, adapter.title, adapter.reference, scenarios=cells, date=date)
