"""What carries parameters out of any Keras model and into it.

The layers of a Sequential and of a functional model are known in order of application; those of a class of the
user's own in the order in which they were made. With an input the model runs, in inference mode, and every call
of a layer is seen.

An array that is read is a view of TensorFlow's own memory, by the buffer protocol of its tensors. TensorFlow
owns it; it never writes under a view, for an assignment to the variable takes other memory while there is one.
So the view stays what it was, and the model goes on. What is written is assigned to the variable, which every
use, optimizer and compiled function reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from backends.conventions.tensorflow import CONVENTIONS, PROJECTION, REVERSE
from backends.uses.tensorflow import value_of, wrapped
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

_KINDS: dict[str, Kind] = {
    "Dense": "dense",
    "Conv1D": "conv1d",
    "Conv2D": "conv2d",
    "BatchNormalization": "batchnorm",
    "LayerNormalization": "layernorm",
    "ReversibleEmbedding": "embedding",
    "Embedding": "embedding",
    "LSTM": "lstm",
    "GRU": "gru",
}
_CLASSES: dict[type, Kind] = {
    getattr(keras.layers, name): kind for name, kind in _KINDS.items() if hasattr(keras.layers, name)
}
_REVERSIBLE = getattr(keras.layers, "ReversibleEmbedding", ())
_CONVOLUTIONS: tuple[Kind, ...] = ("conv1d", "conv2d")
_GATED: tuple[Kind, ...] = ("lstm", "gru")

# What a place in a model is: its path, the layer, and whether an embedding is used the other way round.
Place = tuple[str, Any, bool]


@dataclass
class Call:
    """One call of a layer.

    Attributes:
        layer: the layer.
        reverse: whether an embedding projected.
        given: its input.
        output: what it gave, before its activation.
    """

    layer: Any
    reverse: bool
    given: Any
    output: Any


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
                return structure_of_places(layers, ordered=ordered and not images, channels_last=True)
        uses = _uses(places)
        calls = _run(model, x)
        seen = [[_layer(uses.name(_key(one)), one.layer, one.reverse)] for one in calls]
        unused = set(uses.unused)
        left = {
            _key_of(layer, reverse): _layer(path, layer, reverse)
            for path, layer, reverse in reversed(places)
            if _key_of(layer, reverse) in unused
        }
        known = {array.storage for call in seen for layer in call for array in layer.arrays}
        # One that is never called, and whose arrays are used elsewhere, holds nothing of its own.
        others = [
            one for one in reversed(left.values()) if not {array.storage for array in one.arrays} <= known
        ]
        return structure_of_calls(seen, others, partial(_probed, model, x))

    def forward(self, model: Any, x: Array) -> Array:
        """In inference mode."""
        return _canonical(np.array(_called(_model(model), x)), len(np.shape(x)))

    def outputs(self, model: Any, x: Array) -> list[tuple[str, Array]]:
        """As calls give them; of a recurrent layer that gives its last step only, nothing."""
        model = _model(model)
        uses = _uses(_places(model)[0])
        found = []
        for call in _run(model, x):
            path, output = uses.name(_key(call)), np.array(call.output)
            kind = _kind(call.layer)
            if kind in _GATED and not call.layer.return_sequences:
                continue
            last = getattr(call.layer, "data_format", "channels_last") == "channels_last"
            images = kind in _CONVOLUTIONS or (kind == "batchnorm" and output.ndim == 4)
            found.append((path, np.moveaxis(output, -1, 1) if images and last else output))
        return found

    def step(self, model: Any, x: Array, y: Array, learning_rate: float) -> Step:
        """By `keras.optimizers.SGD`, with gradients of a tape."""
        model = _model(model)
        variables = list(model.trainable_variables)
        with tf.GradientTape() as tape:
            output = _called(model, x)
            images = len(np.shape(x)) == 4 and len(output.shape) == 4
            target = np.moveaxis(y, 1, -1) if images else y
            loss = tf.reduce_mean((output - tf.constant(np.array(target), output.dtype)) ** 2)
        gradients = tape.gradient(loss, [value_of(one) for one in variables])
        used = [(one, gradient) for one, gradient in zip(variables, gradients) if gradient is not None]
        optimizer = keras.optimizers.SGD(learning_rate)
        optimizer.build([one for one, _ in used])
        optimizer.apply([gradient for _, gradient in used], [one for one, _ in used])
        moved: dict[Hashable, Array] = {
            # The gradient of an embedding is a list of rows.
            storage_of(one): np.array(tf.convert_to_tensor(gradient))
            for one, gradient in used
        }
        return Step(_canonical(np.array(output), len(np.shape(x))), float(loss), moved)

    def native_input(self, x: Array, kind: Kind) -> Array:
        """Channels last, unless the user's Keras has them first."""
        if kind not in _CONVOLUTIONS or keras.config.image_data_format() == "channels_first":
            return x
        return np.moveaxis(x, 1, -1)


def _model(model: Any) -> Any:
    found = wrapped(model)  # a `tf.function` tells what it was made of
    if not isinstance(found, keras.Layer):
        raise UnknownLayer(f"{type(model).__name__} is no Keras model; its layers cannot be seen")
    if not found.built or any(not one.built for one in found._flatten_layers(include_self=False)):
        raise ValueError("the model has layers without variables yet; call it on a first batch")
    return found


def _called(model: Any, x: Array) -> Any:
    """The output, in inference mode."""
    return model(np.array(x), training=False)


def _canonical(output: Array, axes: int) -> Array:
    """Images that came out of images have their channels last, unless the user's Keras has them first."""
    if output.ndim == 4 and axes == 4 and keras.config.image_data_format() == "channels_last":
        return np.moveaxis(output, -1, 1)
    return output


def _places(model: Any, path: str = "") -> tuple[list[Place], bool]:
    """Where layers that hold arrays stand, and whether that is certainly the order of application."""
    if _kind(model, path) is not None:
        return [(path, model, False)], True
    _refuse_unknown(model, path)
    own = {id(one): name for name, one in vars(model).items() if isinstance(one, keras.Layer)}
    inner: list[tuple[Any, bool]] = [
        (layer, False) for layer in model._flatten_layers(include_self=False, recursive=False)
    ]
    ordered = not inner
    functional = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    if isinstance(functional, keras.Model) and getattr(functional, "_nodes_by_depth", None):
        # The graph has a node for each use; a layer is listed once, whatever uses it.
        depths = functional._nodes_by_depth
        nodes = [node for depth in sorted(depths, reverse=True) for node in depths[depth]]
        inner = [
            (node.operation, bool(node.arguments.kwargs.get("reverse")))
            for node in nodes
            if isinstance(node.operation, keras.Layer)
        ]
        ordered, own = True, {}
    elif isinstance(model, keras.Sequential):
        inner, ordered, own = [(layer, False) for layer in model.layers], True, {}
    found: list[Place] = []
    names = {**_stable_names([layer for layer, _ in inner]), **own}
    for layer, reverse in inner:
        name = ".".join(filter(None, (path, names[id(layer)])))
        places, certain = _places(layer, name)
        if reverse and isinstance(layer, _REVERSIBLE):
            places = [(f"{name}.reverse", layer, True)]
        found += places
        ordered = ordered and (certain or not places)
    return _told_apart(found), ordered


def _stable_names(layers: Sequence[Any]) -> dict[int, str]:
    """The names of layers, by identity; those that Keras has given are counted anew in each model.

    Keras counts them for the whole process, so that the same model has other names when it is built again; its
    own files count as is done here.
    """
    counts: dict[str, int] = {}
    found: dict[int, str] = {}
    for layer in layers:
        automatic = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", type(layer).__name__).lower()
        if id(layer) in found:
            continue
        if re.fullmatch(rf"{automatic}(_\d+)?", layer.name):
            number = counts[automatic] = counts.get(automatic, -1) + 1
            found[id(layer)] = f"{automatic}_{number}" if number else automatic
        else:
            found[id(layer)] = layer.name
    return found


def _told_apart(places: Sequence[Place]) -> list[Place]:
    """The second and later uses at one path with their number."""
    seen: dict[str, int] = {}
    found = []
    for path, layer, reverse in places:
        number = seen[path] = seen.get(path, 0) + 1
        found.append((path if number == 1 else f"{path}@{number}", layer, reverse))
    return found


def _key_of(layer: Any, reverse: bool) -> Hashable:
    return id(layer), reverse


def _key(call: Call) -> Hashable:
    return _key_of(call.layer, call.reverse)


def _uses(places: Sequence[Place]) -> Uses:
    """Names for uses; an embedding that projects has one beside that of the embedding."""
    found: dict[Hashable, list[str]] = {}
    for path, layer, reverse in places:
        found.setdefault(_key_of(layer, reverse), []).append(path)
    for path, layer, _ in places:
        if isinstance(layer, _REVERSIBLE):
            found.setdefault(_key_of(layer, True), [f"{path}.reverse"])
    return Uses(found)


def _kind(layer: Any, path: str = "") -> Kind | None:
    """The kind of a layer that holds arrays; None of anything else."""
    for of, kind in _CLASSES.items():
        # A class derived from a layer's is one, as long as it computes the same.
        if isinstance(layer, of) and type(layer).call is of.call:  # type: ignore[attr-defined]
            if reason := _particular(layer, kind):
                raise UnknownLayer(f"layer {path or 'the model itself'!r} ({type(layer).__name__}) {reason}")
            return kind
    return None


def _particular(layer: Any, kind: Kind) -> str:
    """Why a layer of a known class computes otherwise than its kind."""
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return "keeps its kernel in another form (LoRA, or quantized)"
    if kind == "layernorm":
        if getattr(layer, "rms_scaling", False):
            return "divides by the root mean square, without a mean"
        if any(one is not None and len(one.shape) != 1 for one in (layer.gamma, layer.beta)):
            return "normalises over several axes; only the last one is known"
    if kind in _GATED:
        activations = (layer.activation, layer.recurrent_activation)
        if activations != (keras.activations.tanh, keras.activations.sigmoid):
            return "has other activations than tanh and sigmoid"
        if layer.stateful:
            return "keeps its state from batch to batch"
        if kind == "gru" and not layer.reset_after:
            return "applies its reset gate before the product (reset_after=False)"
    return ""


def _refuse_unknown(layer: Any, path: str) -> None:
    """What holds variables itself and is no known layer cannot be carried."""
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    if own:
        known = ", ".join(one.__name__ for one in _CLASSES)
        where = f"layer {path!r}" if path else "the model itself"
        raise UnknownLayer(f"{where} ({type(layer).__name__}) holds variables and is none of {known}")


def _layer(path: str, layer: Any, reverse: bool) -> NativeLayer:
    """One use."""
    kind = _kind(layer, path)
    assert kind is not None
    settings: dict[str, Any] = {}
    if kind in ("batchnorm", "layernorm"):
        settings["epsilon"] = float(layer.epsilon)
    if kind in _CONVOLUTIONS and layer.groups != 1:
        settings["groups"] = layer.groups
    if kind in _GATED and layer.go_backwards:
        settings["reverse"] = True
    rows: Convention = CONVENTIONS[kind]
    if reverse:
        kind, rows = "dense", PROJECTION if layer.tie_weights else REVERSE
    return NativeLayer(path, kind, rows, arrays_of(layer, rows), settings)


def arrays_of(layer: Any, rows: Convention) -> tuple[NativeArray, ...]:
    """A layer's arrays by the names of the conventions; a recurrent layer's stand in its cell."""
    holder = getattr(layer, "cell", layer)
    held = {row.name: getattr(holder, row.name, None) for row in rows}
    return tuple(_array(name, variable) for name, variable in held.items() if variable is not None)


def _array(name: str, variable: Any) -> NativeArray:
    dtype = tf.as_dtype(variable.dtype).name
    if dtype not in ("float16", "float32", "float64"):
        raise UnknownLayer(
            f"{variable.path!r} is {dtype}, which NumPy has no name for; build the model in float32"
        )

    def read() -> Array:
        view: Array = np.asarray(memoryview(value_of(variable).read_value()))
        return view

    def write(value: Array) -> None:
        # A copy, for TensorFlow may take the memory of an array for its own.
        variable.assign(np.array(value))

    return NativeArray(name, tuple(variable.shape), dtype, storage_of(variable), read, write)


def storage_of(variable: Any) -> Hashable:
    """Equal for two variables that are the same stored numbers."""
    return id(value_of(variable).handle)


def _example(model: Any) -> Array | None:
    """An input of zeros for a model that says what it takes; None where a size of it is open."""
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1 or any(size is None for size in inputs[0].shape[1:]):
        return None
    return np.zeros((1, *inputs[0].shape[1:]), keras.backend.standardize_dtype(inputs[0].dtype))


def _run(
    model: Any, x: Array, instead: Callable[[int, Any], Any] = lambda number, output: output
) -> list[Call]:
    """The calls of layers, in order; `instead` may put something else into the place of an output."""
    calls: list[Call] = []
    with _watched(model, calls, instead):
        _called(model, x)
    return calls


@contextmanager
def _watched(model: Any, calls: list[Call], instead: Callable[[int, Any], Any]) -> Iterator[None]:
    layers = {id(layer): layer for _, layer, _ in _places(model)[0]}
    changed: list[tuple[Any, str, Any]] = []

    def put(layer: Any, name: str, value: Any) -> None:
        changed.append((layer, name, vars(layer).get(name)))
        # Past Keras' own bookkeeping, which would take the function for a part of the layer.
        object.__setattr__(layer, name, value)

    def watch(layer: Any) -> None:
        call, activation = layer.call, getattr(layer, "activation", None)

        def activated(output: Any) -> Any:
            calls[-1].output = output
            return activation(output)  # type: ignore[misc]

        def called(given: Any, *arguments: Any, **named: Any) -> Any:
            number = len(calls)
            reverse = bool(named.get("reverse", arguments[0] if arguments else False))
            calls.append(Call(layer, reverse and isinstance(layer, _REVERSIBLE), given, None))
            output = call(given, *arguments, **named)
            if calls[number].output is None:
                calls[number].output = output[0] if isinstance(output, (list, tuple)) else output
            return instead(number, output)

        put(layer, "call", called)
        if activation is not None and _kind(layer) not in _GATED:
            put(layer, "activation", activated)

    try:
        for layer in layers.values():
            watch(layer)
        yield
    finally:
        for layer, name, before in reversed(changed):
            if before is None:
                object.__delattr__(layer, name)
            else:
                object.__setattr__(layer, name, before)


def _probed(model: Any, x: Array, before: int, dense: int, channels: int) -> Array:
    """What a dense layer is given for one example when a layer before gives one number for each channel."""

    def instead(number: int, output: Any) -> Any:
        if number != before:
            return output
        shape = list(output.shape)
        # Channels stand last, or where a layer was told to have them first, behind the batch.
        place = 1 if shape[-1] != channels else len(shape) - 1
        constants = probe(channels).reshape([channels if axis == place else 1 for axis in range(len(shape))])
        return tf.cast(tf.broadcast_to(tf.constant(constants), shape), output.dtype)

    given = np.array(_run(model, x, instead)[dense].given)
    if given.ndim > 2 and np.array_equal(given, np.broadcast_to(given[..., :1], given.shape)):
        return probe(channels)  # it is applied to all places of a channel, and nothing is flattened
    flat: Array = given.reshape(-1, given.shape[-1])[0]
    return flat
