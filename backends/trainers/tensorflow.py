"""What computes with a model: the loss, and steps of a Keras optimizer in one graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from backends.uses.tensorflow import output_of, stateless, value_of, wrapped
from d2lparams.interface import (
    LOSSES,
    MEAN_SQUARED_ERROR,
    SGD,
    SOFTMAX_CROSS_ENTROPY,
    Adam,
    AdamW,
    Array,
    Optimizer,
    Parameter,
    Price,
    Trainer,
    Unsupported,
)


def trainable(model: Any) -> list[Any]:
    """The variables that are handed to an optimizer, each once: those that the model itself lists."""
    return list(stateless(model) or wrapped(model).trainable_variables)


def mean_squared_error(model: Any, x: Any, y: Any) -> Any:
    """The loss, as a tensor."""
    return tf.reduce_mean((output_of(model, x) - y) ** 2)


def _cross_entropy(model: Any, x: Any, y: Any) -> Any:
    logits = output_of(model, x)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))


_OBJECTIVES = {MEAN_SQUARED_ERROR: mean_squared_error, SOFTMAX_CROSS_ENTROPY: _cross_entropy}

# How many losses a compiled loop gives back; one of more steps is started again.
_AT_ONCE = 1024


class GraphTrainer(Trainer):
    """One graph for loss, gradients and update, and one that XLA compiles when that pays.

    Where XLA cannot do it, the trainer stays with the graph, unless it was told to compile. A graph is kept for
    each length of batch and called as it is: `tf.function` itself would look for it among its graphs at each
    step, which takes longer than a step of a small model.
    """

    losses = LOSSES
    price = Price(compilation=1.0, step=2e-4)

    def __init__(
        self, parameters: Sequence[Parameter], model: Any, variables: Sequence[Any], optimizer: Optimizer
    ) -> None:
        super().__init__(parameters)
        self._rule = rule = _rule(optimizer)
        rule.build(variables)
        self._model, self._variables = model, variables
        self._graphs: dict[tuple[str, int], Any] = {}

    def _one(self, x: Any, y: Any) -> Any:
        """What is traced: a step, and the loss before it."""
        with tf.GradientTape() as tape:
            loss = _OBJECTIVES[self._loss](self._model, x, y)
        gradients = tape.gradient(loss, [value_of(one) for one in self._variables])
        self._rule.apply(gradients, self._variables)
        return loss

    def _loop(self, x: Any, y: Any, steps: Any) -> Any:
        """What is traced: at most `_AT_ONCE` steps, and the losses before them."""

        def body(place: Any, losses: Any) -> Any:
            return place + 1, tf.tensor_scatter_nd_update(losses, [[place]], [self._one(x, y)])

        begin = (tf.constant(0), tf.zeros(_AT_ONCE, x.dtype))
        _, losses = tf.while_loop(lambda place, _: place < steps, body, begin)
        return losses

    def _traced(self, name: str, *arguments: Any) -> Any:
        """The graph of a name for arguments of these shapes: "step", "compiled step" or "compiled loop"."""
        key = (name, arguments[0].shape[0])
        if key not in self._graphs:
            python = self._loop if name == "compiled loop" else self._one
            function = tf.function(python, jit_compile=True if name.startswith("compiled") else None)
            shapes = [tf.TensorSpec(one.shape, one.dtype) for one in arguments]
            # What is concrete holds its variables only as long as the function that it is of is held.
            self._graphs[key] = (function.get_concrete_function(*shapes), function)
        return self._graphs[key][0]

    def _step(self, x: Array, y: Array) -> float:
        inputs, targets = tf.constant(x), tf.constant(y)
        if self._compiles(x):
            loss = self._by_xla("compiled step", inputs, targets)
            if loss is not None:
                return float(loss)
        return float(self._traced("step", inputs, targets)(inputs, targets))

    def _run(self, x: Array, y: Array, steps: int) -> Array:
        inputs, targets = tf.constant(x), tf.constant(y)
        losses: list[Array] = []
        while len(losses) < steps and self._compiles(x, steps):
            count = min(_AT_ONCE, steps - len(losses))
            found = self._by_xla("compiled loop", inputs, targets, tf.constant(count))
            if found is None:
                break
            losses += list(found.numpy()[:count])
        if len(losses) < steps:
            graph = self._traced("step", inputs, targets)
            losses += [one.numpy() for one in [graph(inputs, targets) for _ in range(steps - len(losses))]]
        return np.array(losses)

    def _by_xla(self, name: str, *arguments: Any) -> Any:
        """What a compiled graph gives; nothing where XLA cannot compile it and nobody insists.

        Raises:
            Unsupported: when the trainer was told to compile.
        """
        try:
            return self._traced(name, *arguments)(*arguments)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            if self._compile is True:
                why = error.message.strip().splitlines()[0]
                raise Unsupported(f"XLA cannot compile this step: {why:.200}") from None
            self._compile = False
            return None

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
