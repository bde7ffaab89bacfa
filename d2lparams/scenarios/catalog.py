"""Which scenarios there are, read from their files and not imported: for `list`, and for who starts workers.

A scenario declares itself by its decorator, in literals, as an adapter does at the top of its file. Reading it
needs neither NumPy nor what its function needs; the module is imported when the function is called.

Standard library only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from d2lparams.scenarios import ORDER, Scenario


@cache
def catalog() -> dict[str, Scenario]:
    """The scenarios by name, in the order in which they are shown: what `scenarios` gives, not imported."""
    return {one.name: one for group in ORDER for one in _declared(group)}


def _declared(module: str) -> Iterator[Scenario]:
    """Those of one module, in the order in which they stand in it."""
    source = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    for match in _SCENARIO.finditer(source):
        (function,) = ast.parse(match[0]).body
        assert isinstance(function, ast.FunctionDef)
        (mark,) = (one for one in function.decorator_list if isinstance(one, ast.Call))
        yield Scenario(
            function.name.replace("_", "-"),
            question=ast.get_docstring(function) or "",
            function=partial(_call, module, function.name),
            group=module.replace("_", "-"),
            **{str(one.arg): ast.literal_eval(one.value) for one in mark.keywords},
        )


def _call(module: str, name: str, *arguments: Any) -> None:
    getattr(import_module(f"d2lparams.scenarios.{module}"), name)(*arguments)


# From the decorator to the end of the docstring: to parse whole modules takes longer than the rest of `list`.
_SCENARIO = re.compile(r'^@scenario\(.*?^def .*?""".*?"""', re.MULTILINE | re.DOTALL)
