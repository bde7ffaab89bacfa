"""What a scenario is: a function that runs on any backend and says what it saw.

    @scenario(section="6.2.2", title="Tied layers share one parameter")
    def tied_parameters(backend, observe):
        \"\"\"What is asked, in our words.\"\"\"
        model = backend.mlp(MLP(sizes=(4, 8, 8, 8, 1), tied=((1, 2),)))
        observe.invariant("unique values", count, expected=121)
        observe.trait("names listed", names)

Imports the standard library and NumPy only: scenarios run inside every framework's environment.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from d2lparams.results import Form, Observation, Outcome, jsonable
from d2lparams.scenarios.description import Function, Scenario


class Observer:
    """Takes down what a scenario sees, and hands each observation on as soon as it is made.

    Attributes:
        stage: which stage of the scenario this is, from 0.
        folder: a folder that all columns of the run see; None where a scenario is run by itself.
        column: the name of the column.
        given: what the user gave the run beside the scenarios, by name.
    """

    def __init__(
        self,
        emit: Callable[[Observation], None],
        *,
        stage: int = 0,
        folder: Path | None = None,
        column: str = "",
        given: Mapping[str, str] = {},
    ) -> None:
        self._emit = emit
        self.stage, self.folder, self.column, self.given = stage, folder, column, given
        self._names: set[str] = set()

    def invariant(
        self,
        name: str,
        value: Any,
        *,
        expected: Any = None,
        rtol: float = 0.0,
        atol: float | Mapping[str, float] = 0.0,
        form: Form = "",
    ) -> None:
        """A value that every framework must agree on with the reference.

        Args:
            name: unique within the scenario.
            value: a number, text, an array, or lists and dicts of these.
            expected: what it must be by definition, when that is known without the reference.
            rtol: how far it may be off, relative to the largest magnitude in the reference; 0: not at all.
            atol: how far it may be off besides, in absolute terms; of a dict, for each of its entries. See
                `d2lparams.scenarios.tolerances`.
            form: how it can be drawn, too, see `d2lparams.results.Observation`.
        """
        within = dict(atol) if isinstance(atol, Mapping) else atol
        self._take(Observation(name, "invariant", value, expected, rtol, form, within))

    def trait(self, name: str, value: Any, *, form: Form = "") -> None:
        """A framework's own way: the difference between columns is the information."""
        self._take(Observation(name, "trait", value, form=form))

    def drawing(self, name: str, value: Any, *, form: Form) -> None:
        """What is to be looked at and not compared, as numbers drawn at random are; a report draws it."""
        self._take(Observation(name, "drawing", value, form=form))

    def outcome(
        self, name: str, outcome: str, *, how: str, evidence: Mapping[str, Any] = {}, script: str = ""
    ) -> None:
        """How one of a framework's ways ended, with what shows it; columns that have no such way leave it out.

        Args:
            name: of the way, unique within the scenario; the same on each framework that has the same way.
            outcome: one word or a few; what columns are compared by.
            how: the expression that was run, in the framework's own words.
            evidence: what was seen, by what was looked at.
            script: a program in the framework alone that shows it.
        """
        self._take(Observation(name, "outcome", vars(Outcome(outcome, how, dict(evidence), script))))

    def _take(self, seen: Observation) -> None:
        if seen.name in self._names:
            raise ValueError(
                f"the scenario observes {seen.name!r} twice; give each observation a name of its own"
            )
        self._names.add(seen.name)
        self._emit(replace(seen, value=jsonable(seen.value), expected=jsonable(seen.expected)))


def scenario(
    *, section: str, title: str, full: bool = False, stages: int = 1
) -> Callable[[Function], Function]:
    """Register a function as a scenario of its module's group; its docstring says what it asks.

    Args:
        section: of *Dive into Deep Learning* that it belongs to.
        title: one line.
        full: leave it out of a run of everything unless it is asked for, by name or with `--full`.
        stages: how often to call it on each column, see `Scenario`.
    """

    def register(function: Function) -> Function:
        name = function.__name__.replace("_", "-")
        if name in REGISTERED:
            raise ValueError(f"there is a scenario {name!r} already")
        question = inspect.getdoc(function)
        if not question:
            raise ValueError(f"the scenario {name!r} needs a docstring that says what it asks")
        group = function.__module__.rpartition(".")[2].replace("_", "-")
        REGISTERED[name] = Scenario(name, section, title, question, function, group, full, stages)
        return function

    return register


REGISTERED: dict[str, Scenario] = {}
