"""Python as HTML: what it is made of, told by Pygments, with as few elements as the page has colours for.

Code stands in a page many times over; an element for each name and bracket would make it four times as large.
"""

from __future__ import annotations

from textwrap import dedent

from markupsafe import Markup
from pygments.lexers.python import PythonLexer
from pygments.token import Token, _TokenType

from d2lparams.reports.page.wholes import harmless

_COLOURS = {
    Token.Keyword: "k",
    Token.Operator.Word: "k",
    Token.Name.Function: "f",
    Token.Name.Class: "f",
    Token.Name.Decorator: "d",
    Token.Literal.String: "s",
    Token.Literal.Number: "m",
    Token.Comment: "c",
}
"""The class of an element by the kind of what is in it; see the stylesheet."""


def highlighted(text: str) -> Markup:
    """Python, from the margin, as the content of a `pre`."""
    source = harmless(dedent(text.expandtabs(4)).strip("\n"))
    runs: list[tuple[str, list[str]]] = []
    for kind, part in PythonLexer(stripnl=False, ensurenl=False).get_tokens(source):
        colour = _colour(kind) if part.strip() else ""
        if runs and runs[-1][0] == colour:
            runs[-1][1].append(part)
        else:
            runs.append((colour, [part]))
    return Markup("").join(
        Markup('<i class="{}">{}</i>').format(colour, "".join(parts))
        if colour
        else Markup("{}").format("".join(parts))
        for colour, parts in runs
    )


def _colour(kind: _TokenType) -> str:
    return next((_COLOURS[one] for one in reversed(kind.split()) if one in _COLOURS), "")
