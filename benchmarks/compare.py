"""How long does `d2lparams compare` take, against what its parts need by themselves?

The opponent is a bound that no harness can beat by much. Each framework alone: one process that imports it and
runs the same scenarios, without a harness, environments ready. The command cannot be faster than the slowest
of these, nor than all of them divided by the cores. Both sides are timed in the same run, in turn, on the same
machine; the figure is the median of the ratios of the rounds, and 1.15 is what is promised.

A second opponent tells how much of that is the machine's: the same processes, as many at once as there are
cores, the longest first. Cores that are busy together share memory and caches, and the last to end is alone.

A third figure is of a session: the same comparison again, in the processes that it keeps, against the first.
It is made of one scenario of milliseconds, so that it tells what a comparison costs besides.

    python benchmarks/compare.py [--rounds 3] [--json FILE] [SCENARIO...]
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

import d2lparams
from d2lparams import bootstrap
from d2lparams.columns import Column, adapters
from d2lparams.environments import ensure
from d2lparams.history import longest_first
from d2lparams.runner import usable_cores

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measuring import Row, Times, measure, options, show, write

PROMISED = 1.15

ALONE = """
import runpy, sys
runpy.run_path(sys.argv[1])["expose"]()
from importlib import import_module
from d2lparams.scenarios import scenarios
from d2lparams.worker import execute
backend = getattr(import_module(sys.argv[2]), sys.argv[3])()
chosen = [one for one in scenarios().values() if (one.name in sys.argv[4:] if sys.argv[4:] else not one.full)]
results = [execute(scenario, backend) for scenario in chosen]
assert all(result.status in ("ok", "unsupported") for result in results), results
import os
os._exit(0)
"""

console = Console()


def seconds(command: list[str], variables: Mapping[str, str] | None = None) -> float:
    """Wall-clock seconds of a command, which must succeed; with variables that an adapter declares."""
    with tempfile.TemporaryDirectory() as scratch:
        environ = {**(variables or {}), **os.environ, "TMPDIR": scratch}
        began = time.perf_counter()
        ended = subprocess.run(
            command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        took = time.perf_counter() - began
    if ended.returncode:
        sys.exit(f"{command} failed:\n{ended.stderr}")
    return took


def pool(alone: Mapping[str, Callable[[], float]], order: Sequence[str]) -> float:
    """Seconds of all processes, as many at once as there are cores."""
    began = time.perf_counter()
    with ThreadPoolExecutor(usable_cores()) as at_once:
        list(at_once.map(lambda name: alone[name](), order))
    return time.perf_counter() - began


def session(columns: list[str], again: bool) -> float:
    """Seconds of a comparison in a new session, or of the second one in it."""
    chosen = {"scenarios": ["layer-access"], "offline": True}
    with d2lparams.Session(columns) as made:
        for _ in range(1 + again):
            began = time.perf_counter()
            made.compare(**chosen)
            took = time.perf_counter() - began
    return took


def main(rounds: int, file: Path | None, scenarios: list[str]) -> None:
    """Time everything in turn, and print the table and the ratios."""
    options = [f"--scenario={name}" for name in scenarios]
    whole = [sys.executable, "-P", "-m", "d2lparams", "compare", "--offline", *options]
    sides: dict[str, Callable[[], float]] = {}
    for name, adapter in adapters().items():
        environment = ensure(Column(name, adapter), progress=lambda text: console.print(text, style="dim"))
        python, variables = str(environment.python), environment.variables(adapter)
        program = [ALONE, bootstrap.__file__, f"backends.{name}", adapter.class_name, *scenarios]
        bare = f"import {', '.join(adapter.modules)}"
        sides[f"{name}, import"] = partial(seconds, [python, "-I", "-c", bare])
        sides[name] = partial(seconds, [python, "-I", "-c", *program], variables)
    sides["compare"] = partial(seconds, whole)
    seconds(whole)  # so that files are in memory for everyone
    cores, names = usable_cores(), list(adapters())
    order = [column.name for column in longest_first([Column(*one) for one in adapters().items()])]
    sides["pool"] = partial(pool, {name: sides[name] for name in names}, order)
    times = measure(sides, rounds)
    alone = list(zip(*(times[name].values for name in names)))
    bound = Times(tuple(max(*one, sum(one) / cores) for one in alone))
    again = measure({text: partial(session, names, text == "again") for text in ("first", "again")}, rounds)

    table = Table("", "bare import, s", "import and scenarios, s", "spread", title=f"{rounds} rounds, medians")
    for name in [*names, "pool", "compare"]:
        import_ = f"{times[f'{name}, import'].median:.2f}" if name in names else ""
        spread = f"{times[name].low:.2f} to {times[name].high:.2f}"
        table.add_row(name, import_, f"{times[name].median:.2f}", spread)
    console.print(table)
    rows = [
        Row(
            "compare, against the slowest alone or all on the cores",
            times["compare"],
            bound,
            PROMISED,
            {"seconds": {name: values.values for name, values in times.items()}},
        ),
        Row("compare, against the same processes in a pool", times["compare"], times["pool"]),
        Row("the same again in a session, against the first time", again["again"], again["first"]),
    ]
    show("what a comparison takes", rows)
    write(file, "a comparison", rows)


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "100")
    parser = options(__doc__, rounds=3)
    parser.add_argument("scenarios", nargs="*", help="all, but for those that take long")
    given = parser.parse_args()
    main(given.rounds, given.json, given.scenarios)
