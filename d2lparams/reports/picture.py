"""The comparison as an SVG picture of a terminal, for a README or a slide."""

from __future__ import annotations

import io
import re

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from d2lparams.comparison import Comparison
from d2lparams.reports.terminal import ComparisonView

# rich's frame asks a web server for its font. A picture should need no network: any monospaced font will do.
FRAME = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def to_svg(comparison: Comparison, width: int = 168) -> str:
    """The picture, `width` characters wide."""
    console = Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(ComparisonView(comparison))
    return console.export_svg(title="d2lparams compare", code_format=FRAME)
