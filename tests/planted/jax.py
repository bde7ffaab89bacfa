"""Mistakes that an adapter of JAX and Flax could make, one in each class; see `catalog`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from backends.jax import JaxBackend
from backends.layers.jax import JaxLayers
from backends.models.jax import NestMLP
from backends.trainers.jax import JaxTrainer, _loss, gradient_tree
from backends.uses.jax import Model, uses_of
from d2lparams.interface import (
    MLP,
    SGD,
    Adam,
    Array,
    Layer,
    Layers,
    Lifecycle,
    Optimizer,
    Parameter,
    Role,
    Trainer,
)


class AlphabeticalLayers(JaxBackend):
    """Layers are listed in the order of their names, where layers_10 stands before layers_2.

    Flagged by: all-parameters-at-once / output of a deep model
    """

    def _parameters(self, model: Model) -> Iterator[Parameter]:
        by_name = sorted(super()._parameters(model), key=lambda one: one.native_name.rpartition(".")[0])
        for layer, (_, uses) in enumerate(groupby(by_name, key=lambda one: one.layer)):
            for one in uses:
                yield replace(one, layer=layer)


class Float32ForFloat64(JaxBackend):
    """A float64 model is built without `jax_enable_x64`, which makes it float32.

    Flagged by: forward fails: the value is float64, but layer 0's weight is float32
    """

    def _mlp(self, spec: MLP) -> Model:
        return super()._mlp(replace(spec, dtype="float32"))


class ValuesInTheProgram(JaxBackend):
    """The forward function is compiled with the values as constants, and never sees those written later.

    Flagged by: tied-by-construction / output after the write
    """

    def __init__(self) -> None:
        self._compiled: dict[int, tuple[Model, Callable[[Any], Any]]] = {}

    def _forward(self, model: Model, x: Array) -> Array:
        module, variables = model
        compiled = jax.jit(partial(module.apply, dict(variables)))
        return np.array(self._compiled.setdefault(id(variables), (model, compiled))[1](jnp.asarray(x)))


class KernelGradient(JaxBackend):
    """The gradient of a kernel is handed out as it is, (in, out).

    Flagged by: training-record / its gradient at each step, tied
    """

    def _gradients(self, model: Model, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        gradients = flatten_dict(gradient_tree(model, x, y)["params"])
        return {
            (index, role): np.array(gradients[path])
            for index, use in enumerate(uses_of(model))
            for role, path in use.leaves.items()
        }


class InitialisesAgain(JaxBackend):
    """A model that has its values draws new ones when it is initialised with another batch.

    Flagged by: lazy-shapes / values after another first batch
    """

    def _initialize(self, model: Model, x: Array) -> Model:
        module, _ = model
        return module, module.init(jax.random.key(0), jnp.asarray(x))


class OneArrayTwoLeaves(JaxBackend):
    """Layers tied by parameter have a leaf each that hold one array, and are taken for one.

    Flagged by: tied-by-parameter / gradient of the weight of layers 1 and 2
    """

    def _mlp(self, spec: MLP) -> Model:
        if spec.by == "module" or not spec.tied:
            return super()._mlp(spec)
        module, variables = super()._mlp(replace(spec, tied=(), by="module", roles=("weight", "bias")))
        params = flatten_dict(variables["params"])
        uses = uses_of((module, variables))
        for layer, use in enumerate(uses):
            for role in spec.roles:
                params[use.leaves[role]] = params[uses[spec.owner(layer, role)].leaves[role]]
        return module, {**variables, "params": unflatten_dict(params)}

    def _assign(self, model: Model, parameter: Parameter, value: Array) -> None:
        params, array = flatten_dict(model[1]["params"]), jnp.array(value.T)
        same = [path for path, leaf in params.items() if leaf is parameter.native]
        model[1]["params"] = unflatten_dict({**params, **dict.fromkeys(same, array)})

    def _parameters(self, model: Model) -> Iterator[Parameter]:
        for one in super()._parameters(model):
            yield replace(one, storage=id(one.native), read=lambda _, real=one: real.value)


class NestedWithoutActivation(JaxBackend):
    """A nested model's inner part ends without its activation.

    Flagged by: nested-parameters / output
    """

    def _mlp(self, spec: MLP) -> Model:
        module, variables = super()._mlp(spec)
        if isinstance(module, NestMLP):
            module = NestMLP(nn.Sequential(module.net.layers[:-1]), module.linear)
        return module, variables


class SumOverOutputs(JaxBackend):
    """The gradient is that of the mean over the batch of the sum over the outputs.

    Flagged by: nested-parameters / gradient of the last bias
    """

    def _gradients(self, model: Model, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        return {use: value * y.shape[1] for use, value in super()._gradients(model, x, y).items()}


class TrainsASnapshot(JaxBackend):
    """A trainer keeps the values that it was made with, and writes over what was written into the model since.

    Flagged by: train-step / parameters after a write and a step
    """

    def _trainer(self, model: Model, optimizer: Optimizer) -> Trainer:
        return _Snapshot(model, self.parameters(model), optimizer)


class _Snapshot(JaxTrainer):
    def __init__(self, model: Model, parameters: list[Parameter], optimizer: Optimizer) -> None:
        super().__init__(model, parameters, optimizer)
        self._shown, self._variables = self._variables, jax.tree.map(jnp.copy, self._variables)

    def _step(self, x: Array, y: Array) -> float:
        loss = super()._step(x, y)
        # What the trainer keeps is donated at its next step.
        self._shown.update(jax.tree.map(jnp.copy, self._variables))
        return loss


class _OwnRule(JaxTrainer):
    """Steps by a rule that is given."""

    def __init__(self, backend: JaxBackend, model: Model, optimizer: Optimizer, rule: Any) -> None:
        super().__init__(model, backend.parameters(model), optimizer)
        self._state = rule.init(self._variables)

        def step(variables: Any, state: Any, x: Any, y: Any) -> Any:
            loss, gradients = jax.value_and_grad(partial(_loss, model[0]))(variables, x, y)
            updates, state = rule.update(gradients, state, variables)
            return loss, optax.apply_updates(variables, updates), state

        self._compiled = jax.jit(step)


class EpsilonInTheRoot(JaxBackend):
    """Adam's epsilon is added under the root, as `eps_root`.

    Flagged by: adam-at-a-tiny-gradient / a known formula, an epsilon of 1e-8
    """

    def _trainer(self, model: Model, optimizer: Optimizer) -> Trainer:
        if not isinstance(optimizer, Adam):
            return super()._trainer(model, optimizer)
        rule = optax.adam(
            optimizer.learning_rate, optimizer.beta1, optimizer.beta2, eps=0.0, eps_root=optimizer.epsilon
        )
        return _OwnRule(self, model, optimizer, rule)


class NoBiasCorrection(JaxBackend):
    """Adam's moments are not corrected for their beginning at zero.

    Flagged by: adam-steps / parameters after 1 step
    """

    def _trainer(self, model: Model, optimizer: Optimizer) -> Trainer:
        if not isinstance(optimizer, Adam):
            return super()._trainer(model, optimizer)
        one, two = optimizer.beta1, optimizer.beta2
        undo = optax.scale_by_schedule(lambda t: (1 - one ** (t + 1)) / jnp.sqrt(1 - two ** (t + 1)))
        rule = optax.chain(optax.adam(optimizer.learning_rate, one, two, optimizer.epsilon), undo)
        return _OwnRule(self, model, optimizer, rule)


class AveragedVelocity(JaxBackend):
    """Momentum is a moving average of gradients, so that a new one counts 1 - momentum.

    Flagged by: train-step / parameters after 1 step
    """

    def _trainer(self, model: Model, optimizer: Optimizer) -> Trainer:
        if not isinstance(optimizer, SGD) or not optimizer.momentum:
            return super()._trainer(model, optimizer)
        average = optax.ema(optimizer.momentum, debias=False)
        return _OwnRule(self, model, optimizer, optax.chain(average, optax.sgd(optimizer.learning_rate)))


class DecayAfterMomentum(JaxBackend):
    """SGD's weight decay is added both to the gradient and to the step.

    Flagged by: weight-decay / SGD's decay is one of the known
    """

    def _trainer(self, model: Model, optimizer: Optimizer) -> Trainer:
        if not isinstance(optimizer, SGD) or not optimizer.weight_decay:
            return super()._trainer(model, optimizer)
        decay = optax.add_decayed_weights(optimizer.weight_decay)
        momentum = optax.trace(optimizer.momentum)
        rule = optax.chain(decay, momentum, decay, optax.scale(-optimizer.learning_rate))
        return _OwnRule(self, model, optimizer, rule)


class CopyInHalfPrecision(JaxBackend):
    """The life cycle "copy values" goes through float16.

    Flagged by: life-cycles-by-module / copy values ends as changed
    """

    def lifecycles(self) -> Sequence[Lifecycle[Model]]:
        return [Lifecycle("copy values", "from_state_dict(other_params, values)", _halved)]


def _halved(net: Model, again: Any, x: Array) -> Model:
    module, variables = net
    return module, jax.tree.map(lambda value: value.astype("float16").astype(value.dtype), variables)


class TurnedKernel(JaxBackend):
    """Height and width of a kernel are exchanged, when it is written and when it is read.

    Flagged by: conv2d / output
    """

    def layers(self) -> Layers[Any]:
        return _Turned()


class _Turned(JaxLayers):
    def assign(self, native: Model, layer: Layer, values: Mapping[str, Array]) -> None:
        super().assign(native, layer, _turned(layer, values))

    def read(self, native: Model, layer: Layer) -> dict[str, Array]:
        return _turned(layer, super().read(native, layer))


def _turned(layer: Layer, values: Mapping[str, Array]) -> dict[str, Array]:
    kernel = layer.kind == "conv2d"
    return {name: one.swapaxes(2, 3) if kernel and one.ndim == 4 else one for name, one in values.items()}


class DefaultEpsilon(JaxBackend):
    """A layer normalisation keeps Flax' default epsilon, whatever is asked for.

    Flagged by: layer-norm / output
    """

    def layers(self) -> Layers[Any]:
        return _DefaultEpsilon()


class _DefaultEpsilon(JaxLayers):
    def build(self, layer: Layer) -> Model:
        return super().build(replace(layer, epsilon=None) if layer.kind == "layernorm" else layer)
