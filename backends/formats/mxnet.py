"""Files of values: Gluon's parameter file, by the places of the blocks, and by the names of the parameters.

Both are MXNet's own file of named arrays. With NumPy semantics `collect_params().save` does not write it; the
file by names is written with `npx.save`, as `export` does it, and read with `load_dict`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mxnet import np, npx

from d2lparams.interface import Array, Format

Entries = dict[str, Array]


def save_parameters(model: Any, path: Path) -> None:
    """Write every use of every parameter, by its place."""
    model.save_parameters(str(path))


def save_deduplicated(model: Any, path: Path) -> None:
    """Write each parameter once, by the last of its places."""
    model.save_parameters(str(path), deduplicate=True)


def save_names(model: Any, path: Path) -> None:
    """Write each parameter by its name."""
    npx.save(str(path), {name: one.data() for name, one in model.collect_params().items()})


def load_strictly(model: Any, path: Path) -> Any:
    """Load the file; the names in it must be those of the model, and shapes and dtypes, too."""
    model.load_parameters(str(path))
    return model


def load_without_missing(model: Any, path: Path) -> Any:
    """Load what is there; what the model has besides keeps its values."""
    model.load_parameters(str(path), allow_missing=True)
    return model


def load_without_extra(model: Any, path: Path) -> Any:
    """Load what the model has; what is there besides is left out."""
    model.load_parameters(str(path), ignore_extra=True)
    return model


def load_and_cast(model: Any, path: Path) -> Any:
    """Load the file, and cast what has another dtype than the model."""
    model.load_parameters(str(path), cast_dtype=True)
    return model


def load_and_take_dtypes(model: Any, path: Path) -> Any:
    """Load the file, and cast the model to its dtypes."""
    model.load_parameters(str(path), cast_dtype=True, dtype_source="saved")
    return model


def load_names(model: Any, path: Path) -> Any:
    """Load values by the names of the parameters, which must be those of the model."""
    model.collect_params().load_dict(npx.load(str(path)))
    return model


def load_names_leniently(model: Any, path: Path) -> Any:
    """Load the values whose names the model has."""
    model.collect_params().load_dict(npx.load(str(path)), allow_missing=True, ignore_extra=True)
    return model


def edit(path: Path, change: Callable[[Entries], Entries]) -> None:
    """Rewrite the named arrays."""
    entries = {name: array.asnumpy() for name, array in npx.load(str(path)).items()}
    changed = change(entries)
    npx.save(str(path), {name: np.array(value, dtype=value.dtype) for name, value in changed.items()})


_ONCE = "net.save_parameters(path, deduplicate=True); "

FORMATS: Sequence[Format[Any]] = [
    Format("load_parameters", "net.load_parameters(path)", save_parameters, load_strictly, edit),
    Format(
        "load_parameters(allow_missing=True)",
        "net.load_parameters(path, allow_missing=True)",
        save_parameters,
        load_without_missing,
        edit,
    ),
    Format(
        "load_parameters(ignore_extra=True)",
        "net.load_parameters(path, ignore_extra=True)",
        save_parameters,
        load_without_extra,
        edit,
    ),
    Format(
        "load_parameters(cast_dtype=True)",
        "net.load_parameters(path, cast_dtype=True)",
        save_parameters,
        load_and_cast,
        edit,
    ),
    Format(
        "load_parameters(cast_dtype=True, dtype_source='saved')",
        "net.load_parameters(path, cast_dtype=True, dtype_source='saved')",
        save_parameters,
        load_and_take_dtypes,
        edit,
    ),
    Format(
        "save_parameters(deduplicate=True)",
        f"{_ONCE}other.load_parameters(path)",
        save_deduplicated,
        load_strictly,
        edit,
    ),
    Format(
        "save_parameters(deduplicate=True), load_parameters(allow_missing=True)",
        f"{_ONCE}other.load_parameters(path, allow_missing=True)",
        save_deduplicated,
        load_without_missing,
        edit,
    ),
    Format(
        "collect_params().load_dict",
        "net.collect_params().load_dict(npx.load(path))",
        save_names,
        load_names,
        edit,
    ),
    Format(
        "collect_params().load_dict(allow_missing=True, ignore_extra=True)",
        "net.collect_params().load_dict(npx.load(path), allow_missing=True, ignore_extra=True)",
        save_names,
        load_names_leniently,
        edit,
    ),
]
