"""Mistakes that an adapter of PyTorch could make, one in each class; see `catalog`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from backends.formats.torch import FORMATS
from backends.layers.torch import TorchLayers
from backends.optimizers.torch import TorchOptimizers
from backends.torch import TorchBackend
from backends.trainers.torch import TorchTrainer
from d2lparams.interface import (
    MLP,
    SGD,
    Adam,
    AdamW,
    Array,
    By,
    Format,
    Layer,
    Layers,
    Lifecycle,
    Optimizer,
    Optimizers,
    Parameter,
    Role,
    Trainer,
    unique,
)


class TieCopies(TorchBackend):
    """A tie copies the other layer's values and shares nothing.

    Flagged by: tied-afterwards / one storage
    """

    def _tie(self, model: Any, layer: int, to: int, by: By, roles: Sequence[Role]) -> Any:
        for role in roles:
            self.assign(model, layer, role, self.parameter(model, to, role).value)
        return model


class TieTheOtherWay(TorchBackend):
    """A tie keeps the values of the layer that should give up its own.

    Flagged by: tied-afterwards / output before the write
    """

    def _tie(self, model: Any, layer: int, to: int, by: By, roles: Sequence[Role]) -> Any:
        return super()._tie(model, to, layer, by, roles)


class WeightTieTakesTheBias(TorchBackend):
    """Where a weight alone is to be tied, the whole module is shared, its bias too.

    Flagged by: tied-weight-only / uses, by the first of one storage
    """

    def _mlp(self, spec: MLP) -> Any:
        return super()._mlp(replace(spec, by="module", roles=("weight", "bias")))


class ModuleForParameter(TorchBackend):
    """Where two modules are to hold one weight and one bias, one module is put at both places.

    Flagged by: tied-by-parameter / layers, by the first of one object
    """

    def _mlp(self, spec: MLP) -> Any:
        return super()._mlp(replace(spec, by="module") if len(spec.roles) == 2 else spec)


class BatchSum(TorchBackend):
    """The gradient is that of the sum over the batch, not of the mean.

    Flagged by: targeted-parameter / gradient
    """

    def _gradients(self, model: Any, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        model.zero_grad()
        nn.functional.mse_loss(model(torch.from_numpy(x)), torch.from_numpy(y), reduction="sum").backward()
        return {(one.layer, one.role): one.native.grad.numpy().copy() for one in self._parameters(model)}


class GradientsApart(TorchBackend):
    """Gradients are those of a copy of each layer, so that each use has its own and none has the sum.

    Flagged by: tied-gradients-add-up / shared weight's gradient, float64
    """

    def _gradients(self, model: Any, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        return super()._gradients(nn.Sequential(*[copy.deepcopy(one) for one in model]), x, y)


class StaleGradients(TorchBackend):
    """Gradients are added to those of the call before, for nobody sets them to zero.

    Flagged by: training-record / norm of each gradient, tied
    """

    def _gradients(self, model: Any, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        nn.functional.mse_loss(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        return {(one.layer, one.role): one.native.grad.numpy().copy() for one in self._parameters(model)}


class GradientsAreViews(TorchBackend):
    """A gradient is handed out as a view of the tensor, which the next backward pass overwrites.

    Flagged by: training-record / its gradient at each step, tied
    """

    def _gradients(self, model: Any, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        model.zero_grad(set_to_none=False)
        nn.functional.mse_loss(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        return {(one.layer, one.role): one.native.grad.numpy() for one in self._parameters(model)}

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        trainer = super()._trainer(model, optimizer)
        zero = trainer._optimizer.zero_grad
        trainer._optimizer.zero_grad = lambda: zero(set_to_none=False)
        return trainer


class ValuesAreViews(TorchBackend):
    """A value is handed out as a view of the tensor, which a later step overwrites.

    Flagged by: training-record / layer 1's weight at each step, tied
    """

    def _parameters(self, model: Any) -> Iterator[Parameter]:
        for one in super()._parameters(model):
            yield replace(one, read=lambda use: use.native.detach().numpy())


class CachedValues(TorchBackend):
    """A value is read once and remembered, also when another one has been written.

    Flagged by: tied-by-construction / [0, 0] through the other use
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, Array]] = {}

    def _parameters(self, model: Any) -> Iterator[Parameter]:
        def read(one: Parameter) -> Array:
            kept = self._seen.setdefault(id(one.native), (one.native, one.native.detach().numpy().copy()))
            return kept[1].copy()

        for one in super()._parameters(model):
            yield replace(one, read=read)


class WriteReplacesTheParameter(TorchBackend):
    """A write puts a new parameter into one module, and leaves the other module on the old one.

    Flagged by: tied-by-parameter / uses, by the first of one storage
    """

    def _assign(self, model: Any, parameter: Parameter, value: Array) -> None:
        name, _, leaf = parameter.native_name.rpartition(".")
        setattr(model.get_submodule(name), leaf, nn.Parameter(torch.tensor(value)))


class AccessCountsDenseLayers(TorchBackend):
    """The expression for a parameter counts dense layers, where a Sequential counts activations, too.

    Flagged by: layer-access / what the access leads to
    """

    def _parameters(self, model: Any) -> Iterator[Parameter]:
        for one in super()._parameters(model):
            yield replace(one, access=f"net[{one.layer}].{one.role}")


class MixedPrecision(TorchBackend):
    """A float32 model computes its output in bfloat16, for autocast was left on.

    Flagged by: life-cycles-by-module / output, untouched
    """

    def _forward(self, model: Any, x: Array) -> Array:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=x.dtype == np.float32), torch.no_grad():
            return np.array(model(torch.from_numpy(x)).float().numpy()).astype(x.dtype)

    def lifecycles(self) -> Sequence[Lifecycle[Any]]:
        return ()


class TransposedSquares(TorchBackend):
    """A square weight is transposed when it is written and when it is read, so that it reads as written.

    Flagged by: tied-by-construction / output before the write
    """

    def _assign(self, model: Any, parameter: Parameter, value: Array) -> None:
        super()._assign(model, parameter, _turned(value))

    def _parameters(self, model: Any) -> Iterator[Parameter]:
        for one in super()._parameters(model):
            yield replace(one, read=lambda _, one=one: _turned(one.value))


class HalfPrecisionWrites(TorchBackend):
    """Values go through float16 on their way into the model.

    Flagged by: layer-access / values with all their digits
    """

    def _assign(self, model: Any, parameter: Parameter, value: Array) -> None:
        super()._assign(model, parameter, value.astype("float16").astype(value.dtype))


class StorageByPlace(TorchBackend):
    """A storage is told by the place in the model, so that no tie is ever seen.

    Flagged by: tied-by-construction / unique values
    """

    def _parameters(self, model: Any) -> Iterator[Parameter]:
        for one in super()._parameters(model):
            yield replace(one, storage=(one.layer, one.role))


class CountsEveryUse(TorchBackend):
    """The framework's count of values is made over the state dict, which lists a shared parameter twice.

    Flagged by: what-sharing-saves / own counts that give another number of values, tied
    """

    def _counts(self, model: Any) -> dict[str, int]:
        size = sum(one.numel() for one in model.state_dict().values())
        return {**super()._counts(model), "sum(p.numel() for p in net.parameters())": size}


class DropoutInForward(TorchBackend):
    """The model has a dropout and stays in training mode when its output is asked for.

    Flagged by: forward / output
    """

    def _forward(self, model: Any, x: Array) -> Array:
        return np.array(nn.functional.dropout(torch.from_numpy(super()._forward(model, x)), 0.1))


class TrainsACopy(TorchBackend):
    """The trainer trains a copy of the model.

    Flagged by: train-step / parameters after 1 step
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        return super()._trainer(copy.deepcopy(model), optimizer)


class SteppedTwice(TorchBackend):
    """The optimizer is handed one parameter for each use, and steps a tied one twice.

    Flagged by: train-step / parameters after 1 step
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        uses = self.parameters(model)
        return TorchTrainer(model, uses, optimizer, [one.native for one in uses])


class LastBiasNotTrained(TorchBackend):
    """The optimizer is not handed the last layer's bias.

    Flagged by: train-step / parameters after 1 step
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        return TorchTrainer(model, self.parameters(model), optimizer, list(model.parameters())[:-1])


class Nesterov(TorchBackend):
    """Momentum is Nesterov's.

    Flagged by: train-step / parameters after 1 step
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        trainer = super()._trainer(model, optimizer)
        for group in trainer._optimizer.param_groups if isinstance(optimizer, SGD) else ():
            group["nesterov"] = optimizer.momentum > 0
        return trainer


class Dampened(TorchBackend):
    """Momentum dampens all gradients but the first by 1 - momentum, as PyTorch does when it is told to.

    Flagged by: train-step / parameters after 100 steps
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        trainer = super()._trainer(model, optimizer)
        for group in trainer._optimizer.param_groups if isinstance(optimizer, SGD) else ():
            group["dampening"] = optimizer.momentum
        return trainer


class _NoZeroGrad(TorchTrainer):
    def _step(self, x: Array, y: Array) -> float:
        loss = nn.functional.mse_loss(self._model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())


class StepAddsGradients(TorchBackend):
    """A step adds its gradient to those of all steps before.

    Flagged by: train-step / parameters after 100 steps
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        return _NoZeroGrad(model, self.parameters(model), optimizer, list(model.parameters()))


class _LossAfterwards(TorchTrainer):
    def _step(self, x: Array, y: Array) -> float:
        super()._step(x, y)
        return float(nn.functional.mse_loss(self._model(torch.from_numpy(x)), torch.from_numpy(y)).detach())


class _SumOverOutputs(TorchTrainer):
    def _step(self, x: Array, y: Array) -> float:
        self._optimizer.zero_grad()
        loss = ((self._model(torch.from_numpy(x)) - torch.from_numpy(y)) ** 2).sum(1).mean()
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())


class TrainsOnTheSumOfOutputs(TorchBackend):
    """A step descends the mean over the batch of the sum over the outputs.

    Flagged by: nested-parameters / last bias after a step
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        return _SumOverOutputs(model, self.parameters(model), optimizer, list(model.parameters()))


class LossAfterTheStep(TorchBackend):
    """The loss is that after the step.

    Flagged by: train-step / loss before the first step
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        return _LossAfterwards(model, self.parameters(model), optimizer, list(model.parameters()))


class _Scheduled(TorchTrainer):
    _taken = 0

    def _step(self, x: Array, y: Array) -> float:
        self._taken += 1
        if self._taken == 11:
            self._set_learning_rate(self._optimizer.param_groups[0]["lr"] / 2)
        return super()._step(x, y)


class HalvedRate(TorchBackend):
    """A schedule that was left in halves the learning rate after ten steps.

    Flagged by: train-step / parameters after 100 steps
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        return _Scheduled(model, self.parameters(model), optimizer, list(model.parameters()))


class AmsGrad(TorchBackend):
    """Adam is its variant AMSGrad, which never forgets a large gradient.

    Flagged by: adam-steps / parameters after 20 steps of a short memory
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        trainer = super()._trainer(model, optimizer)
        for group in trainer._optimizer.param_groups if isinstance(optimizer, Adam) else ():
            group["amsgrad"] = True
        return trainer


class CoupledDecay(TorchBackend):
    """AdamW's decay is added to the gradient, as Adam with an L2 penalty does.

    Flagged by: weight-decay / AdamW, where there is one, follows a known formula
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        trainer = super()._trainer(model, optimizer)
        if isinstance(optimizer, AdamW):
            trainer._optimizer = torch.optim.Adam(
                list(model.parameters()),
                lr=optimizer.learning_rate,
                betas=(optimizer.beta1, optimizer.beta2),
                eps=optimizer.epsilon,
                weight_decay=optimizer.weight_decay,
            )
        return trainer


class _NormOfUses(TorchOptimizers):
    def global_norm(self, model: Any, x: Array, y: Array) -> tuple[str, float]:
        gradients = self._backend.gradients(model, x, y)
        return "the norm over all uses", float(np.sqrt(sum(np.sum(one**2) for one in gradients.values())))


class NormCountsUses(TorchBackend):
    """The norm of all gradients counts a tied one for each use.

    Flagged by: counted-once / norm of all gradients
    """

    def optimizers(self) -> Optimizers:
        return _NormOfUses(self)


class DeepcopyIsTheOriginal(TorchBackend):
    """The life cycle "deepcopy" gives back the model itself.

    Flagged by: life-cycles-by-module / copies that do not stand apart
    """

    def lifecycles(self) -> Sequence[Lifecycle[Any]]:
        return [Lifecycle("deepcopy", "copy.deepcopy(net)", _itself)]


def _itself(net: Any, again: Callable[[], Any], x: Array) -> Any:
    return net


class DeepcopyLayerByLayer(TorchBackend):
    """The life cycle "deepcopy" copies each place by itself, a shared module twice.

    Flagged by: life-cycles-by-module / deepcopy ends as broken
    """

    def lifecycles(self) -> Sequence[Lifecycle[Any]]:
        return [Lifecycle("deepcopy", "copy.deepcopy(net)", _layer_by_layer)]


def _layer_by_layer(net: Any, again: Callable[[], Any], x: Array) -> Any:
    return nn.Sequential(*[copy.deepcopy(one) for one in net])


def _says_loaded(model: Any, path: Path) -> Any:
    state = torch.load(path)
    return copy.copy(model) if state else model


class LoaderKeepsItsOwn(TorchBackend):
    """A format reads the file, and loads nothing.

    Flagged by: tied-module-into-two-layers / load_state_dict ends as keeps its own
    """

    def formats(self) -> Sequence[Format[Any]]:
        return [replace(FORMATS[0], load=_says_loaded)]


def _save_once(model: Any, path: Path) -> None:
    first = {id(one): name for name, one in reversed(list(model.named_parameters(remove_duplicate=False)))}
    torch.save({name: model.get_parameter(name).detach() for name in reversed(first.values())}, path)


class SaveDropsTies(TorchBackend):
    """A format leaves out the second entry of a tied parameter, and loads leniently.

    Flagged by: tied-module-into-two-layers / load_state_dict(strict=False) ends as half empty
    """

    def formats(self) -> Sequence[Format[Any]]:
        return [replace(FORMATS[1], save=_save_once)]


class _SwappedGates(TorchLayers):
    def assign(self, native: Any, layer: Layer, values: Mapping[str, Array]) -> None:
        super().assign(native, layer, _swapped(layer, values))

    def read(self, native: Any, layer: Layer) -> dict[str, Array]:
        return dict(_swapped(layer, super().read(native, layer)))


class SwappedGates(TorchBackend):
    """The cell's and the output's gate of an LSTM are exchanged, when written and when read.

    Flagged by: lstm / output
    """

    def layers(self) -> Layers[Any]:
        return _SwappedGates()


class _OneBias(TorchLayers):
    def assign(self, native: Any, layer: Layer, values: Mapping[str, Array]) -> None:
        kept = native.bias_hh_l0.detach().clone() if layer.kind == "lstm" else None
        super().assign(native, layer, values)
        if kept is not None:
            native.bias_hh_l0.data.copy_(kept)

    def read(self, native: Any, layer: Layer) -> dict[str, Array]:
        found = super().read(native, layer)
        if layer.kind == "lstm":
            found["bias"] = native.bias_ih_l0.detach().numpy().reshape(4, -1).copy()
        return found


class OneOfTwoBiases(TorchBackend):
    """Of the two biases of an LSTM's gate only the input's is carried; the other keeps what it was drawn with.

    Flagged by: lstm / output
    """

    def layers(self) -> Layers[Any]:
        return _OneBias()


class _StaysInTraining(TorchLayers):
    def forward(self, native: Any, layer: Layer, x: Array, *, training: bool = False) -> Array:
        trained = getattr(native, "has_trained", False) or training
        native.has_trained = trained
        return super().forward(native, layer, x, training=trained)


class StaysInTraining(TorchBackend):
    """A batch normalisation that was trained once stays in training mode.

    Flagged by: batch-norm / output afterwards, by its own statistics
    """

    def layers(self) -> Layers[Any]:
        return _StaysInTraining()


class _BadVariance(TorchLayers):
    def read(self, native: Any, layer: Layer) -> dict[str, Array]:
        found = super().read(native, layer)
        if layer.kind == "batchnorm":
            found["running variance"] = np.sqrt(found["running variance"])
        return found

    def assign(self, native: Any, layer: Layer, values: Mapping[str, Array]) -> None:
        given = dict(values)
        if layer.kind == "batchnorm":
            given["running variance"] = given["running variance"] ** 2
        super().assign(native, layer, given)


class DeviationForVariance(TorchBackend):
    """The running variance is written squared and read as its root, as if it were a deviation.

    Flagged by: batch-norm / output
    """

    def layers(self) -> Layers[Any]:
        return _BadVariance()


class _Padding(TorchLayers):
    def build(self, layer: Layer) -> Any:
        native = super().build(layer)
        if layer.kind == "tied-embedding":
            native.embedding.padding_idx = 0
        return native


class PaddingToken(TorchBackend):
    """Token 0 is taken for padding, and its embedding gets no gradient.

    Flagged by: tied-embedding / gradient of both uses
    """

    def layers(self) -> Layers[Any]:
        return _Padding()


class StateForEachUse(TorchBackend):
    """The optimizer's state is listed once for each use of a tied parameter.

    Flagged by: optimizer-state / numbers kept by momentum
    """

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        trainer, uses = super()._trainer(model, optimizer), self.parameters(model)
        slots = trainer._slots

        def listed() -> dict[str, tuple[int, ...]]:
            twice = {id(one.native): one for one in uses if one not in unique(uses)}
            more = {f"velocity again of {one.native_name}": one.shape for one in twice.values()}
            return {**slots(), **more}

        trainer._slots = listed
        return trainer


def _turned(value: Array) -> Array:
    square = value.ndim == 2 and value.shape[0] == value.shape[1]
    return np.array(value.T) if square else value


def _swapped(layer: Layer, values: Mapping[str, Array]) -> Mapping[str, Array]:
    return {name: one[[0, 1, 3, 2]] for name, one in values.items()} if layer.kind == "lstm" else values
