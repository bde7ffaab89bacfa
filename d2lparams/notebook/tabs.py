"""The processes behind the tabs: one for each column, kept from cell to cell.

What goes wrong in one stays in it: an exception, a crash, an environment that cannot be built is the result of
its own part of the cell. No process stays behind: each leads a group of its own, and ends with us.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

import msgspec

from d2lparams import environments
from d2lparams.bootstrap import CELLS
from d2lparams.bounded import Bounded
from d2lparams.child import CHUNK, TICK, Child, Crashed, Message, Stopped, TimedOut, ending, interpreter
from d2lparams.columns import Column, UsageError
from d2lparams.failures import failure
from d2lparams.results import Failure, Status
from d2lparams.watcher import Event

GRACE = 3.0
"""Seconds that a cell has to stop when it is interrupted; then its process is killed."""

_NEVER = threading.Event()


class Ready(Message, frozen=True):
    """It has started."""


class Started(Message, frozen=True):
    """A cell begins."""


class Shown(Message, frozen=True):
    """A value or a figure."""

    data: dict[str, str]


class Ended(Message, frozen=True):
    """How a cell ended."""

    error: Failure | None
    seconds: float


AnyMessage = Ready | Started | Shown | Ended
"""What the process reports, see `d2lparams.cells`."""


@dataclass
class Output:
    """What came of one part of a cell on one column.

    Attributes:
        column: whose process ran it.
        notes: what is to be known of the process, in sentences.
        printed: what it printed, by Python and by C code, in order.
        shown: the value of the last expression, and figures, each by MIME type.
        error: why it did not end well.
    """

    column: Column
    notes: list[str] = field(default_factory=list)
    printed: str = ""
    shown: list[dict[str, str]] = field(default_factory=list)
    error: Failure | None = None


@dataclass(frozen=True)
class Order:
    """What is to be run where.

    Attributes:
        columns: on each of them.
        source: of the cell, numbered as `splitting.Part.source` is.
        filename: what tracebacks call the cell.
        requirements: what the environment has beside the framework.
        offline: build no environment from anything but what is on this machine.
    """

    columns: Sequence[Column]
    source: str
    filename: str
    requirements: tuple[str, ...] = ()
    offline: bool = False


class CellProcess(Child[AnyMessage]):
    """A started process that runs cells."""

    decoder = msgspec.json.Decoder(AnyMessage)

    def __init__(self, environment: environments.Environment, column: Column) -> None:
        # Unbuffered: what is printed comes in order, and a crash does not take it along.
        command = [*interpreter(environment.python, "-u"), CELLS]
        super().__init__(command, environment.variables(column.adapter), subprocess.PIPE)
        assert self._process.stderr is not None
        self._printed = self._process.stderr.fileno()
        os.set_blocking(self._printed, False)
        self._selector.register(self._printed, selectors.EVENT_READ, self._hear)
        self.hear: Callable[[bytes], object] = lambda chunk: None

    def send(self, source: str, filename: str) -> None:
        """Have it run a cell.

        Raises:
            Crashed: when it is not there any more.
        """
        assert self._process.stdin is not None
        order = json.dumps({"source": source, "filename": filename}).encode()
        try:
            self._process.stdin.write(order + b"\n")
            self._process.stdin.flush()
        except OSError:
            self._process.wait(10)
            raise Crashed(self._end()) from None

    def interrupt(self) -> None:
        """What Ctrl-C is to a program."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def drain(self) -> None:
        """Hear what has been printed by now. No more than a pipe holds: a thread may print for ever."""
        for _ in range(16):
            if not self._printed_more():
                break

    def _printed_more(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            if chunk := os.read(self._printed, CHUNK):
                self.hear(chunk)
                return True
        return False

    def _hear(self) -> bool:
        more = self._printed_more()
        if not more:  # the cell has closed it
            self._selector.unregister(self._printed)
        return more

    def _end(self) -> str:
        return f"the process {ending(self._process.returncode)}"


class Tab:
    """A column's process, from cell to cell."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self._process: CellProcess | None = None
        self._requirements: tuple[str, ...] = ()
        self._lost = ""
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The process's number; None where there is none."""
        return self._process.pid if self._process and self._process.exit_code is None else None

    @property
    def requirements(self) -> tuple[str, ...]:
        """What its environment has beside the framework."""
        return self._requirements

    def check(self, requirements: Sequence[str]) -> None:
        """Whether the process can run what needs these.

        Raises:
            UsageError: when it runs in an environment without one of them.
        """
        missing = [one for one in requirements if one not in self._requirements]
        if missing and self.pid is not None:
            name = self.column.name
            raise UsageError(
                f"the process of {name} runs without {' and '.join(missing)}; `%tab --stop {name}` ends it and "
                "its state, and the next cell can have it"
            )

    def run(self, order: Order, tell: Callable[[str], None], stop: threading.Event) -> Output:
        """Run a part of a cell; what goes wrong stands in the output.

        Args:
            order: what to run.
            tell: is told in a few words what is being done.
            stop: when it is set, the cell is interrupted.
        """
        output, printed, heard = Output(self.column), Bounded(), False

        def hear(chunk: bytes) -> None:
            nonlocal heard
            heard = True
            printed.add(chunk)
            lines = chunk[-1000:].decode("utf-8", "replace").split("\n")
            # A line break may come by itself.
            if said := [line for line in lines if line.strip()]:
                tell(f"running: {said[-1]}")

        def begin() -> None:
            # It comes another way than what is printed, which may be heard first and says more.
            if not heard:
                tell("running")

        with self._lock:
            try:
                process = self._started(order, tell, stop, output.notes)
                process.hear = hear
                self._follow(process, order, begin, stop, output)
            except environments.InstallFailed as error:
                output.error = error.failure
            except (environments.Cancelled, Stopped):
                output.error = Failure("interrupted before it began")
            except (Crashed, TimedOut) as error:
                self._lose(output, str(error))
            except Exception as error:
                # What nobody foresaw, a full disk say, costs this part and not those beside it.
                self._lose(output, failure(error).message)
            if self._process is not None:
                self._process.hear = lambda chunk: None
        output.printed = str(printed)
        return output

    def stop(self) -> bool:
        """End the process, and its state; False when there was none."""
        # A cell that runs in it holds the lock, and is told of its end by the end itself.
        process = self._process
        if process is not None:
            process.kill()
        with self._lock:
            had, self._lost = self._process is not None, ""
            self._close()
        return had

    def forget(self) -> None:
        """The next process has what its cell asks for, and no more."""
        self._requirements = ()

    def _started(
        self, order: Order, tell: Callable[[str], None], stop: threading.Event, notes: list[str]
    ) -> CellProcess:
        """The process, which is started when there is none, or none any more."""
        if self._process is not None and self._process.exit_code is not None:
            self._lost = f"the process {ending(self._process.exit_code)} between two cells"
            self._close()
        if self._process is not None:
            return self._process
        self._requirements = tuple(dict.fromkeys((*self._requirements, *order.requirements)))
        adapter = self.column.adapter
        column = replace(
            self.column, adapter=replace(adapter, dependencies=(*adapter.dependencies, *self._requirements))
        )
        environment = environments.ensure(column, offline=order.offline, progress=tell, cancelled=stop)
        tell("starting")
        if self._lost:
            notes.append(f"This is a new process, and what was defined before is gone: {self._lost}.")
            self._lost = ""
        self._process = CellProcess(environment, column)
        return self._process

    def _follow(
        self,
        process: CellProcess,
        order: Order,
        begin: Callable[[], None],
        stop: threading.Event,
        output: Output,
    ) -> None:
        """From a cell's begin to its end."""
        process.send(order.source, order.filename)
        deadline, heeded, started = math.inf, stop, False
        while True:
            try:
                match process.receive(deadline, heeded):
                    case Started():
                        started = True
                        begin()
                        if heeded is not stop:
                            process.interrupt()
                    case Shown(data):
                        output.shown.append(data)
                    case Ended(error):
                        process.drain()
                        output.error = error
                        return
            except Stopped:
                deadline, heeded = time.monotonic() + GRACE, _NEVER
                if started:
                    process.interrupt()
            except TimedOut:
                raise TimedOut(f"the cell did not stop within {GRACE:g} s and its process was killed") from None

    def _lose(self, output: Output, reason: str) -> None:
        """Enter that the process is gone, and its state with it."""
        if self._process is not None:
            self._process.drain()
            self._close()
        output.error = Failure(f"{reason}; its state is lost, and the next cell begins with a new process")
        self._lost = reason

    def _close(self) -> None:
        if self._process is not None:
            self._process.close()
        self._process = None


class Tabs:
    """All tabs of a notebook."""

    def __init__(self) -> None:
        self._tabs: dict[str, Tab] = {}

    @property
    def running(self) -> Mapping[str, Tab]:
        """Those that have a process, by the name of the column."""
        return {name: tab for name, tab in self._tabs.items() if tab.pid is not None}

    def run(
        self,
        orders: Sequence[Order],
        interrupted: Callable[[], int],
        on_event: Callable[[Event], None],
    ) -> list[Output]:
        """Run the parts of a cell, those of different columns at the same time.

        Args:
            orders: the parts, in their order; on one column they run one after the other, until one fails.
            interrupted: whether the user wants no more of it.
            on_event: is told of progress, from several threads.

        Returns:
            What came of them, by column, in the order in which columns are named first.

        Raises:
            UsageError: when a process that runs lacks what a part asks for; then nothing is run.
        """
        todo: dict[str, list[Order]] = {}
        for order in orders:
            for column in order.columns:
                tab = self._tabs.setdefault(column.name, Tab(column))
                if tab.column != column:
                    raise UsageError(
                        f"two files for one column: {tab.column.adapter.path} and {column.adapter.path}"
                    )
                tab.check(order.requirements)
                todo.setdefault(column.name, []).append(order)
        stop = threading.Event()
        with ThreadPoolExecutor(max(len(todo), 1), "tab") as executor:
            futures = [
                executor.submit(_run_all, self._tabs[name], parts, stop, on_event)
                for name, parts in todo.items()
            ]
            waiting = set(futures)
            try:
                while waiting:
                    _, waiting = wait(waiting, timeout=TICK, return_when=FIRST_COMPLETED)
                    if interrupted():
                        stop.set()
            finally:
                stop.set()  # for what is raised here; what has ended does not look at it any more
        return [output for future in futures for output in future.result()]

    def stop(self, names: Sequence[str] = ()) -> list[str]:
        """End these processes, or all; the names of those that were there."""
        ended = [name for name in names or list(self._tabs) if name in self._tabs and self._tabs[name].stop()]
        for name in ended:
            self._tabs[name].forget()
        return ended

    def restart(self, names: Sequence[str] = ()) -> list[str]:
        """End these processes, or all; the next cell starts new ones, in the same environments."""
        return [name for name in names or list(self._tabs) if name in self._tabs and self._tabs[name].stop()]


def _run_all(
    tab: Tab, orders: Sequence[Order], stop: threading.Event, on_event: Callable[[Event], None]
) -> list[Output]:
    """The parts of a cell for one column, until one fails."""
    began, outputs = time.monotonic(), []
    # What a later part needs, the process must have from the beginning.
    needed = tuple(dict.fromkeys(one for order in orders for one in order.requirements))

    def tell(activity: str, status: Status | None = None) -> None:
        on_event(Event(tab.column.name, activity, 0, 0, time.monotonic() - began, status))

    for order in orders:
        output = tab.run(replace(order, requirements=needed), tell, stop)
        outputs.append(output)
        if output.error is not None:
            if left := len(orders) - len(outputs):
                output.notes.append(f"What follows for it in this cell was not run ({left} more).")
            break
    status: Status = "failed" if outputs[-1].error else "ok"
    tell(status, status)
    return outputs
