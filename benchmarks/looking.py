"""What does it take to look at a large model, against the framework's own way to list what is in it?

Two models, 2 GB each, float32: one of 10,000 parameter tensors (5,000 dense layers, 320 wide), and one of 16
(8 layers, 8192 wide). Ours is `backend.parameters(model)`: of every use name, access, shapes, type, storage.
Theirs gives name, shape and type of each, in the same process, in turn:

    torch       dict(net.named_parameters(remove_duplicate=False))
    mxnet       net.collect_params()
    jax         jax.tree_util.tree_leaves_with_path(variables), and keystr for the name
    tensorflow  net.weights

The figure is the median of the rounds' ratios, with the quartiles; 1.5 is what is promised. Memory is what the
process had more of once the list was there, as a share of the model; 0.01 is what is promised.

The models are those that a framework applies in order (`nn.Sequential` and the like), and nothing is left over
from call to call but what is compiled or imported: both sides are called once on a small model before. A class
of the user's own is read by what it does. Flax traces it the first time that it is seen, and MXNet makes a
graph of it each time; that is shown, too, and nothing is promised of it. Time is the processor's, so that
neighbours on the machine count little; a look that is shorter than 20 ms is repeated.

    python benchmarks/looking.py [--quick] [--rounds 9] [--only NAME ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from measuring import Times, ratio, write  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from d2lparams import bootstrap  # noqa: E402
from d2lparams.columns import Column, adapters  # noqa: E402
from d2lparams.environments import ensure  # noqa: E402

PROMISED_TIME, PROMISED_MEMORY = 1.5, 0.01
MANY, LARGE = (5000, 320), (8, 8192)  # layers, width

console = Console()


def main() -> None:
    """Measure every framework in its environment, and print the table."""
    parser = argparse.ArgumentParser(description="What it takes to look at a large model.")
    parser.add_argument("--quick", action="store_true", help="small models, to see that it runs")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="*", default=[], help="frameworks")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"))
    given = parser.parse_args()
    table = Table(
        *("framework", "model", "tensors", "MB", "ours, ms", "theirs, ms"),
        *("ratio, quartiles", "first look, ms", "memory", "bytes a use"),
        title=f"looking, {given.rounds} rounds",
    )
    rows = []
    for name in given.only or [name for name, one in adapters().items() if not one.reference]:
        for one in measured(name, given.rounds, given.quick):
            ours, theirs = Times(one["ours"]), Times(one["theirs"])
            found = ratio(ours, theirs)
            share = one["grown"] / one["bytes"]
            rows.append({"framework": name, **one, "ratio": found.median, "quartiles": [found.low, found.high]})
            table.add_row(
                name,
                one["model"],
                f"{one['tensors']:,}",
                f"{one['bytes'] / 1e6:,.0f}",
                f"{ours.median * 1e3:.2f}",
                f"{theirs.median * 1e3:.2f}",
                str(found),
                f"{one['first'] * 1e3:.1f}",
                f"{share:.2%}",
                f"{one['grown'] / one['tensors']:,.0f}",
            )
            if one["promised"] and not given.quick:
                say(f"{name}, {one['model']}: time", found.median, PROMISED_TIME)
                say(f"{name}, {one['model']}: memory", share, PROMISED_MEMORY)
            write(given.json, "looking", rows)
    console.print(table)


def say(what: str, found: float, promised: float) -> None:
    """A figure against what is promised."""
    missed = "" if found <= promised else "; missed"
    console.print(f"{what} {found:.4f} (promised: at most {promised}){missed}", style="bold")


def measured(name: str, rounds: int, quick: bool) -> list[dict]:
    """What the process in a framework's environment found."""
    adapter = adapters()[name]
    environment = ensure(Column(name, adapter), progress=lambda text: console.print(text, style="dim"))
    many, large = ((20, 8), (2, 64)) if quick else (MANY, LARGE)
    order = {"backend": name, "class": adapter.class_name, "rounds": rounds, "many": many, "large": large}
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [
                *(str(environment.python), "-I", str(HERE / "looking_inside.py")),
                *(bootstrap.__file__, json.dumps(order)),
            ],
            env={**environment.variables(adapter), **os.environ, "TMPDIR": scratch},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    found: list[dict] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "150")
    main()
