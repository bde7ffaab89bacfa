"""What a backend must do: the words of the harness, and the one place where arguments are checked.

A backend adapts one framework. The model it builds is the framework's own object, and the looking operations
(`parameters`, `parameter`, `gradients`) take any model of dense layers, also one that was built without us.
NumPy arrays go in and come out; a dense weight is (out, in) here, whatever the framework's own orientation.
Dense layers are counted 0, 1, 2 ... in order of application; a layer applied twice has two numbers.

Public methods check what they are given and then call the adapter's hook of the same name with a leading
underscore. So a mistake gets the same sentence on every framework, as a `ValueError`, before anything changed.

The sentences stand in `checks`. Imports the standard library and NumPy only: this module runs inside every
framework's environment.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args

import numpy as np

from d2lparams import checks
from d2lparams.checks import Array as Array

Role = Literal["weight", "bias"]
Activation = Literal["relu", "tanh", "identity"]
DType = Literal["float32", "float64"]
Model = TypeVar("Model")

ROLES: tuple[Role, Role] = ("weight", "bias")


class Unsupported(Exception):
    """The framework cannot do this, by design. The message says why, in one sentence."""


@contextmanager
def needs(extra: str, before: tuple[int, int] | None = None) -> Iterator[None]:
    """Wrap an adapter's framework imports: what is missing is said with the line that installs it.

    Args:
        extra: of this distribution that installs what is needed.
        before: the first Python that the framework cannot have.

    Raises:
        ModuleNotFoundError: in one sentence, when the framework is not installed in this interpreter.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        advice = f"`pip install 'd2lparams[{extra}]'` installs what the {extra} backend needs"
        if before and sys.version_info >= before:
            advice = f"the {extra} backend needs one before {before[0]}.{before[1]}"
        raise ModuleNotFoundError(
            f"no module {error.name!r} in this Python; {advice}", name=error.name
        ) from None


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron: dense layers with biases, an activation between them, none after the last.

    Attributes:
        sizes: widths from input to output; `(4, 8, 1)` has two dense layers, 4 to 8 and 8 to 1.
        activation: applied after every dense layer but the last.
        tied: groups of dense layers that are one layer; `((1, 2),)` applies the same layer twice.
        dtype: of parameters and inputs.
        lazy: leave the input widths for the framework to find out from the first batch (`Backend.initialize`).

    Raises:
        ValueError: for sizes, an activation, tied layers or a dtype that describe no model.
    """

    sizes: tuple[int, ...]
    activation: Activation = "relu"
    tied: tuple[tuple[int, ...], ...] = ()
    dtype: DType = "float32"
    lazy: bool = False

    def __post_init__(self) -> None:
        # Lists are what a notebook user types; frozen tuples are what the rest relies on.
        object.__setattr__(self, "sizes", checks.sizes(self.sizes))
        object.__setattr__(self, "tied", checks.groups(self.tied))
        checks.one_of("activation", self.activation, get_args(Activation))
        checks.one_of("dtype", self.dtype, get_args(DType))
        for first, *others in self.tied:
            checks.layer_exists(first, self.layers)
            for layer in others:
                checks.layer_exists(layer, self.layers)
                checks.same_shape(layer, self.weight_shape(layer), first, self.weight_shape(first))

    @property
    def layers(self) -> int:
        """The number of dense layers, each use counted."""
        return len(self.sizes) - 1

    def weight_shape(self, layer: int) -> tuple[int, int]:
        """The shape (out, in) of a dense layer's weight."""
        return self.sizes[layer + 1], self.sizes[layer]

    def owner(self, layer: int) -> int:
        """The first layer of the tied group that `layer` belongs to; itself when it is not tied."""
        return next((min(group) for group in self.tied if layer in group), layer)


@dataclass(frozen=True)
class Gradient:
    """Where a framework keeps a parameter's gradient, and what is there now.

    Attributes:
        kept: whether the framework stores gradients with its parameters at all.
        where: the expression that reads it, or what returns it when it is not kept.
        value: canonical orientation; None when nothing is there (yet).
    """

    kept: bool
    where: str
    value: Array | None = None


@dataclass(frozen=True)
class Parameter:
    """One use of one parameter. The list of them copies no values; reading `value` or `gradient` does.

    Attributes:
        layer: the dense layer, counted in order of application.
        role: "weight" or "bias".
        native_name: what the framework calls it.
        access: the expression that reads it from the native model, for instance `net[2].bias`.
        native_shape: as the framework holds it; a kernel of Keras or Flax is (in, out).
        shape: canonical; a weight is (out, in), a bias (out,).
        dtype: NumPy's name of the data type.
        native: the framework's own parameter object.
        native_value: the framework's own object that holds the values.
        storage: equal for two uses exactly when both are the same stored numbers.
    """

    layer: int
    role: Role
    native_name: str
    access: str
    native_shape: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    native: Any = field(repr=False)
    native_value: Any = field(repr=False)
    storage: Hashable = field(repr=False)
    read: Callable[[], Array] = field(repr=False)
    read_gradient: Callable[[], Gradient] = field(repr=False)

    @property
    def value(self) -> Array:
        """A copy of the values, canonical orientation."""
        return self.read()

    @property
    def gradient(self) -> Gradient:
        """The gradient's place and, where one is stored, a copy of it."""
        return self.read_gradient()

    @property
    def size(self) -> int:
        """The number of values."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """The bytes of the values."""
        return self.size * np.dtype(self.dtype).itemsize


def unique(parameters: Sequence[Parameter]) -> list[Parameter]:
    """The parameters with each storage once, at its first use: what there really is to train and to save."""
    first: dict[Hashable, Parameter] = {}
    for parameter in parameters:
        first.setdefault(parameter.storage, parameter)
    return list(first.values())


@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum: v = momentum * v + g; w = w - learning_rate * v."""

    learning_rate: float
    momentum: float = 0.0


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015, algorithm 1). Where `epsilon` is added differs between frameworks."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


Optimizer = SGD | Adam


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

    @abstractmethod
    def _step(self, x: Array, y: Array) -> float: ...


class Backend(ABC, Generic[Model]):
    """What the harness asks of a framework.

    Attributes:
        name: of the module in `backends/`, and of the column.
        tying: how this framework ties a layer of a model already built, as an expression.
    """

    name: ClassVar[str]
    tying: ClassVar[str]

    # -- build ---------------------------------------------------------------------------------------------

    def mlp(self, spec: MLP) -> Model:
        """Build the framework's own model. Starting values are the framework's default initialisation."""
        return self._mlp(spec)

    def initialize(self, model: Model, x: Array) -> Model:
        """Give a lazy model its shapes from a first batch x (n, inputs); the result may be a new model.

        Raises:
            ValueError: when x is no such batch.
        """
        return self._initialize(model, checks.first_batch(x))

    def tie(self, model: Model, layer: int, to: int) -> Model:
        """Make `layer` another use of layer `to`; its own values are dropped. The result may be a new model.

        Raises:
            ValueError: for a layer that is not there, a layer and itself, or layers of different shapes.
            Unsupported: when the framework cannot tie in a model of this form.
        """
        parameters = self.parameters(model)
        mine, other = (_find(parameters, index, "weight") for index in (layer, to))
        if layer == to:
            raise ValueError(f"layer {layer} cannot be tied to itself; name two different layers")
        checks.same_shape(layer, mine.shape, to, other.shape)
        if mine.storage == other.storage:
            return model
        return self._tie(model, layer, to)

    # -- look ----------------------------------------------------------------------------------------------

    def parameters(self, model: Model) -> list[Parameter]:
        """Every use of every dense layer's parameters in order of application, weight before bias.

        Raises:
            ValueError: when the model has no dense layer.
        """
        parameters = list(self._parameters(model))
        if not parameters:
            raise ValueError("the model has no dense layer; the harness looks at dense layers")
        return parameters

    def parameter(self, model: Model, layer: int, role: Role) -> Parameter:
        """One layer's weight or bias.

        Raises:
            ValueError: for a layer that is not there or a role other than weight and bias.
        """
        return _find(self.parameters(model), layer, role)

    def listings(self, model: Model) -> dict[str, list[str]]:
        """What the framework's own ways of listing a model show, by the expression that asks; lazy ones too."""
        return self._listings(model)

    def counts(self, model: Model) -> dict[str, int]:
        """How many there are by the framework's own ways of counting, by the expression that asks."""
        return self._counts(model)

    def assign(self, model: Model, layer: int, role: Role, value: Array) -> None:
        """Write values into a parameter, canonical orientation; every other use of it changes with it.

        Raises:
            ValueError: for a layer or role that is not there, or a value of another shape or dtype.
        """
        parameter = self.parameter(model, layer, role)
        what = f"layer {layer}'s {role}"
        value = checks.cast("the value", value, what, parameter.dtype)
        if value.shape != parameter.shape:
            raise ValueError(f"the value has shape {value.shape}, but {what} has {parameter.shape}")
        self._assign(model, parameter, value)

    # -- compute -------------------------------------------------------------------------------------------

    def forward(self, model: Model, x: Array) -> Array:
        """The model's output (n, outputs) for x (n, inputs).

        Raises:
            ValueError: when x does not fit the model.
        """
        first = self.parameters(model)[0]
        return self._forward(model, checks.inputs(x, first.shape[1], first.dtype))

    def gradients(self, model: Model, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        """Gradients of the mean squared error, by (layer, role), canonical orientation.

        Each use of a tied layer has an entry; all of them hold the gradient of the one shared parameter.
        Where the framework stores gradients with its parameters, they are there afterwards.

        Raises:
            ValueError: when x or y does not fit the model.
        """
        first, *_, last = self.parameters(model)
        x, y = checks.batch(x, y, first.shape[1], last.shape[0], first.dtype)
        return dict(self._gradients(model, x, y))

    def trainer(self, model: Model, optimizer: Optimizer) -> Trainer:
        """What trains this model; see `Trainer`."""
        if not isinstance(optimizer, (SGD, Adam)):
            raise ValueError(f"optimizer must be SGD(...) or Adam(...); got {optimizer!r}")
        return self._trainer(model, optimizer)

    def fresh(self) -> AbstractContextManager[Any]:
        """A clean slate for one scenario: names that the framework counts globally start again at zero."""
        return nullcontext()

    # -- what an adapter writes ----------------------------------------------------------------------------

    @abstractmethod
    def _mlp(self, spec: MLP) -> Model: ...
    @abstractmethod
    def _initialize(self, model: Model, x: Array) -> Model: ...
    @abstractmethod
    def _tie(self, model: Model, layer: int, to: int) -> Model: ...
    @abstractmethod
    def _parameters(self, model: Model) -> Iterator[Parameter]: ...
    @abstractmethod
    def _listings(self, model: Model) -> dict[str, list[str]]: ...
    @abstractmethod
    def _counts(self, model: Model) -> dict[str, int]: ...
    @abstractmethod
    def _assign(self, model: Model, parameter: Parameter, value: Array) -> None: ...
    @abstractmethod
    def _forward(self, model: Model, x: Array) -> Array: ...
    @abstractmethod
    def _gradients(self, model: Model, x: Array, y: Array) -> Mapping[tuple[int, Role], Array]: ...
    @abstractmethod
    def _trainer(self, model: Model, optimizer: Optimizer) -> Trainer: ...


def _find(parameters: Sequence[Parameter], layer: int, role: Role) -> Parameter:
    checks.layer_exists(layer, 1 + max(parameter.layer for parameter in parameters))
    checks.one_of("role", role, ROLES)
    for parameter in parameters:
        if (parameter.layer, parameter.role) == (layer, role):
            return parameter
    raise ValueError(f"layer {layer} has no {role}; it was built without one")
