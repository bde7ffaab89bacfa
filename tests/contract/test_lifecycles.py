"""Life cycles of tied models: what each of the framework's ways does is found by running it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from d2lparams.interface import MLP, ROLES, Lifecycle, Unsupported
from d2lparams.scenarios import scenarios
from d2lparams.scenarios.examination import SILENT, examine
from d2lparams.scenarios.inputs import built, starting_values
from d2lparams.scenarios.lifecycles import BY_MODULE, BY_PARAMETER
from d2lparams.scenarios.tying import ACROSS_DEPTHS, THREE_USES, TWO_TIES
from d2lparams.worker import execute

WORDS = {"kept", "broken", "changed", "corrupted", "refused"}
FORMS = {
    "by module": BY_MODULE,
    "by parameter": BY_PARAMETER,
    "weight only": replace(BY_PARAMETER, roles=("weight",)),
    "three uses": replace(THREE_USES, dtype="float32"),
    "two ties": replace(TWO_TIES, dtype="float32"),
    "across depths": replace(ACROSS_DEPTHS, dtype="float32"),
}

forms = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def spec(backend, form) -> MLP:
    try:
        backend.mlp(FORMS[form])
    except Unsupported as reason:
        pytest.skip(f"the framework has no such tie: {reason}")
    return FORMS[form]


def test_ways_have_names_of_their_own_and_say_how(backend):
    names = [one.name for one in backend.lifecycles()]
    assert len(set(names)) == len(names)
    assert all(one.name and one.how for one in backend.lifecycles())


# -- the judge: a wrong life cycle is seen to be wrong -------------------------------------------------------


def copy_of(backend, spec):
    """What a right life cycle gives: a model of its own with the original's ties and values."""
    return lambda net, again, x: built(backend, spec)


def untied_copy(backend, spec):
    def apply(net, again, x):
        return built(backend, replace(spec, tied=(), by="module", roles=ROLES), starting_values(spec))

    return apply


def other_values(backend, spec):
    def apply(net, again, x):
        model = built(backend, spec)
        backend.assign(model, 0, "bias", starting_values(spec)[0, "bias"] + 1)
        return model

    return apply


def damaging_copy(backend, spec):
    def apply(net, again, x):
        backend.assign(net, 1, "weight", starting_values(spec)[1, "weight"] * 2)
        return built(backend, spec)

    return apply


def fewer_layers(backend, spec):
    return lambda net, again, x: backend.mlp(MLP((4, 8, spec.sizes[-1]), dtype=spec.dtype))


def error(backend, spec):
    def apply(net, again, x):
        raise RuntimeError("it cannot be done. At all")

    return apply


def error_that_damages(backend, spec):
    def apply(net, again, x):
        backend.assign(net, 1, "weight", starting_values(spec)[1, "weight"] * 2)
        raise RuntimeError("it cannot be done")

    return apply


JUDGED = {
    copy_of: "kept",
    untied_copy: "broken",
    other_values: "changed",
    fewer_layers: "changed",
    damaging_copy: "corrupted",
    error_that_damages: "corrupted",
    error: "refused",
}


@forms
@pytest.mark.parametrize(("wrong", "outcome"), JUDGED.items(), ids=lambda one: getattr(one, "__name__", one))
def test_what_a_life_cycle_does_is_seen(backend, spec, wrong, outcome):
    seen = examine(backend, Lifecycle("a way", "way(net)", wrong(backend, spec)), spec)
    assert seen.outcome == outcome, seen.evidence


def test_the_net_itself_is_no_damaged_original(backend):
    seen = examine(backend, Lifecycle("nothing", "net", lambda net, again, x: net), BY_MODULE)
    assert seen.outcome == "kept"
    assert seen.evidence["original"] == "is what came out"


@pytest.mark.parametrize(("wrong", "outcome"), JUDGED.items(), ids=lambda one: getattr(one, "__name__", one))
def test_a_life_cycle_replaced_by_a_wrong_one_changes_the_outcome(backend, monkeypatch, wrong, outcome):
    way = Lifecycle("deepcopy", "copy.deepcopy(net)", wrong(backend, BY_MODULE))
    monkeypatch.setattr(type(backend), "lifecycles", lambda self: [way])
    monkeypatch.setattr(type(backend), "script", lambda self, *_: "a program")
    result = execute(scenarios()["life-cycles-by-module"], backend)
    (row,) = [one for one in result.observations if one.kind == "outcome"]
    assert (row.name, row.value["outcome"]) == ("deepcopy", outcome)
    assert bool(row.value["script"]) == (outcome in SILENT)


# -- the framework's own ways --------------------------------------------------------------------------------


def run_script(script, path):
    """Run a program from its own folder, in this environment."""
    path.write_text(script)
    return subprocess.run([sys.executable, path.name], cwd=path.parent, capture_output=True, text=True)


def kept_by(backend, spec):
    """A way that keeps a model of this form."""
    ways = backend.lifecycles()
    if not ways:
        pytest.skip("the reference has no ways of its own")
    return next(one for one in ways if examine(backend, one, spec).outcome == "kept")


@forms
def test_every_way_ends_somehow_and_what_is_silent_is_shown_by_a_script(backend, spec, tmp_path):
    """In the framework alone: the script imports nothing of ours, and its outcome is the one that was seen."""
    for number, way in enumerate(backend.lifecycles()):
        with backend.fresh():
            seen = examine(backend, way, spec)
        assert seen.outcome in WORDS
        assert seen.evidence
        if seen.outcome not in SILENT:
            continue
        script = backend.script(way, spec, seen.outcome)
        assert "d2lparams" not in script
        assert "backends" not in script
        done = run_script(script, tmp_path / f"{number}.py")
        assert done.returncode == 0, (way.name, done.stdout + done.stderr)
        assert done.stdout.splitlines()[-1] == f"outcome: {seen.outcome}"


def test_a_script_fails_where_the_outcome_is_another(backend, tmp_path):
    script = backend.script(kept_by(backend, BY_MODULE), BY_MODULE, "broken")
    done = run_script(script, tmp_path / "wrong.py")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "outcome: kept"


def test_a_script_knows_the_layer_that_many_places_share(backend, tmp_path):
    """Layers 2 and 5 of seven: Flax, for one, calls that layer by its second place."""
    far = MLP(sizes=(4, 8, 8, 8, 8, 8, 8, 1), tied=((2, 5),))
    done = run_script(backend.script(kept_by(backend, far), far, "kept"), tmp_path / "far.py")
    assert done.returncode == 0, done.stdout + done.stderr


ONCE = {
    "torch": "what torch.compile gives for a compiled module is a function, see FINDINGS.md",
    "jax": "what is compiled is a module's apply, and what comes of it is no module",
}


def test_what_is_compiled_twice_is_read_like_what_is_compiled_once(backend):
    compiled = [one for one in backend.lifecycles() if one.name == "compile"]
    if not compiled:
        pytest.skip("the reference has no ways of its own")
    if backend.name in ONCE:
        pytest.skip(ONCE[backend.name])
    x = np.zeros((2, BY_MODULE.sizes[0]), "float32")
    model = backend.mlp(BY_MODULE)
    values = [one.value for one in backend.parameters(model)]
    for _ in range(2):
        model = compiled[0].apply(model, lambda: backend.mlp(BY_MODULE), x)
    read = [one.value for one in backend.parameters(model)]
    assert all(np.array_equal(one, other) for one, other in zip(values, read, strict=True))
    assert backend.forward(model, x).shape == (2, BY_MODULE.sizes[-1])
