"""Times our trainer and loops by hand in turn, in a framework's own environment; prints JSON as its last line.

    python timing.py ADAPTER CLASS LOOPS ROUNDS SECONDS WORD CLOCK NET...

Both sides get the same NumPy batch. For `step` both give the loss as a float at each step, and for `run` both
give all losses once, at the end. A round of a side is so many steps that it lasts about the given seconds; what
has to be compiled is compiled before. WORD is what our trainer is told for `compile`; CLOCK is "wall", or "cpu"
for the seconds that all threads of the process computed.
"""

from __future__ import annotations

import importlib
import json
import runpy
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from measuring import Times, measure, often_enough, seconds  # noqa: E402  (found by the line above)
from nets import NETS, Loop, Net  # noqa: E402

runpy.run_path(str(HERE.parent.parent / "d2lparams" / "bootstrap.py"))["expose"]()

from d2lparams.interface import LOSSES, MLP, SGD, Backend  # noqa: E402

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
WORDS: dict[str, Any] = {"auto": "auto", "True": True, "False": False}


def ours(net: Net, backend: Backend[Any], word: str) -> Loop:
    """The trainer under test."""
    spec = MLP(net.sizes, net.activation, tied=((1, 2),) if net.tied else ())  # type: ignore[arg-type]
    trainer = backend.trainer(backend.mlp(spec), SGD(net.rate), loss=LOSSES[net.labels], compile=WORDS[word])
    return Loop(trainer.step, trainer.run)


def timed(
    sides: dict[str, Callable[[], Any]], rounds: int, per_round: dict[str, int], clock: str, each: int = 1
) -> dict[str, Times]:
    """Seconds of a step, by side; a call of a side is `each` steps."""
    work = {
        name: (lambda side=side, times=per_round[name]: seconds(side, times, CLOCKS[clock]) / each)
        for name, side in sides.items()
    }
    return measure(work, rounds)


def main() -> None:
    """Read the arguments, time, print."""
    adapter, class_name, loops, rounds, lasting, word, clock, *names = sys.argv[1:]
    backend = getattr(importlib.import_module(f"backends.{adapter}"), class_name)()
    candidates = importlib.import_module(loops).CANDIDATES
    found: dict[str, Any] = {}
    for name in names:
        net = NETS[name]
        x, y = net.batch()
        made = {"ours": ours(net, backend, word), **{key: make(net) for key, make in candidates.items()}}
        steps = {key: partial(loop.step, x, y) for key, loop in made.items()}
        for _ in range(3):
            for step in steps.values():
                step()
        often = {key: often_enough(step, float(lasting)) for key, step in steps.items()}
        at_once = max(4, min(1000, 5 * often["ours"]))
        runs = {key: partial(loop.run, x, y, at_once) for key, loop in made.items() if key != "train_on_batch"}
        for run in runs.values():
            losses = run()
            assert losses.shape == (at_once,), losses
            assert (losses == losses).all(), losses  # no NaN
        by_run = timed(runs, int(rounds), dict.fromkeys(runs, 1), clock, at_once) if len(runs) > 1 else {}
        by_step = timed(steps, int(rounds), often, clock)
        found[name] = {
            "step": {key: times.values for key, times in by_step.items()},
            "run": {key: times.values for key, times in by_run.items()},
            "run's steps": at_once,
        }
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
