"""What every benchmark does: time two or more sides in turn, and tell of ratios with their spread.

A figure is a ratio. The sides take turns in one run on one machine, the order is turned round in every round,
and the ratio is taken round by round, so that what else the machine does meets both sides alike.

Imports the standard library only (and `rich` where a table is shown), for some sides are timed in a framework's
own environment.
"""

from __future__ import annotations

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

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Row:
    """One question's answer.

    Attributes:
        what: was compared, in words.
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
    def met(self) -> bool:
        """Whether what is promised holds."""
        return self.target is None or self.ratio.median <= self.target


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


def show(title: str, rows: Sequence[Row]) -> None:
    """A table on the screen, and for each target that is missed a line that says so."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("", "ours, ms", "theirs, ms", "ratio (quartiles)", "promised", title=title)
    for row in rows:
        table.add_row(row.what, _spread(row.ours), _spread(row.theirs), str(row.ratio), _promised(row))
    console.print(table)
    for row in rows:
        if not row.met:
            console.print(f"missed: {row.what}: {row.ratio.median:.2f}, promised at most {row.target:.2f}")
    found = machine()
    console.print(
        f"{found['processor']}, {found['cores']} cores, load {found['load']} at the end; "
        "medians, with the fastest and the slowest round",
        style="dim",
    )


def write(path: Path | str, question: str, rows: Sequence[Row | Mapping[str, Any]]) -> None:
    """Put a question's rows into a file of JSON, beside those of other questions that are there."""
    file = Path(path)
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    entries = [_entry(row) if isinstance(row, Row) else dict(row) for row in rows]
    known[question] = {"machine": machine(), "rows": entries}
    file.write_text(json.dumps(known, indent=2) + "\n", "utf-8")


def _entry(row: Row) -> dict[str, Any]:
    return {
        "what": row.what,
        "ours": list(row.ours.values),
        "theirs": list(row.theirs.values),
        "ratio": {"median": row.ratio.median, "quartiles": [row.ratio.low, row.ratio.high]},
        "target": row.target,
        "met": row.met,
        **row.details,
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8").splitlines()
    except OSError:
        return []


def _spread(times: Times) -> str:
    return f"{1e3 * times.median:.3g} ({1e3 * times.low:.3g} to {1e3 * times.high:.3g})"


def _promised(row: Row) -> str:
    if row.target is None:
        return "nothing"
    return f"at most {row.target:.2f}: " + ("met" if row.met else "missed")
