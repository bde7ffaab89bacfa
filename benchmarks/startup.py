"""How long do `d2lparams --help`, `list` and a usage error take, against the libraries that they stand on?

The opponent is `python -c "import typer, rich"`: whoever reads arguments with typer and prints with rich
pays for that. Both sides are processes of one interpreter, in turn, in one run; the figure is the median of the
ratios of the rounds, and 2 is what is promised. Environments are those of the user's cache; `list` looks for
them.

    python benchmarks/startup.py [--rounds 15] [--json FILE]
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measuring import Row, Times, measure, options, show, write

PROMISED = 2.0
COMMAND = "import sys; sys.argv[0] = 'd2lparams'; from d2lparams.__main__ import main; main()"
LIBRARIES, OURS = "import typer, rich", ("--help", "list", "compare no-such-column")


def seconds(spent: list[float], program: str, *arguments: str, code: int = 0) -> float:
    """Wall-clock seconds of a program, which must end with an exit code; those of processors go to a list."""
    before, began = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]), time.perf_counter()
    # What is installed, which is compiled, and not what stands in the current folder.
    command = [sys.executable, "-P", "-c", program, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True)
    took = time.perf_counter() - began
    spent.append(sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before)
    if ended.returncode != code:
        sys.exit(f"{program} {arguments} left with exit code {ended.returncode}:\n{ended.stderr}")
    return took


def main(rounds: int, file: Path | None) -> None:
    """Time everything in turn, and print the table."""
    spent: dict[str, list[float]] = {name: [] for name in (LIBRARIES, *OURS)}
    sides: dict[str, Callable[[], float]] = {LIBRARIES: partial(seconds, spent[LIBRARIES], LIBRARIES)}
    for text in OURS:
        code = 2 if "no-such" in text else 0
        sides[text] = partial(seconds, spent[text], COMMAND, *text.split(), code=code)
    for one in sides.values():
        one()  # so that files are in memory, and compiled, for everyone
    for values in spent.values():
        values.clear()
    times = measure(sides, rounds)
    # Where others use the machine, too, what a process spends says more than how long it takes.
    busy = {name: Times(tuple(values)) for name, values in spent.items()}
    rows = []
    for name in OURS:
        rows.append(Row(name, times[name], times[LIBRARIES], PROMISED))
        rows.append(Row(f"{name}, processor time", busy[name], busy[LIBRARIES], PROMISED))
    show("what a start takes", rows)
    write(file, "a start", rows)


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "100")
    given = options(__doc__, rounds=15).parse_args()
    main(given.rounds, given.json)
