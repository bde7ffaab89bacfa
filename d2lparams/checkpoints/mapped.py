"""A file as bytes in memory, of which only those are read that are looked at.

Every place that a file names is held against the file's size here, before anything is made from it.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from d2lparams.checkpoints.checkpoint import bad
from d2lparams.checks import Array
from d2lparams.tensor_file import MOST_DIMENSIONS, from_bytes, item_bits, open_regular, shown


class Mapped:
    """An open file; `close` lets go of it, and the system keeps it for arrays that still look at it."""

    def __init__(self, path: Path, unpacked_from: Path | None = None) -> None:
        """Map it.

        Args:
            path: the file.
            unpacked_from: what sentences name instead, where the file is one of ours.

        Raises:
            BadFile: when it is no file, is empty, or cannot be opened.
        """
        self.path = path if unpacked_from is None else unpacked_from
        with open_regular(path) as source:
            self.size = os.fstat(source.fileno()).st_size
            if not self.size:
                raise bad(self.path, "it is empty")
            try:
                self._map = mmap.mmap(source.fileno(), self.size, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise bad(self.path, f"it cannot be mapped: {error}") from None

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(BufferError):
            self._map.close()

    def take(self, start: int, count: int) -> bytes:
        """A copy of some bytes.

        Raises:
            BadFile: when they are not all in the file.
        """
        self._within(start, count)
        return self._map[start : start + count]

    def number(self, start: int, count: int) -> int:
        """So many bytes as a number, little-endian, not negative.

        Raises:
            BadFile: when they are not all in the file.
        """
        return int.from_bytes(self.take(start, count), "little")

    def raw(self, start: int, count: int) -> Array:
        """Some bytes as an array: uint8, one axis, read-only, without a copy.

        Raises:
            BadFile: when they are not all in the file.
        """
        self._within(start, count)
        if not count:
            nothing = np.empty(0, np.uint8)
            nothing.setflags(write=False)
            return nothing
        return np.frombuffer(self._map, np.uint8, count, start)

    def array(self, name: str, start: int, dtype: str, shape: tuple[int, ...]) -> Array:
        """An array of little-endian items that lies in the file in order, read-only.

        Raises:
            BadFile: when it is not all in the file, or of a dtype that NumPy cannot read.
        """
        return from_bytes(self.path, name, self.raw(start, nbytes(self.path, name, dtype, shape)), dtype, shape)

    def rfind(self, needle: bytes, start: int) -> int:
        """Where bytes stand last, not before a place; -1 when they do not."""
        return self._map.rfind(needle, max(start, 0))

    def _within(self, start: int, count: int) -> None:
        if start < 0 or count < 0 or start + count > self.size:
            raise bad(self.path, f"it is cut short: bytes {start} to {start + count} are not in it")


def nbytes(path: Path, name: str, dtype: str, shape: Sequence[int]) -> int:
    """How many bytes an array takes; a shape that no array can have is refused here.

    Raises:
        BadFile: for such a shape, and for a dtype whose size is not known.
    """
    bits = item_bits(dtype)
    if bits is None:
        raise bad(path, f"{shown(name)} is {dtype}, whose values cannot be read here")
    if len(shape) > MOST_DIMENSIONS or any(not 0 <= size < 2**63 for size in shape):
        raise bad(path, f"{shown(name)} has a shape that no array can have: {tuple(shape)!r:.80}")
    # An axis of no length does not make up for others that no memory could hold.
    if math.prod(size for size in shape if size) * bits >= 2**66:
        raise bad(path, f"{shown(name)} has a shape that no array can have: {tuple(shape)!r:.80}")
    return math.prod(shape) * bits // 8
