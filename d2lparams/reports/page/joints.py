"""Long names, with the places marked at which a narrow cell may break them: after a dot, a slash, a bracket."""

from __future__ import annotations

import re

from markupsafe import Markup

from d2lparams.reports.page.wholes import harmless

LONG = 16  # characters; a shorter word is never broken
_WORD = re.compile(rf"\S{{{LONG},}}")
_JOINT = re.compile(r"(?<=[./_(\[,=])(?=\w)|(?<=\])(?=\[)")
_BREAK = "\N{ZERO WIDTH SPACE}"


def joints(text: str) -> Markup:
    """The text as HTML; what is copied from it is the text as it was."""
    marked = _WORD.sub(lambda word: _JOINT.sub(_BREAK, word[0]), harmless(text).replace(_BREAK, "\ufffd"))
    return Markup("<wbr>").join(marked.split(_BREAK))
