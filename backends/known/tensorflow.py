"""Which Keras layers are known and why another is not, and which variables belong to a known one.

A layer is known by its class or one that it is derived from, as long as it computes as that class does. It is
refused where its settings make it compute otherwise than its kind, and where it holds variables that its kind
does not have.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import keras

from backends.conventions.tensorflow import CONVENTIONS, REVERSE
from backends.uses.tensorflow import value_of
from d2lparams.interface import Convention, Kind, UnknownLayer

_KINDS: dict[str, Kind] = {
    "Dense": "dense",
    "Conv1D": "conv1d",
    "Conv2D": "conv2d",
    "BatchNormalization": "batchnorm",
    "LayerNormalization": "layernorm",
    "ReversibleEmbedding": "embedding",
    "Embedding": "embedding",
    "LSTM": "lstm",
    "GRU": "gru",
}
CLASSES: dict[type, Kind] = {
    getattr(keras.layers, name): kind for name, kind in _KINDS.items() if hasattr(keras.layers, name)
}
"""The classes that are known, where this Keras has them, the more special ones first."""

REVERSIBLE = getattr(keras.layers, "ReversibleEmbedding", ())
"""The embedding that can project too, for `isinstance`; nothing is one where this Keras has none."""

CONVOLUTIONS: tuple[Kind, ...] = ("conv1d", "conv2d")
"""The kinds that give images, or sequences with channels."""

NORMS: tuple[Kind, ...] = ("batchnorm", "layernorm")
"""The kinds that normalise."""

GATED: tuple[Kind, ...] = ("lstm", "gru")
"""The kinds that are recurrent."""

# What a class of these computes is decided by these methods.
_METHODS = ("call", "convolution_op", "inner_loop")

Place = tuple[str, Any, bool]
"""What a place in a model is: its path, the layer, and whether an embedding is used the other way round."""


def key_of(layer: Any, reverse: bool) -> Hashable:
    """What names a use of a layer: equal for all uses of it, or of it as an embedding that projects."""
    return id(layer), reverse


def kind_of(layer: Any, path: str = "") -> Kind | None:
    """The kind of a layer that holds arrays; None of anything else.

    Raises:
        UnknownLayer: for a layer of a known class that computes otherwise than its kind.
    """
    for of, kind in CLASSES.items():
        if isinstance(layer, of):
            if reason := _particular(layer, of, kind):
                raise UnknownLayer(f"layer {path or 'the model itself'!r} ({type(layer).__name__}) {reason}")
            return kind
    return None


def known_kind(layer: Any) -> Kind:
    """The kind of a layer that has been found to be a known one."""
    return next(kind for of, kind in CLASSES.items() if isinstance(layer, of))


def computes_as(layer: Any, of: Any) -> bool:
    """Whether a layer is of a class and computes as that class does."""
    return isinstance(layer, of) and not any(
        name in vars(layer) or getattr(type(layer), name) is not getattr(of, name)
        for name in _METHODS
        if hasattr(of, name)
    )


def _particular(layer: Any, of: type, kind: Kind) -> str:
    """Why a layer of a known class computes otherwise than its kind."""
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return "keeps its kernel in another form (LoRA, or quantized)"
    if not computes_as(layer, of):
        return f"has a call of its own, which may compute something else than {of.__name__}"
    if kind == "layernorm" and getattr(layer, "rms_scaling", False):
        return "divides by the root mean square, without a mean"
    if kind == "layernorm" and not isinstance(layer.axis, int) and len(layer.axis) > 1:
        return "normalises over several axes; only the last one is known"
    if kind in NORMS and (reason := _other_axis(layer, kind)):
        return reason
    if kind in GATED:
        activations = (layer.activation, layer.recurrent_activation)
        if activations != (keras.activations.tanh, keras.activations.sigmoid):
            return "has other activations than tanh and sigmoid"
        if not computes_as(layer.cell, keras.layers.LSTMCell if kind == "lstm" else keras.layers.GRUCell):
            return "has a cell of another class"
        if layer.stateful:
            return "keeps its state from batch to batch"
        if kind == "gru" and not layer.reset_after:
            return "applies its reset gate before the product (reset_after=False)"
    rows = [*CONVENTIONS[kind], *(REVERSE if isinstance(layer, REVERSIBLE) else [])]
    held = {storage_of(one) for one in held_by(layer, rows).values()}
    # What is inside may be an activation that has variables, or another known layer whose kernel is read.
    inside = [one for one in layer._flatten_layers() if one is layer or not isinstance(one, tuple(CLASSES))]
    others = [one.path for part in inside for one in _own(part) if storage_of(one) not in held]
    return f"holds {', '.join(map(repr, others))} beside what {of.__name__} holds" if others else ""


def _other_axis(layer: Any, kind: Kind) -> str:
    """Why a normalisation's axis is not that of features."""
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    shape = next(iter((layer._build_shapes_dict or {}).values()), None)
    last = axis == -1 or (shape is not None and axis % len(shape) == len(shape) - 1)
    # Channels may stand behind the batch.
    return "" if last or (kind == "batchnorm" and axis == 1) else f"normalises over axis {axis}, not the last"


def refuse_own_variables(layer: Any, path: str) -> None:
    """What holds variables itself and is no known layer cannot be carried.

    Raises:
        UnknownLayer: for a layer that does.
    """
    if _own(layer):
        known = ", ".join(one.__name__ for one in CLASSES)
        where = f"layer {path!r}" if path else "the model itself"
        raise UnknownLayer(f"{where} ({type(layer).__name__}) holds variables and is none of {known}")


def refuse_many_steps(path: str, places: Sequence[Place]) -> None:
    """What does more at a step than to see its vector has no counterpart without that axis.

    Args:
        path: of the TimeDistributed.
        places: inside of it.

    Raises:
        UnknownLayer: for a layer that does.
    """
    for inner, layer, _ in places:
        if kind_of(layer) not in ("dense", "layernorm") or len(places) > 1:
            raise UnknownLayer(
                f"layer {inner!r} ({type(layer).__name__}) is applied to each step by TimeDistributed "
                f"{path!r}, which is known only of a single Dense or LayerNormalization"
            )


# -- its variables ---------------------------------------------------------------------------------------------


def _own(layer: Any) -> list[Any]:
    """The variables that a layer has made or taken itself."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def held_by(layer: Any, rows: Convention) -> dict[str, Any]:
    """The variables that are there, by the names of the conventions; a recurrent layer's stand in its cell."""
    holder = getattr(layer, "cell", layer)
    held = {row.name: getattr(holder, row.name, None) for row in rows}
    return {name: variable for name, variable in held.items() if variable is not None}


def storage_of(variable: Any) -> Hashable:
    """Equal for two variables that are the same stored numbers."""
    return id(value_of(variable).handle)
