"""What is printed, within bounds: however much it is, its beginning and its end are kept, and how much is not.

Standard library only: this runs inside every framework's environment, and in the parent.
"""

from __future__ import annotations

KEPT = 100_000
"""So many bytes are kept of the beginning, and as many of the end."""


class Bounded:
    """Takes bytes, and keeps the first and the last of them."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._first, self._last = bytearray(), bytearray()
        self._seen = 0

    def add(self, chunk: bytes) -> None:
        """Take what comes next."""
        self._seen += len(chunk)
        room = self._kept - len(self._first)
        self._first += chunk[:room]
        self._last += chunk[room:]
        del self._last[: -self._kept]

    @property
    def left_out(self) -> int:
        """How many bytes between the beginning and the end are gone."""
        return self._seen - len(self._first) - len(self._last)

    def __str__(self) -> str:
        """The text; where something is gone, a line says how much."""
        if not self.left_out:
            return (self._first + self._last).decode("utf-8", "replace")
        # A seam may go through a character, and only there may half of one be dropped.
        first, last = (part.decode("utf-8", "replace").strip("\ufffd") for part in (self._first, self._last))
        return f"{first}\n[... {self.left_out:,} bytes are left out here ...]\n{last}"


def within(text: str, kept: int = KEPT) -> str:
    """A text that is too long without its middle."""
    whole = Bounded(kept)
    whole.add(text.encode("utf-8", "replace"))
    return str(whole)
