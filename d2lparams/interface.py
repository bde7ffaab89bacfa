"""What a backend must do: the words of the harness, and the one place where arguments are checked.

A backend adapts one framework. The model it builds is the framework's own object, and the looking operations
(`parameters`, `parameter`, `gradients`) take any model of dense layers, also one that was built without us.
NumPy arrays go in and come out; a dense weight is (out, in) here, whatever the framework's own orientation.
Dense layers are counted 0, 1, 2 ... in order of application; a layer applied twice has two numbers.

Public methods check what they are given and then call the adapter's hook of the same name with a leading
underscore. So a mistake gets the same sentence on every framework, as a `ValueError`, before anything changed.

What is built, read and trained is described in `models`, `parameters`, `training` and `subjects`, and the
sentences stand in `checks`; an adapter takes all of it from here. Imports the standard library and NumPy only:
this module runs inside every framework's environment.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, Generic, TypeVar, get_args

from d2lparams import checks
from d2lparams.carrying import export_from, load_into
from d2lparams.checks import Array
from d2lparams.compiling import Price
from d2lparams.conventions import (
    Convention,
    Conventions,
    Flattened,
    Held,
    Kind,
    axes_in_words,
    to_canonical,
    to_native,
    with_summed_biases,
    with_two_biases,
)
from d2lparams.models import MLP, ROLES, Activation, By, DType, Example, Layer, LayerKind, Role
from d2lparams.natives import Carrier, NativeArray, NativeLayer, Step, Structure, UnknownLayer
from d2lparams.parameter_set import ParameterSet
from d2lparams.parameters import Gradient, Parameter, Parameters, firsts, partition, unique
from d2lparams.programs import program, source_of, ties_in_words
from d2lparams.structures import (
    Uses,
    flattened_inputs,
    probe,
    seen_flattening,
    structure_of_calls,
    structure_of_places,
)
from d2lparams.subjects import Claim, Format, Known, Layers, Lifecycle, Part
from d2lparams.training import (
    LOSSES,
    MEAN_SQUARED_ERROR,
    SGD,
    SOFTMAX_CROSS_ENTROPY,
    Adam,
    AdamW,
    Compile,
    Loss,
    Optimizer,
    Optimizers,
    Trainer,
    Unsupported,
)

__all__ = [
    "LOSSES",
    "MEAN_SQUARED_ERROR",
    "MLP",
    "ROLES",
    "SGD",
    "SOFTMAX_CROSS_ENTROPY",
    "Activation",
    "Adam",
    "AdamW",
    "Array",
    "Backend",
    "By",
    "Carrier",
    "Claim",
    "Compile",
    "Convention",
    "Conventions",
    "DType",
    "Example",
    "Flattened",
    "Format",
    "Gradient",
    "Held",
    "Kind",
    "Known",
    "Layer",
    "LayerKind",
    "Layers",
    "Lifecycle",
    "Loss",
    "NativeArray",
    "NativeLayer",
    "Optimizer",
    "Optimizers",
    "Parameter",
    "ParameterSet",
    "Parameters",
    "Part",
    "Price",
    "Role",
    "Step",
    "Structure",
    "Trainer",
    "UnknownLayer",
    "Unsupported",
    "Uses",
    "axes_in_words",
    "firsts",
    "flattened_inputs",
    "needs",
    "partition",
    "probe",
    "program",
    "seen_flattening",
    "source_of",
    "structure_of_calls",
    "structure_of_places",
    "ties_in_words",
    "to_canonical",
    "to_native",
    "unique",
    "with_summed_biases",
    "with_two_biases",
]

Model = TypeVar("Model")


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


class Backend(ABC, Generic[Model]):
    """What the harness asks of a framework.

    Attributes:
        name: of the module in `backends/`, and of the column.
        tying: how this framework ties a layer of a model already built, as an expression, by the way of tying;
            a way that is not there is one that the framework does not have.
    """

    name: ClassVar[str]
    tying: ClassVar[Mapping[By, str]]

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

    def tie(self, model: Model, layer: int, to: int, by: By = "module", roles: Sequence[Role] = ROLES) -> Model:
        """Make `layer` another use of layer `to`; its own values are dropped. The result may be a new model.

        Args:
            model: with two layers of one shape.
            layer: the one that gives up its own parameters.
            to: the one whose parameters both have from now on.
            by: "module" puts the same layer object into both places, "parameter" lets two layer objects hold
                the same parameters.
            roles: what is shared; a weight without its bias can only be shared by "parameter".

        Raises:
            ValueError: for a layer that is not there, a layer and itself, or layers of different shapes.
            Unsupported: when the framework cannot tie so, or not in a model of this form.
        """
        shared = checks.shared_roles(roles, by)
        parameters = self.parameters(model)
        mine, other = (_find(parameters, index, shared[0]) for index in (layer, to))
        if layer == to:
            raise ValueError(f"layer {layer} cannot be tied to itself; name two different layers")
        checks.same_shape(layer, mine.shape, to, other.shape)
        if all(
            _find(parameters, layer, role).storage == _find(parameters, to, role).storage for role in shared
        ):
            return model
        return self._tie(model, layer, to, by, shared)

    # -- look ----------------------------------------------------------------------------------------------

    def parameters(self, model: Model) -> Parameters:
        """Every use of every dense layer's parameters in order of application, weight before bias.

        The list shows itself as a table, in a notebook too.

        Raises:
            ValueError: when the model has no dense layer.
        """
        parameters = Parameters(self._parameters(model))
        if not parameters:
            raise ValueError("the model has no dense layer; the harness looks at dense layers")
        return parameters

    def parameter(self, model: Model, layer: int, role: Role) -> Parameter:
        """One layer's weight or bias.

        All are listed to find it: who wants many takes them from one list.

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
        self._assign(model, parameter, _fitting(parameter, value))

    def assign_all(self, model: Model, values: Mapping[tuple[int, Role], Array]) -> None:
        """Write values into many parameters, by (layer, role), as `gradients` gives them; all of them or none.

        The model is listed once, so that this takes as long as the model is large; `assign` lists it each time.
        Of several uses of a tied parameter the last one counts.

        Raises:
            ValueError: for what is no mapping of uses, and as `assign`; nothing is written then.
        """
        checks.by_use("values", values)
        found = _found(self.parameters(model), values)
        self._assign_all(model, [(one, _fitting(one, value)) for one, value in zip(found, values.values())])

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

    def trainer(
        self,
        model: Model,
        optimizer: Optimizer,
        *,
        loss: Loss = "mean squared error",
        compile: Compile = "auto",  # noqa: A002  (it is every framework's word for it)
    ) -> Trainer:
        """What trains this model; see `Trainer`.

        Args:
            model: with its ties.
            optimizer: the rule of update.
            loss: "mean squared error", or "softmax cross-entropy" of logits and labels.
            compile: whether steps are compiled, where that takes a compiler of seconds. "auto" begins with what
                is ready at once, and compiles when so many steps were taken, or are asked of `run`, that it
                pays; see `compiling`. True compiles before the first step or the second, False never.

        Raises:
            ValueError: for an optimizer, a loss or a `compile` that is none of these.
            Unsupported: for a loss that this backend's trainer does not know.
        """
        if not isinstance(optimizer, get_args(Optimizer)):
            raise ValueError(f"optimizer must be SGD(...), Adam(...) or AdamW(...); got {optimizer!r}")
        trainer = self._trainer(model, optimizer)
        trainer.prepare(loss, compile)
        return trainer

    def fresh(self) -> AbstractContextManager[Any]:
        """A clean slate for one scenario: names that the framework counts globally start again at zero."""
        return nullcontext()

    def renew(self) -> None:
        """Set the process's switches back to what they are in a new one: it has run, and another run follows.

        What scenarios of one run may leave to each other, such as a switch for the whole process, is set back
        here and not in `fresh`.
        """

    # -- carry ---------------------------------------------------------------------------------------------

    def export(self, model: Model, x: Any = None, *, copy: bool = True) -> ParameterSet:
        """The values of any native model of layers that the harness knows, in a form of no framework.

        Args:
            model: the framework's own, not only one that was built here.
            x: an example input, as the model takes it. With it the model is run once and its layers are seen in
                order of application; without it they are listed in that order where a container of the
                framework's own says so, and else in order of registration.
            copy: False gives views of the model's own memory where the orientation allows it; `shared` of the
                set says which. The framework owns that memory and writes it when the model is trained; the
                views are read-only, and keep it alive.

        Raises:
            UnknownLayer: when a layer has parameters and is none of those that are known, or two layers share
                one in a way that has no neutral form.
            ValueError: when the model cannot be looked into without an example input.
            Unsupported: when the backend carries no parameters.
        """
        return export_from(self.carrier(), model, x, origin=self.name, copy=copy)

    def load(
        self,
        model: Model,
        parameters: ParameterSet,
        x: Any = None,
        *,
        mapping: Mapping[str, str] | None = None,
        untie: bool = False,
        settings: bool = True,
    ) -> Model:
        """Write a set's values into a native model; everything is checked before anything is written.

        Layers find each other by kind and shape, then by path, then by order of application.

        Args:
            model: the framework's own; it is changed, and returned.
            parameters: the values, exported from any framework.
            x: as for `export`.
            mapping: from paths of layers of this model to paths of layers of the set, where nothing decides.
            untie: let two places of the model, each with a storage of its own, take a value that is one storage
                in the set.
            settings: whether a layer's settings, such as epsilon, must be those that the set was made with.

        Raises:
            MatchError: when the layers do not fit, or when more than one way is possible.
            LoadError: when a tie, a dtype or a setting does not fit.
            UnknownLayer: as for `export`.
            ValueError: when the model cannot be looked into without an example input.
            Unsupported: when the backend carries no parameters.
        """
        load_into(self.carrier(), model, parameters, x, mapping=mapping, untie=untie, settings=settings)
        return model

    def conventions(self) -> Conventions:
        """How the framework keeps the arrays of each kind of layer; `conventions.table` makes it readable.

        Raises:
            Unsupported: when the backend carries no parameters.
        """
        return self.carrier().conventions

    # -- what the framework has besides --------------------------------------------------------------------

    def lifecycles(self) -> Sequence[Lifecycle[Model]]:
        """The framework's own ways to copy, save, rebuild, cast, move or transform a model.

        What a way gives can be looked at, written and trained as any model can; where it cannot, the operation
        raises `Unsupported` with the reason.
        """
        return ()

    def script(self, lifecycle: Lifecycle[Model], spec: MLP, outcome: str) -> str:
        """A program in this framework alone that shows what a life cycle does to a model of this form.

        It prints what it sees, exits with 0 when that is the given outcome, and with 1 when it is another one.

        Raises:
            Unsupported: when the backend writes no such programs.
        """
        raise Unsupported("this backend writes no scripts that run without the harness")

    def formats(self) -> Sequence[Format[Model]]:
        """The framework's own ways to keep a model's values in a file."""
        return ()

    def optimizers(self) -> Optimizers:
        """What is particular about the framework's optimizers.

        Raises:
            Unsupported: when the backend does not say.
        """
        raise Unsupported("this backend says nothing of its optimizers beside their steps")

    def layers(self) -> Layers[Any]:
        """Layers of other kinds: what their arrays look like and what they compute.

        Raises:
            Unsupported: when the backend has dense layers only.
        """
        raise Unsupported("this backend has dense layers only")

    def carrier(self) -> Carrier[Any]:
        """What carries parameters out of native models and into them.

        Raises:
            Unsupported: when the backend carries no parameters.
        """
        raise Unsupported("this backend does not carry parameters out of its models")

    def example(self, example: Example) -> Any:
        """One of the models that transfers are shown on, built as a user of the framework builds it.

        Raises:
            Unsupported: when the framework cannot build it.
        """
        if example.mlp is not None:
            return self.mlp(example.mlp)
        raise Unsupported(f"this backend builds no {example.name}")

    def claims(self) -> Sequence[Claim]:
        """What the book says about this framework."""
        return ()

    # -- what an adapter writes ----------------------------------------------------------------------------

    @abstractmethod
    def _mlp(self, spec: MLP) -> Model: ...
    @abstractmethod
    def _initialize(self, model: Model, x: Array) -> Model: ...
    @abstractmethod
    def _tie(self, model: Model, layer: int, to: int, by: By, roles: Sequence[Role]) -> Model: ...
    @abstractmethod
    def _parameters(self, model: Model) -> Iterator[Parameter]: ...
    @abstractmethod
    def _listings(self, model: Model) -> dict[str, list[str]]: ...
    @abstractmethod
    def _counts(self, model: Model) -> dict[str, int]: ...
    @abstractmethod
    def _assign(self, model: Model, parameter: Parameter, value: Array) -> None: ...

    def _assign_all(self, model: Model, values: Sequence[tuple[Parameter, Array]]) -> None:
        for parameter, value in values:
            self._assign(model, parameter, value)

    @abstractmethod
    def _forward(self, model: Model, x: Array) -> Array: ...
    @abstractmethod
    def _gradients(self, model: Model, x: Array, y: Array) -> Mapping[tuple[int, Role], Array]: ...
    @abstractmethod
    def _trainer(self, model: Model, optimizer: Optimizer) -> Trainer: ...


def _fitting(parameter: Parameter, value: Array) -> Array:
    """The value as the parameter can take it."""
    what = f"layer {parameter.layer}'s {parameter.role}"
    value = checks.cast("the value", value, what, parameter.dtype)
    if value.shape != parameter.shape:
        raise ValueError(f"the value has shape {value.shape}, but {what} has {parameter.shape}")
    return value


def _find(parameters: Sequence[Parameter], layer: int, role: Role) -> Parameter:
    return next(_found(parameters, [(layer, role)]))


def _found(parameters: Sequence[Parameter], uses: Iterable[tuple[int, Role]]) -> Iterator[Parameter]:
    """Those that are asked for, in their order."""
    known = {(one.layer, one.role): one for one in parameters}
    layers = 1 + max(layer for layer, _ in known)
    for layer, role in uses:
        checks.layer_exists(layer, layers)
        checks.one_of("role", role, ROLES)
        if (layer, role) not in known:
            raise ValueError(f"layer {layer} has no {role}; it was built without one")
        yield known[layer, role]
