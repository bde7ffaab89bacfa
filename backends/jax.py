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

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar

import numpy as np

from d2lparams.interface import (
    MLP,
    SGD,
    Adam,
    Array,
    Backend,
    By,
    Claim,
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
    import optax
    from flax import linen as nn
    from flax.traverse_util import flatten_dict, unflatten_dict

Model = tuple[Any, dict[str, Any]]
Path = tuple[str, ...]
# A use of a dense layer: where in the parameters its weight and its bias are.
Use = dict[Role, Path]

_ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "identity": lambda x: x}
_LEAVES: dict[Role, str] = {"weight": "kernel", "bias": "bias"}
_NOT_KEPT = Gradient(kept=False, where="returned by jax.grad")


class NestMLP(nn.Module):  # type: ignore[misc]
    """An inner model of dense layers, and an output layer."""

    net: nn.Module
    linear: nn.Module

    def __call__(self, x: Any) -> Any:
        """The output layer on what the inner model gives."""
        return self.linear(self.net(x))


def tied_class(kind: type[nn.Module], ties: Mapping[Path, Path]) -> Any:
    """A class of modules whose layers hold each other's parameters: `ties` are from a place to its source."""

    def share(variables: Any) -> Any:
        params = flatten_dict(variables.get("params", {}))
        params.update({place: params[source] for place, source in ties.items() if source in params})
        return {**variables, "params": unflatten_dict(params)}

    def drop(variables: Any) -> Any:
        params = flatten_dict(variables.get("params", {}))
        kept = {path: value for path, value in params.items() if path not in ties}
        return {**variables, "params": unflatten_dict(kept)}

    return nn.map_variables(kind, "params", trans_in_fn=share, trans_out_fn=drop, init=True)


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
        model: Model = (_module(spec), {})
        # Flax takes the input width from the first batch always; a lazy model is one that has not had it.
        return model if spec.lazy else self._initialize(model, np.zeros((1, spec.sizes[0]), spec.dtype))

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
        uses = _uses(model)
        layers = [*module.net.layers, module.linear] if type(module) is NestMLP else list(module.layers)
        positions = [index for index, one in enumerate(layers) if isinstance(one, nn.Dense)]
        if len(positions) != len(uses):
            raise Unsupported("only the direct layers of a Sequential can be replaced; this one is nested")
        layers[positions[layer]] = layers[positions[to]]
        rebuilt = _assembled(layers, nested=type(module) is NestMLP)
        params = flatten_dict(variables["params"])
        # The shared layer takes the name of its first use, so the values may have to move to another name.
        sources = [uses[to if index == layer else index] for index in range(len(uses))]
        first = params[uses[0]["weight"]]
        places = _places(rebuilt, jax.ShapeDtypeStruct((1, first.shape[0]), first.dtype))
        moved = {
            place[role]: params[source[role]]
            for place, source in zip(places, sources, strict=True)
            for role in source
        }
        return rebuilt, {**variables, "params": unflatten_dict(moved)}

    def _parameters(self, model: Model) -> Iterator[Parameter]:
        _, variables = model
        variables["params"]  # without `init` there is none, and Python says so
        for index, use in enumerate(_uses(model)):
            for role, path in use.items():
                yield _parameter(variables, index, role, path)

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
        _, variables = model
        params = flatten_dict(variables["params"])
        params[tuple(parameter.native_name.split("."))] = jnp.array(value.T)
        # New dicts down to the leaf: another model's variables may hold the old ones.
        variables["params"] = unflatten_dict(params)

    def _forward(self, model: Model, x: Array) -> Array:
        module, variables = model
        forward, _ = _compiled(_Identity(module))
        return np.array(forward(variables, jnp.asarray(x)))

    def _gradients(self, model: Model, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        gradients = flatten_dict(gradient_tree(model, x, y)["params"])
        return {
            (index, role): np.array(gradients[path]).T
            for index, use in enumerate(_uses(model))
            for role, path in use.items()
        }

    def _trainer(self, model: Model, optimizer: Optimizer) -> Trainer:
        return _Trainer(model, self.parameters(model), optimizer)

    def lifecycles(self) -> Sequence[Lifecycle[Model]]:
        """Those of Flax, and what JAX does to a tree of variables."""
        from backends.lifecycles.jax import LIFECYCLES

        return LIFECYCLES

    def script(self, lifecycle: Lifecycle[Model], spec: MLP, outcome: str) -> str:
        """A program that imports JAX and Flax."""
        from backends.lifecycles.jax import script

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

    def claims(self) -> Sequence[Claim]:
        """Those of the JAX tab."""
        from backends.claims.jax import CLAIMS

        return CLAIMS


def gradient_tree(model: Model, x: Array, y: Array) -> Any:
    """What `jax.grad` gives for the mean squared error: a tree of the variables' form."""
    module, variables = model
    _, gradient = _compiled(_Identity(module))
    return gradient(variables, jnp.asarray(x), jnp.asarray(y))


# -- building -------------------------------------------------------------------------------------------------


def plan(spec: MLP) -> tuple[list[int | str], dict[Path, Path]]:
    """What is applied in order, and which places hold the parameters of which others.

    Returns:
        In order of application the number of a dense layer, that of its first use, or the name of an
        activation; and the ties of layers that are objects of their own.
    """
    order: list[int | str] = []
    for layer in range(spec.layers):
        order.append(spec.owner(layer) if spec.by == "module" else layer)
        if layer < spec.layers - 1:
            order.append(spec.activation)

    def place(layer: int) -> Path:
        if spec.nested:
            return ("linear",) if layer == spec.layers - 1 else ("net", f"layers_{2 * layer}")
        return (f"layers_{2 * layer}",)

    ties = {
        (*place(layer), _LEAVES[role]): (*place(spec.owner(layer, role)), _LEAVES[role])
        for layer in range(spec.layers)
        for role in spec.roles
        if spec.by == "parameter" and spec.owner(layer, role) != layer
    }
    return order, ties


@lru_cache(maxsize=128)
def _module(spec: MLP) -> nn.Module:
    """The module of a model. It holds no values: models of one form share it, and what is compiled for it."""
    order, ties = plan(spec)
    dense = {
        layer: nn.Dense(spec.sizes[layer + 1], param_dtype=spec.dtype)
        for layer in order
        if isinstance(layer, int)
    }
    layers = [_ACTIVATIONS[one] if isinstance(one, str) else dense[one] for one in order]
    module = _assembled(layers, spec.nested)
    return _retyped(module, ties) if ties else module


def _assembled(layers: Sequence[Any], nested: bool) -> nn.Module:
    return NestMLP(nn.Sequential(layers[:-1]), layers[-1]) if nested else nn.Sequential(layers)


def _retyped(module: nn.Module, ties: Mapping[Path, Path]) -> nn.Module:
    """The same layers in a module of the tied class."""
    own = [one.name for one in dataclasses.fields(module) if one.init and one.name not in ("parent", "name")]
    rebuilt: nn.Module = tied_class(type(module), ties)(**{name: getattr(module, name) for name in own})
    return rebuilt


def _tied_by_parameter(model: Model, layer: int, to: int, roles: Sequence[Role]) -> Model:
    module, variables = model
    if not isinstance(module, nn.Module):
        raise Unsupported("what is compiled or exported has its ties for good; tie the module before")
    uses = _uses(model)
    ties = {uses[layer][role]: uses[to][role] for role in roles}
    if any(path in ties for index, use in enumerate(uses) if index != layer for path in use.values()):
        raise Unsupported(
            f"layer {layer}'s parameters are another layer's, too, and nn.map_variables maps places, not uses; "
            "build the model with all its ties"
        )
    kept = {path: value for path, value in flatten_dict(variables["params"]).items() if path not in ties}
    return _retyped(module, ties), {**variables, "params": unflatten_dict(kept)}


# -- looking --------------------------------------------------------------------------------------------------


def _uses(model: Model) -> list[Use]:
    """Every use of every dense layer, in order of application."""
    module, variables = model
    if isinstance(module, jax.export.Exported):
        return _exported_uses(module)
    # A function made of `module.apply` by jax.jit and the like tells what it wraps.
    applied: Any = getattr(getattr(module, "__wrapped__", module), "__self__", module)
    if type(applied) is nn.Sequential:
        inner = [(index, one) for index, one in enumerate(applied.layers) if isinstance(one, nn.Module)]
        if all(type(one) is nn.Dense for _, one in inner):
            params = variables["params"]
            names = [_sequential_name(applied, index) for index, _ in inner]
            return [
                {role: (name, leaf) for role, leaf in _LEAVES.items() if leaf in params[name]} for name in names
            ]
    leaves, form = jax.tree.flatten(variables)
    return _traced(_Identity(applied), form, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves))


def _sequential_name(module: nn.Sequential, position: int) -> str:
    """What Flax calls a layer of a Sequential: by the position of its first use."""
    first = next(index for index, layer in enumerate(module.layers) if layer is module.layers[position])
    return f"layers_{first}"


class _Identity:
    """A module as a key. Flax compares modules by their fields, so that a tied one equals an untied one."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.module is self.module

    def __hash__(self) -> int:
        return id(self.module)


@lru_cache(maxsize=128)
def _traced(key: _Identity, form: Any, leaves: tuple[tuple[tuple[int, ...], str], ...]) -> list[Use]:
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
        if any(path not in known for use in uses for path in use.values()):
            raise Unsupported("a lifted transformation such as nn.jit hides which leaf a tied layer reads")
        return uses
    return []


def _places(module: nn.Module, x: Any) -> list[Use]:
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
                # Where variables are mapped, a layer reads another's leaf; else it is at the layer's own place.
                {
                    role: leaves.get(id(own[leaf]), (*module.path, leaf))
                    for role, leaf in _LEAVES.items()
                    if leaf in own
                }
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
                uses.append({"weight": paths[number]})
            elif number in paths and uses:
                uses[-1].setdefault("bias", paths[number])
    return uses


def _parameter(variables: dict[str, Any], layer: int, role: Role, path: Path) -> Parameter:
    def array() -> Any:
        found = variables["params"]
        for key in path:
            found = found[key]
        return found

    native, keys = array(), ("params", *path)
    return Parameter(
        layer=layer,
        role=role,
        native_name=".".join(path),
        access="params" + "".join(f"[{key!r}]" for key in keys),
        native_shape=tuple(native.shape),
        shape=tuple(native.shape[::-1]),
        dtype=str(native.dtype),
        native=native,
        native_value=native,
        # Arrays are immutable and come and go; what stays, and what two uses share, is the place in the tree.
        storage=(id(variables), keys),
        read=lambda: np.array(array()).T,
        read_gradient=lambda: _NOT_KEPT,
    )


# -- computing ------------------------------------------------------------------------------------------------


def _function(module: Any) -> Callable[[Any, Any], Any]:
    """What computes the output from variables and x."""
    function: Callable[[Any, Any], Any] = module
    if isinstance(module, nn.Module):
        function = module.apply
    elif isinstance(module, jax.export.Exported):
        function = module.call
    return function


def _loss(module: Any, variables: dict[str, Any], x: Any, y: Any) -> Any:
    return jnp.mean((_function(module)(variables, x) - y) ** 2)


@lru_cache(maxsize=128)
def _compiled(key: _Identity) -> tuple[Any, Any]:
    """The forward function of (variables, x), and the gradient of the loss, of (variables, x, y)."""
    return jax.jit(_function(key.module)), jax.jit(jax.grad(partial(_loss, key.module)))


def _rule(optimizer: Optimizer) -> Callable[[Any], optax.GradientTransformation]:
    """The optimizer as a function of its learning rate, as `optax.inject_hyperparams` takes it."""

    def sgd(learning_rate: Any) -> optax.GradientTransformation:
        assert isinstance(optimizer, SGD)
        rule = optax.sgd(learning_rate, momentum=optimizer.momentum or None)
        # optax.sgd has no argument for it; this is how its users add it.
        decay = optimizer.weight_decay
        return optax.chain(optax.add_decayed_weights(decay), rule) if decay else rule

    def adam(learning_rate: Any) -> optax.GradientTransformation:
        assert not isinstance(optimizer, SGD)
        settings = (learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon)
        if isinstance(optimizer, Adam):
            return optax.adam(*settings)
        return optax.adamw(*settings, weight_decay=optimizer.weight_decay)

    return sgd if isinstance(optimizer, SGD) else adam


@lru_cache(maxsize=128)
def _compiled_step(key: _Identity, optimizer: Optimizer, injected: bool) -> tuple[Any, Any]:
    """The rule, and loss, gradients and update in one function, old buffers donated to the new ones.

    Args:
        key: the module.
        optimizer: with its learning rate.
        injected: whether the learning rate is a part of the state, where it can be changed.
    """
    make = _rule(optimizer)
    rule = (optax.inject_hyperparams(make) if injected else make)(optimizer.learning_rate)

    def step(variables: Any, state: Any, x: Any, y: Any) -> Any:
        loss, gradients = jax.value_and_grad(partial(_loss, key.module))(variables, x, y)
        updates, state = rule.update(gradients, state, variables)
        return loss, optax.apply_updates(variables, updates), state

    return rule, jax.jit(step, donate_argnums=(0, 1))


class _Trainer(Trainer):
    """One compiled function for loss, gradients and update; shared by all models of one module."""

    def __init__(self, model: Model, parameters: list[Parameter], optimizer: Optimizer) -> None:
        super().__init__(parameters)
        module, self._variables = model
        self._key, self._optimizer, self._injected = _Identity(module), optimizer, False
        rule, self._compiled = _compiled_step(self._key, optimizer, False)
        self._state = rule.init(self._variables)
        # The first step would donate arrays that the user may still hold; it donates copies instead.
        self._variables.update(jax.tree.map(jnp.copy, self._variables))

    def _step(self, x: Array, y: Array) -> float:
        loss, variables, self._state = self._compiled(self._variables, self._state, x, y)
        self._variables.update(variables)
        return float(loss)

    def _set_learning_rate(self, learning_rate: float) -> None:
        if not self._injected:
            # Until then the rate is a constant of the compiled step, which makes it faster.
            rule, self._compiled = _compiled_step(self._key, self._optimizer, True)
            self._state = rule.init(self._variables)._replace(inner_state=self._state)
            self._injected = True
        rate = self._state.hyperparams["learning_rate"]
        self._state.hyperparams["learning_rate"] = jnp.asarray(learning_rate, rate.dtype)

    def _slots(self) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree_util.tree_leaves_with_path(self._state)
        # A counter or a learning rate is no part of a tree of parameters.
        return {
            jax.tree_util.keystr(path): tuple(leaf.shape)
            for path, leaf in leaves
            if jax.tree_util.DictKey("params") in path
        }
