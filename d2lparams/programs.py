"""Programs in a framework alone, put together of an adapter's own sources: what they have in common.

An adapter writes how its framework builds a model and looks at one. Here stands how a program begins and ends:
a docstring, the imports that its code needs, a net and its twin, a life cycle, the outcome as its exit code.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from d2lparams.models import MLP
from d2lparams.subjects import Lifecycle
from d2lparams.training import Unsupported

_END = """\
net, twin = build(seed=0), build(seed=0)
before = output(net)
try:
    result = {apply}(net, lambda: build(seed=1), x)
except Exception as error:
    print("error:", f"{{type(error).__name__}}: {{error}}".splitlines()[0])
    outcome = "refused" if whole() else "corrupted"
else:
    outcome = look(result)
print("outcome:", outcome)
sys.exit(outcome != "{outcome}")
"""


def program(
    lifecycle: Lifecycle[Any], outcome: str, title: str, imports: Mapping[str, str], parts: Iterable[str]
) -> str:
    """A program that lives a life cycle; it exits with 0 when the outcome is the one stated, else with 1.

    Args:
        lifecycle: what is lived; its source is put in front of the last part.
        outcome: the one stated.
        title: what the program shows, in one line.
        imports: by the line, what in the code needs it; "" where it is always needed.
        parts: the code. It defines `build(seed)`, `x`, `output(net)`, `whole()`, which says whether `net` still
            gives what it gave `before`, and `look(result)`, which prints what it sees and returns the outcome.

    Raises:
        Unsupported: when the life cycle is no function whose source stands for itself.
    """
    *first, last = parts
    lived = source_of(lifecycle.apply)
    end = _END.format(apply=lifecycle.apply.__name__, outcome=outcome)
    code = "\n\n\n".join(part.strip("\n") for part in (*first, lived, last)) + f"\n{end}"
    needed = "\n".join(line for line, word in imports.items() if word in code)
    return f'"""{title}\n\n    {lifecycle.how}\n"""\n\n{needed}\n\n\n{code}'


def source_of(thing: Callable[..., Any] | type) -> str:
    """The source of a function or a class, without what is there for those who check types and style.

    Raises:
        Unsupported: for what has no source that stands for itself: a lambda, a `partial`, a closure.
    """
    name = getattr(thing, "__name__", "")
    if not name.isidentifier() or getattr(thing, "__closure__", None):
        raise Unsupported(
            f"{name or thing} cannot be shown as a program of its own; write it as a function with def, which "
            "reads nothing of a function around it"
        )
    source = textwrap.dedent(inspect.getsource(thing))
    lines = source.splitlines()
    # From the end, so that what is cut away moves nothing that is still to be cut.
    for line, start, end in sorted(_annotations(ast.parse(source)), reverse=True):
        lines[line - 1] = lines[line - 1][:start] + lines[line - 1][end:]
    return "\n".join(re.sub(r"  # (type: ignore|noqa).*$", "", line) for line in lines)


def ties_in_words(spec: MLP, *, layers: str = "dense layers", one: str = "one layer") -> str:
    """Which layers are one, or hold what together.

    Args:
        spec: with at least one tied group.
        layers: what the framework calls them.
        one: what a layer is that stands at several places.
    """
    what = f"are {one}" if spec.by == "module" else f"hold one {' and one '.join(spec.roles)}"
    return ", ".join(f"{layers} {' and '.join(map(str, sorted(group)))} {what}" for group in spec.tied)


def _annotations(tree: ast.AST) -> Iterator[tuple[int, int, int]]:
    """Line, begin and end of the annotations of functions; each stands on one line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            yield node.lineno, node.col_offset + len(node.arg), node.annotation.end_col_offset or 0
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            # From the parenthesis before the arrow.
            yield node.returns.lineno, node.returns.col_offset - len(" -> "), node.returns.end_col_offset or 0
