"""How a model is trained: the rules of update, and what carries them out.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d2lparams import checks
from d2lparams.checks import Array
from d2lparams.parameters import Parameter


class Unsupported(Exception):
    """The framework cannot do this, by design. The message says why, in one sentence."""


@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum: v = momentum * v + g; w = w - learning_rate * v.

    `weight_decay` is the argument of that name of the framework's own SGD (MXNet calls it `wd`), and whether
    it is added to the gradient or taken from the weight apart is the framework's own way.
    """

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015, algorithm 1). Where `epsilon` is added differs between frameworks."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2, with a schedule of 1).

    The decay takes `learning_rate * weight_decay * w` from each weight, beside Adam's own step.
    """

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01


Optimizer = SGD | Adam | AdamW


class Trainer(ABC):
    """Trains one model in place, by the framework's own fast path. The loss is the mean squared error.

    The parameters' shapes and ties are taken when the trainer is made: tie first, then train.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self._width, self._outputs = parameters[0].shape[1], parameters[-1].shape[0]
        self._dtype = parameters[0].dtype

    def step(self, x: Array, y: Array) -> float:
        """One step on the batch x (n, inputs), y (n, outputs); returns the loss before the step.

        Raises:
            ValueError: when x or y does not fit the model.
        """
        x, y = checks.batch(x, y, self._width, self._outputs, self._dtype)
        return self._step(x, y)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Change the learning rate from the next step on, as the framework's own users do.

        Raises:
            Unsupported: when the backend's trainer cannot.
        """
        self._set_learning_rate(learning_rate)

    def slots(self) -> dict[str, tuple[int, ...]]:
        """The optimizer's own state after a step: the shape of each array that stands beside a parameter.

        Names are the framework's own. Step counters and the like, which belong to no parameter, are left out.

        Raises:
            Unsupported: when the backend's trainer cannot say.
        """
        return dict(self._slots())

    @abstractmethod
    def _step(self, x: Array, y: Array) -> float: ...

    def _set_learning_rate(self, learning_rate: float) -> None:
        raise Unsupported("this backend's trainer does not change its learning rate")

    def _slots(self) -> Mapping[str, tuple[int, ...]]:
        raise Unsupported("this backend's trainer does not show its optimizer's state")


class Optimizers(ABC):
    """What is particular about a framework's optimizers, beside the steps that a `Trainer` takes."""

    @abstractmethod
    def defaults(self) -> dict[str, dict[str, Any]]:
        """The settings of "SGD", "Adam" and "AdamW" when only a learning rate is given, or nothing.

        By the framework's own argument names, read from its own classes or signatures; an optimizer that the
        framework does not have is left out.
        """

    @abstractmethod
    def global_norm(self, model: Any, x: Array, y: Array) -> tuple[str, float]:
        """The norm of all gradients of the mean squared error together, by the framework's own function.

        Returns the expression that was used and what it gave, before anything is clipped.
        """

    @abstractmethod
    def penalty(self, model: Any) -> tuple[str, float]:
        """The sum of squares over all that the framework lists for training, as its users write an L2 penalty.

        Returns the expression and what it gave.
        """

    @abstractmethod
    def duplicated(self, model: Any, optimizer: Optimizer) -> Trainer:
        """A trainer whose optimizer is handed one parameter for each use, a tied one more than once.

        Whatever the framework raises or warns is let through.

        Raises:
            Unsupported: when an optimizer of this framework takes no list.
        """

    @abstractmethod
    def scaled(self, model: Any, optimizer: Optimizer, batch_size: int) -> Trainer:
        """A trainer whose step is told the size of the batch.

        Raises:
            Unsupported: when a step of this framework takes no such argument.
        """
