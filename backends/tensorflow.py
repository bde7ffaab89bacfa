# /// script
# requires-python = "==3.11.*"
# dependencies = [
#     "tensorflow-cpu==2.21.0; sys_platform == 'linux' and platform_machine == 'x86_64'",
#     "tensorflow==2.21.0; sys_platform != 'linux' or platform_machine != 'x86_64'",
#     "keras==3.15.1",
#     "numpy==2.4.6",
# ]
# [tool.d2lparams]
# title = "TensorFlow/Keras"
# class = "TensorFlowBackend"
# modules = ["tensorflow", "keras", "h5py"]
# aliases = ["keras", "tf"]
# position = 4
# ///
"""Keras 3 on TensorFlow: the model is a `keras.Sequential`; a shared layer stands in it twice.

Parameters are variables that know nothing of gradients; a tape returns them. A kernel is (in, out).

What a life cycle makes of a model may be no Keras model any more: a `tf.function` of it, a call without state,
a SavedModel. They are read and trained here as well; a SavedModel's graph tells which variable is used where.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar

import numpy as np

from d2lparams.interface import (
    MLP,
    SGD,
    Adam,
    AdamW,
    Array,
    Backend,
    By,
    Claim,
    Format,
    Gradient,
    Layers,
    Lifecycle,
    Optimizer,
    Optimizers,
    Parameter,
    Role,
    Trainer,
    Unsupported,
    needs,
)

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # above what the user's keras.json says

with needs("tensorflow"):
    import keras
    import tensorflow as tf

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"Keras runs on {keras.backend.backend()!r} in this process; "
        "set KERAS_BACKEND=tensorflow before it starts"
    )

_ROLES: dict[Role, str] = {"weight": "kernel", "bias": "bias"}
_NOT_KEPT = Gradient(kept=False, where="returned by tf.GradientTape.gradient")
_OWN_VARIABLES = (
    "a Keras layer makes its variables in build() and takes no other's: kernel has no setter, and a bias set "
    "before build() is replaced; users put one layer at both places, or write a layer whose call() reads the "
    "other's kernel"
)
# A use of a dense layer: how its weight and bias are reached, and the variables; no bias is a None.
_Use = Mapping[Role, tuple[str, Any]]


@keras.saving.register_keras_serializable()
class NestMLP(keras.Model):  # type: ignore[misc]
    """An inner model of dense layers, and an output layer."""

    def __init__(self, net: Any, linear: Any, **options: Any) -> None:
        super().__init__(**options)
        self.net = net
        self.linear = linear

    def build(self, input_shape: Any) -> None:
        """Make the variables that are not there yet; a layer that is built again would get new ones."""
        if not self.net.built:
            self.net.build(input_shape)
        if not self.linear.built:
            self.linear.build(self.net.compute_output_shape(input_shape))

    def call(self, x: Any) -> Any:
        """The output layer on what the inner model gives."""
        return self.linear(self.net(x))

    def get_config(self) -> dict[str, Any]:
        """What `from_config` builds another one of; each layer is written down by itself."""
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in ("net", "linear")}
        return {**super().get_config(), **parts}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A new model, built of new layers."""
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("net", "linear")}
        return cls(**{**config, **parts})


class TensorFlowBackend(Backend[Any]):
    """TensorFlow through Keras 3."""

    name = "tensorflow"
    tying: ClassVar[Mapping[By, str]] = {"module": "net = keras.Sequential([..., shared, shared, ...])"}

    def _mlp(self, spec: MLP) -> keras.Model:
        if spec.by == "parameter" and spec.tied:
            raise Unsupported(_OWN_VARIABLES)
        made, order = plan(spec)
        dense = {
            layer: keras.layers.Dense(units, activation=activation, dtype=spec.dtype)
            for layer, (units, activation) in made.items()
        }
        layers = [
            keras.layers.Activation(one, dtype=spec.dtype) if isinstance(one, str) else dense[one]
            for one in order
        ]
        return _assembled(layers, None if spec.lazy else spec.sizes[0], spec.dtype, spec.nested)

    def _initialize(self, model: Any, x: Array) -> Any:
        model(x)
        return model

    def _tie(self, model: Any, layer: int, to: int, by: By, roles: Sequence[Role]) -> keras.Model:
        if by == "parameter":
            raise Unsupported(_OWN_VARIABLES)
        if type(model) not in (keras.Sequential, NestMLP):
            raise Unsupported("Keras shares a layer by calling it twice; only a Sequential can be rebuilt here")
        nested = type(model) is NestMLP
        layers = [*model.net.layers, model.linear] if nested else list(model.layers)
        positions = [index for index, one in enumerate(layers) if isinstance(one, keras.layers.Dense)]
        if len(positions) != len(_uses(model)):
            raise Unsupported("only the direct layers of a Sequential can be replaced; this one is nested")
        mine, shared = layers[positions[layer]], layers[positions[to]]
        if mine.activation is not shared.activation:
            raise Unsupported(
                f"a Keras Dense holds its activation, and layer {layer} has {mine.activation.__name__} where "
                f"layer {to} has {shared.activation.__name__}; give the model Activation layers of their own"
            )
        width, dtype = _uses(model)[0]["weight"][1].shape[0], layers[0].compute_dtype
        layers[positions[layer]] = shared
        return _assembled(layers, width, dtype, nested)

    def _parameters(self, model: Any) -> Iterator[Parameter]:
        for index, use in enumerate(_uses(model)):
            for role, (access, native) in use.items():
                yield _parameter(index, role, access, native)

    def _listings(self, model: Any) -> dict[str, list[str]]:
        expression, variables = _variables(model)
        lines = [f"{getattr(one, 'path', one.name)} {tuple(one.shape)}" for one in variables]
        if not isinstance(model, keras.Model):
            return {expression: lines}
        return {"net.layers": [layer.name for layer in model.layers], expression: lines}

    def _counts(self, model: Any) -> dict[str, int]:
        expression, variables = _variables(model)
        counts = {f"len({expression})": len(variables)}
        if not isinstance(model, keras.Model):
            return counts
        return {
            "len(net.layers)": len(model.layers),
            **counts,
            "net.count_params()": int(model.count_params()),
        }

    def _assign(self, model: Any, parameter: Parameter, value: Array) -> None:
        parameter.native.assign(value.T)

    def _forward(self, model: Any, x: Array) -> Array:
        return np.array(_output(model, x))

    def _gradients(self, model: Any, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        parameters = list(self._parameters(model))
        with tf.GradientTape() as tape:
            loss = mean_squared_error(model, x, y)
        gradients = tape.gradient(loss, [one.native_value for one in parameters])
        return {(one.layer, one.role): np.array(value).T for one, value in zip(parameters, gradients)}

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        return GraphTrainer(self.parameters(model), model, trainable(model), optimizer)

    def fresh(self) -> AbstractContextManager[Any]:
        """Keras numbers layers from a counter of the whole process; this sets it back to zero."""
        # To collect garbage each time takes longer than most scenarios do.
        keras.utils.clear_session(free_memory=False)
        return nullcontext()

    def lifecycles(self) -> Sequence[Lifecycle[Any]]:
        """Those of Keras, and those of TensorFlow that take a Keras model."""
        from backends.lifecycles.tensorflow import LIFECYCLES

        return LIFECYCLES

    def script(self, lifecycle: Lifecycle[Any], spec: MLP, outcome: str) -> str:
        """A program that imports Keras and TensorFlow."""
        from backends.lifecycles.tensorflow import script

        return script(lifecycle, spec, outcome)

    def formats(self) -> Sequence[Format[Any]]:
        """Keras' weights file, a list of arrays, and TensorFlow's checkpoint."""
        from backends.formats.tensorflow import FORMATS

        return FORMATS

    def optimizers(self) -> Optimizers:
        """Those of Keras."""
        from backends.optimizers.tensorflow import TensorFlowOptimizers

        return TensorFlowOptimizers(self)

    def layers(self) -> Layers[Any]:
        """Those of Keras, channels last."""
        from backends.layers.tensorflow import TensorFlowLayers

        return TensorFlowLayers()

    def claims(self) -> Sequence[Claim]:
        """Those of the TensorFlow tab."""
        from backends.claims.tensorflow import CLAIMS

        return CLAIMS


def plan(spec: MLP) -> tuple[dict[int, tuple[int, str | None]], list[int | str]]:
    """The dense layers to be made, and what is applied in order.

    Returns:
        Units and activation of each dense layer that is there, by its number; and in order of application the
        number of a dense layer or the name of an activation that is a layer of its own.
    """
    native = ["linear" if spec.activation == "identity" else spec.activation] * (spec.layers - 1) + ["linear"]
    # A Dense holds its activation. Where one layer stands at places with different ones, it cannot.
    separate = any(native[spec.owner(layer)] != native[layer] for layer in range(spec.layers))
    made: dict[int, tuple[int, str | None]] = {}
    order: list[int | str] = []
    for layer, activation in enumerate(native):
        owner = spec.owner(layer)
        made.setdefault(owner, (spec.sizes[layer + 1], None if separate else activation))
        order.append(owner)
        if separate and layer < spec.layers - 1:
            order.append(activation)
    return made, order


def trainable(model: Any) -> list[Any]:
    """The variables that are handed to an optimizer, each once: those that the model itself lists."""
    return list(_stateless(model) or _traced(model).trainable_variables)


def value_of(variable: Any) -> tf.Variable:
    """TensorFlow's own variable, which a Keras variable holds; a tape knows only this one."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def mean_squared_error(model: Any, x: Any, y: Any) -> Any:
    """The loss, as a tensor."""
    return tf.reduce_mean((_output(model, x) - y) ** 2)


def _assembled(layers: list[Any], width: int | None, dtype: str, nested: bool) -> keras.Model:
    """A model of these layers; without a width it is built by its first batch."""
    inputs = [] if width is None else [keras.Input((width,), dtype=dtype)]
    if not nested:
        return keras.Sequential([*inputs, *layers])
    model = NestMLP(keras.Sequential([*inputs, *layers[:-1]]), layers[-1], dtype=dtype)
    if width is not None:
        model.build((None, width))
    return model


# -- what a life cycle may have made of a model ---------------------------------------------------------------


def _output(model: Any, x: Any) -> Any:
    """What the model computes."""
    if _stateless(model):
        return model(x)[0]
    return model.serve(x) if hasattr(model, "serve") else model(x)


def _stateless(model: Any) -> Sequence[Any]:
    """The variables that a call without state was given; nothing for any other model."""
    given: Sequence[Any] = model.args[0] if isinstance(model, partial) else ()
    return given


def _traced(model: Any) -> Any:
    """The model that a `tf.function` was made of."""
    return getattr(model, "python_function", model)


def _variables(model: Any) -> tuple[str, list[Any]]:
    """The model's own list of its variables, and the expression that gives it."""
    if given := _stateless(model):
        return "net.args[0]", list(given)
    if model is not (traced := _traced(model)):
        return "net.python_function.weights", list(traced.weights)
    # A SavedModel that was loaded is no Keras object.
    name = "weights" if isinstance(model, keras.Layer) else "variables"
    return f"net.{name}", list(getattr(model, name))


def _uses(model: Any) -> list[_Use]:
    """Every use of every dense layer, in order of application."""
    if given := _stateless(model):
        # A variable that was given stands for the model's own at the same place.
        own = model.func.__self__
        places = {id(one): place for place, one in enumerate(own.trainable_variables)}
        return [
            {
                role: (f"net.args[0][{places[id(one)]}]", given[places[id(one)]])
                for role, (_, one) in use.items()
            }
            for use in _uses(own)
        ]
    endpoint = getattr(model, "serve", getattr(model, "call_endpoint_fn", None))
    if endpoint is not None:
        return _graph_uses(model, endpoint)
    if model is not (traced := _traced(model)):
        return _layer_uses(traced, "net.python_function")
    return _layer_uses(model, "net")


def _layer_uses(model: Any, access: str) -> list[_Use]:
    return [
        {
            role: (f"{place}.{leaf}", getattr(layer, leaf))
            for role, leaf in _ROLES.items()
            if role == "weight" or layer.use_bias
        }
        for place, layer in _dense(model, access)
    ]


def _graph_uses(model: Any, endpoint: Any) -> list[_Use]:
    """The uses in a SavedModel: a product of matrices, and the bias that is added to it.

    A graph holds its operations in the order in which they were traced, and reaches its variables by handles.
    """
    graph = endpoint.concrete_functions[0].graph
    handles = {inner.name: id(outer) for outer, inner in graph.captures}
    expression, variables = _variables(model)
    places = {id(value_of(one).handle): place for place, one in enumerate(variables)}

    def read_by(tensor: Any) -> tuple[str, Any]:
        while tensor.name not in handles:
            tensor = tensor.op.inputs[0]
        place = places[handles[tensor.name]]
        return f"{expression}[{place}]", variables[place]

    uses: list[_Use] = []
    for operation in graph.get_operations():
        if operation.type == "MatMul":
            added = [one for one in operation.outputs[0].consumers() if one.type in ("BiasAdd", "AddV2")]
            bias: _Use = {"bias": read_by(added[0].inputs[1])} if added else {}
            uses.append({"weight": read_by(operation.inputs[1]), **bias})
    return uses


def _dense(model: Any, access: str) -> list[tuple[str, Any]]:
    """Every use of every dense layer, with the expression that reaches it.

    A Sequential lists its layers in order of application. A functional model lists each layer once, and its
    graph has a node for each use. What a subclassed model does with its layers is known to its code alone:
    they are taken once each, in the order in which they were made.
    """
    position = {id(layer): index for index, layer in reversed(list(enumerate(model.layers)))}
    layers, names = list(model.layers), {}
    if isinstance(model, keras.Model) and not isinstance(model, keras.Sequential):
        depths = getattr(model, "_nodes_by_depth", {})
        nodes = [node for depth in sorted(depths, reverse=True) for node in depths[depth]]
        layers = [node.operation for node in nodes if id(node.operation) in position] or layers
        names = {id(one): name for name, one in vars(model).items() if isinstance(one, keras.Layer)}
    uses: list[tuple[str, Any]] = []
    for index, layer in enumerate(layers):
        place = index if isinstance(model, keras.Sequential) else position[id(layer)]
        inner = f"{access}.{names.get(id(layer), f'layers[{place}]')}"
        if isinstance(layer, keras.layers.Dense):
            uses.append((inner, layer))
        elif getattr(layer, "layers", None):
            uses += _dense(layer, inner)
    return uses


def _parameter(layer: int, role: Role, access: str, native: Any) -> Parameter:
    return Parameter(
        layer=layer,
        role=role,
        native_name=getattr(native, "path", native.name),
        access=access,
        native_shape=tuple(native.shape),
        shape=tuple(native.shape)[::-1],
        dtype=tf.as_dtype(native.dtype).name,
        native=native,
        native_value=value_of(native),
        storage=id(value_of(native).handle),
        read=lambda: np.array(native.numpy()).T,
        read_gradient=lambda: _NOT_KEPT,
    )


# -- training -------------------------------------------------------------------------------------------------


class GraphTrainer(Trainer):
    """One graph for loss, gradients and update, without XLA.

    On steps of this size XLA gains little or nothing, and compiling for it takes most of a second.
    """

    def __init__(
        self, parameters: Sequence[Parameter], model: Any, variables: Sequence[Any], optimizer: Optimizer
    ) -> None:
        super().__init__(parameters)
        self._rule = rule = _rule(optimizer)
        rule.build(variables)

        def step(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = mean_squared_error(model, x, y)
            rule.apply(tape.gradient(loss, [value_of(one) for one in variables]), variables)
            return loss

        self._graph = tf.function(step)

    def _step(self, x: Array, y: Array) -> float:
        return float(self._graph(tf.constant(x), tf.constant(y)))

    def _set_learning_rate(self, learning_rate: float) -> None:
        # It is a variable, which the graph reads anew at each step.
        self._rule.learning_rate = learning_rate

    def _slots(self) -> dict[str, tuple[int, ...]]:
        apart = (self._rule.iterations, self._rule.learning_rate)
        return {
            one.path: tuple(one.shape)
            for one in self._rule.variables
            if all(one is not other for other in apart)
        }


def _rule(optimizer: Optimizer) -> keras.optimizers.Optimizer:
    match optimizer:
        case SGD():
            decay = optimizer.weight_decay or None
            return keras.optimizers.SGD(optimizer.learning_rate, optimizer.momentum, weight_decay=decay)
        case Adam():
            return keras.optimizers.Adam(
                optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon
            )
        case AdamW():
            return keras.optimizers.AdamW(
                optimizer.learning_rate,
                optimizer.weight_decay,
                optimizer.beta1,
                optimizer.beta2,
                optimizer.epsilon,
            )
