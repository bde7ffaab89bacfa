"""What is run on every backend; one module per subject, in the order in which the book tells it."""

from d2lparams.scenarios.registry import REGISTERED, Observer, Scenario, scenario

__all__ = ["Observer", "Scenario", "scenario", "scenarios"]


def scenarios() -> dict[str, Scenario]:
    """The scenarios by name, in the order in which they are shown."""
    from d2lparams.scenarios import access, lazy, training, tying  # noqa: F401  (importing registers them)

    return dict(REGISTERED)
