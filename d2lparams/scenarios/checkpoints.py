"""Files of values that do not match the model: error or silence, and what the model holds afterwards.

Each framework's own formats, strict and lenient. A file is written by the framework from one model and loaded
into another, which had values of its own; what each parameter holds then says what was loaded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from d2lparams.interface import MLP, Array, Backend, Format, Parameter, Unsupported
from d2lparams.scenarios.inputs import Values, built, formed, starting_values
from d2lparams.scenarios.lifecycles import BY_MODULE, BY_PARAMETER
from d2lparams.scenarios.registry import Observer, scenario
from d2lparams.scenarios.sentences import sentence

UNTIED = replace(BY_MODULE, tied=())
Entries = dict[str, Array]
Change = Callable[[Entries], Entries]
Look = Callable[[Sequence[Parameter], Values], tuple[str, dict[str, str]]]


@scenario(section="6.6", title="Two values into one tied module")
def two_values_into_a_tied_module(backend: Backend[Any], observe: Observer) -> None:
    """Two layers in the file are one module in the model, used twice: whose values does it hold afterwards?"""
    _observe(backend, observe, UNTIED, BY_MODULE, _who_won)


@scenario(section="6.6", title="Two values into tied parameters")
def two_values_into_tied_parameters(backend: Backend[Any], observe: Observer) -> None:
    """Two layers in the file hold one parameter in the model: whose values does it hold afterwards?"""
    _observe(backend, observe, UNTIED, BY_PARAMETER, _who_won)


@scenario(section="6.6", title="A tied module into two layers")
def tied_module_into_two_layers(backend: Backend[Any], observe: Observer) -> None:
    """One module in the file, used twice, is two layers in the model: are both filled, or one, or neither?"""
    _observe(backend, observe, BY_MODULE, UNTIED, _what_was_filled)


@scenario(section="6.6", title="Tied parameters into two layers")
def tied_parameters_into_two_layers(backend: Backend[Any], observe: Observer) -> None:
    """One parameter of two layers in the file is two in the model: are both filled, or one, or neither?"""
    _observe(backend, observe, BY_PARAMETER, UNTIED, _what_was_filled)


@scenario(section="6.6", title="A checkpoint that lacks an entry")
def checkpoint_lacks_an_entry(backend: Backend[Any], observe: Observer) -> None:
    """The last entry is missing in the file: error, or silence, and what does the model hold then?"""

    def without_the_last(entries: Entries) -> Entries:
        return dict(list(entries.items())[:-1])

    _observe(backend, observe, UNTIED, UNTIED, _what_was_loaded, without_the_last)


@scenario(section="6.6", title="A checkpoint with an extra entry")
def checkpoint_has_an_extra_entry(backend: Backend[Any], observe: Observer) -> None:
    """The file has an entry, named like the last one, that the model has no place for: error or silence?"""

    def with_another(entries: Entries) -> Entries:
        name = list(entries)[-1]
        return {**entries, f"{name}_more": entries[name]}

    _observe(backend, observe, UNTIED, UNTIED, _what_was_loaded, with_another)


@scenario(section="6.6", title="A checkpoint of another shape")
def checkpoint_of_another_shape(backend: Backend[Any], observe: Observer) -> None:
    """The first matrix in the file has a row more than the model's: error, or silence and what then?"""
    _observe(
        backend, observe, UNTIED, UNTIED, _what_was_loaded, _first_matrix(lambda one: np.vstack([one, one[:1]]))
    )


@scenario(section="6.6", title="A checkpoint of another dtype")
def checkpoint_of_another_dtype(backend: Backend[Any], observe: Observer) -> None:
    """The first matrix in the file is float64, with values that float32 cannot hold: error, a cast, or what?"""
    _observe(
        backend, observe, UNTIED, UNTIED, _what_was_loaded, _first_matrix(lambda one: one.astype("float64") / 3)
    )


def _observe(
    backend: Backend[Any],
    observe: Observer,
    saved: MLP,
    loaded: MLP,
    look: Look,
    change: Change | None = None,
) -> None:
    """Each format: a file of one form of model, changed, is loaded into a model of another form."""
    saved, loaded = formed(saved), formed(loaded)
    formats = backend.formats()
    if not formats:
        raise Unsupported("this backend lists no file format of its own")
    with tempfile.TemporaryDirectory() as folder:
        with backend.fresh():
            source = built(backend, saved)
            # A folder for each, for some formats write several files.
            files = {form.name: Path(folder, str(number), "file") for number, form in enumerate(formats)}
            for form in formats:
                files[form.name].parent.mkdir()
                form.save(source, files[form.name])
        for form in formats:
            if change is not None:
                form.edit(files[form.name], change)
            outcome, seen = _load(backend, form, files[form.name], loaded, look)
            observe.outcome(form.name, outcome, how=form.how, evidence=seen)


def _load(
    backend: Backend[Any], form: Format[Any], file: Path, spec: MLP, look: Look
) -> tuple[str, dict[str, str]]:
    """Load a file into a model with values of its own; say how that ended, and what shows it."""
    # As another process would: names that are counted start again.
    with backend.fresh():
        own = {key: value + 2 for key, value in starting_values(spec).items()}
        target = built(backend, spec, own)
        try:
            uses = backend.parameters(form.load(target, file))
        except Exception as error:
            return "error", {"error": sentence(error)}
        # A tied model starts from its first layer's values, so that the untied one's are what every file holds.
        return look(uses, starting_values(replace(spec, tied=())))


def _who_won(uses: Sequence[Parameter], written: Values) -> tuple[str, dict[str, str]]:
    """Which of two layers' values a tied weight holds."""
    weight = next(one.value for one in uses if (one.layer, one.role) == (1, "weight"))
    for layer, name in ((1, "first wins"), (2, "last wins")):
        if np.array_equal(weight, written[layer, "weight"]):
            return name, {"the tied weight": f"holds layer {layer}'s"}
    return "keeps its own", {"the tied weight": "holds neither layer's"}


def _what_was_filled(uses: Sequence[Parameter], written: Values) -> tuple[str, dict[str, str]]:
    """Which of two layers hold the values of one, and whether they are one storage now."""
    weights = {one.layer: one for one in uses if one.role == "weight" and one.layer in (1, 2)}
    filled = [layer for layer, one in weights.items() if np.array_equal(one.value, written[1, "weight"])]
    tied = weights[1].storage == weights[2].storage
    if len(filled) == 2:
        return ("both, tied" if tied else "both filled"), {"the two layers": "one storage" if tied else "apart"}
    if filled:
        return "half empty", {"filled": f"layer {filled[0]}; the other keeps its own values"}
    return "keeps its own", {"filled": "neither layer"}


def _what_was_loaded(uses: Sequence[Parameter], written: Values) -> tuple[str, dict[str, str]]:
    """What did not come out as it was saved, or that all did."""
    remarks = []
    for one in uses:
        name, value, saved = f"layer {one.layer}'s {one.role}", one.value, written[one.layer, one.role]
        if value.shape != saved.shape:
            remarks.append(f"{name} is {value.shape} now")
        elif one.dtype != str(saved.dtype):
            remarks.append(f"{name} is {one.dtype} now")
        elif not np.array_equal(value, saved):
            cast = np.allclose(value, saved / 3, rtol=1e-6, atol=0)
            remarks.append(f"{name} is cast to {one.dtype}" if cast else f"{name} keeps its own values")
    return (
        ("silent", {"the model": "; ".join(remarks)})
        if remarks
        else ("loaded", {"the model": "holds the file"})
    )


def _first_matrix(change: Callable[[Array], Array]) -> Change:
    def changed(entries: Entries) -> Entries:
        name = next(name for name, value in entries.items() if value.ndim == 2)
        return {**entries, name: change(entries[name])}

    return changed
