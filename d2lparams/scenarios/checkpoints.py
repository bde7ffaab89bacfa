"""Files of values that do not match the model: error or silence, and what the model holds afterwards.

Each framework's own formats, strict and lenient. A file is written by the framework from one model and loaded
into another, which had values of its own; what each parameter holds then says what was loaded.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from d2lparams.interface import MLP, Array, Backend, By, Format, Parameter, Unsupported
from d2lparams.scenarios.examination import sentence
from d2lparams.scenarios.inputs import assign, starting_values
from d2lparams.scenarios.registry import Observer, scenario
from d2lparams.scenarios.tying import TIED

SPEC = replace(TIED, activation="tanh", dtype="float32")
UNTIED = replace(SPEC, tied=())
# A tied model starts from those of its first layer, so that these are what every file holds of it.
SAVED = starting_values(UNTIED)
Entries = dict[str, Array]
WAYS: tuple[By, By] = ("module", "parameter")


@scenario(section="6.6", title="Checkpoints with other ties than the model")
def checkpoints_and_ties(backend: Backend[Any], observe: Observer) -> None:
    """Two values in the file and one parameter in the model: which one wins? And the other way round?

    A file of an untied model, whose layers 1 and 2 differ, is loaded into a tied one; a file of a tied model is
    loaded into an untied one, whose two layers are filled, or one of them, or the file is refused.
    """
    formats = _formats(backend)
    with tempfile.TemporaryDirectory() as folder:
        untied = _save(backend, formats, UNTIED, Path(folder, "untied"))
        for by in WAYS:
            into, out_of = f"two values into a tie by {by}", f"a tie by {by} into two layers"
            tied = replace(SPEC, by=by)
            try:
                files = _save(backend, formats, tied, Path(folder, by))
            except Unsupported as reason:
                observe.trait(into, str(reason))
                observe.trait(out_of, str(reason))
                continue
            observe.trait(
                into, {one.name: _load(backend, one, untied[one.name], tied, _who_won) for one in formats}
            )
            observe.trait(
                out_of,
                {one.name: _load(backend, one, files[one.name], UNTIED, _what_was_filled) for one in formats},
            )


@scenario(section="6.6", title="Checkpoints that do not fit the model")
def checkpoints_that_do_not_fit(backend: Backend[Any], observe: Observer) -> None:
    """A missing entry, an extra one, a wrong shape, a wrong dtype: error, or silence and what then?

    The file is that of a model of the same form with one entry changed: the last one is left out, one of
    another name is added, the first matrix has a row more, or it is float64 with values that float32 cannot
    hold.
    """
    formats = _formats(backend)
    faults: dict[str, Callable[[Entries], Entries]] = {
        "nothing changed": dict,
        "an entry is missing": lambda entries: dict(list(entries.items())[:-1]),
        "an entry is extra": _with_another,
        "a shape is wrong": lambda entries: _with_first_matrix(entries, lambda one: np.vstack([one, one[:1]])),
        "a dtype is wrong": lambda entries: _with_first_matrix(entries, lambda one: one.astype("float64") / 3),
    }
    with tempfile.TemporaryDirectory() as folder:
        files = _save(backend, formats, UNTIED, Path(folder))
        for name, change in faults.items():
            observe.trait(
                name,
                {
                    one.name: _load(backend, one, files[one.name], UNTIED, _what_was_loaded, change)
                    for one in formats
                },
            )


def _formats(backend: Backend[Any]) -> Sequence[Format[Any]]:
    formats = backend.formats()
    if not formats:
        raise Unsupported("this backend lists no file format of its own")
    return formats


def _save(backend: Backend[Any], formats: Sequence[Format[Any]], spec: MLP, folder: Path) -> dict[str, Path]:
    """A model with the starting values in each format, in a folder of its own, for some write several files."""
    with backend.fresh():
        model = backend.mlp(spec)
        assign(backend, model, starting_values(spec))
        files = {form.name: folder / str(number) / "checkpoint" for number, form in enumerate(formats)}
        for form in formats:
            files[form.name].parent.mkdir(parents=True)
            form.save(model, files[form.name])
    return files


def _load(
    backend: Backend[Any],
    form: Format[Any],
    file: Path,
    spec: MLP,
    look: Callable[[Sequence[Parameter]], str],
    change: Callable[[Entries], Entries] | None = None,
) -> str:
    """Load a file, or a changed copy of it, into a model with values of its own; say what that holds then."""
    # As another process would: names that are counted start again.
    with tempfile.TemporaryDirectory() as folder, backend.fresh():
        target = backend.mlp(spec)
        assign(backend, target, {key: value + 2 for key, value in starting_values(spec).items()})
        try:
            if change is not None:
                file = shutil.copytree(file.parent, Path(folder, "copy")) / file.name
                form.edit(file, change)
            target = form.load(target, file)
        except Exception as error:
            return f"refused: {sentence(error)}"
        return look(backend.parameters(target))


def _who_won(uses: Sequence[Parameter]) -> str:
    """Which of two layers' values a tied weight holds."""
    weight = next(one.value for one in uses if (one.layer, one.role) == (1, "weight"))
    for layer, name in ((1, "the first wins"), (2, "the last wins")):
        if np.array_equal(weight, SAVED[layer, "weight"]):
            return name
    return "neither; the model keeps its own"


def _what_was_filled(uses: Sequence[Parameter]) -> str:
    """Which of two layers hold the values of one, and whether they are one storage now."""
    weights = {one.layer: one for one in uses if one.role == "weight" and one.layer in (1, 2)}
    filled = [layer for layer, one in weights.items() if np.array_equal(one.value, SAVED[1, "weight"])]
    tied = ", and tied now" if weights[1].storage == weights[2].storage else ""
    if len(filled) == 2:
        return f"both filled{tied}"
    return (
        f"half empty: layer {filled[0]} is filled, the other keeps its own" if filled else "neither is filled"
    )


def _what_was_loaded(uses: Sequence[Parameter]) -> str:
    """What did not come out as it was saved, or that all did."""
    remarks = []
    for one in uses:
        name, value, saved = f"layer {one.layer}'s {one.role}", one.value, SAVED[one.layer, one.role]
        if value.shape != saved.shape:
            remarks.append(f"{name} is {value.shape} now")
        elif one.dtype != str(saved.dtype):
            remarks.append(f"{name} is {one.dtype} now")
        elif not np.array_equal(value, saved):
            cast = np.allclose(value, saved / 3, rtol=1e-6)
            remarks.append(f"{name} is cast to {one.dtype}" if cast else f"{name} keeps its own values")
    return f"silent: {'; '.join(remarks)}" if remarks else "loaded"


def _with_another(entries: Entries) -> Entries:
    """An entry that nothing in the model has a place for, named like the last one."""
    name = list(entries)[-1]
    return {**entries, f"{name}_more": entries[name]}


def _with_first_matrix(entries: Entries, change: Callable[[Array], Array]) -> Entries:
    name = next(name for name, value in entries.items() if value.ndim == 2)
    return {**entries, name: change(entries[name])}
