"""The models and batches that training is timed on, the same for every loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Net:
    """A multilayer perceptron, its batch and its rule, plain gradient descent; float32.

    Attributes:
        name: on the screen.
        sizes: widths, the input's first.
        activation: after each layer but the last.
        rows: of the batch.
        labels: whether the loss is the softmax cross-entropy; else it is the mean squared error.
        tied: whether layers 1 and 2 are one layer.
        rate: the learning rate.
    """

    name: str
    sizes: tuple[int, ...]
    activation: str
    rows: int
    labels: bool
    tied: bool = False
    rate: float = 2**-10

    def batch(self) -> tuple[Any, Any]:
        """Inputs, and labels (n,), int64, or targets (n, outputs)."""
        random = np.random.RandomState(0)
        x = random.uniform(-1, 1, (self.rows, self.sizes[0])).astype("float32")
        if self.labels:
            return x, random.randint(self.sizes[-1], size=self.rows).astype("int64")
        return x, random.uniform(-1, 1, (self.rows, self.sizes[-1])).astype("float32")


class Loop(NamedTuple):
    """Training by hand: a step from NumPy's x and y to the loss, and so many steps to all their losses."""

    step: Callable[[Any, Any], float]
    run: Callable[[Any, Any, int], Any]


NETS = {
    "small": Net("4-8-8-8-1, tied, 32 rows", (4, 8, 8, 8, 1), "tanh", 32, labels=False, tied=True),
    "middle": Net("784-256-10, 128 rows", (784, 256, 10), "relu", 128, labels=True),
    "large": Net("1024-4096-4096-10, 128 rows", (1024, 4096, 4096, 10), "relu", 128, labels=True),
}
