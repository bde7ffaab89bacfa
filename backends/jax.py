# /// script
# requires-python = "==3.11.*"
# dependencies = ["jax==0.10.2", "flax==0.12.8", "optax==0.2.8", "numpy==2.4.6"]
# [tool.d2lparams]
# title = "JAX/Flax"
# class = "JaxBackend"
# modules = ["jax", "flax.linen", "optax", "orbax.checkpoint"]
# aliases = ["flax", "linen"]
# position = 3
# [tool.d2lparams.environ]
# JAX_COMPILATION_CACHE_DIR = "{environment}/compiled"
# JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS = "0"
# JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES = "-1"
# ///
"""JAX with Flax linen and optax: a model is the pair (module, variables), as `module.init` leaves it.

The module holds no values; they live in the variables, a nested dict of immutable arrays. Writing a parameter
puts a new array into that dict, so the pair stays the same object. Gradients are returned by a transformation
of a function and stored nowhere. A layer of a Sequential is named by its position, activations included.

Two layers are one when they are the same module object, which has one leaf in the variables. Two objects have
a leaf each; that they hold one array ends with the first update. `nn.map_variables` gives both the same leaf.

In place of the module there may be what a life cycle made of it: its compiled `apply`, or an exported program.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from d2lparams.interface import (
    MLP,
    Array,
    Backend,
    By,
    Carrier,
    Claim,
    Example,
    Format,
    Gradient,
    Layers,
    Lifecycle,
    Optimizer,
    Optimizers,
    Parameter,
    Role,
    Trainer,
    Unsupported,
    needs,
)

with needs("jax"):
    import jax
    import jax.export
    import jax.numpy as jnp
    from flax import linen as nn
    from flax.traverse_util import flatten_dict, unflatten_dict

    from backends.models.jax import NestMLP, assembled, module_of, retyped
    from backends.trainers.jax import JaxTrainer, compiled_for, gradient_tree
    from backends.uses.jax import Identity, Model, Path, Use, places_of, uses_of

_NOT_KEPT = Gradient(kept=False, where="returned by jax.grad")


class JaxBackend(Backend[Model]):
    """Flax linen modules, transformed by JAX and trained by optax."""

    name = "jax"
    tying: ClassVar[Mapping[By, str]] = {
        "module": "net = nn.Sequential([..., shared, nn.tanh, shared, ...])",
        "parameter": "Tied = nn.map_variables(nn.Sequential, 'params', share, drop, init=True)",
    }

    def _mlp(self, spec: MLP) -> Model:
        if spec.dtype == "float64":
            # Without this switch, which is for the whole process, JAX makes every float64 a float32.
            jax.config.update("jax_enable_x64", True)
        model: Model = (module_of(spec), {})
        # Flax takes the input width from the first batch always; a lazy model is one that has not had it.
        return model if spec.lazy else self._initialize(model, np.zeros((1, spec.sizes[0]), spec.dtype))

    def renew(self) -> None:
        """Float64 is off until a model asks for it."""
        jax.config.update("jax_enable_x64", False)

    def _initialize(self, model: Model, x: Array) -> Model:
        module, variables = model
        if variables:
            return model
        return module, module.init(jax.random.key(0), jnp.asarray(x))

    def _tie(self, model: Model, layer: int, to: int, by: By, roles: Sequence[Role]) -> Model:
        if by == "parameter":
            return _tied_by_parameter(model, layer, to, roles)
        module, variables = model
        if type(module) not in (nn.Sequential, NestMLP):
            raise Unsupported(
                "Flax ties layers where a module's code calls them; only a Sequential can be rebuilt"
            )
        uses = uses_of(model)
        layers = [*module.net.layers, module.linear] if type(module) is NestMLP else list(module.layers)
        positions = [index for index, one in enumerate(layers) if isinstance(one, nn.Dense)]
        if len(positions) != len(uses):
            raise Unsupported("only the direct layers of a Sequential can be replaced; this one is nested")
        layers[positions[layer]] = layers[positions[to]]
        rebuilt = assembled(layers, nested=type(module) is NestMLP)
        params = flatten_dict(variables["params"])
        # The shared layer takes the name of one of its uses, so the values may have to move to another name.
        sources = [uses[to if index == layer else index] for index in range(len(uses))]
        first = params[uses[0].leaves["weight"]]
        places = places_of(rebuilt, jax.ShapeDtypeStruct((1, first.shape[0]), first.dtype))
        moved = {
            place.leaves[role]: params[path]
            for place, source in zip(places, sources, strict=True)
            for role, path in source.leaves.items()
        }
        return rebuilt, {**variables, "params": unflatten_dict(moved)}

    def _parameters(self, model: Model) -> Iterator[Parameter]:
        _, variables = model
        variables["params"]  # without `init` there is none, and Python says so
        return _parameters(variables, uses_of(model))

    def _listings(self, model: Model) -> dict[str, list[str]]:
        params = model[1].get("params", {})
        leaves = flatten_dict(params, sep=".").items()
        return {
            "params['params']": list(params),
            "flatten_dict(params['params'])": [f"{name} {tuple(leaf.shape)}" for name, leaf in leaves],
        }

    def _counts(self, model: Model) -> dict[str, int]:
        leaves = jax.tree.leaves(model[1])
        return {
            "len(params['params'])": len(model[1].get("params", {})),
            "sum(p.size for p in jax.tree.leaves(params))": sum(leaf.size for leaf in leaves),
        }

    def _assign(self, model: Model, parameter: Parameter, value: Array) -> None:
        _write(model, [(parameter, value)])

    def _assign_all(self, model: Model, values: Sequence[tuple[Parameter, Array]]) -> None:
        # As one, for each would take apart and rebuild all dicts.
        _write(model, values)

    def _forward(self, model: Model, x: Array) -> Array:
        module, variables = model
        forward, _ = compiled_for(Identity(module))
        return np.array(forward(variables, jnp.asarray(x)))

    def _gradients(self, model: Model, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        gradients = flatten_dict(gradient_tree(model, x, y)["params"])
        return {
            (index, role): np.array(gradients[path]).T
            for index, use in enumerate(uses_of(model))
            for role, path in use.leaves.items()
        }

    def _trainer(self, model: Model, optimizer: Optimizer) -> Trainer:
        return JaxTrainer(model, self.parameters(model), optimizer)

    def lifecycles(self) -> Sequence[Lifecycle[Model]]:
        """Those of Flax, and what JAX does to a tree of variables."""
        from backends.lifecycles.jax import LIFECYCLES

        return LIFECYCLES

    def script(self, lifecycle: Lifecycle[Model], spec: MLP, outcome: str) -> str:
        """A program that imports JAX and Flax."""
        from backends.scripts.jax import script

        return script(lifecycle, spec, outcome)

    def formats(self) -> Sequence[Format[Model]]:
        """Flax's msgpack, with and without a target, and NumPy's archive of a flat dict."""
        from backends.formats.jax import FORMATS

        return FORMATS

    def optimizers(self) -> Optimizers:
        """Those of optax."""
        from backends.optimizers.jax import JaxOptimizers

        return JaxOptimizers()

    def layers(self) -> Layers[Any]:
        """Those of linen, channels last, a matrix for each gate."""
        from backends.layers.jax import JaxLayers

        return JaxLayers()

    def carrier(self) -> Carrier[Any]:
        """Of any module with its variables: it is applied to an input and watched."""
        from backends.carriers.jax import JaxCarrier

        return JaxCarrier()

    def example(self, example: Example) -> Model:
        """Those that are no MLP are written in `backends.examples.jax`."""
        from backends.examples.jax import build

        return self.mlp(example.mlp) if example.mlp is not None else build(example)

    def claims(self) -> Sequence[Claim]:
        """Those of the JAX tab."""
        from backends.claims.jax import CLAIMS

        return CLAIMS


def _tied_by_parameter(model: Model, layer: int, to: int, roles: Sequence[Role]) -> Model:
    module, variables = model
    if not isinstance(module, nn.Module):
        raise Unsupported("what is compiled or exported has its ties for good; tie the module before")
    uses = uses_of(model)
    ties = {uses[layer].leaves[role]: uses[to].leaves[role] for role in roles}
    if any(path in ties for index, use in enumerate(uses) if index != layer for path in use.leaves.values()):
        raise Unsupported(
            f"layer {layer}'s parameters are another layer's, too, and nn.map_variables maps places, not uses; "
            "build the model with all its ties"
        )
    kept = {path: value for path, value in flatten_dict(variables["params"]).items() if path not in ties}
    return retyped(module, ties), {**variables, "params": unflatten_dict(kept)}


def _write(model: Model, values: Iterable[tuple[Parameter, Array]]) -> None:
    _, variables = model
    params = flatten_dict(variables["params"])
    params |= {tuple(one.native_name.split(".")): jnp.array(value.T) for one, value in values}
    # New dicts down to the leaf: another model's variables may hold the old ones.
    variables["params"] = unflatten_dict(params)


@lru_cache(maxsize=2**15)
def _called(path: Path) -> tuple[str, str]:
    """The name of a leaf, and the expression that gives it; to make them takes longer than all the rest."""
    return ".".join(path), "".join(["params['params']", *[f"[{key!r}]" for key in path]])


def _parameters(variables: dict[str, Any], uses: Iterable[Use]) -> Iterator[Parameter]:
    """The parameters of uses. Shapes and types are few, and what is made of each is made once."""
    shapes: dict[Any, tuple[int, ...]] = {}
    dtypes: dict[Any, str] = {}
    tree = id(variables)

    def array(path: Path) -> Any:
        found = variables["params"]
        for key in path:
            found = found[key]
        return found

    def read(one: Parameter) -> Array:
        # What stands there now: an array that was written is another one.
        storage: Any = one.storage
        return np.array(array(storage[1])).T

    for layer, use in enumerate(uses):
        for role, path in use.leaves.items():
            native = array(path)
            shape = native.shape
            if (canonical := shapes.get(shape)) is None:
                canonical = shapes[shape] = shape[::-1]
            if (dtype := dtypes.get(native.dtype)) is None:
                dtype = dtypes[native.dtype] = str(native.dtype)
            name, access = _called(path)
            # Arrays are immutable and come and go; what stays, and what uses share, is the place in the tree.
            place = (tree, path)
            # By position: names would take as long again as all the rest.
            yield Parameter(
                layer,
                role,
                name,
                access,
                shape,
                canonical,
                dtype,
                native,
                place,
                use.module,
                _held,
                read,
                _gradient,
            )


def _held(one: Parameter) -> Any:
    return one.native


def _gradient(one: Parameter) -> Gradient:
    return _NOT_KEPT
