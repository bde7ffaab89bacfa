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

    python benchmarks/looking.py [--rounds 9] [--json FILE] [--quick] [--only NAME ...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from measuring import Figure, Row, Times, options, show, write  # noqa: E402
from rich.console import Console  # noqa: E402

from d2lparams import bootstrap  # noqa: E402
from d2lparams.columns import Column, adapters  # noqa: E402
from d2lparams.environments import ensure  # noqa: E402

PROMISED_TIME, PROMISED_MEMORY = 1.5, 0.01
MANY, LARGE = (5000, 320), (8, 8192)  # layers, width

console = Console()


def main() -> None:
    """Measure every framework in its environment, and print the table."""
    parser = options(__doc__, rounds=9)
    parser.add_argument("--quick", action="store_true", help="small models, to see that it runs")
    parser.add_argument("--only", nargs="*", default=[], help="frameworks")
    given = parser.parse_args()
    rows: list[Row | Figure] = []
    for name in given.only or [name for name, one in adapters().items() if not one.reference]:
        for one in measured(name, given.rounds, given.quick):
            rows += figures(name, one, promised=one["promised"] and not given.quick)
            write(given.json, "looking", rows)  # at once, so that a failure of the next loses nothing
    show(f"looking at a model, {given.rounds} rounds", rows)


def figures(name: str, found: dict[str, Any], *, promised: bool) -> list[Row | Figure]:
    """Of one model: the time against the framework's own list, and the memory as a share of the model."""
    size, tensors = found["bytes"], found["tensors"]
    what = f"{name}, {found['model']}: {tensors:,} tensors, {size / 1e6:,.0f} MB"
    share = found["grown"] / size
    details = {"first look": found["first"], "bytes a use": found["grown"] / tensors}
    ours, theirs = Times(tuple(found["ours"])), Times(tuple(found["theirs"]))
    return [
        Row(what, ours, theirs, PROMISED_TIME if promised else None, details),
        Figure(f"{what}: memory", share, share, share, PROMISED_MEMORY if promised else None, ".2%", details),
    ]


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
