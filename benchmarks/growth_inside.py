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
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import looking_inside  # noqa: E402
from curves import PROMISED, Question, arguments, doubling, sizes, traced  # noqa: E402
from measuring import write  # noqa: E402

runpy.run_path(str(HERE.parent / "d2lparams" / "bootstrap.py"))["expose"]()

from d2lparams.interface import MLP, SGD, Backend, partition, unique  # noqa: E402


class Models:
    """What is done to the models of a backend, and the models of each size."""

    def __init__(self, backend: Backend[Any]) -> None:
        self.backend = backend

    def deep(self, layers: int) -> Any:
        """So many layers of 8."""
        return self.backend.mlp(MLP((8,) * (layers + 1), activation="tanh"))

    def one_layer(self, uses: int) -> Any:
        """One layer of 8, used so many times."""
        return self.backend.mlp(MLP((8,) * (uses + 1), tied=(tuple(range(uses)),) if uses > 1 else ()))

    def wide(self, width: int) -> Any:
        """One layer of a width; its values are there, which some frameworks draw behind the scenes."""
        model = self.backend.mlp(MLP((width, width)))
        self.read(model)
        return model

    def beside(self, width: int) -> tuple[Any, Any]:
        """A wide one, and an array like its weight."""
        return self.wide(width), np.ones((width, width), "float32")

    def trained(self, model: Any, inputs: int = 8, steps: int = 1) -> tuple[Any, ...]:
        """What `stepped` takes."""
        x, y = np.ones((2, 4, inputs), "float32")
        return self.backend.trainer(model, SGD(0.125, momentum=0.875)), x, y, steps

    def read(self, model: Any) -> list[float]:
        """Every value."""
        return [float(one.value.sum()) for one in self.backend.parameters(model)]

    def table(self, model: Any) -> str:
        """The list, as it shows itself."""
        return repr(self.backend.parameters(model))

    def write(self, model: Any) -> None:
        """Every value."""
        values = {
            (one.layer, one.role): np.ones(one.shape, "float32") for one in self.backend.parameters(model)
        }
        self.backend.assign_all(model, values)


def by_layers(models: Models, ask: Callable[..., Question], most: int) -> Iterator[Question]:
    """To build a model, look at it and train it. A list is held against the framework's own."""
    backend, deep = models.backend, models.deep
    x = np.ones((4, 8), "float32")
    ask = partial(ask, by="layers", sizes=sizes(1, most))
    yield ask(f"{backend.name}: mlp(spec)", make=int, work=deep)
    yield ask(f"{backend.name}: mlp(spec), all layers one", make=int, work=models.one_layer)
    for name, look in {
        "every value read": models.read,
        "every value written": models.write,
        "forward": lambda model: backend.forward(model, x),
        "gradients": lambda model: backend.gradients(model, x, x),
    }.items():
        yield ask(f"{backend.name}: {name}", make=deep, work=look)
    yield ask(f"{backend.name}: one step", make=lambda layers: models.trained(deep(layers)), work=stepped)
    if backend.name != "numpy":
        listed = getattr(looking_inside, backend.name)().listed
        said, ask = ", against the framework's own list", partial(ask, most=PROMISED - 1, against=listed)
    else:
        said = ""
        yield ask(f"{backend.name}: all layers one: the table", make=models.one_layer, work=models.table)
    for name, look in {
        "parameters(model)": backend.parameters,
        "unique": lambda model: unique(backend.parameters(model)),
        "partition": lambda model: partition(backend.parameters(model)),
        "the table of them": models.table,
    }.items():
        yield ask(f"{backend.name}: {name}{said}", make=deep, work=look)


def by_width(models: Models, ask: Callable[..., Question], most: int) -> Iterator[Question]:
    """Twice as wide is four times as many values, as in an array of that width, which is copied beside."""
    backend = models.backend
    ask = partial(ask, by="width", sizes=doubling(8, most), most=PROMISED - 1)
    yield ask(f"{backend.name}: parameters(model)", make=models.wide, work=backend.parameters)

    def trained(width: int) -> Any:
        model, array = models.beside(width)
        return models.trained(model, width), array

    said, ask = "against a copy of an array", partial(ask, against=lambda given: copied(given[1]))
    read = f"{backend.name}: every value read, {said}"
    yield ask(read, make=models.beside, work=lambda given: models.read(given[0]))
    yield ask(f"{backend.name}: one step, {said}", make=trained, work=lambda given: stepped(given[0]))


def by_steps(models: Models, ask: Callable[..., Question], most: int) -> Iterator[Question]:
    """To train for long."""
    model = models.deep(2)

    def trained(steps: int) -> Any:
        return models.trained(model, steps=steps)

    yield ask(f"{models.backend.name}: Trainer.step", "steps", sizes(1, most), trained, stepped)


def copied(array: np.ndarray[Any, Any]) -> float:
    """What it takes at the least to read a matrix: one copy, and a look at it."""
    return float(array.copy().sum())


def stepped(given: tuple[Any, ...]) -> None:
    """So many steps."""
    trainer, x, y, steps = given
    for _ in range(steps):
        trainer.step(x, y)


def main() -> None:
    """Trace every curve of one backend."""
    parser = arguments(__doc__)
    parser.add_argument("backend")
    parser.add_argument("class_name", metavar="CLASS")
    given = parser.parse_args()
    backend = getattr(import_module(f"backends.{given.backend}"), given.class_name)()
    largest = (30, 64, 100) if given.quick else (10_000, 8192, 100_000)
    models, ask = Models(backend), partial(Question, memory=backend.name == "numpy", collector=False)
    parts = (by_layers, by_width, by_steps)
    questions = chain.from_iterable(part(models, ask, most) for part, most in zip(parts, largest))
    traced(questions, given, partial(write, given.json, given.backend))


if __name__ == "__main__":
    main()
