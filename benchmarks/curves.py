"""A curve: the same work at sizes from the smallest to the largest, and the exponent of how it grows.

The exponent is the slope of a straight line through the logarithms of size and time (least squares) over the
upper range: the sizes within a factor of 10 of the largest, at least three, for below it rules what a call
costs at all. Every round times all sizes in turn and gives an exponent; the figure is the median, with the
least and the most of the rounds. 1 is linear, 2 is four times as much for twice the size. Where a part must be
linear, 1.15 at most is promised: caches that overflow cost some hundredths.

Time is the processor's, of this process, so that neighbours on the machine count little; where processes are
started it is the clock's. In a framework's process Python's collector of cycles rests, as `timeit` has it, for
it looks through the framework's own objects again and again: to build a `nn.Sequential` of PyTorch grows
with 1.26 because of that, and with 1.03 without. Where an array fits no cache any more, the machine itself is
not linear; there a bare copy is timed beside, and the exponent is the ratio's. Memory is the most that Python
and NumPy held beyond what was there before, from a call of its own. A curve ends before the size at which one
call would take longer than the limit, or at which the framework fails, and says so.

Imports NumPy and the standard library: some curves are traced in a framework's own environment.
"""

from __future__ import annotations

import gc
import math
import statistics
import sys
import time
import tracemalloc
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from measuring import Figure, options

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
        against: what else is timed on the same, in turn; the exponent is then the ratio's.
        collector: whether Python looks for cycles meanwhile.
    """

    name: str
    by: str
    sizes: Sequence[int]
    make: Callable[[int], Any]
    work: Work
    most: float | None = PROMISED
    clock: Callable[[], float] = time.process_time
    memory: bool = True
    against: Work | None = None
    collector: bool = True


@dataclass
class Curve:
    """What was measured: for each size the seconds of each round, of the other side too, and the memory."""

    question: Question
    seconds: dict[int, list[float]] = field(default_factory=dict)
    others: dict[int, list[float]] = field(default_factory=dict)
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
        """Of time, or of the ratio of times, one for each round."""
        rounds = zip(*(self.seconds[size] for size in self.upper))
        found = [slope(self.upper, times) for times in rounds]
        if not self.others:
            return found
        rounds = zip(*(self.others[size] for size in self.upper))
        return [one - slope(self.upper, times) for one, times in zip(found, rounds, strict=True)]

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
        try:
            made = question.make(size)
            first = timed(question, made)  # with what is made once, and cached
            took = timed(question, made)
        except Exception as error:  # a graph that is deeper than Python goes, say
            if len(given) < FEWEST:
                raise
            curve.cut = f"{size:,} failed: {type(error).__name__}: {str(error).strip().splitlines()[0]:.80}"
            break
        given[size] = made
        repeats[size] = max(1, math.ceil(ENOUGH / max(took, 1e-6)))
        expected = max(first, took) * (larger / size) ** max(question.most or 1, 1)
        if expected > limit:
            curve.cut = f"{larger:,} would take {expected:.1f} s"
            break
    sides = [(question, curve.seconds)]
    if question.against:
        sides.append((replace(question, work=question.against), curve.others))
    for number in range(rounds):
        for size, one in list(given.items())[:: -1 if number % 2 else 1]:
            for side, found in sides:
                if question.against:
                    # A virtual machine may take back memory that rests, and the first touch pays for it.
                    side.work(one)
                found.setdefault(size, []).append(timed(side, one, repeats[size]))
    if question.memory:
        curve.memory = {size: held_by(question, given[size]) for size in curve.upper}
    return curve


def timed(question: Question, given: Any, repeats: int = 1) -> float:
    """Seconds of a call. What lies about from before is collected first, and is not this one's."""
    gc.collect()
    if not question.collector:
        gc.disable()
    try:
        began = question.clock()
        for _ in range(repeats):
            question.work(given)
        return (question.clock() - began) / repeats
    finally:
        gc.enable()


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


def figure(curve: Curve) -> Figure:
    """The exponent of a curve, with all that was measured."""
    question, found, memory = curve.question, curve.exponents, curve.memory_exponent
    return Figure(
        f"{question.name}, by {question.by} from {curve.upper[0]:,} to {curve.upper[-1]:,}",
        statistics.median(found),
        min(found),
        max(found),
        question.most,
        details={
            "by": question.by,
            "seconds": curve.seconds,
            "seconds of the other side": curve.others,
            "bytes": curve.memory,
            "upper range": curve.upper,
            "exponents": found,
            "memory's exponent": None if math.isnan(memory) else memory,
            "cut": curve.cut,
        },
    )


def arguments(doc: str) -> ArgumentParser:
    """What is asked of who traces curves."""
    parser = options(doc, rounds=3)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--limit", type=float, default=35.0, help="seconds of one call")
    parser.add_argument("--only", nargs="*", default=[], help="parts of names, or what grows")
    return parser


def traced(
    questions: Iterable[Question], given: Namespace, keep: Callable[[list[Figure]], None]
) -> list[Figure]:
    """The figures of those questions that are asked for, each told as soon as it is there.

    Args:
        questions: in their order.
        given: what was asked, see `arguments`.
        keep: is handed the figures so far after each; whatever becomes of the next, they are not lost.
    """
    figures: list[Figure] = []
    for question in questions:
        if given.only and not any(one in f"{question.by}: {question.name}" for one in given.only):
            continue
        curve = trace(question, given.rounds, given.limit)
        figures.append(figure(curve))
        say(curve, figures[-1])
        keep(figures)
    return figures


def say(curve: Curve, found: Figure) -> None:
    """A line on the screen; a framework's environment has nothing that would make it more than that."""
    last = curve.upper[-1]
    parts = [f"{found.what}: exponent {found}", f"{statistics.median(curve.seconds[last]):.3g} s at {last:,}"]
    if curve.memory.get(last):
        parts.append(f"{curve.memory[last] / 1e6:.3g} MB, exponent {curve.memory_exponent:.2f}")
    if curve.cut:
        parts.append(f"ended there: {curve.cut}")
    sys.stdout.write("; ".join(parts) + "\n")
    sys.stdout.flush()
