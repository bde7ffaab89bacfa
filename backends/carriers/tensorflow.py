"""What carries parameters out of any Keras model and into it.

The layers of a Sequential and of a functional model are known in order of application; those of a class of the
user's own in the order in which they were made. With an input the model runs, eagerly and in inference mode,
and is afterwards what it was: every call of a layer is seen. What is done with a layer's variables outside of a
call is seen too: a product with the transposed matrix of an embedding is a use of it, and arithmetic of the
user's own is refused.

On a CPU an array that is read is a read-only view of TensorFlow's own memory, by the buffer protocol of its
tensors. TensorFlow owns that memory and never writes it under a view: what changes the variable takes other
memory while there is one, so that the view stays what it was. Once an optimizer has written single rows of a
variable, as it does with an embedding, TensorFlow hands out copies of it. From another device it is a copy.
What is written is copied, and assigned to the variable, which every use, optimizer and compiled function reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_callbacks

from backends.conventions.tensorflow import CONVENTIONS, PROJECTION, REVERSE
from backends.uses.tensorflow import value_of, wrapped
from d2lparams.interface import (
    Array,
    Carrier,
    Convention,
    Held,
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
_NORMS: tuple[Kind, ...] = ("batchnorm", "layernorm")
_GATED: tuple[Kind, ...] = ("lstm", "gru")
# What a class of these computes is decided by these methods.
_METHODS = ("call", "convolution_op", "inner_loop")
# What gives the same numbers, or tells only of their number.
_SAME, _SHAPES = ("Identity", "StopGradient", "Cast"), ("Shape", "ShapeN", "Size", "Rank", "VariableShape")
_PRODUCTS = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")

# What a place in a model is: its path, the layer, and whether an embedding is used the other way round.
Place = tuple[str, Any, bool]
Instead = Callable[["Call"], Any]


@dataclass
class Call:
    """One use of a layer.

    Attributes:
        layer: whose variables are used.
        kind: of layer that the use is.
        rows: how the variables are used.
        key: what names the use: the layer, and whether it is an embedding that projects.
        given: what they were applied to.
        result: what the call gave.
        output: what was computed, before an activation; a recurrent layer's has all steps, if that was asked.
    """

    layer: Any
    kind: Kind
    rows: Convention
    key: Hashable
    given: Any
    result: Any = None
    output: Any = None

    @property
    def channels(self) -> int | None:
        """The axis of channels, where the output is an image or a sequence with them."""
        axes = len(self.output.shape)
        if self.kind in _CONVOLUTIONS:
            return 1 if self.layer.data_format == "channels_first" else axes - 1
        return int(self.layer.axis) % axes if self.kind == "batchnorm" and axes > 2 else None

    def told(self, output: Array) -> Array:
        """An output in canonical layout."""
        if self.kind in _GATED and self.layer.go_backwards:
            output = output[:, ::-1]
        return output if self.channels is None else np.moveaxis(output, self.channels, 1)

    def native(self, output: Array) -> Array:
        """The way back, of an output with channels."""
        return output if self.channels is None else np.moveaxis(output, 1, self.channels)


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
        calls = _run(model, x)
        seen = [[_used(uses.name(call.key), call)] for call in calls]
        unused = set(uses.unused)
        left = {
            _key(layer, reverse): _layer(path, layer, reverse)
            for path, layer, reverse in reversed(places)
            if _key(layer, reverse) in unused
        }
        known = {array.storage for call in seen for layer in call for array in layer.arrays}
        # One that is never called, and whose arrays are used elsewhere, holds nothing of its own.
        others = [
            one for one in reversed(left.values()) if not {array.storage for array in one.arrays} <= known
        ]

        def probed(before: int, after: int, channels: int) -> Array:
            again = _run(model, x, instead=_constant_channels)
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
        with _in_use(model):
            output = _numpy(_called(model, x))
        last = _image(_run(model, x), output.ndim)
        return last.told(output) if last else output

    def outputs(self, model: Any, x: Array) -> list[tuple[str, Array]]:
        """What calls of layers give, and products with their variables."""
        model = _model(model)
        uses = _uses(_places(model)[0])
        return [
            (uses.name(call.key), np.array(call.told(_numpy(call.output)), order="C"))
            for call in _run(model, x, keep=True)
        ]

    def step(self, model: Any, x: Array, y: Array, learning_rate: float) -> Step:
        """By `keras.optimizers.SGD`, with gradients of a tape."""
        model = _model(model)
        last = _image(_run(model, x), np.ndim(y))
        target = last.native(y) if last else y
        variables = list(model.trainable_variables)
        with _in_use(model), tf.GradientTape() as tape:
            output = _called(model, x)
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
        if kind not in _CONVOLUTIONS or keras.config.image_data_format() == "channels_first":
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
    if _kind(model, path) is not None:
        # What projects by a matrix of its own is there also where nobody sees how it is used.
        own = isinstance(model, _REVERSIBLE) and not model.tie_weights
        return [(path, model, False), *([(path, model, True)] if own else [])], True
    _refuse_own_variables(model, path)
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
        if reverse is not None and isinstance(layer, _REVERSIBLE):
            places = [(name, layer, reverse)]
        found += places
        ordered = ordered and (certain or not places)
        if places and any(layer is one for one in others):
            ordered = False
    if isinstance(model, keras.layers.TimeDistributed):
        _refuse_many_steps(path, found)
    return found, ordered or not found


def _order(model: Any) -> tuple[list[tuple[Any, bool | None]], bool]:
    """What a container of Keras' own applies, in order, and that it is one; nothing of any other class."""
    if _computes_as(model, keras.layers.Bidirectional):
        return [(model.forward_layer, None), (model.backward_layer, None)], True
    if _computes_as(model, keras.layers.TimeDistributed):
        return [(model.layer, None)], True
    functional = model
    if isinstance(model, keras.Sequential):
        if not _computes_as(model, keras.Sequential):
            return [], False
        functional = model._functional
    of = next((one for one in type(functional).__mro__ if one.__name__ == "Functional"), None)
    if of is not None and _computes_as(functional, of):
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


def _computes_as(layer: Any, of: Any) -> bool:
    """Whether a layer is of a class and computes as that class does."""
    return isinstance(layer, of) and not any(
        name in vars(layer) or getattr(type(layer), name) is not getattr(of, name)
        for name in _METHODS
        if hasattr(of, name)
    )


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


def _key(layer: Any, reverse: bool) -> Hashable:
    return id(layer), reverse


def _uses(places: Sequence[Place]) -> Uses:
    """Names for uses; an embedding that projects has one beside that of the embedding."""
    found: dict[Hashable, list[str]] = {}
    for path, layer, reverse in places:
        found.setdefault(_key(layer, reverse), []).append(path)
    for path, layer, reverse in places:
        if isinstance(layer, _REVERSIBLE) and not reverse:
            found.setdefault(_key(layer, True), [f"{path}.reverse"])
    return Uses(found)


def _kind(layer: Any, path: str = "") -> Kind | None:
    """The kind of a layer that holds arrays; None of anything else.

    Raises:
        UnknownLayer: for a layer of a known class that computes otherwise than its kind.
    """
    for of, kind in _CLASSES.items():
        if isinstance(layer, of):
            if reason := _particular(layer, of, kind):
                raise UnknownLayer(f"layer {path or 'the model itself'!r} ({type(layer).__name__}) {reason}")
            return kind
    return None


def _particular(layer: Any, of: type, kind: Kind) -> str:
    """Why a layer of a known class computes otherwise than its kind."""
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return "keeps its kernel in another form (LoRA, or quantized)"
    if not _computes_as(layer, of):
        return f"has a call of its own, which may compute something else than {of.__name__}"
    if kind == "layernorm" and getattr(layer, "rms_scaling", False):
        return "divides by the root mean square, without a mean"
    if kind == "layernorm" and not isinstance(layer.axis, int) and len(layer.axis) > 1:
        return "normalises over several axes; only the last one is known"
    if kind in _NORMS and (reason := _other_axis(layer, kind)):
        return reason
    if kind in _GATED:
        activations = (layer.activation, layer.recurrent_activation)
        if activations != (keras.activations.tanh, keras.activations.sigmoid):
            return "has other activations than tanh and sigmoid"
        if not _computes_as(layer.cell, keras.layers.LSTMCell if kind == "lstm" else keras.layers.GRUCell):
            return "has a cell of another class"
        if layer.stateful:
            return "keeps its state from batch to batch"
        if kind == "gru" and not layer.reset_after:
            return "applies its reset gate before the product (reset_after=False)"
    rows = [*CONVENTIONS[kind], *(REVERSE if isinstance(layer, _REVERSIBLE) else [])]
    held = {storage_of(one) for one in _held(layer, rows).values()}
    # What is inside may be an activation that has variables, or another known layer whose kernel is read.
    inside = [one for one in layer._flatten_layers() if one is layer or not isinstance(one, tuple(_CLASSES))]
    others = [one.path for part in inside for one in _own(part) if storage_of(one) not in held]
    return f"holds {', '.join(map(repr, others))} beside what {of.__name__} holds" if others else ""


def _own(layer: Any) -> list[Any]:
    """The variables that a layer has made or taken itself."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def _other_axis(layer: Any, kind: Kind) -> str:
    """Why a normalisation's axis is not that of features."""
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    shape = next(iter((layer._build_shapes_dict or {}).values()), None)
    last = axis == -1 or (shape is not None and axis % len(shape) == len(shape) - 1)
    # Channels may stand behind the batch.
    return "" if last or (kind == "batchnorm" and axis == 1) else f"normalises over axis {axis}, not the last"


def _refuse_own_variables(layer: Any, path: str) -> None:
    """What holds variables itself and is no known layer cannot be carried."""
    if _own(layer):
        known = ", ".join(one.__name__ for one in _CLASSES)
        where = f"layer {path!r}" if path else "the model itself"
        raise UnknownLayer(f"{where} ({type(layer).__name__}) holds variables and is none of {known}")


def _refuse_many_steps(path: str, places: Sequence[Place]) -> None:
    """What does more at a step than to see its vector has no counterpart without that axis."""
    for inner, layer, _ in places:
        if _kind(layer) not in ("dense", "layernorm") or len(places) > 1:
            raise UnknownLayer(
                f"layer {inner!r} ({type(layer).__name__}) is applied to each step by TimeDistributed "
                f"{path!r}, which is known only of a single Dense or LayerNormalization"
            )


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


def _complete(model: Any, structure: Structure) -> Structure:
    """The structure, when no variable of the model is left out of it."""
    found = {array.storage for layer in structure.layers for array in layer.arrays}
    for one in model.weights:
        if storage_of(one) not in found:
            raise UnknownLayer(f"variable {one.path!r} belongs to no layer that the model was seen to use")
    return structure


def _layer(path: str, layer: Any, reverse: bool) -> NativeLayer:
    """A layer at one place."""
    kind = _kind(layer, path)
    assert kind is not None
    rows: Convention = CONVENTIONS[kind]
    if reverse:
        kind, rows = "dense", _reverse_rows(layer, path)
    return NativeLayer(path, kind, rows, arrays_of(layer, rows), _settings(layer, kind))


def _used(path: str, call: Call) -> NativeLayer:
    """A layer as it was used."""
    if call.key == _key(call.layer, True):
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
    if kind in _NORMS:
        settings["epsilon"] = float(layer.epsilon)
    if kind in _CONVOLUTIONS and layer.groups != 1:
        settings["groups"] = layer.groups
    if kind in _GATED and layer.go_backwards:
        settings["reverse"] = True
    return settings


# -- their arrays -------------------------------------------------------------------------------------------


def arrays_of(layer: Any, rows: Convention) -> tuple[NativeArray, ...]:
    """A layer's arrays by the names of the conventions; a recurrent layer's stand in its cell."""
    return tuple(_array(name, variable) for name, variable in _held(layer, rows).items())


def _held(layer: Any, rows: Convention) -> dict[str, Any]:
    """The variables that are there."""
    holder = getattr(layer, "cell", layer)
    held = {row.name: getattr(holder, row.name, None) for row in rows}
    return {name: variable for name, variable in held.items() if variable is not None}


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


def storage_of(variable: Any) -> Hashable:
    """Equal for two variables that are the same stored numbers."""
    return id(value_of(variable).handle)


# -- running it ---------------------------------------------------------------------------------------------


def _example(model: Any) -> Array | None:
    """An input of zeros for a model that says what it takes; None where a size of it is open."""
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1 or any(size is None for size in inputs[0].shape[1:]):
        return None
    return np.zeros((1, *inputs[0].shape[1:]), keras.backend.standardize_dtype(inputs[0].dtype))


def _numpy(tensor: Any) -> Array:
    """A copy; of bfloat16, which NumPy does not have, as float32."""
    return np.array(tf.cast(tensor, tf.float32) if tensor.dtype == tf.bfloat16 else tensor)


def _called(model: Any, x: Array) -> Any:
    """The output, in inference mode; of a model that gives more than one thing, the first."""
    return tf.nest.flatten(model(np.array(x), training=False))[0]


def _run(model: Any, x: Array, *, keep: bool = False, instead: Instead | None = None) -> list[Call]:
    """The uses of layers, in order, while the model runs once.

    Args:
        model: which is afterwards what it was.
        x: the input, native layout.
        keep: whether outputs of all steps are wanted of recurrent layers that give the last one.
        instead: what to put in the place of what a call gives.
    """
    watch = _Watch(model, keep, instead)
    # A function that was traced before would call no layer again.
    eager = tf.config.functions_run_eagerly()
    with _in_use(model), watch.calls_replaced(), tf.GradientTape() as tape:
        tf.config.run_functions_eagerly(True)
        op_callbacks.add_op_callback(watch.operation)
        try:
            _called(model, x)
        finally:
            op_callbacks.remove_op_callback(watch.operation)
            tf.config.run_functions_eagerly(eager)
    watch.finish(tape.watched_variables())
    return watch.calls


class _Watch:
    """Sees the uses of layers while a model runs: their calls, and what is done with their variables otherwise.

    Args:
        model: that runs.
        keep: as for `_run`.
        instead: as for `_run`.
    """

    def __init__(self, model: Any, keep: bool, instead: Instead | None) -> None:
        self.calls: list[Call] = []
        self._keep, self._instead = keep, instead
        self._open: list[list[Any]] = []  # of each layer that is being called, what its activation was given
        self._layers = {id(layer): layer for _, layer, _ in _places(model)[0]}
        self._around = [one for one in model._flatten_layers() if isinstance(one, keras.layers.TimeDistributed)]
        self._paths: dict[int, str] = {}
        self._held: dict[int, tuple[Any, str]] = {}  # a layer and its variable's name, by the variable's handle
        self._memory: dict[tuple[int, ...], int] = {}  # a handle, by address and shape of what it holds
        for path, layer, _ in _places(model)[0]:
            rows = [*CONVENTIONS[_known(layer)], *(REVERSE if isinstance(layer, _REVERSIBLE) else [])]
            for name, variable in _held(layer, rows).items():
                handle = id(value_of(variable).handle)
                self._held.setdefault(handle, (layer, name))
                self._paths.setdefault(handle, path)
                first, second = (value_of(variable).read_value() for _ in range(2))
                # Of copies, neither is the variable's own memory.
                if _address(first) == _address(second):
                    self._memory[_address(first)] = handle
        self._shapes = {address[1:] for address in self._memory}
        self._others = {id(value_of(one).handle) for one in _untrained(model)} - set(self._held)
        # What still has a variable's numbers: the handle, and whether they are transposed. Tensors are kept, so
        # that no other one gets their identity.
        self._derived: dict[int, tuple[int, bool]] = {}
        self._kept: list[Any] = []
        self._product: Call | None = None  # that has just been computed
        self._error: UnknownLayer | None = None

    def finish(self, watched: Sequence[Any]) -> None:
        """Raise what could not be raised from inside of TensorFlow."""
        if self._error is None:
            for one in watched:
                if id(one.handle) not in self._held and id(one.handle) not in self._others:
                    self._refuse(f"with a variable that it has not registered, {one.name!r}", _UNREGISTERED)
        if self._error is not None:
            raise self._error

    @contextmanager
    def calls_replaced(self) -> Iterator[None]:
        """Every layer's `call` is watched; afterwards it is its own again."""
        changed: list[tuple[Any, str]] = []

        def put(layer: Any, name: str, value: Any) -> None:
            changed.append((layer, name))
            # Past Keras' own bookkeeping, which would take the function for a part of the layer.
            vars(layer)[name] = value

        before = {id(layer): dict(vars(layer)) for layer in self._layers.values()}
        try:
            for layer in self._layers.values():
                put(layer, "call", self._watched(layer, layer, layer.call))
                if layer.__dict__.get("activation") is not None:
                    put(layer, "activation", self._activated(layer.activation))
            for around in self._around:
                before[id(around)] = dict(vars(around))
                put(around, "call", self._watched(around.layer, around, around.call))
            yield
        finally:
            for layer, name in reversed(changed):
                if name in before[id(layer)]:
                    vars(layer)[name] = before[id(layer)][name]
                else:
                    del vars(layer)[name]

    def _activated(self, activation: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def activated(output: Any) -> Any:
            self._open[-1].append(output)
            return activation(output)

        return activated

    def _watched(self, layer: Any, around: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        kind = _known(layer)

        def called(*arguments: Any, **named: Any) -> Any:
            if self._open and around is layer:
                return call(*arguments, **named)  # one step of the layer around it
            reverse = bool(named.get("reverse")) and isinstance(layer, _REVERSIBLE)
            given = arguments[0] if arguments else next(iter(named.values()))
            of: tuple[Kind, Convention] = (kind, CONVENTIONS[kind])
            if reverse:
                of = ("dense", PROJECTION if layer.tie_weights else REVERSE)
            use = Call(layer, *of, _key(layer, reverse), given)
            self.calls.append(use)
            seen: list[Any] = []
            self._open.append(seen)
            try:
                use.result = call(*arguments, **named)
                use.output = tf.nest.flatten(use.result)[0]
                if seen:
                    use.output = seen[0] if around is layer else tf.stack(seen, 1)
                if kind in _GATED and self._keep and not layer.return_sequences:
                    use.output = _every_step(layer, call, arguments, named)
            finally:
                self._open.pop()
            return use.result if self._instead is None else self._instead(use)

        return called

    def operation(
        self, op_type: Any, inputs: Any, attrs: Any, outputs: Any, op_name: Any = None, graph: Any = None
    ) -> None:
        """TensorFlow has computed something; what it does inside of a layer is the layer's own."""
        if self._open or self._error is not None or graph is not None:
            return
        kind = op_type.decode() if isinstance(op_type, bytes) else op_type
        product, self._product = self._product, None
        if product is not None and kind == "Reshape" and inputs[0] is product.output:
            # A product with a matrix is computed of two axes, and gets its own axes back.
            product.output = outputs[0]
            return
        for place, one in enumerate(inputs):
            handle, transposed = self._of(one)
            if handle is None:
                if kind in ("ReadVariableOp", "ResourceGather") and id(one) not in self._others and place == 0:
                    self._refuse(f"with a variable that it has not registered, by {kind!r}", _UNREGISTERED)
            elif kind in _SHAPES:
                continue
            elif kind == "ReadVariableOp" or kind in _SAME:
                self._derive(outputs[0], handle, transposed)
            elif kind == "Transpose" and list(np.array(inputs[1])) == [1, 0]:
                self._derive(outputs[0], handle, not transposed)
            elif kind == "Reshape" and outputs[0].shape == one.shape:
                self._derive(outputs[0], handle, transposed)
            elif not self._use(kind, place, handle, transposed, inputs, attrs, outputs):
                self._refuse(
                    f"with a variable of layer {self._paths[handle]!r} outside of the layer, by {kind!r}",
                    "only a product with its whole transposed matrix is known to be a layer",
                )

    def _of(self, tensor: Any) -> tuple[int | None, bool]:
        """The variable whose numbers a tensor has, and whether they are transposed."""
        if id(tensor) in self._held:
            return id(tensor), False
        if id(tensor) in self._derived:
            return self._derived[id(tensor)]
        # A variable that is handed to an operation as it is, is read unseen.
        if tuple(getattr(tensor, "shape", ())) in self._shapes:
            return self._memory.get(_address(tensor)), False
        return None, False

    def _derive(self, tensor: Any, handle: int, transposed: bool) -> None:
        self._kept.append(tensor)
        self._derived[id(tensor)] = handle, transposed

    def _use(
        self, kind: str, place: int, handle: int, transposed: bool, inputs: Any, attrs: Any, outputs: Any
    ) -> bool:
        """Take down a product with a whole matrix, or a look-up in one; False of anything else."""
        layer, name = self._held[handle]
        if kind in _PRODUCTS and place == 1 and len(inputs[1].shape) == 2:
            options = dict(zip(attrs[::2], attrs[1::2]))
            if options.get("transpose_a") or options.get("adj_x"):
                return False
            transposed ^= bool(options.get("transpose_b") or options.get("adj_y"))
            of: Kind = "dense"
            row = Held(name, "weight", "out in" if transposed else "in out")
        elif kind in ("GatherV2", "ResourceGather") and place == 0 and not transposed:
            if kind == "GatherV2" and int(inputs[2]) != 0:
                return False
            of, row = "embedding", Held(name, "weight", "vocabulary width")
        else:
            return False
        given = inputs[1 - place]
        use = Call(layer, of, [row], _key(layer, False), given, outputs[0], outputs[0])
        self.calls.append(use)
        self._product = use if of == "dense" else None
        return True

    def _refuse(self, what: str, advice: str) -> None:
        # An exception would not find its way out of an operation.
        self._error = UnknownLayer(f"the model computes {what}; {advice}")


_UNREGISTERED = "make its layer an attribute of the model, or put it into a list that is one"


def _known(layer: Any) -> Kind:
    """The kind of a layer that has been found to be a known one."""
    return next(kind for of, kind in _CLASSES.items() if isinstance(layer, of))


def _address(tensor: Any) -> tuple[int, ...]:
    """Where the numbers of a tensor are, and its shape."""
    try:
        start = np.asarray(memoryview(tensor)).__array_interface__["data"][0]
    except (TypeError, ValueError, BufferError):
        start = id(tensor)  # what has no memory that could be seen is no other's
    return start, *tensor.shape


def _every_step(layer: Any, call: Callable[..., Any], arguments: Any, named: Any) -> Any:
    """What a recurrent layer that gives its last step only gives at every step."""
    vars(layer)["return_sequences"] = True
    try:
        return tf.nest.flatten(call(*arguments, **named))[0]
    finally:
        vars(layer)["return_sequences"] = False


def _constant_channels(call: Call) -> Any:
    """For a convolution's output, one number for each channel; a normalisation leaves them as they are."""
    if call.kind in _NORMS:
        return call.given
    if call.kind not in _CONVOLUTIONS or call.channels is None:
        return call.result
    shape = [1] * len(call.result.shape)
    shape[call.channels] = call.result.shape[call.channels]
    constants = tf.constant(probe(shape[call.channels]).reshape(shape))
    return tf.cast(tf.broadcast_to(constants, call.result.shape), call.result.dtype)


def _image(calls: Sequence[Call], axes: int) -> Call | None:
    """The last use, where the output is an image as it left it: nothing has flattened it since."""
    last = calls[-1] if calls else None
    return last if last and last.channels is not None and len(last.output.shape) == axes else None


def _untrained(model: Any) -> list[Any]:
    """What no optimizer changes: running statistics, and seeds and metrics, which are no values of a model."""
    metrics = [
        one for layer in model._flatten_layers() for metric in layer._metrics for one in metric.variables
    ]
    trained = {id(one) for one in model.trainable_variables}
    return [one for one in (*model.variables, *metrics) if id(one) not in trained]


@contextmanager
def _in_use(model: Any) -> Iterator[None]:
    """Afterwards the model is what it was, whatever its `call` assigned."""
    tables = [(one, dict(vars(one)), list(one._losses)) for one in model._flatten_layers()]
    kept = [(one, one.numpy()) for one in _untrained(model)]
    try:
        yield
    finally:
        for one, before, losses in tables:
            vars(one).clear()
            vars(one).update(before)
            if len(one._losses) != len(losses):
                one._losses.clear()
                one._losses.extend(losses)
        for variable, value in kept:
            if not np.array_equal(variable.numpy(), value, equal_nan=value.dtype.kind == "f"):
                variable.assign(value)
