"""What a user may get wrong, each sentence written once: what was wrong, where, and what would have worked.

Every function raises `ValueError`. Imports NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def one_of(what: str, value: object, allowed: Sequence[str]) -> None:
    """A word must be one of those that are known."""
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def sizes(widths: Any) -> tuple[int, ...]:
    """Widths of layers: at least two positive whole numbers."""
    found = tuple(widths) if np.iterable(widths) else ()
    if len(found) < 2 or not all(_whole(width) and width >= 1 for width in found):
        raise ValueError(f"sizes must be at least two positive whole numbers, such as (4, 8, 1); got {widths}")
    return tuple(map(int, found))


def groups(tied: Any) -> tuple[tuple[int, ...], ...]:
    """Tied layers: groups of at least two different layers, no layer in two of them."""
    if not np.iterable(tied) or not all(np.iterable(group) for group in tied):
        raise ValueError(f"tied must be groups of layers, such as ((1, 2),); got {tied}")
    found = tuple(tuple(group) for group in tied)
    seen: set[Any] = set()
    for group in found:
        if len(group) < 2 or len(set(group)) != len(group):
            raise ValueError(f"a tied group names at least two different layers; got {group}")
        if seen & set(group):
            twice = min(seen & set(group))
            raise ValueError(f"layer {twice} stands in two tied groups; join them into one, got {found}")
        seen.update(group)
    return found


def by_use(what: str, given: Any) -> None:
    """A mapping whose keys are pairs of a layer and a role."""
    example = "{(0, 'weight'): array}"
    if not isinstance(given, Mapping):
        raise ValueError(f"{what} must be by (layer, role), such as {example}; got a {type(given).__name__}")
    for use in given:
        if not isinstance(use, tuple) or len(use) != 2:
            raise ValueError(f"{what} must be by (layer, role), such as {example}; got {use!r} for one")


def shared_roles(roles: Any, by: Any) -> tuple[Any, ...]:
    """What tied layers share: weight, bias or both; a layer that is one object shares both."""
    one_of("by", by, ("module", "parameter"))
    found = (roles,) if isinstance(roles, str) else tuple(roles) if np.iterable(roles) else ()
    if not found or len(set(found)) != len(found) or not set(found) <= {"weight", "bias"}:
        raise ValueError(f"roles must be 'weight', 'bias' or both, each once; got {roles!r}")
    if by == "module" and len(found) == 1:
        raise ValueError(
            f"layers tied by 'module' share weight and bias; to share the {found[0]} alone, tie by 'parameter'"
        )
    return tuple(role for role in ("weight", "bias") if role in found)


def layer_exists(layer: Any, layers: int) -> None:
    """A layer must be one of those that the model has."""
    if not _whole(layer) or not 0 <= layer < layers:
        last = f"0 to {layers - 1}" if layers > 1 else "only layer 0"
        raise ValueError(f"there is no dense layer {layer!r}; this model has {last}, in order of application")


def same_shape(layer: int, shape: tuple[int, ...], to: int, other: tuple[int, ...]) -> None:
    """Layers that are to be tied must have weights of one shape."""
    if shape != other:
        raise ValueError(
            f"layer {layer} has weight {shape} and layer {to} has {other}; only layers of one shape can be tied"
        )


def cast(what: str, value: Array, target: str, dtype: str) -> Array:
    """The value in the target's dtype; it must fit without loss."""
    if not hasattr(value, "dtype"):
        # A list of numbers has no dtype of its own that could be lost.
        try:
            return np.asarray(value, dtype)
        except (TypeError, ValueError):
            raise ValueError(f"{what} must be an array of numbers; got {value!r:.80}") from None
    if value.dtype != dtype and not np.can_cast(value.dtype, dtype, "safe"):
        raise ValueError(
            f"{what} is {value.dtype}, but {target} is {dtype}; convert it with .astype({dtype!r}) "
            "if the loss of precision is meant"
        )
    return value.astype(dtype)


def inputs(x: Array, width: int, dtype: str) -> Array:
    """Inputs in the model's dtype; they must be (n, width)."""
    x = _fitting("x", x, dtype)
    if x.ndim != 2 or x.shape[0] < 1 or x.shape[1] != width:
        raise ValueError(f"x has shape {x.shape}; this model takes (n, {width}) with n of at least 1")
    return x


def first_batch(x: Array) -> Array:
    """Inputs of a width that nobody knows yet; they must be (n, inputs), of a floating dtype."""
    x = np.asarray(x)
    if x.ndim != 2 or 0 in x.shape or x.dtype not in ("float32", "float64"):
        raise ValueError(
            f"a first batch must be (n, inputs), float32 or float64, and not empty; got {x.shape}, {x.dtype}"
        )
    return x


def batch(x: Array, y: Array, width: int, outputs: int, dtype: str) -> tuple[Array, Array]:
    """Inputs (n, width) and targets (n, outputs) in the model's dtype."""
    x, y = inputs(x, width, dtype), _fitting("y", y, dtype)
    if y.shape != (x.shape[0], outputs):
        raise ValueError(f"y has shape {y.shape}; for these inputs it must be {(x.shape[0], outputs)}")
    return x, y


def labelled(x: Array, y: Array, width: int, classes: int, dtype: str) -> tuple[Array, Array]:
    """Inputs (n, width) in the model's dtype and labels (n,), int64, each from 0 to classes - 1."""
    x = inputs(x, width, dtype)
    try:
        labels = np.asarray(y)
    except ValueError:  # NumPy's sentence for a list of lists of many lengths tells nothing of labels
        raise ValueError(
            f"y must be an array of whole numbers, a label for each input; got {y!r:.80}"
        ) from None
    if labels.dtype.kind not in "iu":
        raise ValueError(f"y is {labels.dtype}, but labels are whole numbers; convert it with .astype('int64')")
    if labels.shape != x.shape[:1]:
        raise ValueError(f"y has shape {labels.shape}; for these inputs it must be {x.shape[:1]}, labels")
    low, high = labels.min(), labels.max()
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise ValueError(f"y has the label {wrong}; a model of {classes} outputs has labels 0 to {classes - 1}")
    return x, labels if _stands(labels, "int64") else labels.astype("int64")


def count(what: str, value: object) -> int:
    """A whole number, zero or more."""
    if not _whole(value) or int(value) < 0:  # type: ignore[call-overload]  # a whole number has one
        raise ValueError(f"{what} must be a whole number, zero or more; got {value!r}")
    return int(value)  # type: ignore[call-overload,no-any-return]


def _fitting(what: str, value: Array, dtype: str) -> Array:
    """As `cast` to the model's dtype, but an array that fits is not copied."""
    return value if _stands(value, dtype) else cast(what, value, "the model", dtype)


def _stands(value: Any, dtype: str) -> bool:
    """Whether every framework takes an array as it stands: in order, aligned, and writable, as PyTorch asks."""
    return type(value) is np.ndarray and value.dtype == dtype and value.flags.carray


def _whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
