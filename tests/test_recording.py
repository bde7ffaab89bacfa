"""What is taken down of an adapter's functions: those that a scenario calls, with their source, and no harm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import backends.numpy
from backends.numpy import NumpyBackend
from d2lparams.interface import MLP, SGD, Backend
from d2lparams.recording import recorded, sources
from d2lparams.results import Code
from d2lparams.scenarios import scenarios
from d2lparams.subjects import Format, Lifecycle
from d2lparams.worker import execute, load_file

SPEC = MLP(sizes=(4, 8, 1))


def calls(backend: Backend[Any], use: Callable[[Backend[Any]], None]) -> tuple[dict[str, str], dict[str, Code]]:
    """What a use of a backend calls, and the code."""
    called: dict[str, str] = {}
    code: dict[str, Code] = {}

    def tell(asked: str, name: str, found: dict[str, Code]) -> None:
        assert asked not in called
        called[asked] = name
        code.update(found)

    with recorded(backend, tell):
        use(backend)
    return called, code


def test_hooks_are_told_in_the_order_of_their_first_calls() -> None:
    def use(backend: Backend[Any]) -> None:
        model = backend.mlp(SPEC)
        for _ in range(3):
            backend.parameter(model, 1, "bias")
        backend.counts(model)

    called, code = calls(NumpyBackend(), use)
    assert called == {
        "mlp": "numpy.NumpyBackend._mlp",
        "parameters": "numpy.NumpyBackend._parameters",
        "counts": "numpy.NumpyBackend._counts",
    }
    assert called["mlp"] in code


def test_the_code_is_what_stands_in_the_file() -> None:
    _, code = calls(NumpyBackend(), lambda backend: backend.mlp(SPEC))
    seen = code["numpy.NumpyBackend._mlp"]
    lines = Path(backends.numpy.__file__).read_text(encoding="utf-8").splitlines()
    assert seen.file == "backends/numpy.py"
    assert lines[seen.line - 1].strip() == seen.text.splitlines()[0]
    assert seen.text.startswith("def _mlp(")


def test_a_trainer_tells_of_its_steps() -> None:
    def use(backend: Backend[Any]) -> None:
        model = backend.mlp(SPEC)
        x, y = [[0.0] * 4], [[0.0]]
        backend.trainer(model, SGD(0.125)).step(x, y)  # type: ignore[arg-type]

    called, code = calls(NumpyBackend(), use)
    assert called["trainer.step"] == "numpy._Trainer._step"
    assert code[called["trainer.step"]].text.startswith("def _step(")


def test_helpers_that_a_function_names_are_there_and_come_with_it() -> None:
    called, code = calls(NumpyBackend(), lambda backend: backend.parameters(backend.mlp(SPEC)))
    for name in called.values():
        assert set(code[name].helpers) <= set(code)
    assert any(one.helpers for one in code.values())


class Lives(NumpyBackend):
    """A backend with a life cycle that is written as a lambda."""

    def lifecycles(self) -> list[Lifecycle[Any]]:
        return [
            Lifecycle("nothing", "net", lambda net, again, x: net),
        ]


def test_a_listed_function_is_told_by_its_name_and_a_lambda_by_the_call_it_stands_in() -> None:
    def use(backend: Backend[Any]) -> None:
        (life,) = backend.lifecycles()
        assert life.apply("net", lambda: "again", None) == "net"  # type: ignore[arg-type]

    called, code = calls(Lives(), use)
    assert list(called) == ["life cycle: nothing"]
    assert code[called["life cycle: nothing"]].text == (
        'Lifecycle("nothing", "net", lambda net, again, x: net)'
    )


def load(model: Any, file: Any, *, strict: bool = True) -> Any:
    return model, strict


class Partly(NumpyBackend):
    """A backend that lists functions with some of their arguments given, and knows them again."""

    formed = Format("file", "load(net)", save=print, load=partial(load, strict=False), edit=print)
    lived = Lifecycle("nothing", "net", load)

    def formats(self) -> list[Format[Any]]:
        return [self.formed]

    def lifecycles(self) -> list[Lifecycle[Any]]:
        return [self.lived]

    def script(self, lifecycle: Lifecycle[Any], spec: MLP, outcome: str) -> str:
        return "known" if lifecycle is self.lived and lifecycle.apply is load else "a stranger"


def test_a_function_with_arguments_given_is_called_with_them_and_shown() -> None:
    def use(backend: Backend[Any]) -> None:
        (form,) = backend.formats()
        assert form.load("net", Path("file")) == ("net", False)

    called, code = calls(Partly(), use)
    assert code[called["format: file, load"]].text.startswith("def load(")


def test_what_an_adapter_listed_comes_back_to_it_as_it_listed_it() -> None:
    def use(backend: Backend[Any]) -> None:
        (life,) = backend.lifecycles()
        assert backend.script(life, SPEC, "broken") == "known"
        assert backend.script(lifecycle=life, spec=SPEC, outcome="broken") == "known"

    calls(Partly(), use)


class _Unreadable:
    """Can be called, and has nothing that a function has."""

    def __call__(self, *arguments: Any) -> Any:
        return "done"


def test_a_function_that_cannot_be_read_does_what_it_does_and_says_so() -> None:
    class Odd(NumpyBackend):
        def lifecycles(self) -> list[Lifecycle[Any]]:
            return [Lifecycle("odd", "net", _Unreadable())]

    def use(backend: Backend[Any]) -> None:
        (life,) = backend.lifecycles()
        assert life.apply("net", lambda: "again", None) == "done"  # type: ignore[arg-type]

    called, code = calls(Odd(), use)
    assert code[called["life cycle: odd"]].text.startswith("# the source of _Unreadable cannot be read")


def test_nothing_is_left_on_the_backend_also_when_a_scenario_fails() -> None:
    backend = NumpyBackend()

    def use(backend: Backend[Any]) -> None:
        backend.mlp(SPEC)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        calls(backend, use)
    assert vars(backend) == {}


def test_a_scenario_sees_the_same_whether_it_is_recorded_or_not() -> None:
    for name in ("tied-by-construction", "train-step"):
        scenario, seen = scenarios()[name], []
        scenario.function(NumpyBackend(), _Plain(seen))  # type: ignore[arg-type]
        result = execute(scenario, NumpyBackend())
        assert [one.name for one in result.observations] == seen
        assert result.called


class _Plain:
    """Takes down names only."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    def __getattr__(self, kind: str) -> Callable[..., None]:
        return lambda name, *values, **options: self._seen.append(name)


def test_a_backend_in_a_file_of_its_own_shows_its_own_code(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from backends.numpy import NumpyBackend\n\n\n"
        "def helper(spec):\n    return spec\n\n\n"
        "class Mine(NumpyBackend):\n"
        "    def _mlp(self, spec):\n"
        "        return super()._mlp(helper(spec))\n"
    )
    module = load_file(file, "backend_file")
    called, code = calls(module.Mine(), lambda backend: backend.mlp(SPEC))
    assert called == {"mlp": "backend_file.Mine._mlp"}
    assert code["backend_file.Mine._mlp"].helpers == ["backend_file.helper"]
    assert (code["backend_file.helper"].file, code["backend_file.helper"].line) == ("mine.py", 4)


def test_what_has_no_source_says_so() -> None:
    space: dict[str, Any] = {"__name__": "nowhere"}
    exec("def made():\n    return 1\n", space)
    name, code = sources(space["made"])
    assert code[name].text == "# the source of nowhere.made cannot be read"
