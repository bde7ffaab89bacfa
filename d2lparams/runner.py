"""Runs columns side by side and gathers a Run from each.

What can go wrong in a column stays in it, and everything beside it is as if nothing had been. However a run
ends, by Ctrl-C too, no process of its stays behind.

The parent never imports a framework; it only reads what the workers report.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from d2lparams import environments
from d2lparams.columns import Column
from d2lparams.failures import failure
from d2lparams.history import longest_first, remember
from d2lparams.interrupts import interrupts
from d2lparams.process import TICK, Task
from d2lparams.results import Failure, Run, ScenarioResult, release
from d2lparams.scenarios import Scenario
from d2lparams.variation import Variation
from d2lparams.watcher import INTERRUPTED, Event, blank_run, run_column
from d2lparams.workers import Workers

__all__ = ["Event", "Interrupted", "run", "run_column", "usable_cores"]

KEPT_LOGS = 20
"""The log folders of so many runs are kept."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run. Everything has been stopped; `runs` holds what was known by then.

    Or another signal that `run` was told to heed, see `signal_number`.

    A KeyboardInterrupt, so that it means what Ctrl-C always means to a caller who does not look for it.
    """

    def __init__(self, runs: list[Run], signal_number: int) -> None:
        super().__init__("the run was interrupted")
        self.runs = runs
        self.signal_number = signal_number


def run(
    columns: Sequence[Column],
    scenarios: Sequence[Scenario],
    *,
    timeout: float = 60.0,
    jobs: int | None = None,
    offline: bool = False,
    rebuild: bool = False,
    executor: Executor | None = None,
    on_event: Callable[[Event], None] | None = None,
    logs: Path | None = None,
    scenario_file: Path | None = None,
    takes_part: Sequence[Collection[str]] | None = None,
    given: Mapping[str, str] | None = None,
    variation: Variation | None = None,
    heed: Sequence[signal.Signals] = (signal.SIGINT,),
    workers: Workers | None = None,
) -> list[Run]:
    """Run scenarios on columns, the columns at the same time, those that took longest before first.

    Args:
        columns: each needs a name of its own.
        scenarios: all of them run on every column.
        timeout: wall-clock seconds that one scenario may take on one column.
        jobs: how many columns run at once; by default one for each core that this process may use.
        offline: build no environment from anything but what is on this machine.
        rebuild: build environments anew that are there already.
        executor: runs `run_column` for each column instead of threads of our own, `jobs` being its own matter.
            Then `on_event` hears only of columns that have finished, and an interrupt takes back the columns
            that have not begun, but has to leave those that have to the executor's processes.
        on_event: is told of progress, one call at a time, not always from the same thread.
        logs: the folder for the logs, one file per column; by default a new one beside the environments.
        scenario_file: a file of scenarios that workers take instead of the program's own.
        takes_part: for each stage of the scenarios, the names of the columns that run it; None: all do.
        given: what scenarios find in `Observer.given`, by name.
        variation: the seed and the form of what scenarios use; None changes nothing.
        heed: the signals that end a run early, where they are not ignored.
        workers: where the columns' workers come from, unless there is an `executor`; by default each is started
            for this run and ended after it.

    Returns:
        A run for each column, in the order asked for.

    Raises:
        Interrupted: when a signal to heed, Ctrl-C by default, has come; it carries the runs.
        OSError: when there is no place for the logs.
    """
    logs = _new_log_folder() if logs is None else logs
    logs.mkdir(parents=True, exist_ok=True)
    blank = [ScenarioResult(one.name, one.section, one.title) for one in scenarios]
    stages = {one.name: one.stages for one in scenarios}
    last = max(stages.values(), default=1)
    tell = _one_at_a_time(on_event)
    work = partial(run_column, timeout=timeout, offline=offline)
    runs: dict[str, Run] = {}
    with interrupts(heed) as interrupted, _exchange(last) as folder:
        for stage in range(last):
            todo = [
                (column, cells)
                for column in columns
                if takes_part is None or column.name in takes_part[stage]
                if (cells := _due(runs.get(column.name), blank, stages, stage)) or stage == 0
            ]
            task = Task(scenario_file, stage, folder, given or {}, variation or Variation())
            # A column that has more to do has not ended yet.
            more = {name for name, number in stages.items() if number > stage + 1}
            ended = _run_stage(
                todo,
                partial(work, rebuild=rebuild and stage == 0, task=task),
                logs=logs,
                jobs=jobs,
                executor=executor,
                tell=tell,
                tell_end=partial(_tell_end, tell, more),
                interrupted=interrupted,
                workers=workers,
            )
            for name, run in ended.items():
                runs[name] = _joined(runs[name], run) if name in runs else run
            if interrupted():
                break
    in_order = [runs.get(column.name) or blank_run(column, blank) for column in columns]
    for one in in_order:
        one.variation = variation or Variation()
    if interrupted():
        raise Interrupted(in_order, interrupted())
    remember(columns, in_order)
    return in_order


def _run_stage(
    todo: Sequence[tuple[Column, Sequence[ScenarioResult]]],
    work: Callable[..., Run],
    *,
    logs: Path,
    jobs: int | None,
    executor: Executor | None,
    tell: Callable[[Event], None],
    tell_end: Callable[[Run], None],
    interrupted: Callable[[], int],
    workers: Workers | None,
) -> dict[str, Run]:
    """One stage of the scenarios on the columns that have something to do in it; the runs, by column."""
    stop = threading.Event()
    own = None
    if executor is None:
        at_once = usable_cores() if jobs is None else jobs
        executor = own = ThreadPoolExecutor(at_once, "column")
        # Frameworks take all cores for themselves. Side by side they would wait for each other's threads.
        threads = max(usable_cores() // max(min(at_once, len(todo)), 1), 1)
        # What cannot be pickled goes only where nothing has to be.
        work = partial(work, threads=threads, on_event=tell, stop=stop, workers=workers)
    runs: dict[str, Run] = {}
    try:
        cells = {column.name: blank for column, blank in todo}
        futures = {
            executor.submit(work, one, cells[one.name], log=logs / f"{one.name}.log"): one
            for one in longest_first([column for column, _ in todo])
        }
        while futures:
            done, _ = wait(futures, timeout=TICK, return_when=FIRST_COMPLETED)
            if interrupted():
                stop.set()
                for future in futures:
                    future.cancel()
                # Our own threads heed `stop` and will be done in a moment; nobody else can be told.
                done = done if own else set(futures)
            for future in done:
                column = futures.pop(future)
                runs[column.name] = _outcome(future, column, cells[column.name])
                tell_end(runs[column.name])
    finally:
        # For when `on_event` raises, too: then the columns that still run are nobody's.
        stop.set()
        if own is not None:
            own.shutdown(cancel_futures=True)
    return runs


@contextmanager
def _exchange(stages: int) -> Iterator[Path | None]:
    """A folder in which one stage leaves what the next one finds; none where there is one stage only."""
    if stages == 1:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="d2lparams-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _due(
    run: Run | None, blank: Sequence[ScenarioResult], stages: Mapping[str, int], stage: int
) -> list[ScenarioResult]:
    """What a column has to do in a stage: the scenarios that have one more and went well so far, as blanks."""
    well = {cell.name for cell in run.scenarios if cell.status == "ok"} if run else {one.name for one in blank}
    return [one for one in blank if stages[one.name] > stage and one.name in well]


def _tell_end(tell: Callable[[Event], None], more: Collection[str], run: Run) -> None:
    """Tell of a column that has ended a stage, unless one of its scenarios has another one."""
    if not any(cell.status == "ok" and cell.name in more for cell in run.scenarios):
        tell(_finished(run))


def _joined(before: Run, after: Run) -> Run:
    """A column's run with what a later stage saw added to it; what went wrong first is its status."""
    cells = {cell.name: cell for cell in after.scenarios}
    for cell in before.scenarios:
        if cell.name in cells:
            later = cells[cell.name]
            cell.observations += later.observations
            cell.called |= later.called
            cell.seconds += later.seconds
            cell.status, cell.error = later.status, later.error
    before.seconds += after.seconds
    before.code |= after.code
    if before.status == "ok":
        before.status, before.error = after.status, after.error
    return before


def usable_cores() -> int:
    """How many cores this process may use, which in a container is fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _outcome(future: Future[Run], column: Column, scenarios: Sequence[ScenarioResult]) -> Run:
    """What a future came to; when that is nothing, a run that says why."""
    error: BaseException | None = None
    if future.done() and not future.cancelled():
        error = future.exception()
        if error is None:
            return future.result()
    run = blank_run(column, scenarios)
    # Ctrl-C reaches every process of the terminal: an executor's processes report it as their exception.
    if error is None or isinstance(error, KeyboardInterrupt):
        run.error = Failure(INTERRUPTED)
    else:
        run.status, run.error = "failed", failure(error)
    for cell in run.scenarios:
        cell.error = Failure(run.error.message)
    return run


def _finished(run: Run) -> Event:
    done = sum(cell.status != "not-run" for cell in run.scenarios)
    return Event(run.name, run.status, done, len(run.scenarios), run.seconds, run.status, release(run.versions))


def _one_at_a_time(on_event: Callable[[Event], None] | None) -> Callable[[Event], None]:
    """The callback, spared from being called by two threads at once."""
    lock = threading.Lock()

    def tell(event: Event) -> None:
        if on_event is not None:
            with lock:
                on_event(event)

    return tell


def _new_log_folder() -> Path:
    """A folder for the logs of one run; those of the oldest runs are thrown away."""
    root = environments.cache_root() / "logs"
    # Names in the order of time, and never the same twice.
    folder = root / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{os.getpid()}"
    folder.mkdir(parents=True)
    for old in sorted(root.iterdir())[:-KEPT_LOGS]:
        shutil.rmtree(old, ignore_errors=True)
    return folder
