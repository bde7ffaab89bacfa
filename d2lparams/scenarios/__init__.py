"""What is run on every backend; one module per subject, in the order in which the book tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from d2lparams.scenarios.description import Scenario

if TYPE_CHECKING:
    from d2lparams.scenarios.registry import Observer, scenario

__all__ = ["Observer", "Scenario", "scenario", "scenarios"]


# The groups, in the order of the book, and then from one layer's parameters to what is done with a whole model.
ORDER = (
    "access",
    "tying",
    "training",
    "lazy",
    "exercises",
    "lifecycles",
    "checkpoints",
    "optimizers",
    "layers",
    "transfers",
    "claims",
)


def scenarios() -> dict[str, Scenario]:
    """The scenarios by name, in the order in which they are shown."""
    from d2lparams.scenarios import (  # noqa: F401  (importing registers them)
        access,
        checkpoints,
        claims,
        exercises,
        layers,
        lazy,
        lifecycles,
        optimizers,
        training,
        transfers,
        tying,
    )
    from d2lparams.scenarios.registry import REGISTERED

    # A file of scenarios that is run instead of these registers its own beside them.
    ours = [one for one in REGISTERED.values() if one.group in ORDER]
    return {one.name: one for one in sorted(ours, key=lambda one: ORDER.index(one.group))}


def __getattr__(name: str) -> Any:
    """What running a scenario takes, imported when it is asked for: a list of scenarios does without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from d2lparams.scenarios import registry

    return getattr(registry, name)
