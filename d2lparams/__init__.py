"""Parameter management on several deep-learning frameworks, run for real and side by side.

    import d2lparams

    d2lparams.compare(["torch", "jax"])       # each in an environment of its own, beside the reference
    session = d2lparams.Session()             # whose `compare` keeps processes, and pays for imports once
    backend = d2lparams.backend("torch")      # the adapter, in this interpreter
    net = backend.mlp(d2lparams.MLP((4, 8, 1)))
    backend.export(net).save("net.safetensors")   # its values, in a form of no framework

Importing this package imports no framework and none of the parent's tools: it is loaded in every worker too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from d2lparams.comparison import Comparison
    from d2lparams.interface import (
        MLP,
        SGD,
        Adam,
        AdamW,
        Backend,
        Parameter,
        ParameterSet,
        Trainer,
        Unsupported,
    )
    from d2lparams.runner import Event
    from d2lparams.session import Session

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "AdamW",
    "Backend",
    "Parameter",
    "ParameterSet",
    "Session",
    "Trainer",
    "Unsupported",
    "backend",
    "compare",
]
__version__ = "0.1.0"


def compare(
    columns: Iterable[str] = (),
    scenarios: Iterable[str] = (),
    *,
    full: bool = False,
    timeout: float = 60.0,
    jobs: int | None = None,
    offline: bool = False,
    executor: Executor | None = None,
    on_event: Callable[[Event], None] | None = None,
    seed: int = 0,
    form: str = "",
) -> Comparison:
    """Run scenarios on columns, each in its own environment, and put the results side by side.

    Environments that are not there yet are built, which takes minutes the first time. The reference always
    runs, for the verdicts need it.

    Args:
        columns: NAME, NAME@VERSION, or the path of a backend's file; none at all asks for every backend.
        scenarios: names of scenarios and of groups, and patterns such as "tied-*"; none at all asks for every
            scenario.
        full: whether every scenario means those, too, that take long.
        timeout: wall-clock seconds that one scenario may take on one column.
        jobs: how many columns run at the same time; by default one for each core.
        offline: use only what is on this machine.
        executor: runs the columns instead of threads of our own.
        on_event: is told of progress.
        seed: of what scenarios draw; 0 draws the numbers that are always used.
        form: of the models of scenarios, such as "wide" or "deep", see `d2lparams.variation`; "" leaves them
            as the book has them.

    Raises:
        d2lparams.columns.UsageError: for a column, a scenario or a form that is not there.
        d2lparams.runner.Interrupted: a KeyboardInterrupt that carries what was known when it came.
    """
    from d2lparams import session

    return session.compare(
        columns,
        scenarios,
        full=full,
        timeout=timeout,
        jobs=jobs,
        offline=offline,
        executor=executor,
        on_event=on_event,
        seed=seed,
        form=form,
    )


def backend(name: str) -> Backend[Any]:
    """The adapter of a framework that is installed in this interpreter.

    Raises:
        d2lparams.columns.UsageError: when there is no such backend.
        ModuleNotFoundError: when its framework is not installed here, with the line that installs it.
    """
    from importlib import import_module

    from d2lparams.columns import parse_column

    adapter = parse_column(name).adapter
    made: Backend[Any] = getattr(import_module(f"backends.{adapter.name}"), adapter.class_name)()
    return made


def __getattr__(name: str) -> Any:
    """What a backend's interface has, imported when it is asked for: it brings NumPy along."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "Session":
        from d2lparams.session import Session

        return Session
    from d2lparams import interface

    return getattr(interface, name)


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext d2lparams` gives a notebook the magics %%compare and %%tab."""
    from d2lparams.notebook import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext d2lparams` takes them away."""
    from d2lparams.notebook import unload

    unload(shell)
