"""Rows of text in columns, for `list`: a table of rich's takes longer than all the rest of that command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import NamedTuple

from rich.segment import Segment, Segments
from rich.style import Style

NARROWEST = 20
"""Characters that the last column has in any case."""


class Cell(NamedTuple):
    """A text, of several lines perhaps, and its style in rich's words."""

    text: str
    style: str = ""


def in_columns(rows: Sequence[Sequence[Cell]], width: int) -> Segments:
    """The rows, each column as wide as its widest cell, and the last one folded.

    Args:
        rows: a row of one cell has no columns, and one without any is an empty line.
        width: of the screen, in characters.
    """
    *before, _ = zip(*(row for row in rows if len(row) > 1))
    widths = [max(len(line) for cell in cells for line in _lines(cell)) + 2 for cells in before]
    room = max(width - sum(widths), NARROWEST)
    return Segments([segment for row in rows for segment in _row(row, widths, room)])


def _row(row: Sequence[Cell], widths: Sequence[int], room: int) -> Iterator[Segment]:
    columns = [_lines(cell) for cell in row]
    if len(row) > 1:
        columns[-1] = [part for line in columns[-1] for part in wrap(line, room)]
    for lines in zip_longest(*columns, fillvalue="") if row else [()]:
        for place, line in enumerate(lines):
            padded = line.ljust(widths[place]) if place < len(lines) - 1 else line
            yield Segment(padded, Style.parse(row[place].style))
        yield Segment.line()


def _lines(cell: Cell) -> list[str]:
    return cell.text.split("\n")
