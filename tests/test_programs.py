"""Programs are put together of sources that are shown as they are, but for what a reader has no use for."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from d2lparams.interface import MLP, Lifecycle, program, source_of, ties_in_words


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
