"""TensorFlow by hand: graphs of a step and of many, by Keras' SGD and written out, with and without XLA."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import keras_loops
import tensorflow as tf
from nets import Loop, Net


def loop(net: Net, by_keras: bool, xla: bool, concrete: bool = False) -> Loop:
    """A `tf.function` of a step; when it is concrete it is called without being looked for at each step."""
    model = keras_loops.model_of(net)
    variables = model.trainable_variables
    values = [one.value for one in variables]
    optimizer = keras.optimizers.SGD(net.rate)
    optimizer.build(variables)

    def one(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = model(x)
            if net.labels:
                each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=outputs)
            else:
                each = (outputs - y) ** 2
            loss = tf.reduce_mean(each)
        gradients = tape.gradient(loss, values)
        if by_keras:
            optimizer.apply(gradients, variables)
        else:
            for value, gradient in zip(values, gradients):
                value.assign_sub(net.rate * gradient)
        return loss

    def many(x: Any, y: Any, steps: Any) -> Any:
        def body(place: Any, losses: Any) -> Any:
            return place + 1, tf.tensor_scatter_nd_update(losses, [[place]], [one(x, y)])

        begin = (tf.constant(0), tf.zeros(4096))
        return tf.while_loop(lambda place, _: place < steps, body, begin)[1]

    shapes = [tf.TensorSpec(array.shape, array.dtype) for array in net.batch()]
    step_graph, loop_graph = (tf.function(each, jit_compile=xla or None) for each in (one, many))
    graph = step_graph.get_concrete_function(*shapes) if concrete else step_graph

    def run(x: Any, y: Any, steps: int) -> Any:
        return loop_graph(tf.constant(x), tf.constant(y), tf.constant(steps)).numpy()[:steps]

    kept = (step_graph, run)
    return Loop(lambda x, y: float(graph(tf.constant(x), tf.constant(y))), kept[1])


CANDIDATES: dict[str, Callable[[Net], Loop]] = {
    "graph, Keras' SGD": partial(loop, by_keras=True, xla=False),
    "graph, written out": partial(loop, by_keras=False, xla=False, concrete=True),
    "XLA, Keras' SGD": partial(loop, by_keras=True, xla=True),
    "XLA, written out": partial(loop, by_keras=False, xla=True),
    "XLA, written out, concrete": partial(loop, by_keras=False, xla=True, concrete=True),
    **keras_loops.CANDIDATES,
}
