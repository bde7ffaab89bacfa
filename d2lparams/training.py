"""How a model is trained: the rules of update, and what carries them out.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from d2lparams import checks
from d2lparams.checks import Array
from d2lparams.compiling import Price
from d2lparams.parameters import Parameter, unique


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


Loss = Literal["mean squared error", "softmax cross-entropy"]
LOSSES: tuple[Loss, ...] = get_args(Loss)
MEAN_SQUARED_ERROR, SOFTMAX_CROSS_ENTROPY = LOSSES

Compile = Literal["auto"] | bool


class Trainer(ABC):
    """Trains one model in place, by the framework's own fast path.

    The loss is the mean squared error over all outputs, or the softmax cross-entropy: of outputs z, which are
    logits, and of labels y, the mean over the batch of log(sum(exp(z))) - z[y].

    The parameters' shapes and ties are taken when the trainer is made: tie first, then train.

    Attributes:
        losses: that the trainer knows.
        price: of the compiler that a training may wait for; None where there is none, or where waiting for it
            always pays.
    """

    losses: ClassVar[Sequence[Loss]] = (MEAN_SQUARED_ERROR,)
    price: ClassVar[Price | None] = None

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self._width, self._outputs = parameters[0].shape[1], parameters[-1].shape[0]
        self._dtype = parameters[0].dtype
        self._loss: Loss = MEAN_SQUARED_ERROR
        self._compile: Compile = "auto"
        self._done: Counter[int] = Counter()  # steps, by the rows of their batch
        self._pays_after = self.price.steps(_stored(parameters)) if self.price else 0

    def prepare(self, loss: Loss, compile: Compile) -> None:  # noqa: A002  (as in `Backend.trainer`)
        """Choose the loss and whether to compile, before the first step; `Backend.trainer` does so.

        Raises:
            ValueError: for a loss that is none, or another word for `compile`.
            Unsupported: for a loss that this backend's trainer does not know.
        """
        checks.one_of("loss", loss, LOSSES)
        if compile != "auto" and not isinstance(compile, bool):
            raise ValueError(f"compile must be 'auto', True or False; got {compile!r}")
        if loss not in self.losses:
            raise Unsupported(f"this backend's trainer does not know the loss {loss!r}")
        if (loss, compile) != (self._loss, self._compile):
            self._loss, self._compile = loss, compile
            self._set_up()

    def step(self, x: Array, y: Array) -> float:
        """One step on a batch; returns the loss before the step.

        Args:
            x: inputs (n, inputs).
            y: targets (n, outputs) for the mean squared error, labels (n,) for the softmax cross-entropy.

        Raises:
            ValueError: when x or y does not fit the model.
            Unsupported: when `compile` is True and the framework cannot compile this here.
        """
        x, y = self._checked(x, y)
        loss = self._step(x, y)
        self._done[len(x)] += 1
        return loss

    def run(self, x: Array, y: Array, steps: int) -> Array:
        """So many steps on one batch; returns the losses before each of them, (steps,), float64.

        It is what as many calls of `step` are, within rounding, without coming back for each loss.

        Args:
            x: inputs (n, inputs).
            y: targets or labels, as for `step`.
            steps: zero or more.

        Raises:
            ValueError: when x or y does not fit the model, or steps is no such number.
            Unsupported: as for `step`.
        """
        x, y = self._checked(x, y)
        count = checks.count("steps", steps)
        losses = np.asarray(self._run(x, y, count) if count else (), "float64")
        self._done[len(x)] += count
        return losses

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

    def _run(self, x: Array, y: Array, steps: int) -> Array:
        return np.array([self._step(x, y) for _ in range(steps)])

    def _set_up(self) -> None:  # noqa: B027  (an adapter that looks at both in each step needs none)
        """Another loss than the mean squared error was chosen, or another word than "auto"."""

    def _compiles(self, x: Array, steps: int = 1) -> bool:
        """Whether the next steps, so many on batches of this length, are compiled ones; see `compiling`."""
        if self._compile == "auto":
            return self._done[len(x)] + steps > self._pays_after
        return self._compile

    def _checked(self, x: Array, y: Array) -> tuple[Array, Array]:
        check = checks.batch if self._loss == MEAN_SQUARED_ERROR else checks.labelled
        return check(x, y, self._width, self._outputs, self._dtype)

    def _set_learning_rate(self, learning_rate: float) -> None:
        raise Unsupported("this backend's trainer does not change its learning rate")

    def _slots(self) -> Mapping[str, tuple[int, ...]]:
        raise Unsupported("this backend's trainer does not show its optimizer's state")


def _stored(parameters: Sequence[Parameter]) -> int:
    """How many numbers there are, of tied parameters once."""
    return sum(math.prod(one.shape) for one in unique(parameters))


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
