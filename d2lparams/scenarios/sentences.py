"""What a framework says, in one sentence: the beginning of an error's or a warning's message.

The names of temporary files are left out, for they are never the same.
"""

from __future__ import annotations

import re
import tempfile


def sentence(error: BaseException) -> str:
    """The kind of an error and its first sentence."""
    said = re.sub(rf"{re.escape(tempfile.gettempdir())}/[\w./-]+", "FILE", str(error))
    return f"{type(error).__name__}: {first_sentence(said)}".removesuffix(": ")


def first_sentence(text: str) -> str:
    """The beginning of a framework's message, on one line."""
    words = " ".join(text.split()).split(". ")[0]
    return words if len(words) <= 160 else f"{words[:159]}…"
