"""What every benchmark does: time two or more sides in turn, and tell of figures with their spread and target.

Most figures are ratios. The sides take turns in one run on one machine, the order is turned round in every
round, and the ratio is taken round by round, so that what else the machine does meets both sides alike.

Imports the standard library only (and `rich` where a table is shown), for some sides are timed in a framework's
own environment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Times:
    """What a side took, in seconds, a value for each round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of all rounds."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The fastest round."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The slowest round."""
        return max(self.values)


@dataclass(frozen=True)
class Ratio:
    """How many times as long as their side ours took: the median of the rounds' ratios, and their quartiles."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Figure:
    """A number that something is promised of: a ratio, an exponent, a share of memory.

    Attributes:
        what: it is of, in words.
        value: the number.
        low: of its spread; the value itself where it was taken once.
        high: of its spread.
        target: the largest value that is promised; None where nothing is.
        written: how it is shown, as `format` takes it.
        details: what it is made of, by name; as JSON.
    """

    what: str
    value: float
    low: float
    high: float
    target: float | None = None
    written: str = ".2f"
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether what is promised holds."""
        return self.target is None or self.value <= self.target

    def __str__(self) -> str:
        value, low, high = (format(one, self.written) for one in (self.value, self.low, self.high))
        return value if low == high == value else f"{value} ({low} to {high})"

    @property
    def promised(self) -> str:
        """The target, and whether it is met."""
        if self.target is None:
            return "nothing"
        return f"at most {self.target:{self.written}}: {'met' if self.met else 'missed'}"


@dataclass(frozen=True)
class Row:
    """Two sides that were timed in turn.

    Attributes:
        what: was timed, in words.
        ours: seconds.
        theirs: seconds of the side that ours is held against.
        target: the ratio of ours to theirs that is promised; None where nothing is.
        details: further figures, by name.
    """

    what: str
    ours: Times
    theirs: Times
    target: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> Ratio:
        """Of ours to theirs."""
        return ratio(self.ours, self.theirs)

    @property
    def figure(self) -> Figure:
        """The ratio, with all that was timed."""
        found, times = self.ratio, {"ours": list(self.ours.values), "theirs": list(self.theirs.values)}
        return Figure(
            self.what, found.median, found.low, found.high, self.target, details={**times, **self.details}
        )


def options(doc: str, rounds: int) -> argparse.ArgumentParser:
    """What every script takes: `--rounds N` and `--json FILE`.

    Args:
        doc: the script's docstring, of which the first line is shown.
        rounds: when nobody says how many.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds, help=f"in which sides take turns; {rounds}")
    parser.add_argument("--json", type=Path, help="a file that the figures are added to")
    return parser


def measure(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Times]:
    """Time sides in turn.

    Args:
        sides: each gives the seconds of one round.
        rounds: at least 1.

    Returns:
        The times of each side, in the order of the rounds.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for place in range(rounds):
        for name, side in list(sides.items())[:: -1 if place % 2 else 1]:
            found[name].append(side())
    return {name: Times(tuple(values)) for name, values in found.items()}


def seconds(work: Callable[[], Any], times: int = 1, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of work, of one time on average; of the wall's clock, unless another is given."""
    began = clock()
    for _ in range(times):
        work()
    return (clock() - began) / times


def often_enough(work: Callable[[], Any], lasting: float) -> int:
    """How many times work must be done to last so many seconds; at least once."""
    return max(1, round(lasting / max(min(seconds(work), seconds(work)), 1e-9)))


def ratio(ours: Times, theirs: Times) -> Ratio:
    """Round by round, for rounds that were timed in turn."""
    ratios = [mine / other for mine, other in zip(ours.values, theirs.values, strict=True)]
    if len(ratios) < 2:
        return Ratio(ratios[0], ratios[0], ratios[0])
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(middle, low, high)


def machine() -> dict[str, Any]:
    """What figures depend on."""
    names = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def show(title: str, rows: Sequence[Row | Figure]) -> None:
    """A table on the screen, and for each target that is missed a line that says so."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("", "ours, ms", "theirs, ms", "ratio (quartiles)", "promised", title=title)
    figures = [_figure(row) for row in rows]
    for row, figure in zip(rows, figures):
        times = [_spread(row.ours), _spread(row.theirs)] if isinstance(row, Row) else ["", ""]
        table.add_row(row.what, *times, str(figure), figure.promised)
    console.print(table)
    for figure in figures:
        if not figure.met:
            console.print(f"missed: {figure.what}: {figure}, promised at most {figure.target:{figure.written}}")
    found = machine()
    console.print(
        f"{found['processor']}, {found['cores']} cores, load {found['load']} at the end; "
        "medians, with the fastest and the slowest round",
        style="dim",
    )


def write(path: Path | str | None, question: str, rows: Sequence[Row | Figure]) -> None:
    """Put a question's figures into a file of JSON, beside those of other questions that are there.

    Args:
        path: of the file; without one nothing is written.
        question: what the figures answer.
        rows: the figures, or what they are made of.
    """
    if path is None:
        return
    file = Path(path)
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    entries = [{**vars(figure), "met": figure.met} for figure in map(_figure, rows)]
    known[question] = {"machine": machine(), "figures": entries}
    file.write_text(json.dumps(known, indent=2) + "\n", "utf-8")


def read(path: Path | str) -> dict[str, tuple[dict[str, Any], list[Figure]]]:
    """The machine and the figures of each question, from what `write` wrote."""
    known = json.loads(Path(path).read_text("utf-8"))
    return {
        question: (
            answer["machine"],
            [Figure(**{key: value for key, value in one.items() if key != "met"}) for one in answer["figures"]],
        )
        for question, answer in known.items()
    }


def _figure(row: Row | Figure) -> Figure:
    return row.figure if isinstance(row, Row) else row


def _spread(times: Times) -> str:
    return f"{1e3 * times.median:.3g} ({1e3 * times.low:.3g} to {1e3 * times.high:.3g})"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8").splitlines()
    except OSError:
        return []
