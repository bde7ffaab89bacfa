"""Shows one program of a search in the process that asks for it: what the scripts of findings call.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from d2lparams.exploring.executing import execute, load_backend
from d2lparams.exploring.judging import MUST, judge
from d2lparams.exploring.program import Program, described


def show(adapter: str, class_name: str, data: Mapping[str, Any], operation: str, violated: str) -> NoReturn:
    """Run a program and print what it does; exit with 0 when it deviates as stated, with 1 when it does not.

    Args:
        adapter: the module or the file of the backend.
        class_name: of the backend.
        data: the program, as JSON holds it.
        operation: at which it deviates.
        violated: a word of `judging.MUST`.
    """
    program, seen = Program.from_json(data), []
    steps = iter([described(program.spec), *map(str, program.operations), "end"])
    print(next(steps), flush=True)  # noqa: T201  (a script prints)
    # Each line is there before what it says is done: the last one tells what crashed.
    for one in execute(load_backend(adapter, class_name), program):
        seen.append(one)
        print(f"then {next(steps)}", flush=True)  # noqa: T201
    deviation = judge(program, seen)
    if deviation is None:
        print("all holds")  # noqa: T201
        sys.exit(1)
    print(f"must hold: {MUST[deviation.violated]}")  # noqa: T201
    print(f"seen, {deviation.operation}: {deviation.seen}", flush=True)  # noqa: T201
    sys.exit((deviation.operation, deviation.violated) != (operation, violated))
