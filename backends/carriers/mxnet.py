"""What carries parameters out of any Gluon block and into it.

Without an input, the places where blocks are registered are known; in a sequential block they are applied in
that order. With an input, forward hooks see the order, and every use. Hooks see nothing inside of a compiled
graph, so a hybridised model runs block by block here; its graph is left as it is.

On a CPU the arrays that are read are views of MXNet's own memory, by DLPack: MXNet owns it, and it lives as
long as the view does. MXNet alone writes it, through `Parameter.set_data`, which keeps the array that compiled
graphs, gradients and trainers know.

The kernels of convolutions are copied, for oneDNN puts them into an order of its own, and moves them, when the
model runs. With a dense matrix of 1024 and more on both sides it does the first, not the second, when it is
given 16384 rows and more at once: a view of such a matrix that was taken before is not to be used afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import mxnet as mx
import numpy
from mxnet import autograd, gluon, np
from mxnet.gluon import nn, rnn

from backends.conventions.mxnet import CONVENTIONS
from backends.trainers.mxnet import array_of, refuse_unmarked
from backends.uses.mxnet import listed
from d2lparams.interface import (
    Array,
    Carrier,
    Kind,
    NativeArray,
    NativeLayer,
    Step,
    Structure,
    UnknownLayer,
    Uses,
    probe,
    structure_of_calls,
    structure_of_places,
)

_KINDS: dict[Any, Kind] = {
    nn.Dense: "dense",
    nn.Conv1D: "conv1d",
    nn.Conv2D: "conv2d",
    nn.BatchNorm: "batchnorm",
    nn.LayerNorm: "layernorm",
    nn.Embedding: "embedding",
    rnn.LSTM: "lstm",
    rnn.GRU: "gru",
    rnn.LSTMCell: "lstm",
    rnn.GRUCell: "gru",
}
_CELLS = (rnn.LSTMCell, rnn.GRUCell)
_FUSED = (rnn.LSTM, rnn.GRU)
# Blocks that apply their children one after the other.
_IN_ORDER = (nn.Sequential, nn.HybridSequential, rnn.SequentialRNNCell, rnn.HybridSequentialRNNCell)
_LAYOUTS: dict[Kind, str] = {"conv1d": "NCW", "conv2d": "NCHW"}


class Call(NamedTuple):
    """A use of a layer that was seen: the block, its input, and its output before and after its activation.

    The arrays are MXNet's own, and what runs later may write into them.
    """

    block: Any
    given: Any
    linear: Any
    output: Any


class MXNetCarrier(Carrier[nn.Block]):
    """Gluon's blocks."""

    conventions = CONVENTIONS

    def structure(self, model: nn.Block, x: Array | None) -> Structure:
        """By registration, or as hooks see it."""
        standing = list(_standing("", model))
        if x is None:
            layers = [layer for path, block in standing for layer in _layers(path, block)]
            # Channels stand before places here, and a sequential block leaves them there, also where it is
            # Dense itself that flattens.
            return structure_of_places(layers, ordered=_sequential(model), channels_last=False)
        blocks: dict[Hashable, Any] = {id(block): block for _, block in standing}
        uses = _uses(standing)
        seen: list[list[NativeLayer]] = []
        _run(model, x, lambda call: seen.append(_layers(uses.name(id(call.block)), call.block)))
        paths: dict[Hashable, str] = {id(block): path for path, block in reversed(standing)}
        left = [layer for key in uses.unused for layer in _layers(paths[key], blocks[key])]
        return structure_of_calls(seen, left, partial(_probed, model, x))

    def forward(self, model: nn.Block, x: Array) -> Array:
        """In inference mode."""
        with autograd.pause(), _not_compiled(model):
            return array_of(_first(model(_input(model, x))))

    def outputs(self, model: nn.Block, x: Array) -> list[tuple[str, Array]]:
        """As hooks see them."""
        uses = _uses(list(_standing("", model)))
        found: list[tuple[str, Array]] = []
        _run(model, x, lambda call: found.extend(_outputs(uses.name(id(call.block)), call)))
        return found

    def step(self, model: nn.Block, x: Array, y: Array, learning_rate: float) -> Step:
        """By Gluon's trainer and MXNet's SGD; gradients that the parameters held before are put back."""
        trained = [one for one in listed(model) if one.grad_req != "null"]
        refuse_unmarked(iter(trained))
        kept = [(one, one.grad().copy(), one._trainer) for one in trained]
        for one in trained:
            one.grad()[:] = 0  # where gradients are added up, ours would come on top
            one.data()._fresh_grad = False
        with _not_compiled(model), _max_pooling(model), autograd.record(train_mode=False):
            output = _first(model(_input(model, x)))
            target = np.array(y, dtype=output.dtype, ctx=output.ctx)
            loss = ((output - target) ** 2).mean()
        if trained:
            loss.backward(train_mode=False)
        # What no layer has used has no fresh gradient, and is not moved.
        moved = [one for one in trained if one.data()._fresh_grad]
        gradients: dict[Hashable, Array] = {_storage(one): array_of(one.grad()) for one in moved}
        seen = array_of(output), float(loss)
        # The loss is a mean already, so the size of a batch is 1.
        if moved:
            optimizer = mx.optimizer.SGD(learning_rate=learning_rate)
            gluon.Trainer(moved, optimizer, kvstore=None).step(1)
        for one, grad, trainer in kept:
            one.grad()[:] = grad
            one._set_trainer(trainer)
        return Step(*seen, gradients)


def _standing(path: str, block: Any) -> Iterator[tuple[str, Any]]:
    """The layers that hold arrays, with their paths, in order of registration; once for each place."""
    if _kind(path, block) is not None:
        yield path, block
        return
    for name, child in block._children.items():
        yield from _standing(f"{path}.{name}" if path else name, child)


def _uses(standing: Sequence[tuple[str, Any]]) -> Uses:
    places: dict[Hashable, list[str]] = {}
    for path, block in standing:
        places.setdefault(id(block), []).append(path)
    return Uses(places)


def _kind(path: str, block: Any) -> Kind | None:
    """The kind of a layer; None of what holds no arrays."""
    where = f"layer {path or 'the model itself'!r} ({type(block).__name__})"
    if isinstance(block, gluon.SymbolBlock):
        raise UnknownLayer(
            f"{where} is an imported graph, which has arrays and no layers; build the model from its blocks, "
            "and load_parameters into it"
        )
    own = {id(one): one for one in (*block._reg_params.values(), *block.params._params.values())}
    kind = next((kind for of, kind in _KINDS.items() if _computes_as(block, of)), None)
    if kind is None:
        if own:
            known = ", ".join(of.__name__ for of in _KINDS)
            raise UnknownLayer(f"{where} holds parameters and is none of {known}, computing as they do")
        return None
    if any(one._data is None for one in own.values()):
        raise ValueError(f"{where} has no arrays yet; call initialize() and give the model a first batch")
    if reason := _particular(block, kind):
        raise UnknownLayer(f"{where} {reason}")
    return kind


def _computes_as(block: Any, of: Any) -> bool:
    """Whether a block is one of a class, or of one derived from it that computes the same."""
    methods = ("__call__", "forward", "hybrid_forward", "unroll")
    return isinstance(block, of) and all(
        getattr(type(block), name, None) is getattr(of, name, None) and name not in vars(block)
        for name in methods
    )


def _particular(block: Any, kind: Kind) -> str:
    """Why a layer of a known class computes otherwise than its kind."""
    if kind in _LAYOUTS and block._kwargs["layout"] != _LAYOUTS[kind]:
        return f"has layout {block._kwargs['layout']}; only {_LAYOUTS[kind]} is known"
    if kind == "layernorm" and block._axis != -1:
        return f"normalises over axis {block._axis}; only the last one, -1, is known"
    if isinstance(block, _FUSED) and block._projection_size:
        return "projects its hidden state, which no other framework here does"
    if isinstance(block, _FUSED) and (block._lstm_state_clip_min or block._lstm_state_clip_max):
        return "clips its state, which no other framework here does"
    if isinstance(block, rnn.LSTMCell):
        activations = block._activation, block._recurrent_activation
        if activations != ("tanh", "sigmoid"):
            return f"has the activations {activations[0]} and {activations[1]}; only tanh and sigmoid are known"
    return _offset(block, kind) or _type(block)


def _offset(block: Any, kind: Kind) -> str:
    """Gluon keeps a scale and a shift that are switched off, and computes with them all the same."""
    for name in _switched_off(block, kind):
        # But a batch normalisation takes its scale for ones.
        if kind == "batchnorm" and name == "gamma":
            continue
        if numpy.any(array_of(getattr(block, name).list_data()[0]) != float(name == "gamma")):
            neutral = "ones" if name == "gamma" else "zeros"
            return f"is built without {name}, computes with it, and it is not {neutral}; set it to {neutral}"
    return ""


def _switched_off(block: Any, kind: Kind) -> list[str]:
    if kind == "layernorm":
        return [name for name, on in (("gamma", block._scale), ("beta", block._center)) if not on]
    if kind == "batchnorm":
        # Of an array that was only frozen, this is still true.
        return [name for name in ("gamma", "beta") if not getattr(block, name)._differentiable]
    return []


def _type(block: Any) -> str:
    for name, one in block._reg_params.items():
        dtype = numpy.dtype(one.list_data()[0].dtype).name
        if one._stype != "default" or dtype not in ("float16", "float32", "float64"):
            return f"keeps {name!r} as {dtype}, {one._stype} storage; only dense floating arrays are known"
    return ""


def _layers(path: str, block: Any) -> list[NativeLayer]:
    """One layer; of a recurrent block, one for each level and direction."""
    kind = next(kind for of, kind in _KINDS.items() if isinstance(block, of))
    rows = CONVENTIONS[kind]
    settings: dict[str, Any] = {}
    if kind in ("batchnorm", "layernorm"):
        settings["epsilon"] = float(block._kwargs["eps"])
    if kind in _LAYOUTS and block._kwargs["num_group"] != 1:
        settings["groups"] = block._kwargs["num_group"]
    if not isinstance(block, _FUSED):
        without = _switched_off(block, kind)
        held = {row.name: getattr(block, row.name, None) for row in rows if row.name not in without}
        arrays = tuple(
            _array(name, one, lent=kind not in _LAYOUTS) for name, one in held.items() if one is not None
        )
        # The backward cell of a pair is given its sequence from behind.
        if isinstance(block, _CELLS) and "r_cell" in path.split("."):
            settings["reverse"] = True
        return [NativeLayer(path, kind, rows, arrays, settings)]
    found = []
    for level, backward in _levels(block):
        prefix = f"{'r' if backward else 'l'}{level}_"
        arrays = tuple(_array(row.name, getattr(block, prefix + row.name), lent=True) for row in rows)
        inner = _inner(path, block, level, backward)
        found.append(NativeLayer(inner, kind, rows, arrays, {"reverse": True} if backward else {}))
    return found


def _levels(block: Any) -> list[tuple[int, bool]]:
    return [(level, backward) for level in range(block._num_layers) for backward in _directions(block)]


def _directions(block: Any) -> tuple[bool, ...]:
    return (False, True)[: block._dir]


def _inner(path: str, block: Any, level: int, backward: bool) -> str:
    """The path of one level and direction; of the only one, the block's own."""
    if len(_levels(block)) == 1:
        return path
    return ".".join(filter(None, (path, f"l{level}", "reverse" if backward else "")))


class _Lent:
    """An array as NumPy asks for it; NumPy 1.23 makes a view of it that cannot be written."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __dlpack__(self, *, stream: Any = None) -> Any:
        return self._values.to_dlpack_for_read()  # what is still being computed is waited for

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # the CPU, by DLPack's count


def _array(name: str, parameter: Any, *, lent: bool) -> NativeArray:
    values = parameter.list_data()[0]
    dtype = numpy.dtype(values.dtype).name  # a legacy array has a class for a dtype

    def read() -> Array:
        return _view(parameter.list_data()[0]) if lent else array_of(parameter.list_data()[0])

    def write(value: Array) -> None:
        copied = np.array(value, dtype=dtype)
        legacy = not isinstance(values, np.ndarray)
        with autograd.pause():
            parameter.set_data(copied.as_nd_ndarray() if legacy else copied)
        for one in parameter.list_data():
            one.wait_to_read()  # whoever holds a view sees the new values from here on

    return NativeArray(name, tuple(values.shape), dtype, _storage(parameter), read, write)


def _view(values: Any) -> Array:
    """MXNet's own memory, or a copy where it is another device's or in an order of oneDNN's."""
    if values.ctx.device_type != "cpu":
        return array_of(values)
    try:
        view: Array = numpy.from_dlpack(_Lent(values))
    except mx.MXNetError:
        return array_of(values)
    return view


def _storage(parameter: Any) -> Hashable:
    """A parameter keeps its array object for good; its memory can move."""
    return id(parameter.list_data()[0])


def _sequential(block: Any) -> bool:
    """Whether what is registered is applied in that order, and nothing else moves an axis."""
    if any(_computes_as(block, of) for of in _IN_ORDER):
        return all(_sequential(child) for child in block._children.values())
    if any(isinstance(block, of) for of in _KINDS):
        return True
    # A Lambda may do anything, and use any layer.
    return (
        type(block).__module__.startswith("mxnet.gluon.nn.")
        and not block._children
        and not isinstance(block, (nn.Lambda, nn.HybridLambda))
    )


def _run(model: nn.Block, x: Array, see: Callable[[Call], None]) -> None:
    """Run the model in inference mode, block by block, and show each call of a layer as it happens."""
    with ExitStack() as stack:
        stack.enter_context(autograd.pause())
        stack.enter_context(_not_compiled(model))
        before: dict[int, Any] = {}
        for block in {id(block): block for _, block in _standing("", model)}.values():
            if isinstance(block, _CELLS):
                raise ValueError(
                    "a recurrent cell of MXNet 1.9 does not compute with NumPy semantics; leave x out, or "
                    "build the model with rnn.LSTM or rnn.GRU"
                )

            def hook(block: Any, given: Any, output: Any) -> None:
                first = _first(output)
                see(Call(block, given[0], before.pop(id(block), first), first))

            stack.callback(block.register_forward_hook(hook).detach)
            if getattr(block, "act", None) is not None:
                # A Dense and a convolution hold their activation, and show what it was given to it alone.
                def inner(_: Any, given: Any, place: int = id(block)) -> None:
                    before[place] = given[0]

                stack.callback(block.act.register_forward_pre_hook(inner).detach)
        _first(model(_input(model, x))).wait_to_read()  # an error of an operator shows when it is waited for


@contextmanager
def _not_compiled(model: nn.Block) -> Iterator[None]:
    """Hooks of children run in Python alone; the flag is what decides, and the graphs are kept."""
    active: list[Any] = []
    model.apply(lambda block: active.append(block) if getattr(block, "_active", False) else None)
    for block in active:
        block._active = False
    try:
        yield
    finally:
        for block in active:
            block._active = True


@contextmanager
def _max_pooling(model: nn.Block) -> Iterator[None]:
    """Let max pooling keep for the backward pass what it keeps only in training mode, where it does the same.

    Without, its gradients are wrong on a CPU, and MXNet does not say so.
    """
    blocks: dict[int, Any] = {}
    model.apply(lambda block: blocks.setdefault(id(block), block))
    with ExitStack() as stack:
        for block in blocks.values():
            if isinstance(block, nn.conv_layers._Pooling) and block._kwargs["pool_type"] == "max":
                on = block.register_forward_pre_hook(lambda *_: autograd.set_training(True))
                off = block.register_forward_hook(lambda *_: autograd.set_training(False))
                stack.callback(on.detach)
                stack.callback(off.detach)
        yield


def _probed(model: nn.Block, x: Array, before: int, dense: int, channels: int) -> Array:
    """What a dense layer is given for one example when a layer before gives one number for each channel."""
    number = 0
    found: list[Array] = []

    def see(call: Call) -> None:
        nonlocal number
        if number == before:
            axes = [1] * call.output.ndim
            axes[_channel_axis(call.block)] = channels
            # A hook cannot put another array in the place of an output, but it can write into the output.
            call.output[:] = np.array(probe(channels).reshape(axes), dtype=call.output.dtype)
        if number == dense:
            given = array_of(call.given)
            features = given[0].size if call.block._flatten else given.shape[-1]
            found.append(given.reshape(-1, features)[0])
        number += 1

    _run(model, x, see)
    return found[0]


def _channel_axis(block: Any) -> int:
    return int(block._kwargs["axis"]) if isinstance(block, nn.BatchNorm) else 1


def _outputs(path: str, call: Call) -> Iterator[tuple[str, Array]]:
    """What a use gives; of a recurrent block, each direction of its last level."""
    block, values = call.block, array_of(call.linear)
    if not isinstance(block, _FUSED):
        yield (
            path,
            numpy.moveaxis(values, _channel_axis(block), 1) if isinstance(block, nn.BatchNorm) else values,
        )
        return
    steps = values if block._layout == "NTC" else values.swapaxes(0, 1)
    directions = _directions(block)
    for backward, part in zip(directions, numpy.split(steps, len(directions), axis=-1)):
        yield _inner(path, block, block._num_layers - 1, backward), part


def _input(model: nn.Block, x: Array) -> Any:
    """The input, where the model is."""
    x = numpy.asarray(x)
    contexts = [one.list_ctx()[0] for one in listed(model)]
    return np.array(x, dtype=x.dtype, ctx=contexts[0] if contexts else None)


def _first(output: Any) -> Any:
    """The output, where a block gives its states, too."""
    return output[0] if isinstance(output, (list, tuple)) else output
