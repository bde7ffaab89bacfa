"""Files of values: what is saved is what is loaded, and an edited file has other entries."""

from __future__ import annotations

import numpy as np
import pytest

from d2lparams.scenarios.checkpoints import UNTIED
from d2lparams.scenarios.inputs import built, starting_values


@pytest.fixture
def formats(backend):
    found = backend.formats()
    if not found:
        pytest.skip("the reference has no files of its own")
    return found


def test_formats_have_names_of_their_own_and_say_how(formats):
    names = [one.name for one in formats]
    assert len(set(names)) == len(names)
    assert all(one.name and one.how for one in formats)


def test_what_was_saved_is_loaded(backend, formats, tmp_path):
    values = starting_values(UNTIED)
    for number, one in enumerate(formats):
        with backend.fresh():
            one.save(built(backend, UNTIED), tmp_path / str(number))
        with backend.fresh():
            target = backend.mlp(UNTIED)
            target = one.load(target, tmp_path / str(number))
        for parameter in backend.parameters(target):
            assert np.array_equal(parameter.value, values[parameter.layer, parameter.role]), one.name


def test_an_edit_sees_every_array_and_changes_the_file(backend, formats, tmp_path):
    sizes = sorted(value.size for value in starting_values(UNTIED).values())
    for number, one in enumerate(formats):
        path, seen = tmp_path / str(number), []

        def negate(entries, seen=seen):
            seen += [value.size for value in entries.values()]
            return {name: -value for name, value in entries.items()}

        with backend.fresh():
            one.save(built(backend, UNTIED), path)
        one.edit(path, negate)
        assert sorted(seen) == sizes, one.name
        with backend.fresh():
            target = one.load(backend.mlp(UNTIED), path)
        weight = backend.parameter(target, 0, "weight").value
        assert np.array_equal(weight, -starting_values(UNTIED)[0, "weight"]), one.name
