"""What computes with a Flax model: its output, gradients of the mean squared error, and steps by optax.

Compiled functions are kept for each module, and models of one form share their module.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from backends.uses.jax import Identity, Model
from d2lparams.interface import (
    LOSSES,
    MEAN_SQUARED_ERROR,
    SGD,
    SOFTMAX_CROSS_ENTROPY,
    Adam,
    Array,
    Loss,
    Optimizer,
    Parameter,
    Price,
    Trainer,
)


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


def _cross_entropy(module: Any, variables: dict[str, Any], x: Any, y: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(_function(module)(variables, x), y).mean()


_OBJECTIVES = {MEAN_SQUARED_ERROR: _loss, SOFTMAX_CROSS_ENTROPY: _cross_entropy}

# How many losses a compiled loop gives back; one of more steps is started again.
_AT_ONCE = 1024


class _Way(NamedTuple):
    """How steps are taken: the rule, one step, and a loop of at most `_AT_ONCE` steps."""

    rule: optax.GradientTransformation
    step: Callable[..., Any]
    loop: Callable[..., Any]


@lru_cache(maxsize=128)
def _way(key: Identity, optimizer: Optimizer, injected: bool, loss: Loss, compiled: bool) -> _Way:
    """Loss, gradients and update in one function, old buffers donated to the new ones.

    Args:
        key: the module.
        optimizer: with its learning rate.
        injected: whether the learning rate is a part of the state, where it can be changed.
        loss: what is made less.
        compiled: whether by `jax.jit`.
    """
    make = _rule(optimizer)
    rule = (optax.inject_hyperparams(make) if injected else make)(optimizer.learning_rate)
    objective = jax.value_and_grad(partial(_OBJECTIVES[loss], key.module))

    def step(variables: Any, state: Any, x: Any, y: Any) -> Any:
        value, gradients = objective(variables, x, y)
        updates, state = rule.update(gradients, state, variables)
        return value, optax.apply_updates(variables, updates), state

    def loop(variables: Any, state: Any, x: Any, y: Any, steps: Any) -> Any:
        def body(place: Any, carried: Any) -> Any:
            losses, variables, state = carried
            value, variables, state = step(variables, state, x, y)
            return losses.at[place].set(value), variables, state

        # The number of steps is an argument, so that another one compiles nothing anew.
        return jax.lax.fori_loop(0, steps, body, (jnp.zeros(_AT_ONCE, x.dtype), variables, state))

    if not compiled:
        return _Way(rule, step, loop)
    return _Way(rule, jax.jit(step, donate_argnums=(0, 1)), jax.jit(loop, donate_argnums=(0, 1)))


class JaxTrainer(Trainer):
    """One compiled function for loss, gradients and update; shared by all models of one module.

    It is compiled before the first step always: one step without `jax.jit` takes hundreds of small functions,
    each of which is compiled for itself, and longer than to compile them as one. Told not to compile, the
    trainer takes its steps so.

    What may wait is the loop that `run` takes its steps in, where the step is compiled already.
    """

    losses = LOSSES
    price = Price(compilation=0.5, step=5e-5)

    def __init__(self, model: Model, parameters: list[Parameter], optimizer: Optimizer) -> None:
        super().__init__(parameters)
        module, self._variables = model
        self._key, self._optimizer, self._injected = Identity(module), optimizer, False
        rule = self._choose()
        self._state = rule.init(self._variables)
        # The first step would donate arrays that the user may still hold; it donates copies instead.
        self._variables.update(jax.tree.map(jnp.copy, self._variables))

    def _set_up(self) -> None:
        self._choose()

    def _choose(self) -> optax.GradientTransformation:
        """Take the way of the loss and the rate that are set, and give its rule."""
        compiled = self._compile is not False
        way = _way(self._key, self._optimizer, self._injected, self._loss, compiled)
        self._compiled, self._loop = way.step, way.loop
        return way.rule

    def _step(self, x: Array, y: Array) -> float:
        loss, variables, self._state = self._compiled(self._variables, self._state, x, y)
        self._variables.update(variables)
        return float(loss)

    def _run(self, x: Array, y: Array, steps: int) -> Array:
        inputs, targets = jnp.asarray(x), jnp.asarray(y)
        losses: list[Any] = []
        if self._compile is not False and (self._compiles(x, steps) or not self._done[len(x)]):
            for begun in range(0, steps, _AT_ONCE):
                count = min(_AT_ONCE, steps - begun)
                found, *carried = self._loop(self._variables, self._state, inputs, targets, count)
                losses.append(np.asarray(found)[:count])  # to cut it there would compile each new length
                self._keep(*carried)
            return np.concatenate(losses)
        for _ in range(steps):
            loss, *carried = self._compiled(self._variables, self._state, inputs, targets)
            losses.append(loss)
            self._keep(*carried)
        return np.array(jax.device_get(losses))

    def _keep(self, variables: Any, state: Any) -> None:
        self._state = state
        self._variables.update(variables)

    def _set_learning_rate(self, learning_rate: float) -> None:
        if not self._injected:
            # Until then the rate is a constant of the compiled step, which makes it faster.
            self._injected = True
            rule = self._choose()
            self._state = rule.init(self._variables)._replace(inner_state=self._state)
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
