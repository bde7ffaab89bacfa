"""Mistakes that an adapter of Keras could make, one in each class; see `catalog`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from backends.carriers.tensorflow import TensorFlowCarrier
from backends.layers.tensorflow import TensorFlowLayers
from backends.tensorflow import TensorFlowBackend
from backends.trainers.tensorflow import GraphTrainer, trainable
from backends.uses.tensorflow import output_of
from d2lparams.interface import (
    MLP,
    SGD,
    Array,
    By,
    Carrier,
    Layer,
    Layers,
    Lifecycle,
    NativeArray,
    NativeLayer,
    Optimizer,
    Role,
    Structure,
    Trainer,
)


class TieBuildsALayer(TensorFlowBackend):
    """A tie puts a new layer with the other's values into the place.

    Flagged by: tied-afterwards / one storage
    """

    def _tie(self, model: Any, layer: int, to: int, by: By, roles: Sequence[Role]) -> Any:
        values = self.parameter(model, to, "weight").value, self.parameter(model, to, "bias").value
        again = keras.models.clone_model(model)
        again.set_weights(model.get_weights())
        self.assign(again, layer, "weight", values[0])
        self.assign(again, layer, "bias", values[1])
        return again


class SharedTwiceOfThree(TensorFlowBackend):
    """Of a layer that is to be used three times, the third use is a layer of its own.

    Flagged by: tied-three-times / uses, by the first of one storage
    """

    def _mlp(self, spec: MLP) -> Any:
        return super()._mlp(replace(spec, tied=tuple(group[:2] for group in spec.tied)))


class ForwardInFloat32(TensorFlowBackend):
    """The output goes through Keras' default dtype, float32, also that of a float64 model.

    Flagged by: forward / output
    """

    def _forward(self, model: Any, x: Array) -> Array:
        return np.array(tf.cast(tf.cast(output_of(model, x), "float32"), x.dtype))


class BiasLeftOut(TensorFlowBackend):
    """The last layer's bias is not added.

    Flagged by: forward / output
    """

    def _forward(self, model: Any, x: Array) -> Array:
        last = list(self._parameters(model))[-1]
        return super()._forward(model, x) - last.value


class GradientsInAnotherOrder(TensorFlowBackend):
    """Gradients are given to layers of one shape in another order than that of the layers.

    Flagged by: training-record / its gradient at each step, untied
    """

    def _gradients(self, model: Any, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        found = super()._gradients(model, x, y)
        places: dict[tuple[Role, tuple[int, ...]], list[tuple[int, Role]]] = {}
        for use, value in found.items():
            places.setdefault((use[1], value.shape), []).append(use)
        return {use: found[other] for uses in places.values() for use, other in zip(uses, reversed(uses))}


class RateInTheGraph(TensorFlowBackend):
    """The learning rate is a constant of the traced graph, and a new one is never seen.

    Flagged by: learning-rate-change / velocity is a one of the known
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        return _FixedRate(self.parameters(model), model, trainable(model), optimizer)


class _FixedRate(GraphTrainer):
    def _set_learning_rate(self, learning_rate: float) -> None:
        self._told = learning_rate


class MomentumForgotten(TensorFlowBackend):
    """SGD is made without its momentum.

    Flagged by: train-step / parameters after 100 steps
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        if isinstance(optimizer, SGD):
            optimizer = replace(optimizer, momentum=0.0)
        return super()._trainer(model, optimizer)


class FirstLossAgain(TensorFlowBackend):
    """The loss is computed once, when the graph is traced, and told again at each step.

    Flagged by: train-step / loss before the 100th step
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        return _FirstLoss(self.parameters(model), model, trainable(model), optimizer)


class _FirstLoss(GraphTrainer):
    _first: float | None = None

    def _step(self, x: Array, y: Array) -> float:
        loss = super()._step(x, y)
        self._first = loss if self._first is None else self._first
        return self._first


class FirstBatchAgain(TensorFlowBackend):
    """The graph of a step holds the batch that it was traced with.

    Flagged by: train-step / parameters after a step on another batch
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        return _FirstBatch(self.parameters(model), model, trainable(model), optimizer)


class _FirstBatch(GraphTrainer):
    _batch: tuple[Array, Array] | None = None

    def _step(self, x: Array, y: Array) -> float:
        self._batch = self._batch or (x, y)
        return super()._step(*self._batch)


class CopyOfSomeValues(TensorFlowBackend):
    """The life cycle "copy values" leaves out the last array.

    Flagged by: life-cycles-by-module / copy values ends as changed
    """

    def lifecycles(self) -> Sequence[Lifecycle[Any]]:
        return [Lifecycle("copy values", "other.set_weights(net.get_weights())", _all_but_the_last)]


def _all_but_the_last(net: Any, again: Any, x: Array) -> Any:
    result = again()
    result.set_weights([*net.get_weights()[:-1], result.get_weights()[-1]])
    return result


class CopyOnTheSameLayers(TensorFlowBackend):
    """The life cycle "deepcopy" makes a new model of the same layers.

    Flagged by: life-cycles-by-module / copies that do not stand apart
    """

    def lifecycles(self) -> Sequence[Lifecycle[Any]]:
        return [Lifecycle("deepcopy", "copy.deepcopy(net)", _same_layers)]


def _same_layers(net: Any, again: Any, x: Array) -> Any:
    return keras.Sequential([keras.Input((x.shape[1],), dtype=x.dtype), *net.layers])


class BatchNormDefaultEpsilon(TensorFlowBackend):
    """A batch normalisation keeps Keras' default epsilon, whatever is asked for.

    Flagged by: batch-norm / output
    """

    def layers(self) -> Layers[Any]:
        return _DefaultEpsilon()


class _DefaultEpsilon(TensorFlowLayers):
    def build(self, layer: Layer) -> Any:
        return super().build(replace(layer, epsilon=None) if layer.kind == "batchnorm" else layer)


class AlwaysInTraining(TensorFlowBackend):
    """A batch normalisation is called with training=True in use, too.

    Flagged by: batch-norm / output
    """

    def layers(self) -> Layers[Any]:
        return _AlwaysInTraining()


class _AlwaysInTraining(TensorFlowLayers):
    def forward(self, native: Any, layer: Layer, x: Array, *, training: bool = False) -> Array:
        return super().forward(native, layer, x, training=True)


class GatesOfAnotherFramework(TensorFlowBackend):
    """A GRU's gates are written and read as reset, update, new, where Keras has update first.

    Flagged by: gru / output
    """

    def layers(self) -> Layers[Any]:
        return _OtherGates()


class _OtherGates(TensorFlowLayers):
    def assign(self, native: Any, layer: Layer, values: Mapping[str, Array]) -> None:
        super().assign(native, layer, _swapped(layer, values))

    def read(self, native: Any, layer: Layer) -> dict[str, Array]:
        return _swapped(layer, super().read(native, layer))


def _swapped(layer: Layer, values: Mapping[str, Array]) -> dict[str, Array]:
    gates = layer.kind == "gru"
    return {name: one[[1, 0, 2]] if gates and name != "hidden bias" else one for name, one in values.items()}


class ForgetBias(TensorFlowBackend):
    """One is added to the bias of an LSTM's forget gate when it is written, and taken away when it is read.

    Flagged by: lstm / output
    """

    def layers(self) -> Layers[Any]:
        return _ForgetBias()


class _ForgetBias(TensorFlowLayers):
    def assign(self, native: Any, layer: Layer, values: Mapping[str, Array]) -> None:
        super().assign(native, layer, _shifted(layer, values, 1))

    def read(self, native: Any, layer: Layer) -> dict[str, Array]:
        return _shifted(layer, super().read(native, layer), -1)


def _shifted(layer: Layer, values: Mapping[str, Array], by: float) -> dict[str, Array]:
    one = np.array([[0], [by], [0], [0]], "float32")
    return {
        name: value + one if (layer.kind, name) == ("lstm", "bias") else value for name, value in values.items()
    }


class FlattenedAsItStands(TensorFlowBackend):
    """A dense layer after a flattened image is carried as if channels stood first.

    Flagged by: transfer-lenet / output from tensorflow
    """

    def carrier(self) -> Carrier[Any]:
        return _Unflattened()


class _Unflattened(TensorFlowCarrier):
    def structure(self, model: Any, x: Array | None) -> Structure:
        found = super().structure(model, x)
        return replace(found, layers=tuple(replace(one, flattened=None) for one in found.layers))


class TiesNotCarried(TensorFlowBackend):
    """Each use of a layer is carried as if it had arrays of its own.

    Flagged by: transfer-tied-mlp fails: and the model two, which would part with the first training step
    """

    def carrier(self) -> Carrier[Any]:
        return _Untied()


class _Untied(TensorFlowCarrier):
    def structure(self, model: Any, x: Array | None) -> Structure:
        found = super().structure(model, x)
        return replace(found, layers=tuple(_apart(one) for one in found.layers))


def _apart(layer: NativeLayer) -> NativeLayer:
    return replace(layer, arrays=tuple(replace(one, storage=(layer.path, one.storage)) for one in layer.arrays))


class CarriedInHalfPrecision(TensorFlowBackend):
    """Values that are carried go through float16 before they are written.

    Flagged by: transfer-lenet / values from tensorflow
    """

    def carrier(self) -> Carrier[Any]:
        return _Halved()


class _Halved(TensorFlowCarrier):
    def structure(self, model: Any, x: Array | None) -> Structure:
        found = super().structure(model, x)
        return replace(found, layers=tuple(_halved(one) for one in found.layers))


def _halved(layer: NativeLayer) -> NativeLayer:
    def writing(array: NativeArray) -> NativeArray:
        return replace(array, write=lambda value: array.write(value.astype("float16").astype(value.dtype)))

    return replace(layer, arrays=tuple(map(writing, layer.arrays)))
