"""The functions of adapters that a run was made by, each with an address, and with all that it calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from d2lparams.results import Code, Run


@dataclass(frozen=True)
class Function:
    """A function of an adapter.

    Attributes:
        helpers: the functions that it calls, and that those call, without itself.
    """

    anchor: str
    name: str
    code: Code
    helpers: list[Function] = field(default_factory=list)


def functions(runs: Sequence[Run]) -> list[dict[str, Function]]:
    """By name, the functions of each run; runs that differ in their versions alone share theirs."""
    found: list[dict[str, Function]] = []
    for index, run in enumerate(runs):
        same = next((place for place in range(index) if runs[place].code == run.code), None)
        found.append(_functions(f"_code-{index}", run.code) if same is None else found[same])
    return found


def _functions(prefix: str, code: Mapping[str, Code]) -> dict[str, Function]:
    found = {name: Function(f"{prefix}-{place}", name, one) for place, (name, one) in enumerate(code.items())}
    for name, function in found.items():
        function.helpers.extend(found[helper] for helper in _reached(name, code))
    return found


def _reached(name: str, code: Mapping[str, Code]) -> Iterator[str]:
    """What a function calls, then what that calls, and so on; each once."""
    waiting, seen = [name], {name}
    while waiting:
        for helper in code[waiting.pop(0)].helpers:
            if helper in code and helper not in seen:
                seen.add(helper)
                waiting.append(helper)
                yield helper
