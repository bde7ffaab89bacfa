"""A cell that begins with `%%tab`, taken apart: each line `%%tab COLUMN...` in it begins the next part.

Lines keep the numbers that they have in the cell, the first `%%tab` being line 1.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from d2lparams.columns import UsageError

_TAB = re.compile(r"%%tab(?:[ \t]+(?P<line>.*))?$")


class Part(NamedTuple):
    """A part of a cell.

    Attributes:
        line: what stands behind its `%%tab`.
        source: its code, behind so many empty lines that its own lines count as they do in the cell.
    """

    line: str
    source: str


def numbered(body: str, first: int = 2) -> str:
    """A source whose first line has that number."""
    return "\n" * (first - 1) + body


def parts(line: str, body: str) -> list[Part]:
    """The parts of a cell in their order.

    Args:
        line: what stands behind the `%%tab` that begins the cell.
        body: all that follows.

    Raises:
        UsageError: when a part has no code.
    """
    found: list[tuple[str, int, list[str]]] = [(line.strip(), 2, [])]
    for number, text in enumerate(body.removesuffix("\n").split("\n"), start=2):
        if match := _TAB.match(text):
            found.append(((match["line"] or "").strip(), number + 1, []))
        else:
            found[-1][2].append(text)
    for head, number, code in found:
        if not any(map(str.strip, code)):
            raise UsageError(f"no code stands below `%%tab {head}` in line {number - 1} of the cell")
    return [Part(head, numbered("\n".join(code) + "\n", number)) for head, number, code in found]
