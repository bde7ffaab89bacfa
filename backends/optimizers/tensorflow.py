"""What is particular about the optimizers of Keras."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import tensorflow as tf

from backends.tensorflow import TensorFlowBackend
from backends.trainers.tensorflow import GraphTrainer, mean_squared_error, trainable
from backends.uses.tensorflow import value_of
from d2lparams.interface import Array, Optimizer, Optimizers, Trainer, Unsupported

# Arguments that every optimizer of Keras takes and that do not belong to its rule of update.
_COMMON = ("self", "name", "loss_scale_factor", "gradient_accumulation_steps", "kwargs")


class TensorFlowOptimizers(Optimizers):
    """Keras' own lists hold a shared variable once; an optimizer takes whatever list it is handed."""

    def __init__(self, backend: TensorFlowBackend) -> None:
        self._backend = backend

    def defaults(self) -> dict[str, dict[str, Any]]:
        """From the signatures; the objects keep the learning rate as a float32."""
        rules = {name: getattr(keras.optimizers, name) for name in ("SGD", "Adam", "AdamW")}
        return {
            name: {
                key: one.default
                for key, one in inspect.signature(rule.__init__).parameters.items()
                if key not in _COMMON
            }
            for name, rule in rules.items()
        }

    def global_norm(self, model: Any, x: Array, y: Array) -> tuple[str, float]:
        """TensorFlow's, of the gradients of what the model lists."""
        with tf.GradientTape() as tape:
            loss = mean_squared_error(model, x, y)
        gradients = tape.gradient(loss, [value_of(one) for one in trainable(model)])
        return "tf.linalg.global_norm(gradients)", float(tf.linalg.global_norm(gradients))

    def penalty(self, model: Any) -> tuple[str, float]:
        """Of what the model lists."""
        squares = sum(tf.reduce_sum(value_of(one) ** 2) for one in trainable(model))
        return "sum(tf.reduce_sum(w ** 2) for w in net.trainable_variables)", float(squares)

    def duplicated(self, model: Any, optimizer: Optimizer) -> Trainer:
        """With a list that has an entry for each use."""
        parameters = self._backend.parameters(model)
        return GraphTrainer(parameters, model, [one.native for one in parameters], optimizer)

    def scaled(self, model: Any, optimizer: Optimizer, batch_size: int) -> Trainer:
        """There is no such argument."""
        raise Unsupported("apply() of a Keras optimizer takes gradients and variables and no batch size")
