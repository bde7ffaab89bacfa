"""A docstring as HTML: paragraphs, indented examples, and code between backticks. All else in it is text."""

from __future__ import annotations

import re
from textwrap import dedent

from markupsafe import Markup

from d2lparams.reports.page.wholes import harmless

_CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)


def prose(text: str) -> Markup:
    """The text as paragraphs; blocks are parted by empty lines."""
    blocks = [block for block in re.split(r"\n\s*\n", harmless(text).strip("\n")) if block.strip()]
    return Markup("\n").join(map(_block, blocks))


def inline(text: str) -> Markup:
    """One piece of text, with what stands between backticks as code."""
    parts, end = [], 0
    for match in _CODE.finditer(text):
        parts += [Markup("{}<code>{}</code>").format(text[end : match.start()], match[2])]
        end = match.end()
    return Markup("").join([*parts, Markup("{}").format(text[end:])])


def _block(block: str) -> Markup:
    if all(line.startswith("    ") for line in block.splitlines() if line.strip()):
        return Markup("<pre>{}</pre>").format(dedent(block).rstrip())
    return Markup("<p>{}</p>").format(inline(" ".join(block.split())))
