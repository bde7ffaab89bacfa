"""Alternating timing, and what is told of it: medians, spreads, ratios, and one JSON of all benchmarks."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Times:
    """The seconds of each round."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The shortest."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The longest."""
        return max(self.values)


class Ratio(Times):
    """The ratio of each round."""


def measure(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Times]:
    """Each side once a round, in turn; the order is turned round from round to round.

    Args:
        sides: by name, what returns the seconds of one round.
        rounds: how many.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for place in range(rounds):
        for name in list(sides)[:: -1 if place % 2 else 1]:
            times[name].append(sides[name]())
    return {name: Times(values) for name, values in times.items()}


def ratio(ours: Times, theirs: Times) -> Ratio:
    """Of each round, so that what slows the whole machine for a while slows both sides."""
    return Ratio([one / other for one, other in zip(ours.values, theirs.values, strict=True)])


def write(path: Path, question: str, rows: Any) -> None:
    """Append an answer to a JSON file that holds those of several benchmarks."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    machine = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    known[question] = {"machine": machine, "load": os.getloadavg(), "rows": rows}
    path.write_text(json.dumps(known, indent=1), encoding="utf-8")
