"""What is particular about optax: rules are functions on trees, in which a shared layer stands once."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import optax

from backends.trainers.jax import gradient_tree
from backends.uses.jax import Model
from d2lparams.interface import Array, Optimizer, Optimizers, Trainer, Unsupported


class JaxOptimizers(Optimizers):
    """The rules of optax, and its functions on trees."""

    def defaults(self) -> dict[str, dict[str, Any]]:
        """From the signatures; weight decay of SGD is a rule of its own there, `optax.add_decayed_weights`."""
        rules = {"SGD": optax.sgd, "Adam": optax.adam, "AdamW": optax.adamw}
        return {
            name: {
                key: one.default
                for key, one in inspect.signature(rule).parameters.items()
                if one.default is not inspect.Parameter.empty
            }
            for name, rule in rules.items()
        }

    def global_norm(self, model: Model, x: Array, y: Array) -> tuple[str, float]:
        """Optax's norm of a tree."""
        norm = optax.global_norm(gradient_tree(model, x, y))
        return "optax.global_norm(jax.grad(loss)(params))", float(norm)

    def penalty(self, model: Model) -> tuple[str, float]:
        """Over the leaves."""
        penalty = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(model[1]))
        return "sum((p ** 2).sum() for p in jax.tree.leaves(params))", float(penalty)

    def duplicated(self, model: Model, optimizer: Optimizer) -> Trainer:
        """There is no list to hand over."""
        raise Unsupported(
            "optax takes no list, but the tree of parameters, and a shared layer stands in it once"
        )

    def scaled(self, model: Model, optimizer: Optimizer, batch_size: int) -> Trainer:
        """There is no such argument."""
        raise Unsupported("update of an optax rule takes gradients, state and parameters, and no batch size")
