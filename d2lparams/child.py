"""A process of ours as its parent sees it: a group to kill, a pipe that holds it, a pipe on which it reports.

It reports in lines, each an event. Its stdin is a pipe of ours that closes when we are gone, see
`errand.end_with_parent`. However it ends, no process of its group stays behind, and none that it started and
that left the group, see `leash`.

POSIX only: process groups, and pipes in `selectors`.
"""

from __future__ import annotations

import contextlib
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
from pathlib import Path
from typing import IO, Generic, Self, TypeVar

import msgspec

from d2lparams import bootstrap
from d2lparams.events import EVENT_LIMIT
from d2lparams.leash import MARK, end_marked

TICK = 0.1
"""Seconds between two looks at whether the process lives and the user has not interrupted."""

CHUNK = 2**20

Said = TypeVar("Said")


def interpreter(python: Path, *flags: str) -> list[str]:
    """What starts our first lines in a column's interpreter; what they are told follows."""
    return [
        str(python),
        "-I",  # neither the user's PYTHON* variables nor the current folder are the framework's business
        *(["-B"] if sys.dont_write_bytecode else []),
        *("-X", "faulthandler", "-X", "utf8", *flags),
        bootstrap.__file__,
    ]


class Message(msgspec.Struct, tag_field="event", tag=str.lower, frozen=True):
    """An event as a process of ours writes it, see `d2lparams.events`: named by its class."""


class Stopped(Exception):
    """The user wants no more of it."""


class TimedOut(Exception):
    """The process did not say anything until the deadline."""


class Crashed(Exception):
    """The process ended before it said so, or said what is no event."""


class Child(Generic[Said]):
    """A started process; a context manager that leaves nothing running.

    Attributes:
        what: it is called in sentences.
        decoder: reads the events that it reports.
    """

    what = "the process"
    decoder: msgspec.json.Decoder[Said]

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], stderr: int | IO[bytes]) -> None:
        """Start it.

        Args:
            arguments: the command.
            environ: variables of its environment that the user has not set.
            stderr: where its standard error goes, as `subprocess.Popen` takes it.
        """
        # A process of ours leaves without tidying up, so what frameworks write to the folder for temporary
        # files goes to one that is ours to remove.
        self._scratch = tempfile.TemporaryDirectory(prefix="d2lparams-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            arguments,
            env={**environ, **os.environ, "TMPDIR": self._scratch.name, MARK: self._scratch.name},
            stdin=subprocess.PIPE,  # it closes with us, and the process ends with it
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,  # a group of its own to kill, out of reach of the terminal's Ctrl-C
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ, self._take)
        self._lines: deque[bytes] = deque()
        self._rest = bytearray()
        self._last_call: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and give back what it had."""
        self.kill()
        end_marked(self._scratch.name)
        self.tend()
        self._selector.close()
        self._scratch.cleanup()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what was not sent any more
                    stream.close()

    @property
    def pid(self) -> int:
        """Its number, and that of its group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        return self._process.poll()

    def receive(self, deadline: float, stop: threading.Event) -> Said:
        """The next event.

        Args:
            deadline: on the clock of `time.monotonic`.
            stop: when it is set, there is no next event.

        Raises:
            Stopped: when `stop` is set.
            TimedOut: when the deadline passes first.
            Crashed: when the process ends first, or writes what is no event, or more than one may have.
        """
        line = self.receive_line(deadline, stop)
        try:
            return self.decoder.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:  # the second, of what is nested too deep
            raise Crashed(f"{self.what} wrote what is no event ({error}): {line[:80]!r}") from None

    def receive_line(self, deadline: float, stop: threading.Event) -> bytes:
        """The next event, as it was written; raises as `receive`."""
        while not self._lines:
            self.tend()
            if stop.is_set():
                raise Stopped
            # The end of the pipe says nothing: a child of the process may hold it open, and what runs in it may
            # have closed it. So the process is watched, and looked at before the pipe: what it wrote is there
            # then.
            ended = self._process.poll() is not None
            late = time.monotonic() >= deadline
            # What stands in the pipe at the deadline still counts, for it may be us who were suspended; but
            # only once, or what never stops reporting had no limit.
            if late and self._last_call == deadline:
                raise TimedOut
            self._last_call = deadline if late else None
            if not self._read(0.0 if ended or late else TICK) and ended:
                raise Crashed(self._end())
        return self._lines.popleft()

    def tend(self) -> None:
        """Look after what grows while it is waited for; called at least once in a `TICK`."""

    def kill(self) -> None:
        """End the process and everything that it started and that stayed in its group."""
        kill_group(self._process)

    def _read(self, seconds: float) -> bool:
        """Wait for something on the pipes and take it; False when there was nothing."""
        if not self._selector.get_map():
            time.sleep(seconds)
            return False
        read = [key.data() for key, _ in self._selector.select(seconds)]  # each, and not only the first
        return any(read)

    def _take(self) -> bool:
        """Take what is on the pipe with the events; False when that was its end."""
        chunk = os.read(self._pipe, CHUNK)
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
            raise Crashed(f"{self.what} wrote an event of more than {EVENT_LIMIT >> 20} MiB")
        return True

    def _end(self) -> str:
        return f"{self.what} {ending(self._process.returncode, before='it had reported')}"


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and everything that it started and that stayed in it."""
    # A group can outlive its leader, so this is for a dead process too. EPERM is how macOS says that only dead
    # processes are left in it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # A process that hangs in a driver cannot be killed, nor may it hold us.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)


def ending(code: int, before: str = "") -> str:
    """How a process ended, by its exit code: "left with exit code 3", "was killed by SIGSEGV".

    Args:
        code: negative for a signal.
        before: what a process that left by itself had not done yet.
    """
    if code >= 0:
        return f"left with exit code {code}{before and f' before {before}'}"
    names = {one.value: one.name for one in signal.Signals}
    hint = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
    return f"was killed by {names.get(-code, f'signal {-code}')}{hint}"
