"""Three scenarios for the fakes: the one in the middle is where they do what they are for."""

from __future__ import annotations

from typing import Any

from d2lparams.interface import MLP
from d2lparams.scenarios import Observer, scenario


@scenario(section="0", title="Before the trouble")
def before(backend: Any, observe: Observer) -> None:
    """Does the column work?"""
    model = backend.mlp(MLP(sizes=(4, 2)))
    observe.invariant("parameters", len(backend.parameters(model)), expected=2)


@scenario(section="0", title="The trouble")
def trouble(backend: Any, observe: Observer) -> None:
    """What happens to the others?"""
    observe.trait("seen before it", 1)
    backend.trouble(observe)
    observe.trait("seen after it", 2)


@scenario(section="0", title="After the trouble")
def after(backend: Any, observe: Observer) -> None:
    """Does the column still work?"""
    model = backend.mlp(MLP(sizes=(4, 2)))
    observe.invariant("parameters", len(backend.parameters(model)), expected=2)
