"""What any Flax module holds: it is applied to an input and watched, and its layers stand in the order seen.

A module tells of its layers only when it is applied. It is applied to shapes, without computing, where that is
enough. Without an example input, inputs are tried that fit one of the arrays; Flax holds the shape of every
array against what a layer needs, so that one that goes through shows the order. Each use is found with the
leaves that it reads, be they another layer's by `nn.map_variables`.

What is computed is computed as in use: batch normalisations read their running statistics and nothing is
dropped out, whatever the module says. What a layer gets and gives is kept by `sow`, which works inside of
`nn.remat` too. Nothing of the variables is changed but by `write` and `step`, which put new arrays into them.

JAX owns the memory of the arrays, and nobody writes it: `read` gives a read-only view where it is the CPU's.
The view keeps that memory alive, and goes on showing the old values when a new array has taken the old one's
place. On another device it is a copy.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.core import DenyList, FrozenDict
from flax.traverse_util import flatten_dict

from backends.conventions.jax import CONVENTIONS, PROJECTION
from backends.uses.jax import Identity, Model, Path
from d2lparams.interface import (
    Array,
    Carrier,
    Convention,
    Flattened,
    Kind,
    NativeArray,
    NativeLayer,
    Step,
    Structure,
    UnknownLayer,
    probe,
    seen_flattening,
)

_KINDS: Mapping[type[nn.Module], Kind] = {
    nn.Dense: "dense",
    nn.Conv: "conv2d",
    nn.BatchNorm: "batchnorm",
    nn.LayerNorm: "layernorm",
    nn.Embed: "embedding",
}
_CELLS: Mapping[type[nn.Module], Kind] = {
    nn.LSTMCell: "lstm",
    nn.OptimizedLSTMCell: "lstm",
    nn.GRUCell: "gru",
}
# What a module may call the choice between use and training, as an argument or as a field.
_IN_USE = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "use_running_average": True,
}
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


@dataclass(frozen=True)
class _Use:
    """One use of one layer, as it was seen.

    Attributes:
        module: the path of the module that was called.
        number: how many calls of that module came before.
        path: of the layer, where its arrays are.
        name: its class.
        kind: of layer.
        rows: how its arrays hold the canonical ones.
        leaves: where in the variables each array is, by its name within the layer.
        unsure: names of arrays that only seem to be there, for a lifted transformation handed them on.
        settings: as of `NativeLayer`.
        width: the size of the input's last axis.
        shape: of the output.
        channels: which of the output's axes is that of channels, where it is an image or a sequence with them.
        first: where it is in canonical layout.
        time: which of the output's axes is that of steps, of a recurrent layer.
        flipped: whether its last step comes first there.
    """

    module: Path
    number: int
    path: Path
    name: str
    kind: Kind
    rows: Convention
    leaves: Mapping[str, Path]
    unsure: tuple[str, ...]
    settings: Mapping[str, Any]
    width: int
    shape: tuple[int, ...]
    channels: int | None = None
    first: int = 1
    time: int | None = None
    flipped: bool = False

    @property
    def many(self) -> int:
        """The number of channels; 0 where there are none."""
        return 0 if self.channels is None else self.shape[self.channels]

    def turned(self, output: Any) -> Array:
        """An output in canonical layout, as an array of its own."""
        value = np.asarray(output)
        if self.channels is not None:
            value = np.moveaxis(value, self.channels, self.first)
        if self.time is not None:
            value = np.moveaxis(np.flip(value, self.time) if self.flipped else value, self.time, -2)
        return np.array(value, order="C")

    def native(self, output: Array) -> Array:
        """The way back, of channels."""
        return output if self.channels is None else np.moveaxis(output, self.first, self.channels)


class JaxCarrier(Carrier[Model]):
    """Carries the variables of a module; a model is the pair of both, as `module.init` leaves it."""

    conventions = CONVENTIONS

    def structure(self, model: Model, x: Array | None) -> Structure:
        """Every use in order of application; that order is always seen."""
        with _opened(model) as (module, variables):
            uses, x = _uses(module, variables, x)
            flattened = _flattenings(module, variables, x, uses)
        layers = [
            NativeLayer(
                path,
                use.kind,
                use.rows,
                tuple(_array(variables, name, place) for name, place in use.leaves.items()),
                use.settings,
                flattened.get(number),
            )
            for number, (path, use) in enumerate(_named(uses))
        ]
        return Structure(tuple(layers), ordered=True)

    def forward(self, model: Model, x: Array) -> Array:
        """By `module.apply`, compiled."""
        with _opened(model) as (module, variables):
            uses, x = _uses(module, variables, x)
            return _canonical(_run(module, variables, x)[0], uses)

    def outputs(self, model: Model, x: Array) -> list[tuple[str, Array]]:
        """What `sow` has kept."""
        with _opened(model) as (module, variables):
            uses, x = _uses(module, variables, x)
            seen = _kept(module, variables, x, uses)
            return [(path, use.turned(one["output"])) for (path, use), one in zip(_named(uses), seen)]

    def step(self, model: Model, x: Array, y: Array, learning_rate: float) -> Step:
        """By `optax.sgd`; the new arrays are put into the variables."""
        with _opened(model) as (module, variables):
            if isinstance(variables, FrozenDict):
                raise ValueError(_FROZEN)
            uses, x = _uses(module, variables, x)
            image = _image(uses, y.ndim)
            target = image.native(y) if image else y
            params = variables["params"]
            others = {name: collection for name, collection in variables.items() if name != "params"}
            plain, compiled = _gradient(Identity(module))
            (loss, output), gradients = _computed(plain, compiled, params, others, x, jnp.asarray(target))
            rule = optax.sgd(learning_rate)
            updates, _ = rule.update(gradients, rule.init(params), params)
            variables["params"] = optax.apply_updates(params, updates)
        found: dict[Hashable, Array] = {
            _storage(variables, ("params", *path)): np.array(_bare(leaf))
            for path, leaf in flatten_dict(gradients).items()
        }
        return Step(_canonical(output, uses), float(loss), found)

    def native_input(self, x: Array, kind: Kind) -> Array:
        """Channels last for a convolution."""
        return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if kind in ("conv1d", "conv2d") else x


# -- the variables ---------------------------------------------------------------------------------------------

_FROZEN = (
    "the variables are a FrozenDict, which nothing can be written into; pass the model as (module, "
    "flax.core.unfreeze(variables))"
)


@contextmanager
def _opened(model: Model) -> Iterator[tuple[nn.Module, Any]]:
    """The module and its variables, also of what was made of `module.apply` by jax.jit and the like.

    What is float64 stays so inside, whether or not the process has that switched on.

    Raises:
        ValueError: when there is no module, or the variables are empty.
    """
    function, variables = model
    if isinstance(function, jax.export.Exported):
        raise ValueError(
            "an exported program shows no layers; carry the module that it was made from, with its variables"
        )
    module = getattr(getattr(function, "__wrapped__", function), "__self__", function)
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"a model is a pair (module, variables), and {type(module).__name__} is no Flax module"
        )
    if not jax.tree.leaves(variables):
        raise ValueError("the model has no variables yet; module.init(key, x) gives them")
    fields = {one.name for one in dataclasses.fields(module)}
    choices = {name: value for name, value in _IN_USE.items() if name in fields}
    wide = any(str(leaf.dtype) == "float64" for leaf in jax.tree.leaves(variables))
    with _wide(wide):
        yield (module.clone(**choices) if choices else module), variables


def _bare(leaf: Any) -> Any:
    """The array of a leaf that may be boxed, as `nn.with_partitioning` boxes it."""
    return jax.tree.leaves(leaf)[0]


def _at(variables: Any, place: Path) -> Any:
    found = variables
    for key in place:
        found = found[key]
    return found


def _storage(variables: Any, place: Path) -> Hashable:
    # Arrays come and go; what stays, and what two uses share, is the place in the tree.
    return (id(variables), place)


def _array(variables: Any, name: str, place: Path) -> NativeArray:
    now = _bare(_at(variables, place))

    def write(value: Array) -> None:
        if isinstance(variables, FrozenDict):
            raise ValueError(_FROZEN)
        before = _at(variables, place)
        array = _like(_bare(before), value)
        variables[place[0]] = _with(variables[place[0]], place[1:], jax.tree.map(lambda _: array, before))

    return NativeArray(
        name,
        tuple(now.shape),
        str(now.dtype),
        _storage(variables, place),
        lambda: np.asarray(_bare(_at(variables, place))),
        write,
    )


def _like(before: Any, value: Array) -> Any:
    """A copy of the values as an array where the old one was, on its device."""
    # On a CPU, JAX may take the memory that it is given for its own, so it gets a copy that nobody else has.
    own = np.array(value, order="C")
    if not isinstance(before, jax.Array):
        return own
    with _wide(own.dtype.itemsize == 8):
        return jax.device_put(own, before.sharding if before.committed else None)


def _wide(wanted: bool) -> AbstractContextManager[Any]:
    """Let 64 bits be, which JAX would halve unless the process has switched them on."""
    if not wanted or jax.config.jax_enable_x64:
        return nullcontext()
    switch = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    context: AbstractContextManager[Any] = switch(True)
    return context


def _with(tree: Any, path: Path, leaf: Any) -> Any:
    """The tree with another leaf; new dicts down to it, for another model's variables may hold the old ones."""
    if not path:
        return leaf
    changed = {**tree, path[0]: _with(tree[path[0]], path[1:], leaf)}
    return FrozenDict(changed) if isinstance(tree, FrozenDict) else changed


# -- applied and watched ---------------------------------------------------------------------------------------


def _apply(module: nn.Module, variables: Any, x: Any, watch: _Watch) -> tuple[Any, Any]:
    """The output and what was kept, watched, as in use.

    What nn.jit has traced before is not called again, so it is told to compile nothing: this run sees
    everything, and the user's runs see nothing of it. Only our own collection may change; that is written as
    what denies all others, which Flax takes for empty, so that `nn.map_variables` does not begin with the run
    of its own that it makes when something is to be initialised.
    """
    known = inspect.signature(type(module).__call__).parameters
    choices = {name: value for name, value in _IN_USE.items() if name in known}
    mutable = DenyList(DenyList((_COLLECTION,)))
    with nn.intercept_methods(watch), jax.disable_jit():
        output, updated = module.apply(variables, x, mutable=mutable, **choices)
    return output, updated.get(_COLLECTION, {})


def _computed(plain: Callable[..., Any], compiled: Callable[..., Any], *given: Any) -> Any:
    """What a function of arrays gives: compiled as a whole, unless the module looks at values."""
    try:
        return compiled(*given)
    except _LOOKS:
        return plain(*given)


def _run(module: nn.Module, variables: Any, x: Any, plan: _Plan = ()) -> tuple[Any, Any]:
    """The output and what was kept, of a real run."""
    found: tuple[Any, Any] = _computed(*_runs(Identity(module), plan), variables, x)
    return found


@lru_cache(maxsize=128)
def _runs(key: Identity, plan: _Plan) -> tuple[Any, Any]:
    """What runs a module, of (variables, x): the function, and it compiled."""

    def run(variables: Any, x: Any) -> tuple[Any, Any]:
        return _apply(key.module, variables, x, _Watch(variables, plan, keep=True))

    return run, jax.jit(run)


@lru_cache(maxsize=128)
def _gradient(key: Identity) -> tuple[Any, Any]:
    """What gives loss and output, and the gradients, of (params, other collections, x, y)."""

    def loss_and_output(params: Any, others: Any, x: Any, y: Any) -> tuple[Any, Any]:
        variables = {**others, "params": params}
        output = _one_array(_apply(key.module, variables, x, _Watch(variables))[0])
        return jnp.mean((output - y) ** 2), output

    gradient = jax.value_and_grad(loss_and_output, has_aux=True)
    return gradient, jax.jit(gradient)


def _one_array(output: Any) -> Any:
    if not hasattr(output, "shape"):
        raise ValueError(
            f"the model gives a {type(output).__name__}, and only one array can be held against another; carry "
            "a module that gives one"
        )
    return output


def _canonical(output: Any, uses: Sequence[_Use]) -> Array:
    """What the module gives, canonical layout."""
    image = _image(uses, _one_array(output).ndim)
    return image.turned(output) if image else np.array(output, order="C")


def _image(uses: Sequence[_Use], axes: int) -> _Use | None:
    """The last use, where the output is an image as it left it: nothing has flattened it since."""
    last = uses[-1] if uses else None
    return last if last and last.channels is not None and len(last.shape) == axes else None


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
        self.uses: list[_Use] = []
        self.refused = ""
        self.classes: dict[Path, str] = {}
        self._shapes = {place: _bare(leaf).shape for place, leaf in flatten_dict(variables).items()}
        self._places = {id(_bare(leaf)): place for place, leaf in flatten_dict(variables).items()}
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
        if type(module) not in _KINDS and type(module) is not nn.RNN:
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
        why = _why_not(module, x)
        if why:
            self._refuse(module, why)
            return result
        holder = module.cell if recurrent else module
        leaves, unsure, read = self._leaves(holder)
        if not leaves:
            return result
        use = _use(module, method, x, output, kwargs)
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
            name, array = ".".join(inner), _bare(leaf)
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


def _why_not(module: Any, x: Any) -> str:
    """Why a layer of a known class computes otherwise than its kind; "" when it does not."""

    def has(*names: str) -> bool:
        return any(getattr(module, name, None) is not None for name in names)

    why = ""
    # The first of the two times that nn.scan traces its body is by this class.
    if type(x).__name__ == "JaxprTracer":
        why = "is applied inside of nn.scan, where uses cannot be told apart"
    elif type(module) is nn.Dense and has("dot_general", "dot_general_cls"):
        why = "multiplies by a function of its own"
    elif type(module) is nn.Conv:
        if len(_sizes(module.kernel_size)) > 2:
            why = f"convolves over {len(_sizes(module.kernel_size))} axes; one and two are known"
        elif has("mask", "conv_general_dilated", "conv_general_dilated_cls"):
            why = "convolves with a mask or by a function of its own"
        elif set(_sizes(module.input_dilation or 1)) != {1}:
            why = "dilates its input, as a transposed convolution does"
    elif type(module) is nn.BatchNorm and len(_sizes(module.axis)) > 1:
        why = "keeps statistics over several axes"
    elif type(module) is nn.LayerNorm:
        for axes in (module.reduction_axes, module.feature_axes):
            if [axis % x.ndim for axis in _sizes(axes)] != [x.ndim - 1]:
                why = "normalises over other axes than the last"
    elif type(module) is nn.RNN:
        why = _why_not_cell(module.cell)
    return why


def _why_not_cell(cell: Any) -> str:
    if type(cell) not in _CELLS:
        return f"runs a {type(cell).__name__}; cells that are known are LSTMCell, OptimizedLSTMCell and GRUCell"
    if cell.gate_fn not in (nn.sigmoid, jax.nn.sigmoid, jax.lax.logistic):
        return "has another recurrent activation than the sigmoid"
    if cell.activation_fn not in (nn.tanh, jnp.tanh, jax.lax.tanh):
        return "has another activation than tanh"
    if cell.carry_init not in (nn.initializers.zeros_init(), jax.nn.initializers.zeros):
        return "begins with another state than zeros"
    return ""


def _sizes(value: Any) -> Sequence[int]:
    return (value,) if isinstance(value, int) else tuple(value)


def _use(module: Any, method: str, x: Any, output: Any, kwargs: Mapping[str, Any]) -> _Use:
    """What a use is, apart from where its arrays are."""
    settings: dict[str, Any] = {}
    layout: dict[str, Any] = {}
    if type(module) is nn.RNN:
        kind = _CELLS[type(module.cell)]
        given = {name: value for name, value in kwargs.items() if value is not None}
        reverse = given.get("reverse", module.reverse)
        if reverse:
            settings["reverse"] = True
        layout["time"] = 0 if given.get("time_major", module.time_major) else output.ndim - 2
        layout["flipped"] = reverse and not given.get("keep_order", module.keep_order)
    elif type(module) is nn.Conv:
        spatial = len(_sizes(module.kernel_size))
        kind = "conv1d" if spatial == 1 else "conv2d"
        layout = {"channels": output.ndim - 1, "first": output.ndim - 1 - spatial}
        if module.feature_group_count != 1:
            settings["groups"] = module.feature_group_count
    else:
        kind = "dense" if method == "attend" else _KINDS[type(module)]
    if type(module) in (nn.BatchNorm, nn.LayerNorm):
        settings["epsilon"] = float(module.epsilon)
    if type(module) is nn.BatchNorm and output.ndim > 2:
        layout["channels"] = _sizes(module.axis)[0] % output.ndim
    return _Use(
        module=module.path,
        number=0,
        path=(),
        name=type(module).__name__,
        kind=kind,
        rows=PROJECTION if method == "attend" else CONVENTIONS[kind],
        leaves={},
        unsure=(),
        settings=settings,
        width=x.shape[-1] if x.ndim else 0,
        shape=tuple(output.shape),
        **layout,
    )


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


def _uses(module: nn.Module, variables: Any, x: Array | None) -> tuple[list[_Use], Any]:
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
        match place[-1], _bare(leaf).shape:
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


def _named(uses: Sequence[_Use]) -> Iterator[tuple[str, _Use]]:
    """Each use with its path; a later one at the same place has its number behind it."""
    counts: dict[Path, int] = {}
    for use in uses:
        counts[use.path] = counts.get(use.path, 0) + 1
        yield ".".join(use.path) + (f"@{counts[use.path]}" if counts[use.path] > 1 else ""), use


def _kept(
    module: nn.Module, variables: Any, x: Any, uses: Sequence[_Use], plan: _Plan = ()
) -> list[Mapping[str, Any]]:
    """What each use gets, gives and reads, of a real run.

    Raises:
        ValueError: when a transformation keeps nothing of what happens inside.
    """
    _, kept = _run(module, variables, x, plan)
    found = []
    for use in uses:
        try:
            found.append(_at(kept, (*use.module, "use"))[use.number])
        except (KeyError, IndexError):
            raise ValueError(
                f"layer {'.'.join(use.path)!r} is applied inside of a lifted transformation that hands on no "
                "other collections, so that what it gives cannot be seen"
            ) from None
    return found


def _check_unsure(module: nn.Module, variables: Any, x: Any, uses: Sequence[_Use]) -> None:
    """Refuse layers that compute with other values than the arrays at their place."""
    for use, seen in zip(uses, _kept(module, variables, x, uses), strict=True):
        for name in use.unsure:
            if not np.array_equal(seen["read"][name], _bare(_at(variables, use.leaves[name])), equal_nan=True):
                raise UnknownLayer(
                    f"layer {'.'.join(use.path)!r} ({use.name}) computes with other values than its own "
                    f"{name!r}, made of it by nn.map_variables or the like"
                )


def _flattenings(module: nn.Module, variables: Any, x: Any, uses: Sequence[_Use]) -> dict[int, Flattened]:
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
    seen = _kept(module, variables, x, uses, tuple(plan))
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
