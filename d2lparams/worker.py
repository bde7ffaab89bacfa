"""The process inside a column's environment: it runs scenarios on one backend and reports what they saw.

What it reports are events: lines of strict JSON on the stdout that its parent gave it. Frameworks print, so the
worker keeps that stdout for itself before any of them is imported, and points theirs at the log. The events:

    ready      the backend is imported; the versions that are installed
    failed     it could not be imported; nothing follows
    started    a scenario begins
    called     a function of the adapter is called for the first time; its source
    observed   what it saw, told at once, so that it is kept whatever happens next
    finished   how it ended
    done       there is no more to run

With `--serve` it runs not what its arguments say but what it is told by lines of JSON on its stdin, one after
the other, each with all of the events from `ready` to `done`; between them it waits. So a second run pays for
no import. What the process must not carry from run to run, `Backend.renew` and `Backend.fresh` set back.

A worker does not outlive its parent: it holds the other end of the parent's pipe as its stdin, and when that
closes, it ends. Limits are the parent's business; here nothing is watched and nothing is caught but what
Python can raise.

Imports the standard library and NumPy only, apart from the adapter: this runs in every framework's environment.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter  # bound before an adapter can put another clock in its place
from types import ModuleType
from typing import Any, NoReturn

from d2lparams.errand import end_with_parent
from d2lparams.events import SHOW_STACKS, Events, heading, take_stdout
from d2lparams.failures import failure
from d2lparams.interface import Backend, Unsupported
from d2lparams.recording import Tell, recorded
from d2lparams.results import Code, Failure, Observation, ScenarioResult
from d2lparams.scenarios import Observer, Scenario, scenarios
from d2lparams.scenarios.inputs import varied
from d2lparams.scenarios.registry import REGISTERED
from d2lparams.variation import Variation


def execute(
    scenario: Scenario,
    backend: Backend[Any],
    emit: Callable[[Observation], None] | None = None,
    *,
    on_call: Tell | None = None,
    catch: type[BaseException] = Exception,
    variation: Variation | None = None,
    **place: Any,
) -> ScenarioResult:
    """Run one scenario on a backend, in this process.

    Args:
        scenario: what to run.
        backend: what to run it on.
        emit: is told each observation as soon as it is made; what it raises fails the scenario.
        on_call: is told of the adapter's functions that are called, with their sources, see `recording`.
        catch: what counts as the scenario's failure. An interrupt or an exit is not one by default, for in a
            process with a keyboard it is the user's.
        variation: the seed and the form of what the scenario uses; None changes nothing.
        place: where in a run this is, as `Observer` takes it: stage, folder, column, given.
    """
    result = ScenarioResult(scenario.name, scenario.section, scenario.title, status="ok")

    def take(observation: Observation) -> None:
        if emit is not None:
            emit(observation)
        result.observations.append(observation)

    def called(asked: str, name: str, code: dict[str, Code]) -> None:
        if on_call is not None:
            on_call(asked, name, code)
        result.called[asked] = name

    began = perf_counter()
    try:
        with backend.fresh(), recorded(backend, called), varied(variation or Variation()):
            scenario.function(backend, Observer(take, **place))
    except Unsupported as reason:
        result.status, result.error = "unsupported", Failure(str(reason))
    except catch as error:
        result.status, result.error = "failed", failure(error)
    result.seconds = perf_counter() - began
    return result


def load_file(path: Path, name: str) -> ModuleType:
    """Import a file that is in no package, under a name of our choosing: a file `torch.py` must not be `torch`.

    Raises:
        ImportError: when the file cannot be read as a module, or raises that itself.
    """
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = module_from_spec(spec)
    # Before it runs: dataclasses and pickle look their module up by its name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main(arguments: Sequence[str]) -> NoReturn:
    """Load the backend, run the scenarios, report, and leave."""
    order = _arguments(arguments)
    events, orders = take_stdout(), SimpleQueue[bytes]()
    end_with_parent(orders.put)
    faulthandler.register(SHOW_STACKS, all_threads=True)
    began = perf_counter()
    try:
        backend = _backend(order.adapter, order.backend)
        known = _scenarios(order.file)
        todo = [known[name] for name in order.names]
    except BaseException as error:  # an import that calls sys.exit() is a failed import too
        events.send("failed", error=vars(failure(error)))
        _leave(1)
    facts = {
        "versions": _versions(order.distribution),
        "python": platform.python_version(),
        "platform": _machine(),
        "seconds": perf_counter() - began,
    }
    if order.serve:
        _serve(orders, known, backend, events, facts)
    _run(order, todo, backend, events, facts)
    _leave(0)


def _serve(
    orders: SimpleQueue[bytes],
    known: Mapping[str, Scenario],
    backend: Backend[Any],
    events: Events,
    facts: Mapping[str, Any],
) -> NoReturn:
    """Run what comes, until the parent is gone."""
    while True:
        told = json.loads(orders.get())
        events.log_to(told["log"])
        order = _arguments(told["arguments"], later=True)
        _run(order, [known[name] for name in order.names], backend, events, facts)
        backend.renew()


def _run(
    order: argparse.Namespace,
    todo: Iterable[Scenario],
    backend: Backend[Any],
    events: Events,
    facts: Mapping[str, Any],
) -> None:
    """From ready to done."""
    events.send("ready", **facts)
    place = {
        "stage": order.stage,
        "folder": order.folder,
        "column": order.column,
        "given": json.loads(order.given),
        "variation": Variation(order.seed, order.form),
    }
    for scenario in todo:
        _report(scenario, backend, events, place)
    events.send("done")


def _report(scenario: Scenario, backend: Backend[Any], events: Events, place: Mapping[str, Any]) -> None:
    name = scenario.name
    events.point_to_log()
    with suppress(OSError):  # a disk that is full costs the log, and not the scenario
        os.write(2, heading(name).encode())
    events.send("started", scenario=name)

    def called(asked: str, function: str, code: dict[str, Code]) -> None:
        sources = {one: vars(source) for one, source in code.items()}
        events.send("called", scenario=name, asked=asked, name=function, code=sources)

    # No keyboard reaches this process: whatever is raised here, sys.exit() too, the scenario raised.
    result = execute(
        scenario,
        backend,
        lambda seen: events.send("observed", scenario=name, observation=vars(seen)),
        on_call=called,
        catch=BaseException,
        **place,
    )
    error = result.error and vars(result.error)
    events.send("finished", scenario=name, status=result.status, seconds=result.seconds, error=error)


def _arguments(arguments: Sequence[str], *, later: bool = False) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="d2lparams worker", description="Started by d2lparams, not by hand.")
    if not later:
        parser.add_argument("--adapter", required=True, help="a module, or the path of a file")
        parser.add_argument("--backend", required=True, help="the Backend subclass in it")
        parser.add_argument("--distribution", action="append", default=[], help="one whose version to report")
        parser.add_argument("--scenarios", type=Path, dest="file", help="a file to take the scenarios from")
        parser.add_argument("--serve", action="store_true", help="run what comes on stdin instead")
    parser.add_argument("--stage", type=int, default=0, help="which stage of the scenarios to run")
    parser.add_argument("--folder", type=Path, help="one that all columns of the run see")
    parser.add_argument("--column", default="", help="the name of the column")
    parser.add_argument("--seed", type=int, default=0, help="of what scenarios draw")
    parser.add_argument("--form", default="", help="of the models of scenarios")
    parser.add_argument("--given", default="{}", help="what scenarios are given, as JSON")
    parser.add_argument("names", nargs="*", help="the scenarios to run, in this order")
    return parser.parse_args(arguments)


def _backend(adapter: str, class_name: str) -> Backend[Any]:
    if adapter.endswith(".py"):
        module = load_file(Path(adapter), "backend_file")
    else:
        module = importlib.import_module(adapter)
    backend: Backend[Any] = getattr(module, class_name)()
    return backend


def _scenarios(file: Path | None) -> Mapping[str, Scenario]:
    if file is None:
        return scenarios()
    load_file(file, "scenarios_file")
    return REGISTERED


def _versions(distributions: Iterable[str]) -> dict[str, str]:
    versions = {}
    for name in distributions:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # the backend works without it, as its import has shown
    return versions


def _machine() -> str:
    """The system, the processor and the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{platform.system()} {platform.machine()}, {cores} core{'s' * (cores > 1)}"


def _leave(code: int) -> NoReturn:
    """End here and now.

    Everything is reported, and what a framework does on the way out (joining its threads, unloading its
    libraries) costs seconds, and at times hangs or crashes: after a good run that would look like a bad one.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # replaced or closed by a scenario; the exit still stands
    os._exit(code)
