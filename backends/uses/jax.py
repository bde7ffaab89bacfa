"""Where a Flax model uses dense layers, in order of application, and where their parameters stand in the tree.

A module is applied to shapes and watched; an exported program is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.export
from flax import linen as nn
from flax.traverse_util import flatten_dict

from d2lparams.interface import Role, Unsupported

Model = tuple[Any, dict[str, Any]]
Path = tuple[str, ...]


class Use(NamedTuple):
    """One use of a dense layer: where in the parameters its weight and its bias are, and where its module is.

    A use that is read from an exported program has no module.
    """

    leaves: dict[Role, Path]
    module: Path | None


LEAVES: dict[Role, str] = {"weight": "kernel", "bias": "bias"}


def uses_of(model: Model) -> list[Use]:
    """Every use of every dense layer, in order of application."""
    module, variables = model
    if isinstance(module, jax.export.Exported):
        return _exported_uses(module)
    applied: Any = module
    if not isinstance(module, nn.Module):
        # A function made of `module.apply` by jax.jit and the like tells what it wraps.
        applied = getattr(getattr(module, "__wrapped__", module), "__self__", module)
    if type(applied) is nn.Sequential:
        inner = [one for one in applied.layers if isinstance(one, nn.Module)]
        if all(type(one) is nn.Dense for one in inner):
            params, names = variables["params"], _sequential_names(applied)
            return [
                Use({role: (name, leaf) for role, leaf in LEAVES.items() if leaf in params[name]}, (name,))
                for name in (names[id(one)] for one in inner)
            ]
    leaves, form = jax.tree.flatten(variables)
    return _traced(Identity(applied), form, tuple([(leaf.shape, leaf.dtype) for leaf in leaves]))


def _sequential_names(module: nn.Sequential) -> dict[int, str]:
    """What Flax calls the layers of a Sequential, by their ids.

    A layer has the name of the first of its positions as text, where 10 is before 2.
    """
    names: dict[int, str] = {}
    for position, layer in enumerate(module.layers):
        name = f"layers_{position}"
        if names.setdefault(id(layer), name) > name:
            names[id(layer)] = name
    return names


class Identity:
    """A module as a key. Flax compares modules by their fields, so that a tied one equals an untied one."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other.module is self.module

    def __hash__(self) -> int:
        return id(self.module)


@lru_cache(maxsize=128)
def _traced(key: Identity, form: Any, leaves: tuple[tuple[tuple[int, ...], Any], ...]) -> list[Use]:
    """The uses in any module: it is applied to shapes, without computing, and watched, in milliseconds.

    The input width is that of one of the kernels; the others do not fit.
    """
    variables = form.unflatten([jax.ShapeDtypeStruct(*leaf) for leaf in leaves])
    kernels = [leaf for path, leaf in flatten_dict(variables).items() if path[-1] == "kernel"]
    for width in dict.fromkeys(kernel.shape[0] for kernel in kernels if len(kernel.shape) == 2):
        # A function of its own each time: what JAX has traced once, be it `module.apply`, is not run again.
        def apply(variables: Any, x: Any) -> Any:
            return key.module.apply(variables, x)

        try:
            uses = _watched(apply, variables, jax.ShapeDtypeStruct((1, width), kernels[0].dtype))
        except Exception:  # a width that does not fit fails in whatever operation meets it first
            continue
        known = flatten_dict(variables["params"])
        if any(path not in known for use in uses for path in use.leaves.values()):
            raise Unsupported("a lifted transformation such as nn.jit hides which leaf a tied layer reads")
        return uses
    return []


def places_of(module: nn.Module, x: Any) -> list[Use]:
    """The uses in a module that has no variables yet."""
    return _watched(lambda _, x: module.init(jax.random.key(0), x), {}, x)


def _watched(function: Callable[[Any, Any], Any], variables: Any, x: Any) -> list[Use]:
    """The dense layers that a function of (variables, x) calls, by the leaves that they read."""
    uses: list[Use] = []
    leaves: dict[int, Path] = {}

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        result = call(*args, **kwargs)
        if isinstance(module, nn.Dense) and context.method_name == "__call__":
            own = module.variables["params"]
            uses.append(
                Use(
                    # Where variables are mapped, a layer reads another's leaf; else it is at its own place.
                    {
                        role: leaves.get(id(own[leaf]), (*module.path, leaf))
                        for role, leaf in LEAVES.items()
                        if leaf in own
                    },
                    module.path,
                )
            )
        return result

    def watched(variables: Any, x: Any) -> Any:
        leaves.update({id(leaf): path for path, leaf in flatten_dict(variables.get("params", {})).items()})
        return function(variables, x)

    with nn.intercept_methods(record):
        jax.eval_shape(watched, variables, x)
    return uses


def _exported_uses(program: jax.export.Exported) -> list[Use]:
    """The uses in an exported program: a product with an argument, and the vector that is read next."""
    (variables, _), _ = program.in_tree.unflatten(range(len(program.in_avals)))
    paths = {number: path[1:] for path, number in flatten_dict(variables).items()}
    body = program.mlir_module().split("func.func public @main")[1].split("return")[0]
    uses: list[Use] = []
    for operation, arguments in re.findall(r"stablehlo\.(\w+) ([^:\n]*)", body):
        for number in map(int, re.findall(r"%arg(\d+)\b", arguments)):
            if number in paths and operation == "dot_general":
                uses.append(Use({"weight": paths[number]}, None))
            elif number in paths and uses:
                uses[-1].leaves.setdefault("bias", paths[number])
    return uses
