"""A model carried from one column to another and back, and a verdict on each thing that must be the same.

The source's process exports, the target's loads and computes, the source's takes back; see `transfers` for what
happens in them. Here the runs are started and their observations read. No framework is imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from d2lparams.columns import Column, UsageError, unknown
from d2lparams.models import EXAMPLES
from d2lparams.results import Run
from d2lparams.runner import run
from d2lparams.scenarios import Scenario, own_model, scenarios
from d2lparams.transfer_results import Transfer, read
from d2lparams.transfers import RTOL
from d2lparams.watcher import Event


def transfer(
    source: Column,
    target: Column,
    models: Sequence[str] = (),
    *,
    save: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    untie: bool = False,
    settings: bool = True,
    rtol: float = RTOL,
    timeout: float = 60.0,
    offline: bool = False,
    on_event: Callable[[Event], None] | None = None,
    **options: Any,
) -> tuple[list[Transfer], list[Run]]:
    """Carry models from one column to another and back.

    Args:
        source: where the values come from.
        target: where they go.
        models: names of examples (`models.EXAMPLES`), or one FILE.py:FUNCTION; nothing asks for all examples.
        save: where the values of a model of the user's own are kept, too.
        mapping: from layers of the target to layers of the source, where nothing else decides.
        untie: let places that are one in the source be two in the target.
        settings: whether settings such as epsilon must be equal.
        rtol: how far results of a model of the user's own may be apart.
        timeout: seconds that one step may take.
        offline: build no environment from anything but what is on this machine.
        on_event: is told of progress.
        options: of `runner.run`.

    Raises:
        UsageError: for a model that is not there.
        Interrupted: by Ctrl-C.
    """
    own = [model for model in models if ":" in model or model.endswith(".py")]
    asked = [_example(model) for model in models if model not in own] or list(EXAMPLES)
    given: dict[str, str] = {}
    chosen: list[Scenario] = []
    if own:
        if len(models) > 1:
            raise UsageError(f"one model of your own at a time; got {' and '.join(models)}")
        given = {
            "model": own_file(own[0]),
            "source": source.name,
            "mapping": json.dumps(dict(mapping or {})),
            "untie": "yes" if untie else "no",
            "settings": "yes" if settings else "no",
            "rtol": repr(rtol),
        }
        if save is not None:
            given["save"] = str(save.absolute())
        chosen = [OWN]
    else:
        chosen = [scenarios()[f"transfer-{name}"] for name in asked]
    columns = [source] if source.name == target.name else [source, target]
    runs = run(
        columns,
        chosen,
        timeout=timeout,
        offline=offline,
        on_event=on_event,
        scenario_file=Path(own_model.__file__) if own else None,
        takes_part=[{source.name}, {target.name}, {source.name}],
        given=given,
        **options,
    )
    names = [(own[0], OWN.title)] if own else [(name, EXAMPLES[name].title) for name in asked]
    return [
        read(Transfer(name, title, source.name, target.name), runs, one.name)
        for (name, title), one in zip(names, chosen)
    ], runs


OWN = Scenario("transfer", "6.2", "a model of your own", "", own_model.transfer, stages=3)


def own_file(text: str) -> str:
    """FILE.py:FUNCTION with the whole path of the file; the function is `build` when none is named.

    Raises:
        UsageError: when there is no such file.
    """
    name, colon, function = text.rpartition(":")
    if not colon:
        name, function = text, "build"
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"there is no file {name}; name one that has a function build(framework): FILE.py:build"
        )
    if not function.isidentifier():
        raise UsageError(f"{function!r} is no name of a function; write FILE.py:build")
    return f"{path.resolve()}:{function}"


def _example(name: str) -> str:
    if name not in EXAMPLES:
        raise UsageError(f"{unknown('example', name, EXAMPLES)}; or name a file of your own, FILE.py:build")
    return name
