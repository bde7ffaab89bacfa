"""What computes with a model: the loss, and steps of a Keras optimizer in one graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from backends.uses.tensorflow import output_of, stateless, value_of, wrapped
from d2lparams.interface import SGD, Adam, AdamW, Array, Optimizer, Parameter, Trainer


def trainable(model: Any) -> list[Any]:
    """The variables that are handed to an optimizer, each once: those that the model itself lists."""
    return list(stateless(model) or wrapped(model).trainable_variables)


def mean_squared_error(model: Any, x: Any, y: Any) -> Any:
    """The loss, as a tensor."""
    return tf.reduce_mean((output_of(model, x) - y) ** 2)


class GraphTrainer(Trainer):
    """One graph for loss, gradients and update, without XLA.

    On steps of this size XLA gains little or nothing, and compiling for it takes most of a second.
    """

    def __init__(
        self, parameters: Sequence[Parameter], model: Any, variables: Sequence[Any], optimizer: Optimizer
    ) -> None:
        super().__init__(parameters)
        self._rule = rule = _rule(optimizer)
        rule.build(variables)

        def step(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = mean_squared_error(model, x, y)
            rule.apply(tape.gradient(loss, [value_of(one) for one in variables]), variables)
            return loss

        self._graph = tf.function(step)

    def _step(self, x: Array, y: Array) -> float:
        return float(self._graph(tf.constant(x), tf.constant(y)))

    def _set_learning_rate(self, learning_rate: float) -> None:
        # It is a variable, which the graph reads anew at each step.
        self._rule.learning_rate = learning_rate

    def _slots(self) -> dict[str, tuple[int, ...]]:
        apart = (self._rule.iterations, self._rule.learning_rate)
        return {
            one.path: tuple(one.shape)
            for one in self._rule.variables
            if all(one is not other for other in apart)
        }


def _rule(optimizer: Optimizer) -> keras.optimizers.Optimizer:
    match optimizer:
        case SGD():
            decay = optimizer.weight_decay or None
            return keras.optimizers.SGD(optimizer.learning_rate, optimizer.momentum, weight_decay=decay)
        case Adam():
            return keras.optimizers.Adam(
                optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon
            )
        case AdamW():
            return keras.optimizers.AdamW(
                optimizer.learning_rate,
                optimizer.weight_decay,
                optimizer.beta1,
                optimizer.beta2,
                optimizer.epsilon,
            )
