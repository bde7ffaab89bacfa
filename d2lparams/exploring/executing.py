"""Does to models of one framework what a program says, and looks at all of them after each operation.

In a column it is a process that is told programs, lines of JSON on its stdin, and reports in events:

    ready    the backend is imported; what it has: ways of tying, life cycles, formats
    failed   it could not be imported
    seen     what an operation did, see `seen.Seen`; the first is that of building the model
    ended    of a program
    script   a program in the framework alone, where that was asked for

Every model that a program makes stays alive to its end, so that no two storages have one address.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

import faulthandler
import json
import tempfile
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

import numpy as np

from d2lparams.errand import end_with_parent
from d2lparams.events import take_stdout
from d2lparams.exploring.program import OPTIMIZERS, ROWS, Operation, Program
from d2lparams.exploring.seen import Seen, Snapshot, Use
from d2lparams.failures import failure
from d2lparams.interface import MLP, Array, Backend, Trainer, UnknownLayer, Unsupported
from d2lparams.scenarios.examination import examine
from d2lparams.scenarios.inputs import batch, draw, starting_values
from d2lparams.scenarios.sentences import sentence
from d2lparams.worker import load_file


def main(arguments: Sequence[str]) -> NoReturn:
    """Run what comes, until the parent is gone."""
    adapter, class_name = arguments
    events = take_stdout()
    orders: SimpleQueue[bytes] = SimpleQueue()
    end_with_parent(orders.put)
    faulthandler.enable()
    try:
        backend = load_backend(adapter, class_name)
        offer = offered(backend)
    except BaseException as error:
        events.send("failed", error=failure(error).message)
        raise
    events.send("ready", offer=offer)
    while True:
        order = json.loads(orders.get())
        program = Program.from_json(order["program"])
        if order["script"]:
            events.send("script", script=own_script(backend, program))
            continue
        for seen in execute(backend, program):
            events.send("seen", seen=seen.to_json())
        events.send("ended")


def load_backend(adapter: str, class_name: str) -> Backend[Any]:
    """A backend by the name of its module, or the path of its file."""
    module = load_file(Path(adapter), "backend_file") if adapter.endswith(".py") else import_module(adapter)
    backend: Backend[Any] = getattr(module, class_name)()
    return backend


def offered(backend: Backend[Any]) -> dict[str, Any]:
    """What a backend has that programs can be made of."""
    carries = True
    try:
        backend.carrier()
    except Unsupported:
        carries = False
    return {
        "tying": list(backend.tying),
        "lives": [one.name for one in backend.lifecycles()],
        "files": [one.name for one in backend.formats()],
        "carries": carries,
    }


def execute(backend: Backend[Any], program: Program) -> Iterator[Seen]:
    """Run a program; what was seen after building the model, and after each operation.

    It ends early after an operation that raised.
    """
    with backend.fresh():
        state = _State(backend, program.spec)
        for step in (state.build, *(_bound(state, one) for one in program.operations)):
            seen = state.after(step)
            yield seen
            if seen.error or (seen.unsupported and not seen.models):
                return


def own_script(backend: Backend[Any], program: Program) -> str:
    """A program in the framework alone that shows what the life cycle does, or "" where none can be written."""
    try:
        (operation,) = program.operations
        (lifecycle,) = [one for one in backend.lifecycles() if one.name == operation.way]
        if not program.spec.tied or program.spec.lazy:
            return ""
        with backend.fresh():
            outcome = examine(backend, lifecycle, program.spec).outcome
        return backend.script(lifecycle, program.spec, outcome) if outcome != "kept" else ""
    except Exception:  # what the harness's own examination cannot look at, it can write no script for
        return ""


def value_for(index: int, shape: tuple[int, ...], dtype: str) -> Array:
    """What the operation of this index writes."""
    return draw(2000 + index, shape, dtype)


@dataclass
class _State:
    """The models of a program, and what was done so far."""

    backend: Backend[Any]
    spec: MLP
    models: list[Any] = field(default_factory=list)
    ties: list[Operation] = field(default_factory=list)
    trainer: Trainer | None = None
    done: int = 0
    moving: bool = False
    unkept: list[Any] = field(default_factory=list)

    def again(self) -> Any:
        """Another model of the same form, with values of its own; in the dtype that the current one has.

        Raises:
            Unsupported: when the current model is of another class, as an exported program is.
        """
        spec = self.spec
        if self.models:
            if _kind(self.models[-1]) != _kind(self.models[0]):
                raise Unsupported("what came out is of another class than the model that was built")
            dtype: Any = self.backend.parameters(self.models[-1])[0].dtype
            spec = replace(spec, dtype=dtype)
        model = self.backend.mlp(spec)
        if self.spec.lazy:
            model = self.backend.initialize(model, _batch(spec)[0])
        for one in self.ties:
            model = self.backend.tie(model, one.layer, one.to, one.by, one.roles)
        return model

    def build(self) -> Seen:
        """The first model, with values that are known."""
        model = self.again()
        for (layer, role), value in starting_values(self.spec).items():
            self.backend.assign(model, layer, role, value)
        self.models.append(model)
        return Seen()

    def operate(self, operation: Operation) -> Seen:
        """Do it to the current model."""
        backend, model = self.backend, self.models[-1]
        x, y = self.batch()
        self.moving = operation.do in ("live", "file", "carry")
        match operation.do:
            case "write":
                one = backend.parameter(model, operation.layer, operation.role)
                value = value_for(self.done, one.shape, one.dtype)
                backend.assign(model, operation.layer, operation.role, value)
            case "tie":
                tied = backend.tie(model, operation.layer, operation.to, operation.by, operation.roles)
                self.ties.append(operation)
                self.unkept.append(model)
                self.models[-1] = tied
            case "gradients":
                found = backend.gradients(model, x, y)
                return Seen(gradients={f"{layer} {role}": value for (layer, role), value in found.items()})
            case "train":
                self.trainer = backend.trainer(model, OPTIMIZERS[operation.way])
                return Seen(loss=self.trainer.step(x, y))
            case "train on":
                assert self.trainer is not None
                return Seen(loss=self.trainer.step(x, y))
            case "live":
                (lifecycle,) = [one for one in backend.lifecycles() if one.name == operation.way]
                return self.take(lifecycle.apply(model, self.again, x))
            case "file":
                (form,) = [one for one in backend.formats() if one.name == operation.way]
                with tempfile.TemporaryDirectory() as folder:
                    form.save(model, Path(folder) / "net")
                    return self.take(form.load(self.again(), Path(folder) / "net"))
            case "carry":
                try:
                    return self.take(backend.load(self.again(), backend.export(model, x), x))
                except UnknownLayer as error:
                    raise Unsupported(str(error)) from None  # it says so of what it does not know
        return Seen()

    def batch(self) -> tuple[Array, Array]:
        """Inputs and targets in the current model's own dtype."""
        dtype = self.backend.parameters(self.models[-1])[0].dtype
        x, y = _batch(self.spec)
        return x.astype(dtype), y.astype(dtype)

    def take(self, model: Any) -> Seen:
        """What came out is the current model from now on."""
        if model is self.models[-1]:
            return Seen()
        if _kind(self.models[-1]) != _kind(self.models[0]):
            try:
                self.backend.parameters(model)
            except ValueError as error:
                raise Unsupported(str(error)) from None  # the harness sees no dense layer in it
            except Exception:
                pass  # what else is wrong with it is told when it is looked at
        self.models.append(model)
        return Seen(in_place=False)

    def after(self, step: Callable[[], Seen]) -> Seen:
        """Do something, and look at everything."""
        try:
            seen = step()
        except Unsupported as reason:
            seen = Seen(unsupported=str(reason))
        except Exception as error:
            said = sentence(error)
            # A way is written for a model as it was built; that it refuses one of another class is no news.
            another = self.moving and _kind(self.models[-1]) != _kind(self.models[0])
            seen = Seen(unsupported=said) if another else Seen(error=said)
        self.done += 1
        storages: dict[Hashable, int] = {}
        return replace(seen, models=tuple(self.look(model, storages) for model in self.models))

    def look(self, model: Any, storages: dict[Hashable, int]) -> Snapshot:
        """A model as it is now."""
        try:
            uses = self.backend.parameters(model)
            x = _batch(self.spec)[0].astype(uses[0].dtype)
            return Snapshot(
                tuple(
                    Use(one.layer, one.role, storages.setdefault(one.storage, len(storages)), one.value)
                    for one in uses
                ),
                np.asarray(self.backend.forward(model, x)),
                self.backend.counts(model),
            )
        except Unsupported as reason:
            return Snapshot(error=f"Unsupported: {reason}")
        except Exception as error:
            return Snapshot(error=sentence(error))


@lru_cache
def _batch(spec: MLP) -> tuple[Array, Array]:
    return batch(spec, ROWS)


def _kind(model: Any) -> Any:
    """The class of a model; of a pair of module and variables, that of the module."""
    return type(model[0]) if isinstance(model, tuple) else type(model)


def _bound(state: _State, operation: Operation) -> Callable[[], Seen]:
    return lambda: state.operate(operation)
