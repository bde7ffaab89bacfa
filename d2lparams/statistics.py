"""What the numbers of one array are like: how many of them are no numbers, and how the others are spread.

An array is gone through piece by piece, so that its size costs time and no memory. Every dtype is measured in
float64, and scaled first, so that no sum of finite numbers overflows; least and greatest are exact.

Pure: no file is read here, and nothing is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from d2lparams.checks import Array

BINS = 16
"""How many intervals of equal width lie between the least and the greatest number."""

PIECE = 2**16
"""So many items are looked at together; more of them would fit no processor's cache."""


@dataclass(frozen=True)
class Statistics:
    """What is known of an array's numbers. Those that are infinite or none only count; they spoil nothing else.

    Attributes:
        count: of all items.
        nans: of those that are not a number.
        infinities: of those that are infinite.
        zeros: of those that are zero.
        least: the smallest finite number, exactly; None when there is none. A truth value counts as 0 or 1.
        greatest: the largest.
        mean: of the finite numbers.
        std: their standard deviation, dividing by their number.
        histogram: how many lie in each of `BINS` intervals between least and greatest; empty without any.
    """

    count: int
    nans: int = 0
    infinities: int = 0
    zeros: int = 0
    least: float | None = None
    greatest: float | None = None
    mean: float | None = None
    std: float | None = None
    histogram: tuple[int, ...] = ()

    @property
    def finite(self) -> int:
        """How many numbers there are."""
        return self.count - self.nans - self.infinities


def measure(array: Array) -> Statistics:
    """Go through an array twice: for its least and greatest number, and then for how the numbers are spread.

    Args:
        array: of any shape, strides and byte order; bool, integer or floating.

    Raises:
        TypeError: for another dtype.
    """
    if array.dtype.kind not in "biuf":
        raise TypeError(f"an array of {array.dtype} has no order, and so no least number")
    nans = infinities = zeros = 0
    least: Any = None
    greatest: Any = None
    for piece in _pieces(array):
        zeros += piece.size - int(np.count_nonzero(piece))
        low, high = piece.min(), piece.max()
        # The least of a piece is no number when one in it is none: then, and only then, is there more to do.
        if not (np.isfinite(low) and np.isfinite(high)):
            finite = np.isfinite(piece)
            missing = int(np.count_nonzero(np.isnan(piece)))
            nans, infinities = nans + missing, infinities + piece.size - int(finite.sum()) - missing
            if not finite.any():
                continue
            low, high = piece[finite].min(), piece[finite].max()
        least = low if least is None else min(least, low)
        greatest = high if greatest is None else max(greatest, high)
    if least is None:
        return Statistics(array.size, nans, infinities, zeros)
    mean, std, histogram = _spread(array, float(least), float(greatest), not nans + infinities)
    return Statistics(
        array.size,
        nans,
        infinities,
        zeros,
        _number(least),
        _number(greatest),
        mean,
        std,
        tuple(histogram.tolist()),
    )


def _spread(array: Array, least: float, greatest: float, whole: bool) -> tuple[float, float, Array]:
    """Mean, standard deviation and histogram of the finite numbers; `whole` says that all of them are."""
    scale = max(abs(least), abs(greatest)) or 1.0
    low, width = least / scale, greatest / scale - least / scale
    count, mean, squares = 0, 0.0, 0.0
    histogram = np.zeros(BINS + 1, np.int64)
    for piece in _pieces(array):
        numbers = piece.astype(np.float64)
        if not whole:
            numbers = numbers[np.isfinite(numbers)]
        if not numbers.size:
            continue
        numbers /= scale
        # Means and squares of two parts, put together as if they had been one.
        here = float(numbers.mean())
        apart, total = here - mean, count + numbers.size
        places = numbers - low
        places *= BINS / width if width > 0 else 0.0
        histogram += np.bincount(places.astype(np.intp), minlength=BINS + 1)
        numbers -= here
        squares += float(np.dot(numbers, numbers)) + apart * apart * count * numbers.size / total
        mean += apart * numbers.size / total
        count = total
    # The greatest number belongs to the last interval, and not to one that would begin with it.
    histogram[-2] += histogram[-1]
    # Rounding must not carry the mean out of what it is the mean of.
    return min(max(mean * scale, least), greatest), (squares / count) ** 0.5 * scale, histogram[:-1]


def _pieces(array: Array) -> Iterator[Array]:
    """The items of an array, some at a time, in one axis, in whatever order they lie in memory."""
    if not array.size:
        return
    native = array.dtype.newbyteorder("=")
    flags = ["external_loop", "buffered"]
    yield from np.nditer(array, flags=flags, op_dtypes=[native], order="K", buffersize=PIECE)  # type: ignore[call-overload]


def _number(value: Any) -> float:
    """As Python has it: whole numbers stay whole, however large."""
    return int(value) if value.dtype.kind in "biu" else float(value)
