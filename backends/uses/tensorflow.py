"""Where a model uses dense layers, in order of application: a Keras model, or what a life cycle made of one.

That may be a `tf.function` of it, a call without state, or a SavedModel, whose graph tells what is used where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from d2lparams.interface import Role

_ROLES: dict[Role, str] = {"weight": "kernel", "bias": "bias"}


class Use(NamedTuple):
    """One use of a dense layer: how its weight and bias are reached, and the variables; and the layer itself.

    A use that is read from a graph alone has no layer.
    """

    parameters: Mapping[Role, tuple[str, Any]]
    layer: Any


def value_of(variable: Any) -> tf.Variable:
    """TensorFlow's own variable, which a Keras variable holds; a tape knows only this one."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def held_by(variable: Any) -> tf.Variable:
    """The same for a variable that is only looked at.

    Keras first asks in which scope it is asked for its value, and TensorFlow what a variable is; each takes
    longer than all else that is asked of one.
    """
    held = variable._value if type(variable) is keras.Variable else None
    return value_of(variable) if held is None else held


def output_of(model: Any, x: Any) -> Any:
    """What the model computes."""
    if stateless(model):
        return model(x)[0]
    return model.serve(x) if hasattr(model, "serve") else model(x)


def stateless(model: Any) -> Sequence[Any]:
    """The variables that a call without state was given; nothing for any other model."""
    given: Sequence[Any] = model.args[0] if isinstance(model, partial) else ()
    return given


def wrapped(model: Any) -> Any:
    """The model that a `tf.function` was made of, be it one of another."""
    return _unwrapped(model)[1]


def _unwrapped(model: Any) -> tuple[str, Any]:
    """The model inside, and the expression that reaches it."""
    access = "net"
    while hasattr(model, "python_function"):
        access, model = f"{access}.python_function", model.python_function
    return access, model


def variables_of(model: Any) -> tuple[str, list[Any]]:
    """The model's own list of its variables, and the expression that gives it."""
    if given := stateless(model):
        return "net.args[0]", list(given)
    access, model = _unwrapped(model)
    # A SavedModel that was loaded is no Keras object.
    name = "weights" if isinstance(model, keras.Layer) else "variables"
    return f"{access}.{name}", list(getattr(model, name))


def uses_of(model: Any) -> list[Use]:
    """Every use of every dense layer, in order of application."""
    if given := stateless(model):
        # A variable that was given stands for the model's own at the same place.
        own = model.func.__self__
        places = {id(one): place for place, one in enumerate(own.trainable_variables)}
        return [
            use._replace(
                parameters={
                    role: (f"net.args[0][{places[id(one)]}]", given[places[id(one)]])
                    for role, (_, one) in use.parameters.items()
                }
            )
            for use in uses_of(own)
        ]
    endpoint = getattr(model, "serve", getattr(model, "call_endpoint_fn", None))
    if endpoint is not None:
        return _graph_uses(model, endpoint)
    access, model = _unwrapped(model)
    return _layer_uses(model, access)


def _layer_uses(model: Any, access: str) -> list[Use]:
    return [
        Use(
            {
                role: (f"{place}.{leaf}", getattr(layer, leaf))
                for role, leaf in _ROLES.items()
                if role == "weight" or layer.use_bias
            },
            layer,
        )
        for place, layer in _dense(model, access)
    ]


def _graph_uses(model: Any, endpoint: Any) -> list[Use]:
    """The uses in a SavedModel: a product of matrices, and the bias that is added to it.

    A graph holds its operations in the order in which they were traced, and reaches its variables by handles.
    """
    graph = endpoint.concrete_functions[0].graph
    handles = {inner.name: id(outer) for outer, inner in graph.captures}
    expression, variables = variables_of(model)
    places = {id(value_of(one).handle): place for place, one in enumerate(variables)}

    def read_by(tensor: Any) -> tuple[str, Any]:
        while tensor.name not in handles:
            tensor = tensor.op.inputs[0]
        place = places[handles[tensor.name]]
        return f"{expression}[{place}]", variables[place]

    uses: list[Use] = []
    for operation in graph.get_operations():
        if operation.type == "MatMul":
            added = [one for one in operation.outputs[0].consumers() if one.type in ("BiasAdd", "AddV2")]
            found: dict[Role, tuple[str, Any]] = {"weight": read_by(operation.inputs[1])}
            if added:
                found["bias"] = read_by(added[0].inputs[1])
            uses.append(Use(found, None))
    return uses


def _dense(model: Any, access: str) -> list[tuple[str, Any]]:
    """Every use of every dense layer, with the expression that reaches it.

    A Sequential lists its layers in order of application. A functional model lists each layer once, and its
    graph has a node for each use. What a subclassed model does with its layers is known to its code alone:
    they are taken once each, in the order in which they were made.
    """
    layers, names, sequential = list(model.layers), {}, isinstance(model, keras.Sequential)
    position = {} if sequential else {id(layer): index for index, layer in reversed(list(enumerate(layers)))}
    if isinstance(model, keras.Model) and not sequential:
        depths = getattr(model, "_nodes_by_depth", {})
        nodes = [node for depth in sorted(depths, reverse=True) for node in depths[depth]]
        layers = [node.operation for node in nodes if id(node.operation) in position] or layers
        names = {id(one): name for name, one in vars(model).items() if isinstance(one, keras.Layer)}
    uses: list[tuple[str, Any]] = []
    for index, layer in enumerate(layers):
        place = index if sequential else position[id(layer)]
        inner = f"{access}.{names.get(id(layer)) or f'layers[{place}]'}"
        if isinstance(layer, keras.layers.Dense):
            uses.append((inner, layer))
        elif getattr(layer, "layers", None):
            uses += _dense(layer, inner)
    return uses
