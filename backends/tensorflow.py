# /// script
# requires-python = "==3.11.*"
# dependencies = [
#     "tensorflow-cpu==2.21.0; sys_platform == 'linux' and platform_machine == 'x86_64'",
#     "tensorflow==2.21.0; sys_platform != 'linux' or platform_machine != 'x86_64'",
#     "keras==3.15.1",
#     "numpy==2.4.6",
# ]
# [tool.d2lparams]
# title = "TensorFlow/Keras"
# class = "TensorFlowBackend"
# modules = ["tensorflow", "keras", "h5py"]
# aliases = ["keras", "tf"]
# position = 4
# [tool.d2lparams.environ]
# TF_CPP_MIN_LOG_LEVEL = "1"  # not a word about the processor at each import
# ///
"""Keras 3 on TensorFlow: the model is a `keras.Sequential`; a shared layer stands in it twice.

Parameters are variables that know nothing of gradients; a tape returns them. A kernel is (in, out).

What a life cycle makes of a model may be no Keras model any more: a `tf.function` of it, a call without state,
a SavedModel. They are read and trained here as well; a SavedModel's graph tells which variable is used where.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np

from d2lparams.interface import (
    MLP,
    Array,
    Backend,
    By,
    Carrier,
    Claim,
    Example,
    Format,
    Gradient,
    Layers,
    Lifecycle,
    Optimizer,
    Optimizers,
    Parameter,
    Role,
    Trainer,
    Unsupported,
    needs,
)

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # above what the user's keras.json says

with needs("tensorflow"):
    import keras
    import tensorflow as tf

    from backends.models.tensorflow import NestMLP, assembled, plan
    from backends.trainers.tensorflow import GraphTrainer, mean_squared_error, trainable
    from backends.uses.tensorflow import Use, held_by, output_of, uses_of, value_of, variables_of

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"Keras runs on {keras.backend.backend()!r} in this process; "
        "set KERAS_BACKEND=tensorflow before it starts"
    )

_NOT_KEPT = Gradient(kept=False, where="returned by tf.GradientTape.gradient")
_OWN_VARIABLES = (
    "a Keras layer makes its variables in build() and takes no other's: kernel has no setter, and a bias set "
    "before build() is replaced; users put one layer at both places, or write a layer whose call() reads the "
    "other's kernel"
)


class TensorFlowBackend(Backend[Any]):
    """TensorFlow through Keras 3."""

    name = "tensorflow"
    tying: ClassVar[Mapping[By, str]] = {"module": "net = keras.Sequential([..., shared, shared, ...])"}

    def _mlp(self, spec: MLP) -> keras.Model:
        if spec.by == "parameter" and spec.tied:
            raise Unsupported(_OWN_VARIABLES)
        made, order = plan(spec)
        dense = {
            layer: keras.layers.Dense(units, activation=activation, dtype=spec.dtype)
            for layer, (units, activation) in made.items()
        }
        layers = [
            keras.layers.Activation(one, dtype=spec.dtype) if isinstance(one, str) else dense[one]
            for one in order
        ]
        return assembled(layers, None if spec.lazy else spec.sizes[0], spec.dtype, spec.nested)

    def _initialize(self, model: Any, x: Array) -> Any:
        model(x)
        return model

    def _tie(self, model: Any, layer: int, to: int, by: By, roles: Sequence[Role]) -> keras.Model:
        if by == "parameter":
            raise Unsupported(_OWN_VARIABLES)
        if type(model) not in (keras.Sequential, NestMLP):
            raise Unsupported("Keras shares a layer by calling it twice; only a Sequential can be rebuilt here")
        nested = type(model) is NestMLP
        layers = [*model.net.layers, model.linear] if nested else list(model.layers)
        positions = [index for index, one in enumerate(layers) if isinstance(one, keras.layers.Dense)]
        if len(positions) != len(uses_of(model)):
            raise Unsupported("only the direct layers of a Sequential can be replaced; this one is nested")
        mine, shared = layers[positions[layer]], layers[positions[to]]
        if mine.activation is not shared.activation:
            raise Unsupported(
                f"a Keras Dense holds its activation, and layer {layer} has {mine.activation.__name__} where "
                f"layer {to} has {shared.activation.__name__}; give the model Activation layers of their own"
            )
        width, dtype = uses_of(model)[0].parameters["weight"][1].shape[0], layers[0].compute_dtype
        layers[positions[layer]] = shared
        return assembled(layers, width, dtype, nested)

    def _parameters(self, model: Any) -> Iterator[Parameter]:
        return _parameters(uses_of(model))

    def _listings(self, model: Any) -> dict[str, list[str]]:
        expression, variables = variables_of(model)
        lines = [f"{getattr(one, 'path', one.name)} {tuple(one.shape)}" for one in variables]
        if not isinstance(model, keras.Model):
            return {expression: lines}
        return {"net.layers": [layer.name for layer in model.layers], expression: lines}

    def _counts(self, model: Any) -> dict[str, int]:
        expression, variables = variables_of(model)
        counts = {f"len({expression})": len(variables)}
        if not isinstance(model, keras.Model):
            return counts
        return {
            "len(net.layers)": len(model.layers),
            **counts,
            "net.count_params()": int(model.count_params()),
        }

    def _assign(self, model: Any, parameter: Parameter, value: Array) -> None:
        parameter.native.assign(value.T)

    def _forward(self, model: Any, x: Array) -> Array:
        return np.array(output_of(model, x))

    def _gradients(self, model: Any, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        parameters = list(self._parameters(model))
        with tf.GradientTape() as tape:
            loss = mean_squared_error(model, x, y)
        gradients = tape.gradient(loss, [one.native_value for one in parameters])
        return {(one.layer, one.role): np.array(value).T for one, value in zip(parameters, gradients)}

    def _trainer(self, model: Any, optimizer: Optimizer) -> Trainer:
        return GraphTrainer(self.parameters(model), model, trainable(model), optimizer)

    def fresh(self) -> AbstractContextManager[Any]:
        """Keras numbers layers from a counter of the whole process; this sets it back to zero."""
        # To collect garbage each time takes longer than most scenarios do.
        keras.utils.clear_session(free_memory=False)
        return nullcontext()

    def lifecycles(self) -> Sequence[Lifecycle[Any]]:
        """Those of Keras, and those of TensorFlow that take a Keras model."""
        from backends.lifecycles.tensorflow import LIFECYCLES

        return LIFECYCLES

    def script(self, lifecycle: Lifecycle[Any], spec: MLP, outcome: str) -> str:
        """A program that imports Keras and TensorFlow."""
        from backends.scripts.tensorflow import script

        return script(lifecycle, spec, outcome)

    def formats(self) -> Sequence[Format[Any]]:
        """Keras' weights file, a list of arrays, and TensorFlow's checkpoint."""
        from backends.formats.tensorflow import FORMATS

        return FORMATS

    def optimizers(self) -> Optimizers:
        """Those of Keras."""
        from backends.optimizers.tensorflow import TensorFlowOptimizers

        return TensorFlowOptimizers(self)

    def layers(self) -> Layers[Any]:
        """Those of Keras, channels last."""
        from backends.layers.tensorflow import TensorFlowLayers

        return TensorFlowLayers()

    def carrier(self) -> Carrier[Any]:
        """Of any Keras model: its calls are watched."""
        from backends.carriers.tensorflow import TensorFlowCarrier

        return TensorFlowCarrier()

    def example(self, example: Example) -> Any:
        """Those that are no MLP are written in `backends.examples.tensorflow`."""
        from backends.examples.tensorflow import build

        return self.mlp(example.mlp) if example.mlp is not None else build(example)

    def claims(self) -> Sequence[Claim]:
        """Those of the TensorFlow tab."""
        from backends.claims.tensorflow import CLAIMS

        return CLAIMS


def _parameters(uses: Iterable[Use]) -> Iterator[Parameter]:
    """The parameters of uses. Types are few, and the word for each is made once.

    Shape and type are those of TensorFlow's own variable, which has them ready; Keras' makes them each time.
    """
    dtypes: dict[Any, str] = {}
    for layer, use in enumerate(uses):
        for role, (access, native) in use.parameters.items():
            values = held_by(native)
            shape = tuple(values.shape.as_list())
            if (dtype := dtypes.get(values.dtype)) is None:
                dtype = dtypes[values.dtype] = values.dtype.name
            # By position: names would take as long again as all the rest.
            yield Parameter(
                layer,
                role,
                getattr(native, "path", None) or native.name,
                access,
                shape,
                shape[::-1],
                dtype,
                native,
                id(values.handle),
                use.layer,
                _held,
                _copied,
                _gradient,
            )


def _held(one: Parameter) -> Any:
    return value_of(one.native)


def _copied(one: Parameter) -> Array:
    copied: Array = one.native.numpy()  # a copy already, of a variable of TensorFlow's and of one of Keras's
    return copied.T


def _gradient(one: Parameter) -> Gradient:
    return _NOT_KEPT
