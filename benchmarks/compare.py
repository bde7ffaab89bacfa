"""How long does `d2lparams compare` take, against what its parts need by themselves?

The opponent is a bound that no harness can beat by much. Each framework alone: one process that imports it and
runs the same scenarios, without a harness, environments ready. The command cannot be faster than the slowest
of these, nor than all of them divided by the cores. Both sides are timed in the same run, in turn, on the same
machine; the figure is the ratio of the medians, and 1.5 is what is promised.

    python benchmarks/compare.py [ROUNDS]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from d2lparams import bootstrap
from d2lparams.columns import Column, adapters
from d2lparams.environments import ensure
from d2lparams.runner import usable_cores

PROMISED = 1.5

ALONE = """
import runpy, sys
runpy.run_path(sys.argv[1])["expose"]()
from importlib import import_module
from d2lparams.scenarios import scenarios
from d2lparams.worker import execute
backend = getattr(import_module(sys.argv[2]), sys.argv[3])()
results = [execute(scenario, backend) for scenario in scenarios().values() if not scenario.full]
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


def main(rounds: int) -> None:
    """Time everything in turn, and print the table and the ratio."""
    whole = [str(Path(sys.executable).with_name("d2lparams")), "compare", "--offline"]
    alone: dict[str, list[str]] = {}
    imports: dict[str, list[str]] = {}
    variables: dict[str, dict[str, str]] = {}
    for name, adapter in adapters().items():
        environment = ensure(Column(name, adapter), progress=lambda text: console.print(text, style="dim"))
        python = str(environment.python)
        variables[name] = {
            key: value.format(environment=environment.path) for key, value in adapter.environ.items()
        }
        alone[name] = [python, "-I", "-c", ALONE, bootstrap.__file__, f"backends.{name}", adapter.class_name]
        imports[name] = [python, "-I", "-c", f"import {', '.join(adapter.modules)}"]
    times: dict[str, list[float]] = {"compare": [], **{name: [] for name in alone}}
    bare: dict[str, list[float]] = {name: [] for name in imports}
    seconds(whole)  # so that files are in memory for everyone
    for _ in range(rounds):
        for name in alone:
            bare[name].append(seconds(imports[name]))
            times[name].append(seconds(alone[name], variables[name]))
        times["compare"].append(seconds(whole))

    table = Table(
        "alone", "bare import, s", "import and scenarios, s", "spread", title=f"{rounds} rounds, medians"
    )
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name in alone:
        spread = f"{min(times[name]):.2f} to {max(times[name]):.2f}"
        table.add_row(name, f"{statistics.median(bare[name]):.2f}", f"{medians[name]:.2f}", spread)
    console.print(table)
    cores = usable_cores()
    slowest, shared = max(medians[name] for name in alone), sum(medians[name] for name in alone) / cores
    bound = max(slowest, shared)
    spread = f"{min(times['compare']):.2f} to {max(times['compare']):.2f}"
    console.print(
        f"the slowest alone {slowest:.2f} s; all of them on {cores} cores {shared:.2f} s; bound {bound:.2f} s"
    )
    console.print(f"d2lparams compare {medians['compare']:.2f} s ({spread})")
    console.print(f"ratio {medians['compare'] / bound:.2f} (promised: at most {PROMISED})", style="bold")


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "100")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
