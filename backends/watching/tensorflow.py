"""How any Keras model is run and watched: every use of a layer is seen, in order.

The model runs eagerly and in inference mode, and is afterwards what it was. Every call of a layer is seen. What
is done with a layer's variables outside of a call is seen too: a product with the transposed matrix of an
embedding is a use of it, and arithmetic of the user's own is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_callbacks

from backends.conventions.tensorflow import CONVENTIONS, PROJECTION, REVERSE
from backends.known.tensorflow import (
    CONVOLUTIONS,
    GATED,
    NORMS,
    REVERSIBLE,
    Place,
    held_by,
    key_of,
    known_kind,
)
from backends.uses.tensorflow import value_of
from d2lparams.interface import Array, Convention, Held, Kind, UnknownLayer, probe

# What gives the same numbers, or tells only of their number.
_SAME, _SHAPES = ("Identity", "StopGradient", "Cast"), ("Shape", "ShapeN", "Size", "Rank", "VariableShape")
_PRODUCTS = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
_UNREGISTERED = "make its layer an attribute of the model, or put it into a list that is one"

Instead = Callable[["Call"], Any]
"""What gives something to put in the place of what a call gave."""


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
        if self.kind in CONVOLUTIONS:
            return 1 if self.layer.data_format == "channels_first" else axes - 1
        return int(self.layer.axis) % axes if self.kind == "batchnorm" and axes > 2 else None

    def told(self, output: Array) -> Array:
        """An output in canonical layout."""
        if self.kind in GATED and self.layer.go_backwards:
            output = output[:, ::-1]
        return output if self.channels is None else np.moveaxis(output, self.channels, 1)

    def native(self, output: Array) -> Array:
        """The way back, of an output with channels."""
        return output if self.channels is None else np.moveaxis(output, 1, self.channels)


# -- run and watched -------------------------------------------------------------------------------------------


def applied(model: Any, x: Array) -> Any:
    """The output, in inference mode; of a model that gives more than one thing, the first."""
    return tf.nest.flatten(model(np.array(x), training=False))[0]


@contextmanager
def in_use(model: Any) -> Iterator[None]:
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


def _untrained(model: Any) -> list[Any]:
    """What no optimizer changes: running statistics, and seeds and metrics, which are no values of a model."""
    metrics = [
        one for layer in model._flatten_layers() for metric in layer._metrics for one in metric.variables
    ]
    trained = {id(one) for one in model.trainable_variables}
    return [one for one in (*model.variables, *metrics) if id(one) not in trained]


def run(
    model: Any, x: Array, places: Sequence[Place], *, keep: bool = False, instead: Instead | None = None
) -> list[Call]:
    """The uses of layers, in order, while the model runs once.

    Args:
        model: which is afterwards what it was.
        x: the input, native layout.
        places: where the model's layers that hold arrays stand.
        keep: whether outputs of all steps are wanted of recurrent layers that give the last one.
        instead: what to put in the place of what a call gives.
    """
    watch = _Watch(model, places, keep, instead)
    # A function that was traced before would call no layer again.
    eager = tf.config.functions_run_eagerly()
    with in_use(model), watch.calls_replaced(), tf.GradientTape() as tape:
        tf.config.run_functions_eagerly(True)
        op_callbacks.add_op_callback(watch.operation)
        try:
            applied(model, x)
        finally:
            op_callbacks.remove_op_callback(watch.operation)
            tf.config.run_functions_eagerly(eager)
    watch.finish(tape.watched_variables())
    return watch.calls


class _Watch:
    """Sees the uses of layers while a model runs: their calls, and what is done with their variables otherwise.

    Args:
        model: that runs.
        places: as for `run`.
        keep: as for `run`.
        instead: as for `run`.
    """

    def __init__(self, model: Any, places: Sequence[Place], keep: bool, instead: Instead | None) -> None:
        self.calls: list[Call] = []
        self._keep, self._instead = keep, instead
        self._open: list[list[Any]] = []  # of each layer that is being called, what its activation was given
        self._layers = {id(layer): layer for _, layer, _ in places}
        self._around = [one for one in model._flatten_layers() if isinstance(one, keras.layers.TimeDistributed)]
        self._paths: dict[int, str] = {}
        self._held: dict[int, tuple[Any, str]] = {}  # a layer and its variable's name, by the variable's handle
        self._memory: dict[tuple[int, ...], int] = {}  # a handle, by address and shape of what it holds
        for path, layer, _ in places:
            rows = [*CONVENTIONS[known_kind(layer)], *(REVERSE if isinstance(layer, REVERSIBLE) else [])]
            for name, variable in held_by(layer, rows).items():
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
        kind = known_kind(layer)

        def called(*arguments: Any, **named: Any) -> Any:
            if self._open and around is layer:
                return call(*arguments, **named)  # one step of the layer around it
            reverse = bool(named.get("reverse")) and isinstance(layer, REVERSIBLE)
            given = arguments[0] if arguments else next(iter(named.values()))
            of: tuple[Kind, Convention] = (kind, CONVENTIONS[kind])
            if reverse:
                of = ("dense", PROJECTION if layer.tie_weights else REVERSE)
            use = Call(layer, *of, key_of(layer, reverse), given)
            self.calls.append(use)
            seen: list[Any] = []
            self._open.append(seen)
            try:
                use.result = call(*arguments, **named)
                use.output = tf.nest.flatten(use.result)[0]
                if seen:
                    use.output = seen[0] if around is layer else tf.stack(seen, 1)
                if kind in GATED and self._keep and not layer.return_sequences:
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
        use = Call(layer, of, [row], key_of(layer, False), given, outputs[0], outputs[0])
        self.calls.append(use)
        self._product = use if of == "dense" else None
        return True

    def _refuse(self, what: str, advice: str) -> None:
        # An exception would not find its way out of an operation.
        self._error = UnknownLayer(f"the model computes {what}; {advice}")


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


# -- what was seen ---------------------------------------------------------------------------------------------


def last_image(calls: Sequence[Call], axes: int) -> Call | None:
    """The last use, where the output is an image as it left it: nothing has flattened it since."""
    last = calls[-1] if calls else None
    return last if last and last.channels is not None and len(last.output.shape) == axes else None


def constant_channels(call: Call) -> Any:
    """For a convolution's output, one number for each channel; a normalisation leaves them as they are."""
    if call.kind in NORMS:
        return call.given
    if call.kind not in CONVOLUTIONS or call.channels is None:
        return call.result
    shape = [1] * len(call.result.shape)
    shape[call.channels] = call.result.shape[call.channels]
    constants = tf.constant(probe(shape[call.channels]).reshape(shape))
    return tf.cast(tf.broadcast_to(constants, call.result.shape), call.result.dtype)
