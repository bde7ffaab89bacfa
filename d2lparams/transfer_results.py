"""What came of a transfer: a verdict on each thing that must be the same on both sides. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from d2lparams.results import Run

CHECKS = ("values", "ties", "output", "gradients", "training step", "back")
"""What is held against the source, in the order in which it is looked at."""


@dataclass
class Check:
    """One thing that must be the same on both sides.

    Attributes:
        name: one of `CHECKS`.
        same: whether it is.
        said: what was seen: text, or the groups of tied paths.
    """

    name: str
    same: bool
    said: Any


@dataclass
class Transfer:
    """One model, carried from one column to another and back.

    Attributes:
        model: what was asked for: the name of an example, or FILE.py:FUNCTION.
        title: one line.
        source: the name of the column that it came from.
        target: the name of the column that it went to.
        checks: what was looked at; where something raised, only what came before.
        layers: which layer of the target took which of the source's values, and their kind; of a model of the
            user's own.
        status: "ok" when every step ran, else how the one that did not has ended.
        problem: why a step did not run, and on which column; "" when all did.
    """

    model: str
    title: str
    source: str
    target: str
    checks: list[Check] = field(default_factory=list)
    layers: list[list[str]] = field(default_factory=list)
    status: str = "not-run"
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether all was looked at, and all is the same."""
        return self.status == "ok" and len(self.checks) == len(CHECKS) and all(one.same for one in self.checks)


def read(transfer: Transfer, runs: Sequence[Run], scenario: str) -> Transfer:
    """Enter what the runs saw of one model."""
    by_name = {run.name: run for run in runs}
    for run_ in runs:
        for cell in run_.scenarios:
            if cell.name != scenario:
                continue
            for seen in cell.observations:
                name = seen.name.rpartition(" from ")[0]
                if name == "layers":
                    transfer.layers = seen.value
                elif name in CHECKS:
                    transfer.checks.append(Check(name, seen.value == seen.expected, seen.value))
            if cell.status not in ("ok", "not-run") and not transfer.problem:
                reason = cell.error.message if cell.error else "no more is known"
                transfer.status, transfer.problem = cell.status, f"{run_.title}: {reason}"
        if run_.error and run_.status not in ("ok", "not-run") and not transfer.problem:
            transfer.status, transfer.problem = run_.status, f"{run_.title}: {run_.error.message}"
    if not transfer.problem:
        missing = [name for name in CHECKS if name not in {one.name for one in transfer.checks}]
        ran = not missing and by_name[transfer.target].status == "ok"
        transfer.status = "ok" if ran else "not-run"
        transfer.problem = "" if ran else "it did not come to an end"
    transfer.checks.sort(key=lambda one: CHECKS.index(one.name))
    return transfer
