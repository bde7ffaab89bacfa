"""Mistakes that an adapter of MXNet could make, one in each class; see `catalog`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import mxnet as mx
import numpy
from mxnet import gluon, np, npx

from backends.layers.mxnet import MXNetLayers
from backends.mxnet import MXNetBackend
from backends.optimizers.mxnet import MXNetOptimizers
from backends.trainers.mxnet import GluonTrainer, array_of, mean_squared_error
from backends.uses.mxnet import listed
from d2lparams.interface import (
    MLP,
    Adam,
    Array,
    By,
    Layer,
    Layers,
    Lifecycle,
    Optimizer,
    Optimizers,
    Parameter,
    Role,
    Trainer,
)


class WritesFloat32(MXNetBackend):
    """A value that is written goes through MXNet's default dtype, float32, also in a float64 model.

    Flagged by: layer-access / values with all their digits
    """

    def _assign(self, model: Any, parameter: Parameter, value: Array) -> None:
        super()._assign(model, parameter, array_of(np.array(value, dtype="float32")).astype(value.dtype))


class AddedGradients(MXNetBackend):
    """Parameters have the gradient request "add", so that each backward pass adds to the one before.

    Flagged by: training-record / its gradient at each step, tied
    """

    def _mlp(self, spec: MLP) -> Any:
        model = super()._mlp(spec)
        for parameter in listed(model):
            parameter.grad_req = "add"
        return model


class AveragedOverUses(MXNetBackend):
    """The gradient of a tied parameter is the mean over its uses, not the sum.

    Flagged by: tied-gradients-add-up / shared weight's gradient, float64
    """

    def _gradients(self, model: Any, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        storages = {(one.layer, one.role): one.storage for one in self._parameters(model)}
        places = list(storages.values())
        found = super()._gradients(model, x, y)
        return {use: value / places.count(storages[use]) for use, value in found.items()}


class DividedTwice(MXNetBackend):
    """The trainer's step is told the batch size, though the loss is a mean already.

    Flagged by: train-step / parameters after 1 step
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        return _Divided(model, self.parameters(model), listed(model), optimizer)


class _Divided(GluonTrainer):
    def _step(self, x: Array, y: Array) -> float:
        self._batch_size = len(x)
        return super()._step(x, y)


class SwappedBetas(MXNetBackend):
    """Adam's two rates of decay are exchanged.

    Flagged by: adam-steps / parameters after 10 steps
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        if isinstance(optimizer, Adam):
            optimizer = replace(optimizer, beta1=optimizer.beta2, beta2=optimizer.beta1)
        return super()._trainer(model, optimizer)


class RateForgetsVelocity(MXNetBackend):
    """A new learning rate makes a new trainer, whose momentum begins at zero.

    Flagged by: learning-rate-change / velocity is a one of the known
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        return _Forgetful(model, self.parameters(model), listed(model), optimizer)


class _Forgetful(GluonTrainer):
    def _set_learning_rate(self, learning_rate: float) -> None:
        rule = mx.optimizer.SGD(learning_rate=learning_rate, momentum=self._trainer.optimizer.momentum)
        self._trainer = gluon.Trainer(self._given, rule, kvstore=None)


class ReluForTanh(MXNetBackend):
    """The activation is ReLU, whatever is asked for.

    Flagged by: tied-three-times / output
    """

    def _mlp(self, spec: MLP) -> Any:
        return super()._mlp(replace(spec, activation="relu"))


class IdentityIsRelu(MXNetBackend):
    """A model without activations gets the default one.

    Flagged by: forward / output with identity
    """

    def _mlp(self, spec: MLP) -> Any:
        return super()._mlp(replace(spec, activation="relu") if spec.activation == "identity" else spec)


class LastActivation(MXNetBackend):
    """The last layer has an activation, too.

    Flagged by: forward / output
    """

    def _forward(self, model: Any, x: Array) -> Array:
        return array_of(npx.relu(np.array(super()._forward(model, x), dtype=x.dtype)))


class JoinedTies(MXNetBackend):
    """Two ties in one model become one.

    Flagged by: tied-twice-over / uses, by the first of one storage
    """

    def _mlp(self, spec: MLP) -> Any:
        every = tuple(layer for group in spec.tied for layer in group)
        return super()._mlp(replace(spec, tied=(every,)) if len(spec.tied) > 1 else spec)


class BiasStaysBehind(MXNetBackend):
    """Where a whole layer is tied by parameter, the bias is left out.

    Flagged by: tied-by-parameter / one storage afterwards
    """

    def _tie(self, model: Any, layer: int, to: int, by: By, roles: Sequence[Role]) -> Any:
        return super()._tie(model, layer, to, by, ("weight",) if by == "parameter" else roles)


class StorageByValue(MXNetBackend):
    """A storage is told by its values, so that two layers that begin alike look tied.

    Flagged by: what-sharing-saves / values, untied
    """

    def _parameters(self, model: Any) -> Iterator[Parameter]:
        for one in super()._parameters(model):
            yield replace(one, storage=one.value.tobytes())


class PenaltyCountsUses(MXNetBackend):
    """The L2 penalty counts a tied parameter once for each use.

    Flagged by: counted-once / L2 penalty
    """

    def optimizers(self) -> Optimizers:
        return _PenaltyOfUses(self)


class _PenaltyOfUses(MXNetOptimizers):
    def penalty(self, model: Any) -> tuple[str, float]:
        uses = self._backend.parameters(model)
        return "the sum over all uses", float(sum(numpy.sum(one.value**2) for one in uses))


class DeepcopyDrawsAnew(MXNetBackend):
    """The life cycle "deepcopy" builds another model, which has values of its own.

    Flagged by: life-cycles-by-module / deepcopy ends as changed
    """

    def lifecycles(self) -> Sequence[Lifecycle[Any]]:
        return [Lifecycle("deepcopy", "copy.deepcopy(net)", _another)]


def _another(net: Any, again: Any, x: Array) -> Any:
    return again()


class CopyDamagesTheOriginal(MXNetBackend):
    """The life cycle "copy values" moves the values, and leaves zeros behind.

    Flagged by: life-cycles-by-module / copy values ends as corrupted
    """

    def lifecycles(self) -> Sequence[Lifecycle[Any]]:
        return [Lifecycle("copy values", "other.set_data(p.data())", _move_values)]


def _move_values(net: Any, again: Any, x: Array) -> Any:
    result = again()
    for one, other in zip(net.collect_params().values(), result.collect_params().values()):
        other.set_data(one.data())
        one.set_data(np.zeros_like(one.data()))
    return result


class FlippedKernel(MXNetBackend):
    """A kernel is flipped when it is written and when it is read, as a true convolution would have it.

    Flagged by: conv2d / output
    """

    def layers(self) -> Layers[Any]:
        return _Flipped()


class _Flipped(MXNetLayers):
    def assign(self, native: Any, layer: Layer, values: Mapping[str, Array]) -> None:
        super().assign(native, layer, _flipped(layer, values))

    def read(self, native: Any, layer: Layer) -> dict[str, Array]:
        return _flipped(layer, super().read(native, layer))


def _flipped(layer: Layer, values: Mapping[str, Array]) -> dict[str, Array]:
    kernel = layer.kind == "conv2d"
    return {
        name: one[..., ::-1, ::-1].copy() if kernel and one.ndim == 4 else one for name, one in values.items()
    }


class StatisticsTwice(MXNetBackend):
    """A batch in training goes through the layer twice, and counts twice in the running statistics.

    Flagged by: batch-norm / a new batch counts as the default momentum says
    """

    def layers(self) -> Layers[Any]:
        return _Twice()


class _Twice(MXNetLayers):
    def forward(self, native: Any, layer: Layer, x: Array, *, training: bool = False) -> Array:
        if training:
            super().forward(native, layer, x, training=True)
        return super().forward(native, layer, x, training=training)


class GradientOfHalf(MXNetBackend):
    """The gradient is that of half the squared error, as in the book's own loss.

    Flagged by: targeted-parameter / gradient
    """

    def _gradients(self, model: Any, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        mean_squared_error(model, np.array(x, dtype=x.dtype), np.array(y, dtype=y.dtype))
        for parameter in listed(model):
            parameter.grad()[:] = parameter.grad() / 2
        return {(one.layer, one.role): array_of(one.native.grad()) for one in self._parameters(model)}
