"""What came out of a run: observations, scenario results, runs; plain data with a round trip through JSON.

A value is what JSON can hold. Numbers that JSON has no word for are the strings "NaN", "Infinity" and
"-Infinity", as in Protocol Buffers' JSON mapping. Arrays are nested lists; a float64 survives exactly.

Imports the standard library and NumPy only: a worker writes these inside a framework's environment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from d2lparams.events import EVENT_LIMIT
from d2lparams.variation import Variation

SCHEMA_VERSION: Literal[1] = 1

# How numbers that JSON has no word for are written.
NON_FINITE = ("NaN", "Infinity", "-Infinity")

DEEPEST = 100
"""So many levels a value may have: more than anybody reads, and less than what breaks who walks through it."""

Kind = Literal["invariant", "trait", "outcome", "drawing"]
Form = Literal["", "matrices", "curves", "histograms", "ties"]
Status = Literal["ok", "unsupported", "failed", "timeout", "crashed", "install-failed", "not-run"]


@dataclass
class Failure:
    """Why something did not end well.

    Attributes:
        message: one sentence.
        detail: the traceback, or the last lines of the log.
        command: what was run, when a command failed.
    """

    message: str
    detail: str = ""
    command: str = ""


@dataclass
class Observation:
    """A named value that a scenario saw.

    Attributes:
        name: unique within its scenario.
        kind: an "invariant" must agree with the reference; a "trait" is a framework's own way; an
            "outcome" is how one of a framework's ways ended; a "drawing" is there to be looked at, and is not
            compared.
        value: JSON data, see `jsonable`; an outcome's is an object with the attributes of `Outcome`.
        expected: what an invariant must be by definition, when that is known without the reference.
        rtol: how far an invariant may be from the reference, relative to the largest magnitude in it;
            0 asks for equality.
        atol: how far it may be off besides, in absolute terms; of a dict, for each of its entries by name.
        form: how the value can be drawn; a drawing always has one, other kinds may.

            matrices    {name: rows of numbers}: one picture for each, as heat map
            curves      {series: numbers}: one for each step
            histograms  {name: {"edges": n + 1 numbers, "counts": n numbers}}
            ties        [{"layer": 1, "role": "weight", "name": "2.weight", "storage": 2}], one for each use, in
                        order of application; uses with equal storage are the same stored numbers
    """

    name: str
    kind: Kind
    value: Any
    expected: Any = None
    rtol: float = 0.0
    form: Form = ""
    atol: float | dict[str, float] = 0.0


@dataclass(frozen=True)
class Outcome:
    """How one of a framework's ways ended: what the value of an observation of this kind holds.

    Attributes:
        outcome: one word or a few; what columns are compared by.
        how: the expression that was run, in the framework's own words.
        evidence: what was seen, by what was looked at.
        script: a program in the framework alone that shows it, or "".
    """

    outcome: str
    how: str
    evidence: dict[str, Any]
    script: str

    @classmethod
    def of(cls, value: Any) -> Outcome:
        """Read it from an observation's value; where something else stands there, that is the word."""
        if not isinstance(value, dict) or not isinstance(value.get("outcome"), str):
            return cls(str(value), "", {}, "")
        evidence = value.get("evidence")
        return cls(
            outcome=value["outcome"],
            how=str(value.get("how", "")),
            evidence=evidence if isinstance(evidence, dict) else {},
            script=str(value.get("script", "")),
        )


@dataclass
class Code:
    """A function of an adapter, as it stood when it was run.

    Attributes:
        file: such as "backends/torch.py".
        line: of the file, at which it begins.
        text: its source, indented from the margin.
        helpers: the names of other functions of the adapter that it calls by name, see `Run.code`.
    """

    file: str
    line: int
    text: str
    helpers: list[str] = field(default_factory=list)


@dataclass
class ScenarioResult:
    """How one scenario ended on one column, and what it saw until then.

    Attributes:
        name: with hyphens.
        section: of *Dive into Deep Learning*.
        title: one line.
        status: how it ended.
        seconds: of wall-clock time.
        observations: in the order in which they were made.
        error: why it did not end well.
        called: what it asked of the adapter, in the order of the first calls, such as "mlp" or "trainer.step";
            the same word on every column. For each, the name in `Run.code` of the function that did it.
    """

    name: str
    section: str
    title: str
    status: Status = "not-run"
    seconds: float = 0.0
    observations: list[Observation] = field(default_factory=list)
    error: Failure | None = None
    called: dict[str, str] = field(default_factory=dict)


@dataclass(repr=False)
class Run:
    """Everything one column produced.

    Attributes:
        name: the column, as it was asked for.
        backend: the adapter's name.
        title: the framework's name as it writes it itself.
        reference: whether the other columns are held against this one.
        versions: of the distributions that the environment declares, as they are installed.
        python: the version of the column's own interpreter.
        status: "ok" when every scenario is ok or unsupported, otherwise what went wrong first.
        seconds: wall clock from the start of the worker to its end; from that of the build when it failed, or
            was all that was asked for.
        log: the file that holds what the framework printed.
        platform: the machine, in words: system, processor, cores.
        date: when it began, ISO 8601, UTC.
        code: the adapter's functions that scenarios called, by name, such as "torch.TorchBackend._mlp".
        variation: the seed and the form of what scenarios used.
    """

    name: str
    backend: str
    title: str
    reference: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    python: str = ""
    status: Status = "not-run"
    seconds: float = 0.0
    error: Failure | None = None
    log: str | None = None
    scenarios: list[ScenarioResult] = field(default_factory=list)
    platform: str = ""
    date: str = ""
    code: dict[str, Code] = field(default_factory=dict)
    variation: Variation = field(default_factory=Variation)

    def __repr__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        varied = f"; {self.variation}" if str(self.variation) else ""
        return (
            f"<Run of {self.name}: {self.status}, {len(self.scenarios)} scenarios, {self.seconds:.1f} s"
            f"{f'; {versions}' if versions else ''}{varied}>"
        )

    def _repr_html_(self) -> str:
        # A notebook asks an object how it looks: the one step back on the road, taken when it asks.
        from d2lparams.reports.notebook import run_html

        return run_html(self)


def release(versions: Mapping[str, str]) -> str:
    """What an environment has installed, as one text; NumPy's version only where it is the framework."""
    shown = [f"{name} {version}" for name, version in versions.items() if name != "numpy"]
    return ", ".join(shown or [f"{name} {version}" for name, version in versions.items()])


def jsonable(value: Any) -> Any:
    """A value as JSON data: arrays become lists, tuples too, numbers without a JSON form become strings.

    Raises:
        TypeError: for an object that has no such form, naming its type.
        ValueError: for one that is nested deeper than `DEEPEST`, or has a text that no event can hold.
    """
    import numpy as np  # where there are arrays it is loaded; who only reads results has no need of it

    return _jsonable(value, DEEPEST, (np.ndarray, np.generic))


def _jsonable(value: Any, levels: int, arrays: tuple[type[Any], ...]) -> Any:
    if isinstance(value, arrays):
        return _jsonable(value.tolist(), levels, arrays)
    if isinstance(value, str) and len(value) > EVENT_LIMIT:
        # Said here, for to make JSON of it takes seconds.
        raise ValueError(f"an observation of {len(value) >> 20} MiB is more than {EVENT_LIMIT >> 20} MiB")
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        words = {math.inf: "Infinity", -math.inf: "-Infinity"}
        return value if math.isfinite(value) else words.get(value, "NaN")
    if not levels:
        raise ValueError(f"an observation cannot be nested deeper than {DEEPEST} levels")
    if isinstance(value, (list, tuple)):
        return [_jsonable(item, levels - 1, arrays) for item in value]
    if isinstance(value, dict):
        return {str(key): _jsonable(item, levels - 1, arrays) for key, item in value.items()}
    raise TypeError(f"an observation cannot hold a {type(value).__qualname__}; give numbers, text or arrays")
