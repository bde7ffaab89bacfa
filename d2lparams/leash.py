"""What we start ends with us, wherever it went: in a group of its own, in a session of its own, as a daemon.

A process on a leash holds the other end of a pipe of ours as its stdin, and leads a group. A guard in that
group waits for the pipe to close, which is how it learns that we are gone, killed perhaps. It is a process and
no thread: in the one that it guards no thread may run, for a framework can hold the interpreter's lock.

What left the group is found by `MARK` in the environment that it inherited; that takes Linux, where /proc shows
environments. What wiped its environment is not found.

As a script, `python -I -S leash.py COMMAND...` puts a leash on itself and becomes the command.

Standard library only: this runs inside every framework's environment, and stands alone as a script.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

MARK = "D2LPARAMS_LEASH"
"""The variable by which what a process has started is found: a path that no other process of ours has."""

_ROUNDS = 100


def end_marked(mark: str) -> None:
    """Kill all processes but this one that have the mark in their environment, and wait until they are dead."""
    entry = os.fsencode(f"{MARK}={mark}")
    # Again and again: while one is killed, another may be born of it.
    for _ in range(_ROUNDS):
        found = _with(entry)
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(0.01)


def guard(lifeline: int) -> None:
    """Start the guard of this process, which leads its group.

    Args:
        lifeline: the descriptor of the pipe's end that it holds.
    """
    leader = os.getpid()
    if os.getpgrp() != leader:
        return  # a group of somebody else, who would be killed too
    middle = os.fork()
    if middle == 0:
        # By two forks, so that it is no child of a framework that waits for its children.
        if os.fork() == 0:
            _watch(lifeline, leader)
        os._exit(0)
    os.waitpid(middle, 0)


def _watch(lifeline: int, leader: int) -> None:
    # It must not hold what others wait for the end of.
    for first, last in ((0, lifeline), (lifeline + 1, 4096)):
        os.closerange(first, last)
    closed = select.poll()
    closed.register(lifeline, 0)  # nothing but its end is waited for
    while not closed.poll():
        continue
    if mark := os.environ.get(MARK):
        end_marked(mark)
        if os.environ.get("TMPDIR") == mark:
            import shutil  # takes longer to load than all the rest here, and is hardly ever needed

            shutil.rmtree(mark, ignore_errors=True)
    os.killpg(leader, signal.SIGKILL)  # last, for the guard is one of them


def _with(entry: bytes) -> list[int]:
    found = []
    names = os.listdir("/proc") if os.path.isdir("/proc") else []  # noqa: PTH112, PTH208  (loads faster)
    for pid in map(int, filter(str.isdecimal, names)):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
                environ = file.read()
        except OSError:
            continue  # it has ended, or is another user's
        if pid != os.getpid() and entry in environ.split(b"\0"):
            found.append(pid)
    return found


if __name__ == "__main__":
    kept = os.dup(0)
    os.set_inheritable(kept, False)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    guard(kept)
    os.execv(sys.argv[1], sys.argv[1:])
