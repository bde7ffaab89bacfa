"""What carries any Flax module's variables out and in: their arrays, where each is stored, and their dtypes.

A model is the pair of a module and its variables. Which layers the module has, and in which order, is seen by
`backends.watching.jax`. Nothing of the variables is changed but by `write` and `step`, which put new arrays
into them.

JAX owns the memory of the arrays, and nobody writes it: `read` gives a read-only view where it is the CPU's.
The view keeps that memory alive, and goes on showing the old values when a new array has taken the old one's
place. On another device it is a copy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.core import FrozenDict
from flax.traverse_util import flatten_dict

from backends.conventions.jax import CONVENTIONS
from backends.known.jax import Use
from backends.uses.jax import Identity, Model, Path
from backends.watching.jax import (
    IN_USE,
    at,
    bare,
    computed,
    flattenings,
    gradient_of,
    kept_by,
    named,
    one_array,
    real_run,
    seen_uses,
)
from d2lparams.interface import Array, Carrier, Kind, NativeArray, NativeLayer, Step, Structure


class JaxCarrier(Carrier[Model]):
    """Carries the variables of a module; a model is the pair of both, as `module.init` leaves it."""

    conventions = CONVENTIONS

    def structure(self, model: Model, x: Array | None) -> Structure:
        """Every use in order of application; that order is always seen."""
        with _opened(model) as (module, variables):
            uses, x = seen_uses(module, variables, x)
            flattened = flattenings(module, variables, x, uses)
        layers = [
            NativeLayer(
                path,
                use.kind,
                use.rows,
                tuple(_array(variables, name, place) for name, place in use.leaves.items()),
                use.settings,
                flattened.get(number),
            )
            for number, (path, use) in enumerate(named(uses))
        ]
        return Structure(tuple(layers), ordered=True)

    def forward(self, model: Model, x: Array) -> Array:
        """By `module.apply`, compiled."""
        with _opened(model) as (module, variables):
            uses, x = seen_uses(module, variables, x)
            return _canonical(real_run(module, variables, x)[0], uses)

    def outputs(self, model: Model, x: Array) -> list[tuple[str, Array]]:
        """What `sow` has kept."""
        with _opened(model) as (module, variables):
            uses, x = seen_uses(module, variables, x)
            seen = kept_by(module, variables, x, uses)
            return [(path, use.turned(one["output"])) for (path, use), one in zip(named(uses), seen)]

    def step(self, model: Model, x: Array, y: Array, learning_rate: float) -> Step:
        """By `optax.sgd`; the new arrays are put into the variables."""
        with _opened(model) as (module, variables):
            if isinstance(variables, FrozenDict):
                raise ValueError(_FROZEN)
            uses, x = seen_uses(module, variables, x)
            image = _image(uses, y.ndim)
            target = image.native(y) if image else y
            params = variables["params"]
            others = {name: collection for name, collection in variables.items() if name != "params"}
            plain, compiled = gradient_of(Identity(module))
            (loss, output), gradients = computed(plain, compiled, params, others, x, jnp.asarray(target))
            rule = optax.sgd(learning_rate)
            updates, _ = rule.update(gradients, rule.init(params), params)
            variables["params"] = optax.apply_updates(params, updates)
        found: dict[Hashable, Array] = {
            _storage(variables, ("params", *path)): np.array(bare(leaf))
            for path, leaf in flatten_dict(gradients).items()
        }
        return Step(_canonical(output, uses), float(loss), found)

    def native_input(self, x: Array, kind: Kind) -> Array:
        """Channels last for a convolution."""
        return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if kind in ("conv1d", "conv2d") else x


# -- what a module gives ---------------------------------------------------------------------------------------


def _canonical(output: Any, uses: Sequence[Use]) -> Array:
    """What the module gives, canonical layout."""
    image = _image(uses, one_array(output).ndim)
    return image.turned(output) if image else np.array(output, order="C")


def _image(uses: Sequence[Use], axes: int) -> Use | None:
    """The last use, where the output is an image as it left it: nothing has flattened it since."""
    last = uses[-1] if uses else None
    return last if last and last.channels is not None and len(last.shape) == axes else None


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
    choices = {name: value for name, value in IN_USE.items() if name in fields}
    wide = any(str(leaf.dtype) == "float64" for leaf in jax.tree.leaves(variables))
    with _wide(wide):
        yield (module.clone(**choices) if choices else module), variables


def _storage(variables: Any, place: Path) -> Hashable:
    # Arrays come and go; what stays, and what two uses share, is the place in the tree.
    return (id(variables), place)


def _array(variables: Any, name: str, place: Path) -> NativeArray:
    now = bare(at(variables, place))

    def write(value: Array) -> None:
        if isinstance(variables, FrozenDict):
            raise ValueError(_FROZEN)
        before = at(variables, place)
        array = _like(bare(before), value)
        variables[place[0]] = _with(variables[place[0]], place[1:], jax.tree.map(lambda _: array, before))

    return NativeArray(
        name,
        tuple(now.shape),
        str(now.dtype),
        _storage(variables, place),
        lambda: np.asarray(bare(at(variables, place))),
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
