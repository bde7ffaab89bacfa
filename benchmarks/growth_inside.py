"""What of `growth.py` runs in a framework's environment: what the harness does to a model, by its size.

    python growth_inside.py BACKEND CLASS [--quick] [--rounds 3] [--limit 35] [--only NAME ...] [--json FILE]

A file that is written holds these figures alone.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import looking_inside  # noqa: E402
from curves import PROMISED, Question, Work, arguments, doubling, sizes, traced  # noqa: E402
from measuring import write  # noqa: E402

runpy.run_path(str(HERE.parent / "d2lparams" / "bootstrap.py"))["expose"]()

from d2lparams.interface import MLP, SGD, Backend, partition, unique  # noqa: E402


def questions_of_models(backend: Backend[Any], layers: int, width: int, steps: int) -> Iterator[Question]:
    """What the harness does to a model, by its layers, its width, and how long it is trained."""
    plain = backend.name == "numpy"
    ask = partial(Question, memory=plain, collector=False)

    def deep(number: int) -> Any:
        return backend.mlp(MLP((8,) * (number + 1), activation="tanh"))

    def tied(number: int) -> Any:
        return backend.mlp(MLP((8,) * (number + 1), tied=(tuple(range(number)),) if number > 1 else ()))

    def wide(number: int) -> Any:
        return backend.mlp(MLP((number, number)))

    def wide_and_array(number: int) -> Any:
        return wide(number), np.ones((number, number), "float32")

    def batch(inputs: int = 8) -> tuple[Any, Any]:
        return np.ones((4, inputs), "float32"), np.ones((4, inputs), "float32")

    def trained(model: Any, inputs: int, number: int = 1) -> tuple[Any, ...]:
        return backend.trainer(model, SGD(0.125, momentum=0.875)), *batch(inputs), number

    def values(model: Any) -> list[float]:
        return [float(one.value.sum()) for one in backend.parameters(model)]

    def written(model: Any) -> None:
        backend.assign_all(
            model, {(one.layer, one.role): np.ones(one.shape, "float32") for one in backend.parameters(model)}
        )

    lists: dict[str, Work] = {
        "parameters(model)": backend.parameters,
        "unique": lambda model: unique(backend.parameters(model)),
        "partition": lambda model: partition(backend.parameters(model)),
        "the table of them": lambda model: repr(backend.parameters(model)),
    }
    looks: dict[str, Work] = {
        "every value read": values,
        "every value written": written,
        "forward": lambda model: backend.forward(model, batch()[0]),
        "gradients": lambda model: backend.gradients(model, *batch()),
    }
    asked: dict[str, tuple[Callable[[int], Any], Work]] = {
        "mlp(spec)": (lambda number: number, deep),
        "mlp(spec), all layers one": (lambda number: number, tied),
        **({name: (deep, look) for name, look in lists.items()} if plain else {}),
        **{name: (deep, look) for name, look in looks.items()},
        "one step": (lambda number: trained(deep(number), 8), stepped),
    }
    if plain:
        asked["all layers one: the table"] = tied, lambda model: repr(backend.parameters(model))
    for name, (make, work) in asked.items():
        yield ask(f"{backend.name}: {name}", "layers", sizes(1, layers), make, work)
    none = PROMISED - 1
    if not plain:
        listed = getattr(looking_inside, backend.name)().listed
        for name, look in lists.items():
            said = f"{backend.name}: {name}, against the framework's own list"
            yield ask(said, "layers", sizes(1, layers), deep, look, none, against=listed)
    # Twice as wide is four times as many values, and linear in those is an exponent of 2.
    widths = doubling(8, width)
    yield ask(f"{backend.name}: parameters(model)", "width", widths, wide, backend.parameters, none)
    name = f"{backend.name}: every value read, against a copy of an array"
    yield ask(name, "width", widths, wide_and_array, lambda given: values(given[0]), none, against=copied)

    def wide_trained(number: int) -> Any:
        return trained(wide(number), number)

    yield ask(f"{backend.name}: one step", "width", widths, wide_trained, stepped, 2 * PROMISED)
    make = partial(trained, deep(2), 8)
    yield ask(f"{backend.name}: Trainer.step", "steps", sizes(1, steps), make, stepped)


def copied(given: tuple[Any, np.ndarray[Any, Any]]) -> float:
    """What it takes at the least to read a matrix: one copy, and a look at it."""
    return float(given[1].copy().sum())


def stepped(given: tuple[Any, ...]) -> None:
    """So many steps."""
    trainer, x, y, number = given
    for _ in range(number):
        trainer.step(x, y)


def main() -> None:
    """Trace every curve of one backend."""
    parser = arguments(__doc__)
    parser.add_argument("backend")
    parser.add_argument("class_name", metavar="CLASS")
    given = parser.parse_args()
    backend = getattr(import_module(f"backends.{given.backend}"), given.class_name)()
    largest = (30, 64, 100) if given.quick else (10_000, 8192, 100_000)
    traced(questions_of_models(backend, *largest), given, partial(write, given.json, given.backend))


if __name__ == "__main__":
    main()
