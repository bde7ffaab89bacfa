"""An observation's value as short text for a cell; the whole of it is in the JSON document."""

from __future__ import annotations

import re
from dataclasses import fields
from textwrap import indent
from typing import Any

from d2lparams.results import NON_FINITE, Outcome

LONGEST = 160  # characters of one number or name
LONGEST_ARRAY = 48
MOST_ENTRIES = 32
OUTCOME = {field.name for field in fields(Outcome)}

# What a framework prints for a terminal (its colours, say) would act on ours.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_CONTROLS = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) != "\n"} | {0x7F: "\u2421"}
_CONTROLS |= dict.fromkeys(range(0x80, 0xA0), "\ufffd") | {0x09: " "}


def plain(text: str) -> str:
    """Text without escape sequences; any other control character is made visible."""
    return _ESCAPES.sub("", text).translate(_CONTROLS)


def short(value: Any, *, lines: bool = True) -> str:
    """A value as text: numbers with four digits, large arrays with their shape, lists with their length.

    An outcome is its word and the expression that was run; its evidence and its script are left out.

    Args:
        value: JSON data, as an observation holds it.
        lines: whether each entry of a list has a line of its own.
    """
    if isinstance(value, dict):
        if value.keys() == OUTCOME:
            outcome = Outcome.of(value)
            return _cut(plain(f"{outcome.outcome}: {outcome.how}"), LONGEST)
        if value and all(isinstance(item, list) and _numeric(item) for item in value.values()):
            return f"{len(value)} arrays"
        return "\n".join(_entry(plain(key), item, lines) for key, item in value.items()) or "nothing"
    if isinstance(value, list) and not _numeric(value):
        entries = [_inline(item) for item in value[:MOST_ENTRIES]]
        if len(value) > MOST_ENTRIES:
            entries.append(f"… and {len(value) - MOST_ENTRIES} more")
        return ("\n" if lines else ", ").join(entries) or "nothing"
    return _inline(value)


def wrap(text: str, width: int) -> str:
    """Break lines that are too long: between words, not within a shape, and a long name at its joints."""
    wrapped = []
    for line in text.splitlines():
        margin = line[: len(line) - len(line.lstrip())]
        wrapped.append(margin)
        for word in re.split(r"(?<= )(?!\d+[,)])", line.strip()):
            long = len(word.rstrip()) > width - len(margin) - 2
            for part in re.split(r"(?<=[./_(\[])", word) if long else [word]:
                if len(wrapped[-1] + part.rstrip()) > width and wrapped[-1].strip():
                    wrapped.append(f"{margin}  ")
                wrapped[-1] += part
    return "\n".join(line.rstrip() for line in wrapped)


def _entry(key: str, value: Any, lines: bool) -> str:
    """An entry of a dict; where it is a list, its length and its entries."""
    if not isinstance(value, list) or (value and _numeric(value)):
        return f"{key}: {_inline(value)}"
    if not value:
        return f"{key}: none"
    entries = short(value, lines=lines)
    return f"{key}: {len(value)}\n{indent(entries, '  ')}" if lines else f"{key}: {len(value)} ({entries})"


def _inline(value: Any) -> str:
    if isinstance(value, list) and _numeric(value):
        text = _array(value)
        return text if len(text) <= LONGEST_ARRAY else _cut(f"{_shape(value)} {text}", LONGEST_ARRAY + 12)
    if isinstance(value, list):
        return ", ".join(map(_inline, value)) or "nothing"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_inline(item)}" for key, item in value.items()) or "nothing"
    if isinstance(value, float):
        return f"{value:.4g}"
    return _cut(plain(str(value)), LONGEST)


def _array(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_array, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _numeric(value: Any) -> bool:
    """Whether a list is an array: numbers all the way down, and not empty."""
    if isinstance(value, list):
        return bool(value) and all(map(_numeric, value))
    if isinstance(value, str):
        return value in NON_FINITE
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shape(value: Any) -> tuple[int, ...]:
    return (len(value), *_shape(value[0])) if isinstance(value, list) else ()


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
