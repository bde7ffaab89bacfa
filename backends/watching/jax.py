"""How any Flax module is applied to an input and watched; its layers stand in the order in which they are seen.

A module tells of its layers only when it is applied. It is applied to shapes, without computing, where that is
enough. Without an example input, inputs are tried that fit one of the arrays; Flax holds the shape of every
array against what a layer needs, so that one that goes through shows the order. Each use is found with the
leaves that it reads, be they another layer's by `nn.map_variables`.

What is computed is computed as in use: batch normalisations read their running statistics and nothing is
dropped out, whatever the module says. What a layer gets and gives is kept by `sow`, which works inside of
`nn.remat` too. Nothing of the variables is changed.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import DenyList
from flax.traverse_util import flatten_dict

from backends.known.jax import KINDS, Use, use_of, why_not
from backends.uses.jax import Identity, Path
from d2lparams.interface import Array, Flattened, UnknownLayer, probe, seen_flattening

IN_USE = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "use_running_average": True,
}
"""What a module may call the choice between use and training, as an argument or as a field."""

_CHOICES: Mapping[type[nn.Module], str] = {
    nn.BatchNorm: "use_running_average",
    nn.Dropout: "deterministic",
}
_LOOKS = (jax.errors.JAXTypeError, jax.errors.JAXIndexError)
_COLLECTION = "d2lparams"
_SIZES = (32, 28, 64, 16, 8, 96, 128, 224)

_Plan = tuple[tuple[int, ...], ...]
"""What takes the place of each use's output: of () nothing; of (0,) ones; of (axis, first, last, all) numbers
along an axis, those from the first to the last of as many as there are in all."""


def bare(leaf: Any) -> Any:
    """The array of a leaf that may be boxed, as `nn.with_partitioning` boxes it."""
    return jax.tree.leaves(leaf)[0]


def at(variables: Any, place: Path) -> Any:
    """What stands at a place in a tree: a leaf, which may be boxed, or a tree."""
    found = variables
    for key in place:
        found = found[key]
    return found


# -- applied and watched ---------------------------------------------------------------------------------------


def _apply(module: nn.Module, variables: Any, x: Any, watch: _Watch) -> tuple[Any, Any]:
    """The output and what was kept, watched, as in use.

    What nn.jit has traced before is not called again, so it is told to compile nothing: this run sees
    everything, and the user's runs see nothing of it. Only our own collection may change; that is written as
    what denies all others, which Flax takes for empty, so that `nn.map_variables` does not begin with the run
    of its own that it makes when something is to be initialised.
    """
    known = inspect.signature(type(module).__call__).parameters
    choices = {name: value for name, value in IN_USE.items() if name in known}
    mutable = DenyList(DenyList((_COLLECTION,)))
    with nn.intercept_methods(watch), jax.disable_jit():
        output, updated = module.apply(variables, x, mutable=mutable, **choices)
    return output, updated.get(_COLLECTION, {})


def computed(plain: Callable[..., Any], compiled: Callable[..., Any], *given: Any) -> Any:
    """What a function of arrays gives: compiled as a whole, unless the module looks at values."""
    try:
        return compiled(*given)
    except _LOOKS:
        return plain(*given)


def real_run(module: nn.Module, variables: Any, x: Any, plan: _Plan = ()) -> tuple[Any, Any]:
    """The output and what was kept, of a real run."""
    found: tuple[Any, Any] = computed(*_runs(Identity(module), plan), variables, x)
    return found


@lru_cache(maxsize=128)
def _runs(key: Identity, plan: _Plan) -> tuple[Any, Any]:
    """What runs a module, of (variables, x): the function, and it compiled."""

    def run(variables: Any, x: Any) -> tuple[Any, Any]:
        return _apply(key.module, variables, x, _Watch(variables, plan, keep=True))

    return run, jax.jit(run)


@lru_cache(maxsize=128)
def gradient_of(key: Identity) -> tuple[Any, Any]:
    """What gives loss and output, and the gradients, of (params, other collections, x, y)."""

    def loss_and_output(params: Any, others: Any, x: Any, y: Any) -> tuple[Any, Any]:
        variables = {**others, "params": params}
        output = one_array(_apply(key.module, variables, x, _Watch(variables))[0])
        return jnp.mean((output - y) ** 2), output

    gradient = jax.value_and_grad(loss_and_output, has_aux=True)
    return gradient, jax.jit(gradient)


def one_array(output: Any) -> Any:
    """What the model gives.

    Raises:
        ValueError: unless that is one array.
    """
    if not hasattr(output, "shape"):
        raise ValueError(
            f"the model gives a {type(output).__name__}, and only one array can be held against another; carry "
            "a module that gives one"
        )
    return output


class _Watch:
    """Sees every layer that is called, keeps it in use, and may put something else in place of its output.

    Args:
        variables: that the module is applied to, these very objects.
        plan: what takes the place of outputs, where anything does.
        keep: whether to `sow` what a layer gets and gives.

    Attributes:
        uses: those of layers that are known, in order.
        refused: the first sentence on a layer that is not.
        classes: of the modules that were called and are no known layers, by path.
    """

    def __init__(
        self,
        variables: Any,
        plan: _Plan = (),
        *,
        keep: bool = False,
    ) -> None:
        self.uses: list[Use] = []
        self.refused = ""
        self.classes: dict[Path, str] = {}
        self._shapes = {place: bare(leaf).shape for place, leaf in flatten_dict(variables).items()}
        self._places = {id(bare(leaf)): place for place, leaf in flatten_dict(variables).items()}
        self._plan, self._keep = plan, keep
        self._calls: dict[Path, int] = {}
        self._inside = False

    def __call__(self, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        """What `nn.intercept_methods` calls in place of a method."""
        module = context.module
        if self._inside or context.method_name not in ("__call__", "attend"):
            return call(*args, **kwargs)
        choice = _CHOICES.get(type(module))
        if choice:
            args, kwargs = args[:1], {**kwargs, choice: True}
            # The module is this application's own copy, and says nothing while the argument does.
            object.__setattr__(module, choice, None)
        if type(module) not in KINDS and type(module) is not nn.RNN:
            self.classes[module.path] = type(module).__name__
            if isinstance(module, nn.RNNCellBase):
                self._refuse(module, "is applied step by step; the layer that is known is nn.RNN(cell)")
            return call(*args, **kwargs)
        self._inside = True
        try:
            # A recurrent layer's steps need not be written out one by one.
            with jax.disable_jit(type(module) is not nn.RNN):
                result = call(*args, **kwargs)
        finally:
            self._inside = False
        return self._seen(
            module, context.method_name, args[0] if args else kwargs[next(iter(kwargs))], result, kwargs
        )

    def _refuse(self, module: nn.Module, why: str, name: str = "") -> None:
        where = ".".join(module.path) or "the model itself"
        self.refused = self.refused or f"layer {where!r} ({name or type(module).__name__}) {why}"

    def _seen(self, module: Any, method: str, x: Any, result: Any, kwargs: Mapping[str, Any]) -> Any:
        """Take down a use; what it gives."""
        recurrent = type(module) is nn.RNN
        carried = recurrent and isinstance(result, tuple)
        output = result[1] if carried else result
        why = why_not(module, x)
        if why:
            self._refuse(module, why)
            return result
        holder = module.cell if recurrent else module
        leaves, unsure, read = self._leaves(holder)
        if not leaves:
            return result
        use = use_of(module, method, x, output, kwargs)
        number = self._calls.get(module.path, 0)
        self._calls[module.path] = number + 1
        self.uses.append(
            dataclasses.replace(use, number=number, path=holder.path, leaves=leaves, unsure=unsure)
        )
        if self._plan:
            output = _replaced(output, self._plan[len(self.uses) - 1])
        if self._keep:
            module.sow(_COLLECTION, "use", {"input": x, "output": output, "read": read})
        return (result[0], output) if carried else output

    def _leaves(self, holder: nn.Module) -> tuple[dict[str, Path], tuple[str, ...], dict[str, Any]]:
        """Where each array is, which of these are not sure, and what is read there."""
        leaves, unsure, read = {}, [], {}
        for (collection, *inner), leaf in flatten_dict(holder.variables).items():
            if collection not in ("params", "batch_stats"):
                continue
            name, array = ".".join(inner), bare(leaf)
            place = self._places.get(id(array))
            if place is None:
                place = (collection, *holder.path, *inner)
                unsure.append(name)
                read[name] = array
                if place not in self._shapes:
                    self._refuse(holder, "reads arrays that a lifted transformation hides")
                elif self._shapes[place] != array.shape:
                    self._refuse(
                        holder, f"is lifted by nn.scan or nn.vmap, so that {name!r} is a stack of arrays"
                    )
            leaves[name] = place
        return leaves, tuple(unsure), read


def _replaced(output: Any, by: tuple[int, ...]) -> Any:
    """What takes an output's place; see `_Plan`."""
    if not by:
        return output
    if len(by) == 1:
        return jnp.ones_like(output)
    axis, first, last, every = by
    along = [size if one == axis else 1 for one, size in enumerate(output.shape)]
    numbers = jnp.asarray(probe(every)[first:last], output.dtype)
    return jnp.broadcast_to(numbers.reshape(along), output.shape)


# -- what was seen ---------------------------------------------------------------------------------------------


def seen_uses(module: nn.Module, variables: Any, x: Array | None) -> tuple[list[Use], Any]:
    """Every use, in order of application, and an input that shows it.

    Raises:
        UnknownLayer: when an array belongs to no layer that is known.
        ValueError: when no input is given, and none that was tried fits.
    """
    given = None if x is None else jnp.asarray(x)
    for one in [given] if given is not None else _guesses(variables):
        try:
            watch = _watched(module, variables, one)
        except Exception:
            if given is not None:
                raise
            continue  # an input that does not fit fails in whatever operation meets it first
        refused = watch.refused or _unread(watch, variables)
        if refused:
            raise UnknownLayer(refused)
        if any(use.unsure for use in watch.uses):
            _check_unsure(module, variables, one, watch.uses)
        return watch.uses, one
    raise ValueError(
        "a Flax module shows its layers when it is applied, and none of the inputs that were tried fits; pass "
        "an example input x"
    )


def _watched(module: nn.Module, variables: Any, x: Any) -> _Watch:
    leaves, form = jax.tree.flatten(dict(variables))
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
    try:
        return _traced(Identity(module), form, shapes, (x.shape, str(x.dtype)))
    except _LOOKS:
        # The module looks at values. Two leaves that are one object must not be taken for each other.
        copied = jax.tree.map(jnp.array, dict(variables))
        watch = _Watch(copied)
        _apply(module, copied, x, watch)
        return watch


@lru_cache(maxsize=128)
def _traced(key: Identity, form: Any, leaves: tuple[tuple[Any, str], ...], x: tuple[Any, str]) -> _Watch:
    """What is seen when the module is applied to shapes."""
    seen: list[_Watch] = []

    def run(variables: Any, x: Any) -> None:
        seen.append(_Watch(variables))
        _apply(key.module, variables, x, seen[-1])

    variables = form.unflatten([jax.ShapeDtypeStruct(*leaf) for leaf in leaves])
    jax.eval_shape(run, variables, jax.ShapeDtypeStruct(*x))
    return seen[-1]


def _guesses(variables: Any) -> Iterator[Any]:
    """Inputs that would fit one of the arrays, the first ones first."""
    shapes: list[tuple[tuple[int, ...], str]] = []
    for place, leaf in flatten_dict(variables.get("params", {})).items():
        match place[-1], bare(leaf).shape:
            case "embedding", _:
                shapes.append(((1, 2), "int32"))
            case "kernel", (width, _):
                shapes += [((1, width), "float32"), ((1, 2, width), "float32")]
            case "kernel", (_, width, _):
                shapes += [((1, size, width), "float32") for size in _SIZES]
            case "kernel", (_, _, width, _):
                shapes += [((1, size, size, width), "float32") for size in _SIZES]
            case "scale" | "bias", (width,):
                shapes.append(((1, width), "float32"))
    for shape, dtype in dict.fromkeys(shapes):
        yield jnp.ones(shape, dtype)


def _unread(watch: _Watch, variables: Any) -> str:
    """A sentence on the first array that belongs to no layer that was seen."""
    read = {place for use in watch.uses for place in use.leaves.values()}
    for place in flatten_dict(variables):
        if place in read or place[0] == "intermediates":
            continue
        owners = [path for path in watch.classes if path == place[1 : 1 + len(path)]]
        owner = max(owners, key=len, default=())
        name = ".".join(place[1 + len(owner) :])
        if len(place) - 2 > len(owner):
            return f"array {'.'.join(place[1:])!r} belongs to no layer that the model applies to this input"
        return (
            f"layer {'.'.join(owner) or 'the model itself'!r} ({watch.classes.get(owner, 'no module')}) holds "
            f"{name!r}, and is none of Dense, Conv, BatchNorm, LayerNorm, Embed, and RNN of an LSTM or GRU cell"
        )
    return ""


def named(uses: Sequence[Use]) -> Iterator[tuple[str, Use]]:
    """Each use with its path; a later one at the same place has its number behind it."""
    counts: dict[Path, int] = {}
    for use in uses:
        counts[use.path] = counts.get(use.path, 0) + 1
        yield ".".join(use.path) + (f"@{counts[use.path]}" if counts[use.path] > 1 else ""), use


def kept_by(
    module: nn.Module, variables: Any, x: Any, uses: Sequence[Use], plan: _Plan = ()
) -> list[Mapping[str, Any]]:
    """What each use gets, gives and reads, of a real run.

    Raises:
        ValueError: when a transformation keeps nothing of what happens inside.
    """
    _, kept = real_run(module, variables, x, plan)
    found = []
    for use in uses:
        try:
            found.append(at(kept, (*use.module, "use"))[use.number])
        except (KeyError, IndexError):
            raise ValueError(
                f"layer {'.'.join(use.path)!r} is applied inside of a lifted transformation that hands on no "
                "other collections, so that what it gives cannot be seen"
            ) from None
    return found


def _check_unsure(module: nn.Module, variables: Any, x: Any, uses: Sequence[Use]) -> None:
    """Refuse layers that compute with other values than the arrays at their place."""
    for use, seen in zip(uses, kept_by(module, variables, x, uses), strict=True):
        for name in use.unsure:
            if not np.array_equal(seen["read"][name], bare(at(variables, use.leaves[name])), equal_nan=True):
                raise UnknownLayer(
                    f"layer {'.'.join(use.path)!r} ({use.name}) computes with other values than its own "
                    f"{name!r}, made of it by nn.map_variables or the like"
                )


def flattenings(module: nn.Module, variables: Any, x: Any, uses: Sequence[Use]) -> dict[int, Flattened]:
    """How the inputs of dense layers behind a convolution are flattened, by the number of the use.

    The module is run once with a number for each channel in place of what convolutions give, and ones in place
    of what other layers give.
    """
    last, asked, keeps = 0, {}, set()
    for number, use in enumerate(uses):
        if use.kind in ("conv1d", "conv2d"):
            last = use.many
        elif use.kind == "layernorm" and len(use.shape) > 2 and use.width == last:
            keeps.add(number)
        elif last and use.channels is None and use.width != last:
            asked[number] = last
    if not asked:
        return {}
    # All numbers are different ones, so that branches that are put side by side stay apart.
    counts = [use.many for use in uses]
    ends = list(itertools.accumulate(counts))
    plan: list[tuple[int, ...]] = []
    for number, use in enumerate(uses):
        if use.channels is not None:
            plan.append((use.channels, ends[number] - use.many, ends[number], ends[-1]))
        else:
            plan.append(() if number in keeps else (0,))
    found = {}
    seen = kept_by(module, variables, x, uses, tuple(plan))
    branches = ends[-1] if sum(map(bool, counts)) > 1 else 0
    for number, channels in asked.items():
        use = uses[number]
        values = np.array(seen[number]["input"], "float32").reshape(-1, use.width)[0]
        flattened = _flattening(".".join(use.path), values, channels, branches)
        if flattened and use.kind != "dense":
            raise UnknownLayer(
                f"layer {'.'.join(use.path)!r} ({use.name}) takes a flattened image, and only a dense layer's "
                "columns have a neutral order"
            )
        if flattened:
            found[number] = flattened
    return found


def _flattening(path: str, values: Array, last: int, branches: int) -> Flattened | None:
    """How an input is flattened; None where it is no image any more, but one number for each channel.

    Args:
        path: of the dense layer.
        values: of its input for one example.
        last: the channels of the last convolution.
        branches: the channels of all layers that could have been put side by side; 0 when there is one only.
    """
    different = 1 + int(np.count_nonzero(np.diff(np.sort(values)) > 1e-6))
    if different == 1 or different == len(values) <= branches:
        return None
    # Where the border of a pooling makes numbers of its own, the last convolution says how many there are.
    for channels in (different, last):
        if 1 < channels < len(values) and len(values) % channels == 0:
            try:
                return seen_flattening(path, values, channels)
            except UnknownLayer:
                continue
    raise UnknownLayer(
        f"the input of layer {path!r} mixes the channels of the layer before with other numbers, so that its "
        "columns have no neutral order"
    )
