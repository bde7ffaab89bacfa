"""The contract: what every backend promises, tested on one backend, in the interpreter that pytest runs in.

    pytest tests/contract --backend torch

Without `--backend` it is the reference, held against itself. The judge of every number is the reference with
the same values, drawn by `RandomState`, whose stream NumPy has frozen.

Imports pytest, NumPy and what runs inside every column's environment; nothing else is installed there.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from backends.numpy import NumpyBackend
from d2lparams.interface import MLP, Array, Backend, DType, Parameter, Role

# A name that an access expression starts with, where it is not simply `net` for the model.
NAMES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "jax": lambda model: {"module": model[0], "params": model[1]},
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend", default="numpy", help="the backend to hold to the contract: numpy, torch, ..."
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A framework's own oddities are tested where that framework is the one under test."""
    _, of, name = collection_path.stem.partition("test_carrying_")
    return True if of and name != config.getoption("--backend", default="numpy") else None


@pytest.fixture(scope="session")
def module(request: pytest.FixtureRequest) -> ModuleType:
    """The adapter's module. `pytest tests` reads this file too late for the option to exist."""
    name = request.config.getoption("--backend", default="numpy")
    return importlib.import_module(f"backends.{name}")


@pytest.fixture
def backend(module: ModuleType) -> Iterator[Backend[Any]]:
    """The backend under test, on a clean slate."""
    (found,) = [
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Backend) and one.__module__ == module.__name__
    ]
    backend: Backend[Any] = found()
    with backend.fresh():
        yield backend


@pytest.fixture
def reference() -> NumpyBackend:
    return NumpyBackend()


@pytest.fixture(params=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> DType:
    parameter: DType = request.param
    return parameter


@pytest.fixture
def rtol(dtype: DType) -> float:
    """How far a backend may be from the reference, relative to the largest magnitude."""
    return {"float64": 1e-12, "float32": 1e-5}[dtype]


@pytest.fixture
def near() -> Callable[[Any, float], Any]:
    """`actual == near(expected, rtol)`: of one shape, and that close, relative to the largest magnitude."""

    def near(expected: Any, rtol: float) -> Any:
        return pytest.approx(expected, rel=0, abs=rtol * float(np.max(np.abs(expected))))

    return near


@pytest.fixture
def evaluate(backend: Backend[Any], module: ModuleType) -> Callable[[str, Any], Any]:
    """What an expression that the backend shows gives, for someone who imported what the adapter imports."""

    def evaluate(expression: str, model: Any) -> Any:
        names = NAMES.get(backend.name, lambda model: {"net": model})(model)
        return eval(expression, {**vars(module), **names})

    return evaluate


class Pair:
    """One model twice, on the backend and on the reference (the judge), with the same values in both."""

    def __init__(self, backend: Backend[Any], reference: NumpyBackend, spec: MLP) -> None:
        self.backend, self.reference, self.spec = backend, reference, spec
        self.random = np.random.RandomState(0)
        self.model, self.judge = backend.mlp(spec), reference.mlp(spec)
        if not spec.lazy:
            self.draw()

    def uniform(self, *shape: int) -> Array:
        return self.random.uniform(-1, 1, shape).astype(self.spec.dtype)

    def draw(self) -> None:
        """Give every parameter new values; a tied one gets the last that were drawn for it."""
        for one in self.reference.parameters(self.judge):
            self.assign(one.layer, one.role, self.uniform(*one.shape))

    def batch(self) -> tuple[Array, Array]:
        return self.uniform(6, self.spec.sizes[0]), self.uniform(6, self.spec.sizes[-1])

    def assign(self, layer: int, role: Role, value: Array) -> None:
        self.backend.assign(self.model, layer, role, value)
        self.reference.assign(self.judge, layer, role, value)

    def tie(self, layer: int, to: int) -> None:
        self.model = self.backend.tie(self.model, layer, to)
        self.judge = self.reference.tie(self.judge, layer, to)

    def initialize(self, x: Array) -> None:
        self.model = self.backend.initialize(self.model, x)
        self.judge = self.reference.initialize(self.judge, x)

    def parameters(self) -> list[Parameter]:
        return self.backend.parameters(self.model)

    def forward(self, x: Array) -> tuple[Array, Array]:
        """What the backend says, and what the reference says."""
        return self.backend.forward(self.model, x), self.reference.forward(self.judge, x)

    def gradients(self, x: Array, y: Array) -> list[tuple[Array, Array]]:
        """What the backend says, and what the reference says, of every use of every parameter."""
        actual = self.backend.gradients(self.model, x, y)
        expected = self.reference.gradients(self.judge, x, y)
        assert list(actual) == list(expected)
        return [(actual[key], expected[key]) for key in expected]

    def values(self) -> list[tuple[Array, Array]]:
        """What the backend says, and what the reference says, of every use of every parameter."""
        judged = self.reference.parameters(self.judge)
        return [(one.value, other.value) for one, other in zip(self.parameters(), judged, strict=True)]


@pytest.fixture
def pair(backend: Backend[Any], reference: NumpyBackend) -> Callable[[MLP], Pair]:
    """Builds a model twice; see `Pair`."""
    return lambda spec: Pair(backend, reference, spec)
