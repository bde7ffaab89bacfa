"""What benchmarks have in common: sides timed in turn, ratios with their spread, and one JSON file.

A side is a function that does its work once and returns the seconds that it took. Every figure is a ratio of
two sides of one round, on one machine; which side goes first changes from round to round.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Times:
    """The seconds of one side, a number for each round."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        """Of all rounds."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The least."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The most."""
        return max(self.values)


@dataclass(frozen=True)
class Ratio:
    """How much longer one side takes than another, by the rounds' own ratios: the median and the quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def measure(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Times]:
    """Run every side once in each round, the order turned round each time."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in list(sides.items())[:: -1 if number % 2 else 1]:
            seconds[name].append(side())
    return {name: Times(values) for name, values in seconds.items()}


def ratio(ours: Times, theirs: Times) -> Ratio:
    """Ours by theirs."""
    found = [one / other for one, other in zip(ours.values, theirs.values, strict=True)]
    low, _, high = statistics.quantiles(found, n=4, method="inclusive") if len(found) > 1 else found * 3
    return Ratio(statistics.median(found), low, high)


def machine() -> str:
    """The machine, in words."""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )


def write(path: Path, question: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Put the rows of a question into a JSON file, beside those of other questions that it holds."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known[question] = {"machine": machine(), "rows": [dict(row) for row in rows]}
    path.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
