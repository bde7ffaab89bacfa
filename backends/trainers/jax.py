"""What computes with a Flax model: its output, the gradients of the mean squared error, and steps by optax.

Compiled functions are kept for each module, and models of one form share their module.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import optax
from flax import linen as nn

from backends.uses.jax import Identity, Model
from d2lparams.interface import SGD, Adam, Array, Optimizer, Parameter, Trainer


def gradient_tree(model: Model, x: Array, y: Array) -> Any:
    """What `jax.grad` gives for the mean squared error: a tree of the variables' form."""
    module, variables = model
    _, gradient = compiled_for(Identity(module))
    return gradient(variables, jnp.asarray(x), jnp.asarray(y))


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
def compiled_for(key: Identity) -> tuple[Any, Any]:
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
def _compiled_step(key: Identity, optimizer: Optimizer, injected: bool) -> tuple[Any, Any]:
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


class JaxTrainer(Trainer):
    """One compiled function for loss, gradients and update; shared by all models of one module."""

    def __init__(self, model: Model, parameters: list[Parameter], optimizer: Optimizer) -> None:
        super().__init__(parameters)
        module, self._variables = model
        self._key, self._optimizer, self._injected = Identity(module), optimizer, False
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
