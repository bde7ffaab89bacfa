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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from d2lparams.interface import Backend
from d2lparams.results import Kind, Observation, jsonable

Function = Callable[[Backend[Any], "Observer"], None]


@dataclass(frozen=True)
class Scenario:
    """A scenario as it is listed and run.

    Attributes:
        name: the function's, with hyphens; what `-s` takes.
        section: of *Dive into Deep Learning* that it belongs to.
        title: one line.
        question: the function's docstring: what is asked, and what to look for.
    """

    name: str
    section: str
    title: str
    question: str
    function: Function


class Observer:
    """Takes down what a scenario sees, and hands each observation on as soon as it is made."""

    def __init__(self, emit: Callable[[Observation], None]) -> None:
        self._emit = emit
        self._names: set[str] = set()

    def invariant(self, name: str, value: Any, *, expected: Any = None, rtol: float = 0.0) -> None:
        """A value that every framework must agree on with the reference.

        Args:
            name: unique within the scenario.
            value: a number, text, an array, or lists and dicts of these.
            expected: what it must be by definition, when that is known without the reference.
            rtol: how far it may be off, relative to the largest magnitude in the reference; 0: not at all.
        """
        self._take("invariant", name, value, expected, rtol)

    def trait(self, name: str, value: Any) -> None:
        """A framework's own way: the difference between columns is the information."""
        self._take("trait", name, value, None, 0.0)

    def _take(self, kind: Kind, name: str, value: Any, expected: Any, rtol: float) -> None:
        if name in self._names:
            raise ValueError(f"the scenario observes {name!r} twice; give each observation a name of its own")
        self._names.add(name)
        self._emit(Observation(name, kind, jsonable(value), jsonable(expected), rtol))


def scenario(*, section: str, title: str) -> Callable[[Function], Function]:
    """Register a function as a scenario; its docstring says what it asks."""

    def register(function: Function) -> Function:
        name = function.__name__.replace("_", "-")
        if name in REGISTERED:
            raise ValueError(f"there is a scenario {name!r} already")
        question = inspect.getdoc(function)
        if not question:
            raise ValueError(f"the scenario {name!r} needs a docstring that says what it asks")
        REGISTERED[name] = Scenario(name, section, title, question, function)
        return function

    return register


REGISTERED: dict[str, Scenario] = {}
