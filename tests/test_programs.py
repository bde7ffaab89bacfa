"""Programs are put together of sources that are shown as they are, but for what a reader has no use for."""

from __future__ import annotations

import ast
import copy
import functools
from typing import Any

import pytest

from backends.numpy import Network, NumpyBackend
from d2lparams.interface import MLP, Lifecycle, Unsupported, program, source_of, ties_in_words
from d2lparams.results import Outcome
from d2lparams.scenarios import Observer
from d2lparams.scenarios.lifecycles import life_cycles_by_module


class Typed(dict):  # type: ignore[type-arg]
    """A class."""

    kept: int = 1

    def method(self, first: dict[str, Any], *rest: Any, key: str = "a: b", **more: Any) -> dict[str, Any]:
        """A method -> with an arrow."""
        return {"first": first, "rest": rest, "key": key, **more}


UNTYPED = '''\
class Typed(dict):
    """A class."""

    kept: int = 1

    def method(self, first, *rest, key = "a: b", **more):
        """A method -> with an arrow."""
        return {"first": first, "rest": rest, "key": key, **more}'''


def copied(net, again, x):
    """A copy."""
    return list(net)


def test_a_source_is_shown_without_types_and_notes_for_checkers():
    assert source_of(Typed) == UNTYPED


def test_a_program_lives_the_life_cycle_and_imports_what_it_needs():
    way = Lifecycle("copy", "list(net)", copied)
    imports = {"import sys": "", "import copy": "copy.deepcopy(", "import json": "json."}
    made = program(
        way, "kept", "What a copy does.", imports, ["def build(seed):\n    pass\n", "x = json.loads('1')"]
    )
    assert ast.get_docstring(ast.parse(made)) == "What a copy does.\n\nlist(net)"
    assert "import json" in made
    assert "import copy" not in made
    assert (
        made.index("def build")
        < made.index("def copied")
        < made.index("x = json")
        < made.index("= copied(net,")
    )
    assert made.endswith('sys.exit(outcome != "kept")\n')


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (MLP((4, 8, 8, 8, 1), tied=((2, 1),)), "dense layers 1 and 2 are one layer"),
        (
            MLP((4, 8, 8, 8, 1), tied=((1, 2),), by="parameter"),
            "dense layers 1 and 2 hold one weight and one bias",
        ),
        (
            MLP((4, 8, 8, 8, 8, 8, 1), tied=((1, 3), (2, 4)), by="parameter", roles=("weight",)),
            "dense layers 1 and 3 hold one weight, dense layers 2 and 4 hold one weight",
        ),
    ],
)
def test_ties_in_words(spec, words):
    assert ties_in_words(spec) == words


def closure_over(number):
    def inner(net, again, x):
        return number

    return inner


@pytest.mark.parametrize(
    "apply",
    [lambda net, again, x: net, functools.partial(copied), closure_over(1)],
    ids=["lambda", "partial", "closure"],
)
def test_what_has_no_source_that_stands_for_itself_is_shown_by_no_program(apply):
    with pytest.raises(Unsupported, match="cannot be shown as a program of its own"):
        source_of(apply)


class Silent(NumpyBackend):
    """Its one life cycle unties, which no program can show."""

    def lifecycles(self):
        def untied(net, again, x):
            return Network([copy.deepcopy(layer) for layer in net.layers], net.activation)

        return [Lifecycle("copy", "each layer by itself", lambda net, again, x: untied(net, again, x))]

    def script(self, lifecycle, spec, outcome):
        return program(lifecycle, outcome, "What it does.", {}, ["x = 1"])


def test_an_outcome_stands_without_the_program_that_cannot_be_written():
    observations = []
    life_cycles_by_module(Silent(), Observer(observations.append))
    seen = next(one for one in observations if one.kind == "outcome")
    assert (Outcome.of(seen.value).outcome, Outcome.of(seen.value).script) == ("broken", "")
