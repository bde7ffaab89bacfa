"""Is a step of `Trainer` as fast as what somebody writes by hand who knows the framework?

Each framework runs in its own column's environment, in one process, where our trainer and several loops by hand
(`benchmarks/loops`) take turns. The opponent is the fastest of them, by its median. `Trainer.step` and
`Trainer.run` may take at most 1.05 times as long, and a step of `train_on_batch` of Keras 3, on TensorFlow, JAX
and PyTorch, must take at least twice as long as ours.

Fair: both sides get the same NumPy batch; for `step` both give the loss as a float at each step, and for `run`
both give all losses once, at the end. All is compiled and warm before it is timed, ours with `compile=True`.
`--clock cpu` takes the seconds that a process computed for those that passed, which tells more where others use
the machine, too; with OMP_NUM_THREADS=1, so that no thread waits for another by computing.

Three nets: one of 121 numbers, where overhead rules, one of 203530, and one of 21 million, where arithmetic
rules.

Where a target is missed, and why, as far as it was looked into:

    TensorFlow, small net, `step`: the loop by hand has no Keras optimizer, whose counter and learning rate are
        two more variables for each launch of XLA, which locks and passes them one by one.
    MXNet, `step`: the loop by hand calls `sgd_update` for each parameter and nothing else. Gluon's trainer
        looks at each parameter's freshness, and makes a classic array of each, before it does the same. It is
        kept, for what it does to tied parameters is what the harness shows.
    Keras' `train_on_batch` where arithmetic rules: it is compiled by XLA, too, and both sides multiply the same
        matrices; what can be saved is what surrounds them.

What did not help MXNet: arrays that share NumPy's memory, `mx.engine.bulk`, `MXNET_MKLDNN_ENABLED=0`.

    python benchmarks/training.py [--rounds N] [--seconds S] [--nets small,middle,large] [--columns torch,jax]
        [--clock wall|cpu] [--compile True|auto|False] [--json FILE]
"""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from measuring import Row, Times, options, show, write
from rich.console import Console

from d2lparams.columns import Column, adapters, read_adapter
from d2lparams.environments import ensure

HERE = Path(__file__).resolve().parent
LOOPS = HERE / "loops"
BY_HAND, KERAS = 1.05, 0.5
ON_BATCH = "train_on_batch"

console = Console(stderr=True)


def columns() -> dict[str, tuple[Column, str, str]]:
    """Each column with its adapter's name and its loops by hand."""
    found = {
        name: (Column(name, adapter), name, f"{name}_loops")
        for name, adapter in adapters().items()
        if not adapter.reference
    }
    for name, adapter in (("keras_jax", "jax"), ("keras_torch", "torch")):
        found[name] = (Column(name, read_adapter(LOOPS / f"{name}.py")), adapter, name)
    return found


def timed(column: Column, adapter: str, loops: str, asked: Namespace) -> dict[str, Any]:
    """What `loops/timing.py` found in the column's environment."""
    environment = ensure(column, progress=lambda text: console.print(f"{column.name}: {text}", style="dim"))
    declared = {
        key: value.format(environment=environment.path) for key, value in column.adapter.environ.items()
    }
    # Keras reads it; it is nothing to the others.
    variables = {"KERAS_BACKEND": adapter, **declared, **os.environ}
    script = [str(environment.python), "-I", str(LOOPS / "timing.py"), adapter, column.adapter.class_name]
    ended = subprocess.run(
        [
            *script,
            loops,
            str(asked.rounds),
            str(asked.seconds),
            asked.compile,
            asked.clock,
            *asked.nets.split(","),
        ],
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    if ended.returncode:
        sys.exit(f"the loops of {column.name} failed, see above")
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def rows_of(title: str, found: dict[str, Any], names: dict[str, str]) -> list[Row]:
    """Ours against the fastest loop by hand, and against `train_on_batch`."""
    rows = []
    for net, timings in found.items():
        for what in ("step", "run"):
            times = {name: Times(tuple(values)) for name, values in timings[what].items()}
            if not times:
                continue
            ours, on_batch = times.pop("ours"), times.pop(ON_BATCH, None)
            details: dict[str, Any] = {"candidates": {name: one.median for name, one in times.items()}}
            if what == "run":
                details["steps"] = timings["run's steps"]
            if times:
                best = min(times, key=lambda name: times[name].median)
                said = f"{title} {names[net]}: {what}, by hand: {best}"
                rows.append(Row(said, ours, times[best], BY_HAND, details))
            if on_batch is not None:
                rows.append(Row(f"{title} {names[net]}: step, {ON_BATCH}", ours, on_batch, KERAS))
    return rows


def main() -> None:
    """Time every column, and print the table and what is missed."""
    sys.path.insert(0, str(LOOPS))
    from nets import NETS

    known = columns()
    parser = options(__doc__, rounds=9)
    parser.add_argument("--seconds", type=float, default=0.1, help="that a round of a side lasts, about")
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--columns", default=",".join(known))
    parser.add_argument("--compile", default="True", choices=["auto", "True", "False"])
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    asked = parser.parse_args()
    rows: list[Row] = []
    for name in asked.columns.split(","):
        column, adapter, loops = known[name]
        found = timed(column, adapter, loops, asked)
        rows += rows_of(column.adapter.title, found, {key: net.name for key, net in NETS.items()})
        write(asked.json, "training", rows)  # at once, so that a failure of the next loses nothing
    show(f"Training, {asked.rounds} rounds, by the clock of the {asked.clock}", rows)


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "140")
    main()
