"""The addresses of things in a page: letters, digits, hyphens and slashes, and no two things with the same one.

What the page itself needs begins with an underscore, which no address made here does.
"""

from __future__ import annotations

import re

LONGEST = 80  # characters; a name from elsewhere may be of any length


class Anchors:
    """Gives addresses out, each once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def make(self, *names: str) -> str:
        """An address for what is named so, such as "tied-by-construction/own-counts"."""
        parts = [_slug(name) for name in names]
        first = address = "/".join(parts)
        while address in self._taken:
            # Of thousands with one name, no number is tried twice.
            number = self._numbers[first] = self._numbers.get(first, 1) + 1
            address = "/".join([*parts[:-1], f"{parts[-1]}-{number}"])
        self._taken.add(address)
        return address


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()[:LONGEST]).strip("-") or "unnamed"
