"""JAX by hand: a jitted step, by optax and written out, and a jitted scan of steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from nets import Loop, Net


def loop(net: Net, by_optax: bool, donated: bool) -> Loop:
    """A step that is jitted as a whole, on variables and the optimizer's state."""
    activation = {"relu": nn.relu, "tanh": nn.tanh}[net.activation]
    layers = [nn.Dense(width) for width in net.sizes[1:]]
    if net.tied:
        layers[2] = layers[1]
    module = nn.Sequential([one for layer in layers for one in (layer, activation)][:-1])
    variables = module.init(jax.random.key(0), jnp.zeros((1, net.sizes[0])))
    rule = optax.sgd(net.rate)

    def objective(variables: Any, x: Any, y: Any) -> Any:
        outputs = module.apply(variables, x)
        if net.labels:
            return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()
        return jnp.mean((outputs - y) ** 2)

    def one(variables: Any, state: Any, x: Any, y: Any) -> Any:
        loss, gradients = jax.value_and_grad(objective)(variables, x, y)
        if by_optax:
            updates, state = rule.update(gradients, state, variables)
            return loss, optax.apply_updates(variables, updates), state
        return loss, jax.tree.map(lambda value, by: value - net.rate * by, variables, gradients), state

    def scanned(variables: Any, state: Any, x: Any, y: Any, steps: int) -> Any:
        def body(carried: Any, _: Any) -> Any:
            loss, *carried = one(*carried, x, y)
            return tuple(carried), loss

        (variables, state), losses = jax.lax.scan(body, (variables, state), None, length=steps)
        return losses, variables, state

    given = (0, 1) if donated else ()
    jitted = jax.jit(one, donate_argnums=given)
    scan = jax.jit(scanned, donate_argnums=given, static_argnums=4)
    held = [variables, rule.init(variables)]

    def step(x: Any, y: Any) -> float:
        loss, held[0], held[1] = jitted(*held, x, y)
        return float(loss)

    def run(x: Any, y: Any, steps: int) -> Any:
        losses, held[0], held[1] = scan(*held, x, y, steps)
        return np.asarray(losses)

    return Loop(step, run)


CANDIDATES: dict[str, Callable[[Net], Loop]] = {
    "jit, optax": partial(loop, by_optax=True, donated=False),
    "jit, optax, donated": partial(loop, by_optax=True, donated=True),
    "jit, written out": partial(loop, by_optax=False, donated=False),
    "jit, written out, donated": partial(loop, by_optax=False, donated=True),
}
