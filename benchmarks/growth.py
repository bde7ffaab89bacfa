"""How does the time and the memory of each part grow: with layers, width, steps, columns, observations?

A curve for each question: the same work at sizes from the smallest to the largest. The exponent is the slope
of a straight line through the logarithms of size and time (least squares) over the upper range: the sizes
within a factor of 10 of the largest, at least three, for below it rules what a call costs at all. Every round
times all sizes in turn and gives an exponent; the figure is the median, with the least and the most of the
rounds. 1 is linear, 2 is four times as much for twice the size. Where a part must be linear, 1.15 at most is
promised: caches that overflow cost some hundredths.

Time is the processor's, of this process, so that neighbours on the machine count little; where processes are
started it is the clock's. Memory is the most that Python and NumPy held beyond what was there before, from a
call of its own. A curve ends before the size at which one call would take longer than the limit, and says so.

    python benchmarks/growth.py [--quick] [--rounds 3] [--limit 20] [--only NAME ...] [--json FILE]

In the environment of a framework (`d2lparams env path torch`), `--backend torch` measures layers, width and
steps there instead of on the reference.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # in a framework's environment the harness is not installed

from measuring import write  # noqa: E402

from d2lparams.interface import MLP, SGD, Backend, partition, unique  # noqa: E402
from d2lparams.results import Observation, Outcome, Run, ScenarioResult  # noqa: E402

PROMISED = 1.15
UPPER = 10  # the largest size by the smallest of the upper range
FEWEST = 3  # sizes of the upper range
ENOUGH = 0.05  # seconds that a call is repeated for when it is shorter

Work = Callable[[Any], Any]


@dataclass(frozen=True)
class Question:
    """One curve.

    Attributes:
        name: what is done.
        by: what grows.
        sizes: from the smallest to the largest.
        make: gives what is worked on, at a size.
        work: is timed.
        most: the exponent that is promised for its time; None where nothing is.
        clock: what tells the seconds.
        memory: whether Python's own count of memory says all.
    """

    name: str
    by: str
    sizes: Sequence[int]
    make: Callable[[int], Any]
    work: Work
    most: float | None = PROMISED
    clock: Callable[[], float] = time.process_time
    memory: bool = True


@dataclass
class Curve:
    """What was measured: for each size the seconds of each round, and the memory."""

    question: Question
    seconds: dict[int, list[float]] = field(default_factory=dict)
    memory: dict[int, int] = field(default_factory=dict)
    cut: str = ""

    @property
    def upper(self) -> list[int]:
        """The sizes that an exponent is taken from."""
        sizes = sorted(self.seconds)
        near = [size for size in sizes if size * UPPER >= sizes[-1]]
        return near if len(near) >= FEWEST else sizes[-FEWEST:]

    @property
    def exponents(self) -> list[float]:
        """Of time, one for each round."""
        rounds = zip(*(self.seconds[size] for size in self.upper))
        return [slope(self.upper, times) for times in rounds]

    @property
    def memory_exponent(self) -> float:
        """Of memory; not a number where it was not taken."""
        sizes = [size for size in self.upper if size in self.memory]
        return slope(sizes, [self.memory[size] for size in sizes]) if len(sizes) > 1 else math.nan


def slope(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The exponent of values that grow with sizes."""
    x, y = np.log(np.array(sizes, float)), np.log(np.maximum(np.array(values, float), 1e-9))
    return float(np.polyfit(x, y, 1)[0])


def trace(question: Question, rounds: int, limit: float) -> Curve:
    """Measure one curve; sizes that would take longer than the limit are left out."""
    curve = Curve(question)
    given: dict[int, Any] = {}
    repeats: dict[int, int] = {}
    for size, larger in zip(question.sizes, [*question.sizes[1:], 0]):
        given[size] = question.make(size)
        timed(question, given[size])  # what is made once, and cached
        took = timed(question, given[size])
        repeats[size] = max(1, math.ceil(ENOUGH / max(took, 1e-6)))
        expected = took * (larger / size) ** (question.most or 1)
        if expected > limit:
            curve.cut = f"{larger:,} would take {expected:.1f} s"
            break
    curve.seconds = {size: [] for size in given}
    for number in range(rounds):
        for size, one in list(given.items())[:: -1 if number % 2 else 1]:
            curve.seconds[size].append(timed(question, one, repeats[size]))
    if question.memory:
        curve.memory = {size: held_by(question, given[size]) for size in curve.upper}
    return curve


def timed(question: Question, given: Any, repeats: int = 1) -> float:
    """Seconds of a call. What lies about from before is collected first, and is not this one's."""
    gc.collect()
    began = question.clock()
    for _ in range(repeats):
        question.work(given)
    return (question.clock() - began) / repeats


def held_by(question: Question, given: Any) -> int:
    """The most bytes that a call held, beyond what there was."""
    gc.collect()
    tracemalloc.start()
    try:
        question.work(given)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def sizes(first: int, last: int) -> list[int]:
    """1, 3, 10, 30 and so on, and the last."""
    found, step = [], first
    while step < last:
        found.append(step)
        step = step * 3 if str(step)[0] == "1" else step // 3 * 10
    return [*found, last]


def doubling(first: int, last: int) -> list[int]:
    """Powers of two."""
    return [2**power for power in range(int(math.log2(first)), int(math.log2(last)) + 1)]


# -- observations --------------------------------------------------------------------------------------------


def runs(rows: int, each: int, columns: int = 3) -> list[Run]:
    """A reference and frameworks that saw so many observations, so many in each scenario; like real ones."""
    return [
        Run(
            name="numpy" if column == 0 else f"fake {column}",
            backend="numpy",
            title="NumPy" if column == 0 else f"Fake {column}",
            reference=column == 0,
            versions={"numpy": "2.4.6"},
            python="3.11.7",
            status="ok",
            scenarios=[
                ScenarioResult(
                    f"scenario-{number}",
                    "6.2.1",
                    f"Scenario {number}",
                    "ok",
                    observations=[observation(place, column) for place in range(min(each, rows - first))],
                )
                for number, first in enumerate(range(0, rows, each))
            ],
        )
        for column in range(columns)
    ]


def observation(place: int, column: int) -> Observation:
    """The one at a place of a scenario: one in four is an array, a trait that differs, a text, an outcome."""
    match place % 4:
        case 0:
            values = [[place + 0.25 * row + column * 1e-12 for _ in range(4)] for row in range(4)]
            return Observation(f"weight {place}", "invariant", values, rtol=1e-9)
        case 1:
            return Observation(f"names {place}", "trait", [f"layer {place}.weight of {column}", "(8, 4)"])
        case 2:
            return Observation(f"count {place}", "invariant", place, expected=place)
    word = ("kept", "broken", "refused")[(place // 4 + column) % 3]
    outcome = Outcome(word, f"copy.deepcopy(net[{place}])", {"storages": f"{place} of {column}"}, "")
    return Observation(f"way {place}", "outcome", vars(outcome))


def questions_of_observations(last: int) -> Iterator[Question]:
    """The parts that an observation passes, from a worker to each report; in small and in large scenarios."""
    from d2lparams.comparison import compare_runs
    from d2lparams.merging import merge
    from d2lparams.reports.document import from_json, to_json

    for each in (20, 5000):
        said = f"{each} a scenario"

        def alone(rows: int, each: int = each) -> Run:
            return runs(rows, each, 1)[0]

        def compared(rows: int, each: int = each) -> Any:
            return compare_runs(runs(rows, each))

        asked: dict[str, tuple[Callable[[int], Any], Work]] = {
            "a worker's events": (alone, told),
            "read by the parent": (lambda rows, alone=alone: lines(alone(rows)), read),
            "compared": (lambda rows, each=each: runs(rows, each), compare_runs),
            "merged": (lambda rows, compared=compared: {"a": compared(rows), "b": compared(rows)}, merge),
            "JSON, read": (lambda rows, compared=compared: to_json(compared(rows)), from_json),
            **{name: (compared, report) for name, report in reports().items()},
        }
        for name, (make, work) in asked.items():
            yield Question(f"{name}, {said}", "observations", sizes(10, last), make, work)


def reports() -> dict[str, Work]:
    """Everything that a comparison is shown as."""
    from d2lparams.reports.document import to_json
    from d2lparams.reports.markdown import to_markdown
    from d2lparams.reports.notebook import comparison_html
    from d2lparams.reports.page import to_html

    return {
        "JSON, written": to_json,
        "terminal, 200 wide": lambda comparison: printed(comparison, 200),
        "terminal, 80 wide": lambda comparison: printed(comparison, 80),
        "Markdown": to_markdown,
        "page": to_html,
        "notebook": comparison_html,
    }


def told(run: Run) -> None:
    """What a worker does with each observation: it is checked, made JSON of, and sent."""
    from d2lparams.events import Events
    from d2lparams.scenarios import Observer

    null = os.open(os.devnull, os.O_WRONLY)
    events = Events(null, 2)
    for result in run.scenarios:
        observer = Observer(
            lambda seen, name=result.name: events.send("observed", scenario=name, observation=vars(seen))
        )
        for one in result.observations:
            observer._take(one)
    events._stream.close()


def lines(run: Run) -> list[bytes]:
    """The events of a run."""
    import json

    return [
        json.dumps({"event": "observed", "scenario": result.name, "observation": vars(one)}).encode()
        for result in run.scenarios
        for one in result.observations
    ]


def read(said: Sequence[bytes]) -> list[Any]:
    """What the parent does with each event."""
    from d2lparams.process import Worker

    return [Worker.decoder.decode(line) for line in said]


def printed(comparison: Any, width: int) -> None:
    """The comparison on a terminal of a width."""
    from rich.console import Console

    from d2lparams.reports.terminal import ComparisonView

    with Path(os.devnull).open("w", encoding="utf-8") as null:
        Console(file=null, width=width, force_terminal=True).print(ComparisonView(comparison))


# -- columns -------------------------------------------------------------------------------------------------


def questions_of_columns(last: int, rows: int) -> Iterator[Question]:
    """Columns side by side: the parts of the road, and the whole of it with columns that are one, repeated."""
    from d2lparams.comparison import compare_runs
    from d2lparams.merging import merge

    def compared(columns: int) -> Any:
        return compare_runs(runs(rows, 20, columns))

    asked: dict[str, tuple[Callable[[int], Any], Work]] = {
        "compared": (lambda columns: runs(rows, 20, columns), compare_runs),
        "merged, a file for each": (
            lambda columns: {f"{one}.json": compared(2) for one in range(columns)},
            merge,
        ),
        **{name: (compared, report) for name, report in reports().items()},
    }
    for name, (make, work) in asked.items():
        yield Question(f"{name}, {rows} observations", "columns", doubling(1, last), make, work)
    # The same work for each, on so many cores.
    yield Question(
        "run: a worker for each, one scenario",
        "columns",
        doubling(1, last),
        repeated_columns,
        lambda work: work(),
        clock=time.perf_counter,
        memory=False,
    )


def repeated_columns(columns: int) -> Callable[[], None]:
    """The reference as so many columns, each with a process of its own, one environment for all."""
    import tempfile

    from d2lparams import environments
    from d2lparams.columns import parse_column
    from d2lparams.runner import run
    from d2lparams.scenarios import scenarios

    first = parse_column("numpy")
    ready = environments.ensure(first)
    cache = Path(tempfile.mkdtemp(prefix="growth-"))
    asked = [replace(first, name=f"numpy-{number}") for number in range(columns)]

    def work() -> None:
        before = os.environ.get("D2LPARAMS_CACHE")
        os.environ["D2LPARAMS_CACHE"] = str(cache)
        try:
            for column in asked:
                place = environments.location(column)
                place.parent.mkdir(parents=True, exist_ok=True)
                if not place.exists():
                    place.symlink_to(ready.path)
            found = run(asked, [scenarios()["tied-by-construction"]], offline=True)
            assert all(one.status == "ok" for one in found), [one.error for one in found]
        finally:
            os.environ.pop("D2LPARAMS_CACHE")
            if before is not None:
                os.environ["D2LPARAMS_CACHE"] = before

    return work


# -- layers, width, steps ------------------------------------------------------------------------------------


def questions_of_models(backend: Backend[Any], layers: int, width: int, steps: int) -> Iterator[Question]:
    """What the harness does to a model, by its layers, its width, and how long it is trained."""
    plain = backend.name == "numpy"

    def deep(number: int) -> Any:
        return backend.mlp(MLP((8,) * (number + 1), activation="tanh"))

    def wide(number: int) -> Any:
        return backend.mlp(MLP((number, number)))

    def batch(inputs: int = 8) -> tuple[Any, Any]:
        return np.ones((4, inputs), "float32"), np.ones((4, inputs), "float32")

    def trained(model: Any, inputs: int, number: int = 1) -> tuple[Any, ...]:
        return backend.trainer(model, SGD(0.125, momentum=0.875)), *batch(inputs), number

    def values(model: Any) -> list[float]:
        return [float(one.value.sum()) for one in backend.parameters(model)]

    looks: dict[str, Work] = {
        "parameters(model)": backend.parameters,
        "unique": lambda model: unique(backend.parameters(model)),
        "partition": lambda model: partition(backend.parameters(model)),
        "the table of them": lambda model: repr(backend.parameters(model)),
        "every value read": values,
        "forward": lambda model: backend.forward(model, batch()[0]),
        "gradients": lambda model: backend.gradients(model, *batch()),
    }
    asked: dict[str, tuple[Callable[[int], Any], Work]] = {
        "mlp(spec)": (lambda number: number, deep),
        **{name: (deep, look) for name, look in looks.items()},
        "one step": (lambda number: trained(deep(number), 8), stepped),
    }
    if plain:

        def tied(number: int) -> Any:
            return backend.mlp(MLP((8,) * (number + 2), tied=(tuple(range(number + 1)),)))

        asked["all layers one storage: the table"] = tied, lambda model: repr(backend.parameters(model))
    for name, (make, work) in asked.items():
        yield Question(f"{backend.name}: {name}", "layers", sizes(1, layers), make, work, memory=plain)
    # Twice as wide is four times as many values, and linear in those is an exponent of 2.
    across: dict[str, tuple[Callable[[int], Any], Work, float]] = {
        "parameters(model)": (wide, backend.parameters, 0.15),
        "every value read": (wide, values, 2 * PROMISED),
        "one step": (lambda number: trained(wide(number), number), stepped, 2 * PROMISED),
    }
    for name, (make, work, most) in across.items():
        yield Question(f"{backend.name}: {name}", "width", doubling(8, width), make, work, most, memory=plain)
    make = partial(trained, deep(2), 8)
    yield Question(f"{backend.name}: Trainer.step", "steps", sizes(1, steps), make, stepped, memory=plain)


def stepped(given: tuple[Any, ...]) -> None:
    """So many steps."""
    trainer, x, y, number = given
    for _ in range(number):
        trainer.step(x, y)


# -- everything ----------------------------------------------------------------------------------------------


def questions(quick: bool, backend: str) -> Iterator[Question]:
    """All of them, or those of one framework in its environment."""
    adapter = {"numpy": "NumpyBackend", "torch": "TorchBackend", "mxnet": "MXNetBackend", "jax": "JaxBackend"}
    module = import_module(f"backends.{backend}")
    made = getattr(module, {**adapter, "tensorflow": "TensorFlowBackend"}[backend])()
    if backend == "numpy":
        yield from questions_of_observations(100 if quick else 100_000)
        yield from questions_of_columns(4 if quick else 32, 40 if quick else 400)
    yield from questions_of_models(made, *((30, 64, 100) if quick else (10_000, 8192, 100_000)))


def shown(curve: Curve) -> list[str]:
    """A row of the table."""
    question, found, sizes = curve.question, curve.exponents, sorted(curve.seconds)
    last = sizes[-1]
    median = statistics.median(found)
    most = question.most
    held = "" if most is None else "yes" if median <= most else "NO"
    memory = curve.memory_exponent
    largest = curve.memory.get(last)
    return [
        question.by,
        question.name,
        f"{curve.upper[0]:,} to {last:,}",
        f"{statistics.median(curve.seconds[last]):.3g}",
        f"{median:.2f} ({min(found):.2f} to {max(found):.2f})",
        "-" if most is None else f"{most:g}: {held}",
        "-" if math.isnan(memory) else f"{memory:.2f}",
        "-" if largest is None else f"{largest / 1e6:.3g}",
        curve.cut or "-",
    ]


HEADINGS = (
    "by",
    "what",
    "upper range",
    "s at the largest",
    "exponent, spread",
    "promised",
    "memory's",
    "MB at most",
    "ended by the limit",
)


def say(text: str) -> None:
    """A line on the screen; a framework's environment has nothing that would make it more than that."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Measure every curve, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description="How time and memory grow.")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds of one call")
    parser.add_argument("--only", nargs="*", default=[], help="parts of names, or what grows")
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"))
    given = parser.parse_args()
    rows, entries = [], []
    for question in questions(given.quick, given.backend):
        if given.only and not any(one in f"{question.by}: {question.name}" for one in given.only):
            continue
        curve = trace(question, given.rounds, given.limit)
        rows.append(shown(curve))
        say(" | ".join(rows[-1]))
        entries.append(entry(curve))
        write(given.json, f"growth, {given.backend}", entries)
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows)]
    say("")
    for row in (HEADINGS, *rows):
        say("  ".join(map(str.ljust, row, widths)).rstrip())
    missed = [row for row in rows if row[5].endswith("NO")]
    say(f"\n{len(rows) - len(missed)} of {len(rows)} curves are within what is promised")
    for row in missed:
        say(f"missed: {row[0]}: {row[1]}: {row[4]}, promised {row[5].partition(':')[0]}")


def entry(curve: Curve) -> dict[str, Any]:
    """A curve for the JSON."""
    question, memory = curve.question, curve.memory_exponent
    return {
        "by": question.by,
        "what": question.name,
        "seconds": curve.seconds,
        "bytes": curve.memory,
        "upper range": curve.upper,
        "exponents": curve.exponents,
        "memory's exponent": None if math.isnan(memory) else memory,
        "promised": question.most,
        "cut": curve.cut,
    }


if __name__ == "__main__":
    main()
