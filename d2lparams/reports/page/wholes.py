"""An observation's value in full, and how much of it, of all values and of any text a page has room for."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from textwrap import indent
from typing import Any

from d2lparams.reports.values import plain

BUDGET = 400_000  # characters, for all values that are shown in full; a page is to go through any mail
LONGEST = 100_000  # characters of any one text
_WORD = re.compile(r"[\w.+-]+")
_LIMITS = (LONGEST - 100, 30_000, 10_000, 3_000, 1_000, 300)


def whole(value: Any) -> str:
    """A value with all digits and entries: text as it is, all else as JSON, each row of numbers on one line."""
    return value if isinstance(value, str) else _json(value)


def says_all(text: str, full: str) -> bool:
    """Whether a short text has every word and number of the full one; how they are set apart is no matter."""
    if len(full) > LONGEST:
        return False
    return Counter(_WORD.findall(full.lower())) <= Counter(_WORD.findall(text.lower().replace("none", "null")))


def limit(texts: Iterable[str]) -> int:
    """How many characters of each text there is room for, so that all of them stay within the budget."""
    lengths = [len(text) for text in texts]
    fitting = (most for most in _LIMITS if sum(min(length, most) for length in lengths) <= BUDGET)
    return next(fitting, _LIMITS[-1])


def cut(text: str, most: int) -> str:
    """The first characters, and how many more there would be."""
    return text if len(text) <= most else f"{text[:most]}… {len(text) - most:,} more characters"


def harmless(text: str) -> str:
    """A text from elsewhere, without control characters, and not endless."""
    return plain(cut(text, LONGEST))


def _json(value: Any) -> str:
    if isinstance(value, dict) and value:
        entries = [f"{json.dumps(key, ensure_ascii=False)}: {_json(item)}" for key, item in value.items()]
        return _lines("{", entries, "}")
    if isinstance(value, list) and any(isinstance(item, (list, dict, str)) for item in value):
        return _lines("[", map(_json, value), "]")
    return json.dumps(value, ensure_ascii=False)


def _lines(first: str, entries: Iterable[str], last: str) -> str:
    return "\n".join([first, indent(",\n".join(entries), "  "), last])
