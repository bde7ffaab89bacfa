# /// script
# requires-python = "==3.11.*"
# dependencies = ["jax==0.10.2", "flax==0.12.8", "optax==0.2.8", "numpy==2.4.6"]
# [tool.d2lparams]
# title = "JAX/Flax"
# class = "JaxBackend"
# modules = ["jax", "flax.linen", "optax"]
# aliases = ["flax", "linen"]
# position = 3
# ///
"""JAX with Flax linen and optax: a model is the pair (module, variables), as `module.init` leaves it.

The module holds no values; they live in the variables, a nested dict of immutable arrays. Writing a parameter
puts a new array into that dict, so the pair stays the same object. Gradients are returned by a transformation
of a function and stored nowhere. A layer of a Sequential is named by its position, activations included.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np

from d2lparams.interface import (
    MLP,
    SGD,
    Array,
    Backend,
    Gradient,
    Optimizer,
    Parameter,
    Role,
    Trainer,
    Unsupported,
    needs,
)

with needs("jax"):
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn
    from flax.traverse_util import flatten_dict

Model = tuple[nn.Module, dict[str, Any]]

_ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "identity": lambda x: x}
_LEAVES: dict[str, Role] = {"kernel": "weight", "bias": "bias"}
_NOT_KEPT = Gradient(kept=False, where="returned by jax.grad")


class JaxBackend(Backend[Model]):
    """Flax linen modules, transformed by JAX and trained by optax."""

    name = "jax"
    tying = "net = nn.Sequential([..., shared, nn.tanh, shared, ...])"

    def _mlp(self, spec: MLP) -> Model:
        if spec.dtype == "float64":
            # Without this switch, which is for the whole process, JAX makes every float64 a float32.
            jax.config.update("jax_enable_x64", True)
        dense: list[nn.Dense] = []
        for layer in range(spec.layers):
            tied = spec.owner(layer) != layer
            outputs, _ = spec.weight_shape(layer)
            dense.append(dense[spec.owner(layer)] if tied else nn.Dense(outputs, param_dtype=spec.dtype))
        layers: list[Any] = [dense[0]]
        for module in dense[1:]:
            layers += [_ACTIVATIONS[spec.activation], module]
        model: Model = (nn.Sequential(layers), {})
        # Flax takes the input width from the first batch always; a lazy model is one that has not had it.
        return model if spec.lazy else self._initialize(model, np.zeros((1, spec.sizes[0]), spec.dtype))

    def _initialize(self, model: Model, x: Array) -> Model:
        module, variables = model
        if variables:
            return model
        return module, module.init(jax.random.key(0), jnp.asarray(x))

    def _tie(self, model: Model, layer: int, to: int) -> Model:
        module, variables = model
        if type(module) is not nn.Sequential:
            raise Unsupported(
                "Flax ties layers where a module's code calls them; only a Sequential can be rebuilt"
            )
        uses = _dense(model)
        positions = [index for index, one in enumerate(module.layers) if isinstance(one, nn.Dense)]
        if len(positions) != len(uses):
            raise Unsupported("only the direct layers of a Sequential can be replaced; this one is nested")
        layers = list(module.layers)
        layers[positions[layer]] = layers[positions[to]]
        rebuilt = nn.Sequential(layers)
        # The shared layer takes the name of its first use, so the values may have to move to another name.
        sources = [uses[to if index == layer else index] for index in range(len(uses))]
        names = [_sequential_name(rebuilt, position) for position in positions]
        params = {name: dict(_at(variables, path)) for name, path in zip(names, sources)}
        return rebuilt, {**variables, "params": params}

    def _parameters(self, model: Model) -> Iterator[Parameter]:
        _, variables = model
        variables["params"]  # without `init` there is none, and Python says so
        for index, path in enumerate(_dense(model)):
            for leaf, role in _LEAVES.items():
                if leaf in _at(variables, path):
                    yield _parameter(variables, index, role, path, leaf)

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
        *path, leaf = parameter.native_name.split(".")
        _at(model[1], tuple(path))[leaf] = jnp.array(value.T)

    def _forward(self, model: Model, x: Array) -> Array:
        module, variables = model
        forward, _ = _compiled(_Identity(module))
        return np.array(forward(variables, jnp.asarray(x)))

    def _gradients(self, model: Model, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        module, variables = model
        _, gradient = _compiled(_Identity(module))
        gradients = gradient(variables, jnp.asarray(x), jnp.asarray(y))
        return {
            (index, role): np.array(_at(gradients, path)[leaf]).T
            for index, path in enumerate(_dense(model))
            for leaf, role in _LEAVES.items()
            if leaf in _at(gradients, path)
        }

    def _trainer(self, model: Model, optimizer: Optimizer) -> Trainer:
        return _Trainer(model, self.parameters(model), optimizer)


def _dense(model: Model) -> list[tuple[str, ...]]:
    """The path of every dense layer's variables, once for each use, in order of application."""
    module, variables = model
    if type(module) is nn.Sequential:
        inner = [(index, one) for index, one in enumerate(module.layers) if isinstance(one, nn.Module)]
        if all(type(one) is nn.Dense for _, one in inner):
            return [(_sequential_name(module, index),) for index, _ in inner]
    return _traced(module, variables)


def _traced(module: nn.Module, variables: dict[str, Any]) -> list[tuple[str, ...]]:
    """The same for any module: it is applied to a shape, without computing, and watched, in milliseconds.

    The input width is that of one of the kernels; the others do not fit.
    """
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    kernels = [leaf for path, leaf in leaves if path[-1].key == "kernel" and leaf.ndim == 2]
    for width in dict.fromkeys(kernel.shape[0] for kernel in kernels):
        try:
            return _watched(module, variables, jax.ShapeDtypeStruct((1, width), kernels[0].dtype))
        except Exception:  # a width that does not fit fails in whatever operation meets it first
            continue
    return []


def _watched(module: nn.Module, variables: dict[str, Any], x: Any) -> list[tuple[str, ...]]:
    uses: list[tuple[str, ...]] = []

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, nn.Dense) and context.method_name == "__call__":
            uses.append(tuple(context.module.path))
        return call(*args, **kwargs)

    # A function of its own each time: what JAX has traced once, be it `module.apply`, is not run again.
    def apply(variables: Any, x: Any) -> Any:
        return module.apply(variables, x)

    with nn.intercept_methods(record):
        jax.eval_shape(apply, variables, x)
    return uses


def _sequential_name(module: nn.Sequential, position: int) -> str:
    """What Flax calls a layer of a Sequential: by the position of its first use."""
    first = next(index for index, layer in enumerate(module.layers) if layer is module.layers[position])
    return f"layers_{first}"


def _at(variables: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The dict of one layer's variables."""
    found: dict[str, Any] = variables["params"]
    for key in path:
        found = found[key]
    return found


def _parameter(
    variables: dict[str, Any], layer: int, role: Role, path: tuple[str, ...], leaf: str
) -> Parameter:
    array = _at(variables, path)[leaf]
    keys = ("params", *path, leaf)
    return Parameter(
        layer=layer,
        role=role,
        native_name=".".join((*path, leaf)),
        access="params" + "".join(f"[{key!r}]" for key in keys),
        native_shape=tuple(array.shape),
        shape=tuple(array.shape[::-1]),
        dtype=str(array.dtype),
        native=array,
        native_value=array,
        # Arrays are immutable and come and go; what stays, and what two uses share, is the place in the tree.
        storage=(id(variables), keys),
        read=lambda: np.array(_at(variables, path)[leaf]).T,
        read_gradient=lambda: _NOT_KEPT,
    )


def _loss(module: nn.Module, variables: dict[str, Any], x: Any, y: Any) -> Any:
    return jnp.mean((module.apply(variables, x) - y) ** 2)


class _Identity:
    """A module as a key. Flax compares modules by their fields, so that a tied one equals an untied one."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.module is self.module

    def __hash__(self) -> int:
        return id(self.module)


@lru_cache(maxsize=32)
def _compiled(key: _Identity) -> tuple[Any, Any]:
    """The forward function of (variables, x), and the gradient of the loss, of (variables, x, y)."""
    return jax.jit(key.module.apply), jax.jit(jax.grad(partial(_loss, key.module)))


class _Trainer(Trainer):
    """One compiled function for loss, gradients and update, with the old buffers donated to the new ones."""

    def __init__(self, model: Model, parameters: list[Parameter], optimizer: Optimizer) -> None:
        super().__init__(parameters)
        module, self._variables = model
        if isinstance(optimizer, SGD):
            rule = optax.sgd(optimizer.learning_rate, momentum=optimizer.momentum or None)
        else:
            rule = optax.adam(optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon)

        def step(variables: Any, state: Any, x: Any, y: Any) -> Any:
            loss, gradients = jax.value_and_grad(partial(_loss, module))(variables, x, y)
            updates, state = rule.update(gradients, state, variables)
            return loss, optax.apply_updates(variables, updates), state

        self._compiled = jax.jit(step, donate_argnums=(0, 1))
        self._state = rule.init(self._variables)
        # The first step would donate arrays that the user may still hold; it donates copies instead.
        self._variables.update(jax.tree.map(jnp.copy, self._variables))

    def _step(self, x: Array, y: Array) -> float:
        loss, variables, self._state = self._compiled(self._variables, self._state, x, y)
        self._variables.update(variables)
        return float(loss)
