"""The process that runs one function elsewhere: in a column's environment, or away from the parent's memory.

It is told in JSON what to run and how much it may take, and answers with one line of JSON on the stdout that it
was given: `{"value": ...}`, or `{"bad": ...}`, what is wrong with a file, or `{"failed": ..., "detail": ...}`.
What else is printed goes where errors go. It ends with its parent, whose pipe it holds as its stdin.

Standard library only: the function's own module decides what is loaded, after the limits are set.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from d2lparams.leash import guard


def main(arguments: Sequence[str]) -> NoReturn:
    """Run the function that is asked for, answer, and leave."""
    (order,) = map(json.loads, arguments)
    answers = os.dup(1)
    os.dup2(2, 1)
    end_with_parent()
    limit(order["memory"])
    with os.fdopen(answers, "wb") as stream:
        stream.write(answer(order["function"], order["arguments"]))
    # A framework's way out takes seconds, and all is said.
    os._exit(0)


def answer(function: str, arguments: dict[str, Any]) -> bytes:
    """Run `module:function` and put what came of it into a line."""
    try:
        module, _, name = function.partition(":")
        found: dict[str, Any] = {"value": getattr(importlib.import_module(module), name)(**arguments)}
    except BaseException as error:  # one that calls sys.exit() has not answered either
        if type(error).__name__ == "BadFile":
            found = {"bad": str(error)}
        else:
            message = " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())
            found = {"failed": message[:300], "detail": traceback.format_exc()}
    # A lone surrogate has no place in JSON that is sent as UTF-8; escaped, it has.
    return json.dumps(found).encode("ascii") + b"\n"


def limit(memory: int) -> None:
    """Take no more memory than so many bytes, where the system can see to that; no core file in any case."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        # What is mapped and only read does not count, so that a file of any size can be looked at.
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    faulthandler.enable()


def end_with_parent(hear: Callable[[bytes], object] = lambda line: None) -> None:
    """Take stdin, which closes when the parent is gone; leave an empty one behind.

    Args:
        hear: is told each line that the parent writes, in a thread of its own.
    """
    lifeline = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    guard(lifeline)

    def watch() -> None:
        with os.fdopen(lifeline, "rb") as lines:
            for line in lines:
                hear(line)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # and what was started from here
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
