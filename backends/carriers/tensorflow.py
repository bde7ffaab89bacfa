"""What carries parameters out of any Keras model and into it: where its layers stand, and their arrays.

The layers of a Sequential and of a functional model are known in order of application; those of a class of the
user's own in the order in which they were made. With an input the model runs, and what it uses is seen by
`backends.watching.tensorflow`; which layers are known is told by `backends.known.tensorflow`.

On a CPU an array that is read is a read-only view of TensorFlow's own memory, by the buffer protocol of its
tensors. TensorFlow owns that memory and never writes it under a view: what changes the variable takes other
memory while there is one, so that the view stays what it was. Once an optimizer has written single rows of a
variable, as it does with an embedding, TensorFlow hands out copies of it. From another device it is a copy.
What is written is copied, and assigned to the variable, which every use, optimizer and compiled function reads.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from backends.conventions.tensorflow import CONVENTIONS, PROJECTION, REVERSE
from backends.known.tensorflow import (
    CONVOLUTIONS,
    GATED,
    NORMS,
    REVERSIBLE,
    Place,
    computes_as,
    held_by,
    key_of,
    kind_of,
    refuse_many_steps,
    refuse_own_variables,
    storage_of,
)
from backends.uses.tensorflow import value_of, wrapped
from backends.watching.tensorflow import Call, applied, constant_channels, in_use, last_image, run
from d2lparams.interface import (
    Array,
    Carrier,
    Convention,
    Kind,
    NativeArray,
    NativeLayer,
    Step,
    Structure,
    UnknownLayer,
    Uses,
    flattened_inputs,
    probe,
    structure_of_calls,
    structure_of_places,
)


class TensorFlowCarrier(Carrier[Any]):
    """Keras models on TensorFlow."""

    conventions = CONVENTIONS

    def structure(self, model: Any, x: Array | None) -> Structure:
        """By the model's own graph, or as calls are seen."""
        model = _model(model)
        places, ordered = _places(model)
        if x is None:
            layers = [_layer(*place) for place in places]
            images = flattened_inputs(layers)
            # Nobody sees from outside whether a layer moves an axis; but such a model tells what it takes.
            x = _example(model) if ordered and images else None
            if x is None:
                found = structure_of_places(layers, ordered=ordered and not images, channels_last=True)
                return _complete(model, found)
        uses = _uses(places)
        calls = run(model, x, places)
        seen = [[_used(uses.name(call.key), call)] for call in calls]
        unused = set(uses.unused)
        left = {
            key_of(layer, reverse): _layer(path, layer, reverse)
            for path, layer, reverse in reversed(places)
            if key_of(layer, reverse) in unused
        }
        known = {array.storage for call in seen for layer in call for array in layer.arrays}
        # One that is never called, and whose arrays are used elsewhere, holds nothing of its own.
        others = [
            one for one in reversed(left.values()) if not {array.storage for array in one.arrays} <= known
        ]

        def probed(before: int, after: int, channels: int) -> Array:
            again = run(model, x, places, instead=constant_channels)
            if [call.key for call in again] != [call.key for call in calls]:
                raise ValueError(
                    f"the model uses other layers for other values, so that how the input of layer "
                    f"{seen[after][0].path!r} is flattened cannot be seen"
                )
            given = np.array(again[after].given)
            if given.ndim > 2 and np.array_equal(given, np.broadcast_to(given[..., :1], given.shape)):
                return probe(channels)  # it is applied to all places of a channel, and nothing is flattened
            flat: Array = given.reshape(-1, given.shape[-1])[0]
            return flat

        found = structure_of_calls(seen, others, probed)
        _refuse_other_channels(calls)
        return _complete(model, found)

    def forward(self, model: Any, x: Array) -> Array:
        """In inference mode; an image that came from a convolution with channels last is turned."""
        model = _model(model)
        with in_use(model):
            output = _numpy(applied(model, x))
        last = last_image(run(model, x, _places(model)[0]), output.ndim)
        return last.told(output) if last else output

    def outputs(self, model: Any, x: Array) -> list[tuple[str, Array]]:
        """What calls of layers give, and products with their variables."""
        model = _model(model)
        places, _ = _places(model)
        uses = _uses(places)
        return [
            (uses.name(call.key), np.array(call.told(_numpy(call.output)), order="C"))
            for call in run(model, x, places, keep=True)
        ]

    def step(self, model: Any, x: Array, y: Array, learning_rate: float) -> Step:
        """By `keras.optimizers.SGD`, with gradients of a tape."""
        model = _model(model)
        last = last_image(run(model, x, _places(model)[0]), np.ndim(y))
        target = last.native(y) if last else y
        variables = list(model.trainable_variables)
        with in_use(model), tf.GradientTape() as tape:
            output = applied(model, x)
            loss = tf.reduce_mean((output - tf.constant(np.array(target), output.dtype)) ** 2)
        gradients = tape.gradient(loss, [value_of(one) for one in variables])
        used = [(one, gradient) for one, gradient in zip(variables, gradients) if gradient is not None]
        if used:
            optimizer = keras.optimizers.SGD(learning_rate)
            optimizer.build([one for one, _ in used])
            optimizer.apply([gradient for _, gradient in used], [one for one, _ in used])
        moved: dict[Hashable, Array] = {
            # The gradient of an embedding is a list of rows.
            storage_of(one): np.array(tf.convert_to_tensor(gradient))
            for one, gradient in used
        }
        found = _numpy(output)
        return Step(last.told(found) if last else found, float(loss), moved)

    def native_input(self, x: Array, kind: Kind) -> Array:
        """Channels last, unless the user's Keras has them first."""
        if kind not in CONVOLUTIONS or keras.config.image_data_format() == "channels_first":
            return x
        return np.moveaxis(x, 1, -1)


# -- which layers there are ---------------------------------------------------------------------------------


def _model(model: Any) -> Any:
    found = wrapped(model)  # a `tf.function` tells what it was made of
    if not isinstance(found, keras.Layer):
        raise UnknownLayer(f"{type(model).__name__} is no Keras model; its layers cannot be seen")
    for one in found._flatten_layers():
        # A class that only calls others makes no variables itself.
        if not one.built and type(one).build not in (keras.Layer.build, keras.Model.build):
            raise ValueError(
                f"layer {one.name!r} ({type(one).__name__}) of the model has no variables yet; call it on a "
                "first batch"
            )
    return found


def _example(model: Any) -> Array | None:
    """An input of zeros for a model that says what it takes; None where a size of it is open."""
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1 or any(size is None for size in inputs[0].shape[1:]):
        return None
    return np.zeros((1, *inputs[0].shape[1:]), keras.backend.standardize_dtype(inputs[0].dtype))


def _places(model: Any) -> tuple[list[Place], bool]:
    """Where layers that hold arrays stand, and whether that is certainly the order of application."""
    found, ordered = _inside(model, "")
    seen: dict[tuple[str, bool], int] = {}
    told_apart = []
    for path, layer, reverse in found:
        number = seen[path, reverse] = seen.get((path, reverse), 0) + 1
        name = f"{path}.reverse" if reverse else path
        told_apart.append((name if number == 1 else f"{name}@{number}", layer, reverse))
    return told_apart, ordered


def _inside(model: Any, path: str) -> tuple[list[Place], bool]:
    """The places in one layer or model; a layer that is used twice has one path twice."""
    if kind_of(model, path) is not None:
        # What projects by a matrix of its own is there also where nobody sees how it is used.
        own = isinstance(model, REVERSIBLE) and not model.tie_weights
        return [(path, model, False), *([(path, model, True)] if own else [])], True
    refuse_own_variables(model, path)
    children = model._flatten_layers(include_self=False, recursive=False)
    inner, ordered = _order(model)
    known = {id(layer) for layer, _ in inner}
    others = [layer for layer in children if id(layer) not in known]
    inner = [*inner, *((layer, None) for layer in others)]
    found: list[Place] = []
    names = _names(model, [layer for layer, _ in inner], ordered)
    for layer, reverse in inner:
        name = ".".join(filter(None, (path, names[id(layer)])))
        places, certain = _inside(layer, name)
        if reverse is not None and isinstance(layer, REVERSIBLE):
            places = [(name, layer, reverse)]
        found += places
        ordered = ordered and (certain or not places)
        if places and any(layer is one for one in others):
            ordered = False
    if isinstance(model, keras.layers.TimeDistributed):
        refuse_many_steps(path, found)
    return found, ordered or not found


def _order(model: Any) -> tuple[list[tuple[Any, bool | None]], bool]:
    """What a container of Keras' own applies, in order, and that it is one; nothing of any other class."""
    if computes_as(model, keras.layers.Bidirectional):
        return [(model.forward_layer, None), (model.backward_layer, None)], True
    if computes_as(model, keras.layers.TimeDistributed):
        return [(model.layer, None)], True
    functional = model
    if isinstance(model, keras.Sequential):
        if not computes_as(model, keras.Sequential):
            return [], False
        functional = model._functional
    of = next((one for one in type(functional).__mro__ if one.__name__ == "Functional"), None)
    if of is not None and computes_as(functional, of):
        # The graph has a node for each use; a layer is listed once, whatever uses it.
        depths = functional._nodes_by_depth
        return [
            (node.operation, bool(node.arguments.kwargs.get("reverse")))
            for depth in sorted(depths, reverse=True)
            for node in depths[depth]
            if isinstance(node.operation, keras.Layer)
        ], True
    if isinstance(model, keras.Sequential):
        return [(layer, False) for layer in model.layers], True
    return [], False


def _names(model: Any, layers: Sequence[Any], by_keras: bool) -> dict[int, str]:
    """The names of layers in one model, by identity: of attributes in a class of the user's own.

    Those that Keras has given are counted anew in each model. Keras counts them for the whole process, so that
    the same model has other names when it is built again; its own files count as is done here.
    """
    found: dict[int, str] = {}
    wanted = {id(layer) for layer in layers}
    private = ("_functional", "_layers")
    attributes = {} if by_keras and isinstance(model, keras.Model) else vars(model)
    for name, value in attributes.items():
        if name not in private and isinstance(value, keras.Layer):
            found.setdefault(id(value), name)
    for name, value in attributes.items():
        if not name.startswith("_") and isinstance(value, (list, tuple, dict)):
            for part, one in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(one, keras.Layer):
                    found.setdefault(id(one), f"{name}.{part}")
    found = {one: name for one, name in found.items() if one in wanted}
    counts: dict[str, int] = {}
    taken = set(found.values())
    for layer in layers:
        automatic = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", type(layer).__name__).lower()
        if id(layer) in found:
            continue
        name = automatic if re.fullmatch(rf"{automatic}(_\d+)?", layer.name) else layer.name
        while True:
            number = counts[name] = counts.get(name, -1) + 1
            numbered = f"{name}_{number}" if number else name
            if numbered not in taken:
                break
        taken.add(numbered)
        found[id(layer)] = numbered
    return found


def _uses(places: Sequence[Place]) -> Uses:
    """Names for uses; an embedding that projects has one beside that of the embedding."""
    found: dict[Hashable, list[str]] = {}
    for path, layer, reverse in places:
        found.setdefault(key_of(layer, reverse), []).append(path)
    for path, layer, reverse in places:
        if isinstance(layer, REVERSIBLE) and not reverse:
            found.setdefault(key_of(layer, True), [f"{path}.reverse"])
    return Uses(found)


# -- what is told of them --------------------------------------------------------------------------------------


def _layer(path: str, layer: Any, reverse: bool) -> NativeLayer:
    """A layer at one place."""
    kind = kind_of(layer, path)
    assert kind is not None
    rows: Convention = CONVENTIONS[kind]
    if reverse:
        kind, rows = "dense", _reverse_rows(layer, path)
    return NativeLayer(path, kind, rows, arrays_of(layer, rows), _settings(layer, kind))


def _used(path: str, call: Call) -> NativeLayer:
    """A layer as it was used."""
    if call.key == key_of(call.layer, True):
        _reverse_rows(call.layer, path)
    return NativeLayer(
        path, call.kind, call.rows, arrays_of(call.layer, call.rows), _settings(call.layer, call.kind)
    )


def _reverse_rows(layer: Any, path: str) -> Convention:
    if getattr(layer, "logit_soft_cap", None) is not None:
        raise UnknownLayer(
            f"layer {path!r} ({type(layer).__name__}) bends what it projects, by logit_soft_cap; no other "
            "framework here does"
        )
    return PROJECTION if layer.tie_weights else REVERSE


def _settings(layer: Any, kind: Kind) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if kind in NORMS:
        settings["epsilon"] = float(layer.epsilon)
    if kind in CONVOLUTIONS and layer.groups != 1:
        settings["groups"] = layer.groups
    if kind in GATED and layer.go_backwards:
        settings["reverse"] = True
    return settings


def _complete(model: Any, structure: Structure) -> Structure:
    """The structure, when no variable of the model is left out of it."""
    found = {array.storage for layer in structure.layers for array in layer.arrays}
    for one in model.weights:
        if storage_of(one) not in found:
            raise UnknownLayer(f"variable {one.path!r} belongs to no layer that the model was seen to use")
    return structure


def _refuse_other_channels(calls: Sequence[Call]) -> None:
    """A normalisation of rows of an image, where channels stand elsewhere, has no counterpart."""
    for before, call in pairwise(calls):
        axes = before.channels, call.channels
        same = call.kind == "batchnorm" and len(before.output.shape) == len(call.output.shape)
        if same and None not in axes and axes[0] != axes[1]:
            raise UnknownLayer(
                f"layer {call.layer.name!r} (BatchNormalization) normalises over axis {axes[1]}, and the "
                f"channels of the layer before stand on axis {axes[0]}"
            )


# -- their arrays -------------------------------------------------------------------------------------------


def arrays_of(layer: Any, rows: Convention) -> tuple[NativeArray, ...]:
    """A layer's arrays by the names of the conventions; a recurrent layer's stand in its cell."""
    return tuple(_array(name, variable) for name, variable in held_by(layer, rows).items())


def _array(name: str, variable: Any) -> NativeArray:
    dtype = tf.as_dtype(variable.dtype).name
    if dtype not in ("float16", "float32", "float64"):
        raise UnknownLayer(
            f"{variable.path!r} is {dtype}, which NumPy has no name for; build the model in float32"
        )

    def read() -> Array:
        value = value_of(variable).read_value()
        local = value.backing_device.endswith("CPU:0")
        view: Array = np.asarray(memoryview(value)) if local else value.numpy()
        view.flags.writeable = False
        return view

    def write(value: Array) -> None:
        # A copy, for TensorFlow may take the memory of an array for its own.
        variable.assign(np.array(value))

    return NativeArray(name, tuple(variable.shape), dtype, storage_of(variable), read, write)


def _numpy(tensor: Any) -> Array:
    """A copy; of bfloat16, which NumPy does not have, as float32."""
    return np.array(tf.cast(tensor, tf.float32) if tensor.dtype == tf.bfloat16 else tensor)
