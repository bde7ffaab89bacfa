"""What carries parameters out of any `nn.Module` and into it.

Without an input, the places where layers are registered are known; in a Sequential they are applied in that
order. With an input the model runs, in eval mode and without gradients, and is afterwards what it was. Hooks
see every call of a layer. What is done with a layer's arrays outside of a call is seen too: a product with the
transposed weight of an embedding is a use of it, and arithmetic of the user's own is refused.

On a CPU an array that is read is a read-only view of PyTorch's own memory, by NumPy's buffer. PyTorch owns that
memory and may write it, by a training step for instance; it lives as long as the view. Where the module is
given other memory, by `.to(...)` or `.data = ...`, the view still shows the old one. From another device it is
a copy. Writing copies the values into the memory that is there, so that every tie, optimizer and compiled graph
sees them, and tells autograd.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from backends.conventions.torch import CONVENTIONS
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
    nn.Linear: "dense",
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.BatchNorm1d: "batchnorm",
    nn.BatchNorm2d: "batchnorm",
    nn.BatchNorm3d: "batchnorm",
    nn.LayerNorm: "layernorm",
    nn.Embedding: "embedding",
    nn.LSTM: "lstm",
    nn.GRU: "gru",
}
_CONVOLUTIONS, _NORMS = (nn.Conv1d, nn.Conv2d), (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)
# Modules of torch.nn without arrays that move channels, or make channels of places.
_MOVING = (nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Fold, nn.Unfold)
_PRODUCTS = (torch.matmul, torch.mm, torch.Tensor.matmul, torch.Tensor.mm, torch.Tensor.__matmul__)

Instead = Callable[[nn.Module, Any, Any], Any]


class TorchCarrier(Carrier[nn.Module]):
    """PyTorch's modules."""

    conventions = CONVENTIONS

    def structure(self, model: nn.Module, x: Array | None) -> Structure:
        """By registration, or as they are used."""
        model = _plain(model)
        registered = list(_registered(model))
        _refuse_overlaps(registered)
        if x is None:
            layers = [layer for path, module in registered for layer in _layers(path, module)]
            return structure_of_places(layers, ordered=_sequential(model), channels_last=False)
        calls = _run(model, x)
        uses = _uses(registered)
        seen = [_layers_of(uses.name(id(call.module)), call) for call in calls]
        unused = set(uses.unused)
        never = {id(module): (path, module) for path, module in reversed(registered) if id(module) in unused}
        left = [layer for path, module in reversed(never.values()) for layer in _layers(path, module)]
        known = {array.storage for call in seen for layer in call for array in layer.arrays}
        # A layer that is never called, and whose arrays are all used elsewhere, holds nothing of its own.
        left = [layer for layer in left if not {array.storage for array in layer.arrays} <= known]

        def probed(before: int, dense: int, channels: int) -> Array:
            again = _run(model, x, instead=_constant_channels)
            if [call.module for call in again] != [call.module for call in calls]:
                raise ValueError(
                    f"the model uses other layers for other values, so that how the input of dense layer "
                    f"{seen[dense][0].path!r} is flattened cannot be seen"
                )
            given = again[dense].given
            if given.ndim > 2 and torch.equal(given, given[..., :1].expand_as(given)):
                # It is applied to all places of a channel, and nothing is flattened.
                return probe(channels)
            return _numpy(given.reshape(-1, given.shape[-1])[0])

        return structure_of_calls(seen, left, probed)

    def forward(self, model: nn.Module, x: Array) -> Array:
        """In eval mode, without gradients."""
        model = _plain(model)
        with _in_use(model), torch.no_grad():
            return _numpy(_tensor_of(model(_input(model, x))))

    def outputs(self, model: nn.Module, x: Array) -> list[tuple[str, Array]]:
        """What calls of layers give, and products with their weights."""
        model = _plain(model)
        uses = _uses(list(_registered(model)))
        calls = _run(model, x, keep=True)
        return [pair for call in calls for pair in _outputs(uses.name(id(call.module)), call)]

    def step(self, model: nn.Module, x: Array, y: Array, learning_rate: float) -> Step:
        """By `torch.optim.SGD`, in eval mode; gradients that the parameters held before are put back."""
        model = _plain(model)
        trained = [one for one in model.parameters() if one.requires_grad]
        kept = [one.grad for one in trained]
        for one in trained:
            one.grad = None
        gradients: dict[Hashable, Array] = {}
        # cuDNN computes no gradients of a recurrent layer in eval mode.
        with _in_use(model), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            output = _tensor_of(model(_input(model, x)))
            target = torch.tensor(np.asarray(y)).to(output)
            loss = nn.functional.mse_loss(output, target.expand_as(output))
            if trained:
                loss.backward()
                for one in trained:
                    if one.grad is not None:
                        # Two parameters on one memory both move it.
                        gradient = _numpy(one.grad.to_dense() if one.grad.is_sparse else one.grad)
                        before = gradients.get(_storage(one))
                        gradients[_storage(one)] = gradient if before is None else before + gradient
                torch.optim.SGD(trained, lr=learning_rate).step()
        for one, grad in zip(trained, kept):
            one.grad = grad
        return Step(_numpy(output), float(loss.detach()), gradients)


# -- which layers there are ---------------------------------------------------------------------------------


def _plain(model: nn.Module) -> nn.Module:
    """The module that `torch.compile` wraps; it holds the same parameters."""
    plain: nn.Module = getattr(model, "_orig_mod", model)
    return plain


def _registered(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that hold arrays, by every path at which they are registered, in order."""
    inside: str | None = None
    for native, module in model.named_modules(remove_duplicate=False):
        if inside is not None and native.startswith(inside):
            continue
        path = ".".join(part for part in native.split(".") if part != "_orig_mod")
        if _kind(path, module) is not None:
            inside = f"{native}." if native else ""
            yield path, module


def _uses(registered: Sequence[tuple[str, nn.Module]]) -> Uses:
    places: dict[Hashable, list[str]] = {}
    for path, module in registered:
        places.setdefault(id(module), []).append(path)
    return Uses(places)


def _kind(path: str, module: nn.Module) -> Kind | None:
    """The kind of a layer; None of what holds no arrays.

    Raises:
        UnknownLayer: for a layer with arrays that is none of the known ones, or computes otherwise.
        ValueError: for a layer that has no values yet.
    """
    where = f"layer {path or 'the model itself'!r} ({type(module).__name__})"
    own = {name: one for name, one in module._parameters.items() if one is not None}
    for name, one in module._buffers.items():
        if one is not None and name not in module._non_persistent_buffers_set:
            own[name] = one
    if any(nn.parameter.is_lazy(one) for one in own.values()):
        raise ValueError(f"{where} is lazy and has no values yet; call the model on a first batch")
    if any(one.is_meta for one in own.values()):
        raise ValueError(f"{where} is on the device 'meta' and has no values; give it some by .to_empty(...)")
    kind, reason = None, ""
    of = next((one for one in _KINDS if isinstance(module, one)), None)
    if isinstance(module, torch.jit.ScriptModule):
        reason = "is compiled by TorchScript, where no layer can be seen; carry the module it was made from"
    elif of is not None:
        kind, reason = _KINDS[of], _particular(module, of, own)
    elif own:
        known = ", ".join(one.__name__ for one in _KINDS)
        reason = f"holds {', '.join(map(repr, own))} and is none of {known}"
    elif type(module)._save_to_state_dict is not nn.Module._save_to_state_dict or (
        type(module).get_extra_state is not nn.Module.get_extra_state
    ):
        reason = "keeps values that are no parameters"
    if reason:
        raise UnknownLayer(f"{where} {reason}")
    return kind


def _particular(module: nn.Module, of: Any, own: dict[str, Any]) -> str:
    """Why a layer of a known class is not as its kind is."""
    if nn.utils.parametrize.is_parametrized(module):
        return "computes its arrays by a parametrization; remove it first, by remove_parametrizations"
    methods = [name for name in ("forward", "_conv_forward") if hasattr(of, name)]
    if any(getattr(type(module), name) is not getattr(of, name) or name in vars(module) for name in methods):
        return f"has a forward of its own, which may compute something else than {of.__name__}"
    recurrent = isinstance(module, nn.RNNBase)
    if recurrent and module.proj_size:
        return "projects its hidden state, which is known of no other framework here"
    rows = {row.name for row in CONVENTIONS[_KINDS[of]]}
    known = set(module._flat_weights_names) if recurrent else rows | {"num_batches_tracked"}
    if others := [name for name in own if name not in known]:
        return f"holds {', '.join(map(repr, others))} beside what {of.__name__} holds"
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) > 1:
        return f"normalises over {len(module.normalized_shape)} axes; only the last one is known"
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
        return "keeps no running statistics, and normalises by those of each batch"
    if isinstance(module, nn.Embedding) and module.max_norm is not None:
        return "changes its weight when it is used, by max_norm"
    return ""


def _sequential(module: nn.Module) -> bool:
    """Whether what is registered is applied in that order, and nothing moves an axis in between."""
    if any(isinstance(module, of) for of in _KINDS):
        return True
    if type(module).forward is nn.Sequential.forward and "forward" not in vars(module):
        return all(_sequential(child) for child in module._modules.values())
    # What torch.nn has besides, such as activations and pooling, leaves channels before places.
    return type(module).__module__.startswith("torch.nn.modules.") and not (
        module._modules or isinstance(module, _MOVING)
    )


def _layers(path: str, module: nn.Module) -> list[NativeLayer]:
    """One layer; of a recurrent module, one for each level and direction."""
    kind = next(kind for of, kind in _KINDS.items() if isinstance(module, of))
    rows = CONVENTIONS[kind]
    settings: dict[str, Any] = {}
    if isinstance(module, _NORMS):
        settings["epsilon"] = float(module.eps)
    if isinstance(module, _CONVOLUTIONS) and module.groups != 1:
        settings["groups"] = module.groups
    if not isinstance(module, nn.RNNBase):
        held = {row.name: getattr(module, row.name) for row in rows}
        return [NativeLayer(path, kind, rows, _arrays(path, held), settings)]
    found = []
    for level, backward in _levels(module):
        suffix = f"_l{level}{'_reverse' * backward}"
        held = {row.name: getattr(module, row.name + suffix, None) for row in rows}
        inner = _inner(path, module, level, backward)
        settings = {"reverse": True} if backward else {}
        found.append(NativeLayer(inner, kind, rows, _arrays(inner, held), settings))
    return found


def _levels(module: nn.Module) -> list[tuple[int, bool]]:
    """Each level and direction, and whether it goes backwards."""
    directions = (False, True) if module.bidirectional else (False,)
    return [(level, backward) for level in range(module.num_layers) for backward in directions]


def _inner(path: str, module: nn.Module, level: int, backward: bool) -> str:
    """The path of one level and direction; of the only one, the module's own."""
    if len(_levels(module)) == 1:
        return path
    place, at, number = path.partition("@")
    return ".".join(filter(None, (place, f"l{level}", "reverse" if backward else ""))) + at + number


# -- their arrays -------------------------------------------------------------------------------------------


def _arrays(path: str, held: dict[str, Any]) -> tuple[NativeArray, ...]:
    return tuple(_array(path, name, tensor) for name, tensor in held.items() if tensor is not None)


def _array(path: str, name: str, tensor: Any) -> NativeArray:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in ("float16", "float32", "float64") or tensor.layout is not torch.strided:
        raise UnknownLayer(
            f"{name!r} of layer {path or 'the model itself'!r} is {dtype}, {tensor.layout}, which NumPy does "
            "not have; convert the model, by .float() for instance"
        )

    def read() -> Array:
        array: Array = tensor.detach().cpu().numpy()
        array.flags.writeable = False
        return array

    def write(value: Array) -> None:
        if tensor.device.type == "cpu":
            np.copyto(tensor.detach().numpy(), value)
            # A graph that has kept the old values for its backward pass must not use the new ones.
            torch.autograd.graph.increment_version(tensor)
        else:
            with torch.no_grad():
                tensor.copy_(torch.tensor(value))

    return NativeArray(name, tuple(tensor.shape), dtype, _storage(tensor), read, write)


def _storage(tensor: Any) -> Hashable:
    """Two tensors are one when they begin at one address and go the same way, be they one object or not."""
    address = tensor.data_ptr() or id(tensor)  # what has no numbers has no address
    return str(tensor.device), address, str(tensor.dtype), tuple(tensor.shape), tensor.stride()


def _refuse_overlaps(registered: Sequence[tuple[str, nn.Module]]) -> None:
    """Arrays that share some of their numbers, or all in another order, are no tie that could be carried."""
    spans: dict[Hashable, tuple[str, int, int, str]] = {}
    for path, module in registered:
        for name, one in (*module._parameters.items(), *module._buffers.items()):
            if one is not None and one.numel():
                last = sum((size - 1) * stride for size, stride in zip(one.shape, one.stride()))
                start = one.data_ptr()
                end = start + (1 + last) * one.element_size()
                where = ".".join(filter(None, (path, name)))
                spans.setdefault(_storage(one), (str(one.device), start, end, where))
    for (device, _, end, first), (other, start, _, second) in pairwise(sorted(spans.values())):
        if device == other and start < end:
            raise UnknownLayer(
                f"{first!r} and {second!r} overlap in memory, and one is a part of the other, transposed or "
                "another view; such a tie has no neutral form"
            )


def _numpy(tensor: Any) -> Array:
    """A copy; of bfloat16, which NumPy does not have, as float32."""
    tensor = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
    return np.array(tensor.detach().cpu().numpy(), order="C")


# -- running it ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Call:
    """One use of a layer.

    Attributes:
        module: whose arrays are used.
        given: what they were applied to.
        output: what came out, where it was asked for.
        kind: of the layer that the use is, where it is no call of the module.
        arrays: those that are used then, by the convention's names.
    """

    module: nn.Module
    given: Any
    output: Any
    kind: Kind | None = None
    arrays: tuple[tuple[str, Any], ...] = ()


def _layers_of(path: str, call: _Call) -> list[NativeLayer]:
    """What a use is."""
    if call.kind is None:
        return _layers(path, call.module)
    return [NativeLayer(path, call.kind, CONVENTIONS[call.kind], _arrays(path, dict(call.arrays)))]


def _run(model: nn.Module, x: Array, *, keep: bool = False, instead: Instead | None = None) -> list[_Call]:
    """The uses of layers, in order, while the model runs once.

    Args:
        model: which is afterwards what it was.
        x: the input, native layout.
        keep: whether outputs are wanted.
        instead: of (module, given, output): what to put in the place of the output of a layer.
    """
    registered = list(_registered(model))
    watch = _Watch(registered, keep, instead)
    with _in_use(model), torch.no_grad():
        handles = [
            handle
            for module in {id(module): module for _, module in registered}.values()
            for handle in (
                module.register_forward_pre_hook(watch.before, with_kwargs=True),
                module.register_forward_hook(watch.after, with_kwargs=True),
            )
        ]
        try:
            given = _input(model, x)
            with watch:
                model(given)
        finally:
            for handle in handles:
                handle.remove()
    return watch.calls


class _Watch(TorchFunctionMode):  # type: ignore[misc]
    """Sees the uses of layers while a model runs: their calls, and what is done with their arrays otherwise.

    Args:
        registered: the layers, by their paths.
        keep: as for `_run`.
        instead: as for `_run`.
    """

    def __init__(
        self, registered: Sequence[tuple[str, nn.Module]], keep: bool, instead: Instead | None
    ) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self._keep, self._instead = keep, instead
        self._inside = 0
        self._held: dict[Hashable, nn.Module] = {}
        self._memory: dict[int, str] = {}
        for path, module in registered:
            for one in (*module._parameters.values(), *module._buffers.values()):
                if one is not None and one.numel():
                    self._held.setdefault(_storage(one), module)
                    self._memory.setdefault(one.untyped_storage().data_ptr(), path)

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A layer is called; what PyTorch does in there is its own."""
        self._inside += 1

    def after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """The call is over."""
        given = args[0] if args else kwargs.get("input", next(iter(kwargs.values()), None))
        replaced = output if self._instead is None else self._instead(module, given, output)
        self.calls.append(_Call(module, _copied(given), _copied(output) if self._keep else None))
        self._inside -= 1
        return replaced

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self._inside:
            made = [one for one in _tensors(result) if not self._is_held(one)]
            # Asking for a shape makes no tensor, and a view of an array has computed nothing yet.
            if made:
                self._look(func, args, kwargs, result)
        return result

    def _is_held(self, tensor: Any) -> bool:
        return tensor.layout is torch.strided and tensor.untyped_storage().data_ptr() in self._memory

    def _look(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        given = list(_tensors((args, kwargs)))
        held = [one for one in given if self._is_held(one)]
        name = getattr(func, "__name__", str(func))
        if not held:
            if any(isinstance(one, nn.Parameter) for one in given):
                raise UnknownLayer(
                    f"the model computes with a parameter that it has not registered, by {name!r}; make its "
                    "layer an attribute of a module, or put it into a ModuleList"
                )
            return
        kind, operand, arrays = _function(func, args, kwargs)
        keys = [_storage(one) for one in arrays.values()]
        if kind is None or not set(keys) <= set(self._held) or len(held) != len(arrays):
            path = self._memory[held[0].untyped_storage().data_ptr()]
            raise UnknownLayer(
                f"the model computes with an array of layer {path!r} outside of the layer, by {name!r}; only "
                "a product with its whole transposed weight is known to be a layer"
            )
        module = self._held[keys[0]]
        output = _copied(result) if self._keep else None
        self.calls.append(_Call(module, _copied(operand), output, kind, tuple(arrays.items())))


def _function(func: Any, args: Any, kwargs: Any) -> tuple[Kind | None, Any, dict[str, Any]]:
    """The kind of layer that a function of PyTorch is, what it is applied to, and the arrays."""
    names: tuple[str, ...] = ()
    if func is nn.functional.linear:
        kind, names = "dense", ("input", "weight", "bias")
    elif func is nn.functional.embedding:
        kind, names = "embedding", ("input", "weight", "padding_idx", "max_norm")
    given = {**dict(zip(names, args)), **kwargs}
    if names and given.get("max_norm") is None:
        arrays = {name: given[name] for name in ("weight", "bias") if given.get(name) is not None}
        return kind, given["input"], arrays  # type: ignore[return-value]
    if any(func is one for one in _PRODUCTS) and len(args) == 2 and args[1].ndim == 2:
        return "dense", args[0], {"weight": args[1].T}
    return None, None, {}


def _constant_channels(module: nn.Module, given: Any, output: Any) -> Any:
    """For a convolution's output, one number for each channel; a normalisation leaves them as they are."""
    if isinstance(module, _CONVOLUTIONS):
        constants = torch.tensor(probe(module.out_channels)).to(output)
        return constants.reshape(-1, *[1] * len(module.kernel_size)).expand_as(output).clone()
    return given if isinstance(module, _NORMS) else output


def _outputs(path: str, call: _Call) -> Iterator[tuple[str, Array]]:
    """What a use gives; of a recurrent module, each direction of its last level."""
    module = call.module
    if call.kind is not None or not isinstance(module, nn.RNNBase):
        yield path, _numpy(call.output)
        return
    steps = call.output[0]
    if isinstance(steps, nn.utils.rnn.PackedSequence):
        steps, _ = nn.utils.rnn.pad_packed_sequence(steps, batch_first=True)
    elif steps.ndim == 3 and not module.batch_first:
        steps = steps.swapaxes(0, 1)
    directions = (False, True) if module.bidirectional else (False,)
    for backward, part in zip(directions, steps.chunk(len(directions), dim=-1)):
        yield _inner(path, module, module.num_layers - 1, backward), _numpy(part)


@contextmanager
def _in_use(model: nn.Module) -> Iterator[None]:
    """In eval mode and not compiled; afterwards the model is what it was, whatever its `forward` assigned."""
    modules = list(model.modules())
    tables = [
        (table, dict(table))
        for one in modules
        for table in (vars(one), one._parameters, one._buffers, one._modules)
    ]
    buffers = [(one, one.clone()) for one in model.buffers()]
    # `eval()` would ask each module's own `train`, which may do more.
    for one in modules:
        one.training = False
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    try:
        with eager, torch.random.fork_rng(devices=[]):
            yield
    finally:
        for table, before in tables:
            for name in set(table) - set(before):
                del table[name]
            table.update(before)
        with torch.no_grad():
            for one, value in buffers:
                if not torch.equal(one, value):
                    one.copy_(value)


def _input(model: nn.Module, x: Any) -> Any:
    """A tensor of its own, on the model's device: a layer may work in place."""
    one = next(model.parameters(), None)
    device = "cpu" if one is None else one.device
    return x.detach().clone().to(device) if torch.is_tensor(x) else torch.tensor(np.asarray(x), device=device)


def _tensors(value: Any) -> Iterator[Any]:
    """Those in nested containers."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)


def _tensor_of(output: Any) -> Any:
    """The output of a model that gives more than one thing, a recurrent layer for instance: the first."""
    return next(_tensors(output))


def _copied(value: Any) -> Any:
    """The same with tensors of its own: what follows may work in place."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    plain = type(value) in (tuple, list)
    return type(value)(map(_copied, value)) if plain else value
