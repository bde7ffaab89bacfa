"""How does the time and the memory of each part grow: with layers, width, steps, columns, observations?

A curve for each question, and its exponent; `curves` says what an exponent is taken from. What becomes of
observations and columns is traced here, and what is done to models in the environment of each backend.

    python benchmarks/growth.py [--rounds 3] [--json FILE] [--quick] [--limit 35] [--only NAME ...]
        [--backends NAME ...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import msgspec  # noqa: E402
from curves import PROMISED, Question, Work, arguments, doubling, sizes, traced  # noqa: E402
from measuring import Figure, read, show, write  # noqa: E402
from rich.console import Console  # noqa: E402

from d2lparams.__main__ import collect_seldom  # noqa: E402
from d2lparams.columns import Column, adapters, parse_column  # noqa: E402
from d2lparams.comparison import compare_runs  # noqa: E402
from d2lparams.environments import ensure, location  # noqa: E402
from d2lparams.events import Events  # noqa: E402
from d2lparams.merging import merge  # noqa: E402
from d2lparams.process import Worker  # noqa: E402
from d2lparams.reports.document import from_json, to_json  # noqa: E402
from d2lparams.reports.markdown import to_markdown  # noqa: E402
from d2lparams.reports.notebook import comparison_html  # noqa: E402
from d2lparams.reports.page import to_html  # noqa: E402
from d2lparams.reports.terminal import ComparisonView  # noqa: E402
from d2lparams.results import Observation, Outcome, Run, ScenarioResult  # noqa: E402
from d2lparams.runner import run  # noqa: E402
from d2lparams.scenarios import Observer  # noqa: E402
from d2lparams.scenarios.catalog import catalog  # noqa: E402

console = Console()


# -- observations --------------------------------------------------------------------------------------------


def runs(rows: int, each: int, columns: int = 3) -> list[Run]:
    """A reference and frameworks that saw so many observations, so many in each scenario; like real ones."""
    return [
        Run(
            name="numpy" if column == 0 else f"fake {column}",
            backend="numpy",
            title="NumPy" if column == 0 else f"Fake {column}",
            reference=column == 0,
            versions={"numpy": "2.4.6"},
            python="3.11.7",
            status="ok",
            scenarios=[
                ScenarioResult(
                    f"scenario-{number}",
                    "6.2.1",
                    f"Scenario {number}",
                    "ok",
                    observations=[observation(place, column) for place in range(min(each, rows - first))],
                )
                for number, first in enumerate(range(0, rows, each))
            ],
        )
        for column in range(columns)
    ]


def observation(place: int, column: int) -> Observation:
    """The one at a place of a scenario: one in four is an array, a trait that differs, a text, an outcome."""
    match place % 4:
        case 0:
            values = [[place + 0.25 * row + column * 1e-12 for _ in range(4)] for row in range(4)]
            return Observation(f"weight {place}", "invariant", values, rtol=1e-9)
        case 1:
            return Observation(f"names {place}", "trait", [f"layer {place}.weight of {column}", "(8, 4)"])
        case 2:
            return Observation(f"count {place}", "invariant", place, expected=place)
    word = ("kept", "broken", "refused")[(place // 4 + column) % 3]
    outcome = Outcome(word, f"copy.deepcopy(net[{place}])", {"storages": f"{place} of {column}"}, "")
    return Observation(f"way {place}", "outcome", vars(outcome))


def questions_of_observations(last: int) -> Iterator[Question]:
    """The parts that an observation passes, from a worker to each report; in small and in large scenarios."""
    for each in (20, 5000):
        said = f"{each} a scenario"

        def alone(rows: int, each: int = each) -> Run:
            return runs(rows, each, 1)[0]

        def compared(rows: int, each: int = each) -> Any:
            return compare_runs(runs(rows, each))

        ask = partial(Question, by="observations", sizes=sizes(10, last))
        asked: dict[str, tuple[Callable[[int], Any], Work]] = {
            "a worker's events": (alone, told),
            "read by the parent": (lambda rows, alone=alone: lines(alone(rows)), received),
            "compared": (lambda rows, each=each: runs(rows, each), compare_runs),
            "merged": (lambda rows, compared=compared: {"a": compared(rows), "b": compared(rows)}, merge),
            **{name: (compared, report) for name, report in reports().items()},
        }
        for name, (make, work) in asked.items():
            yield ask(f"{name}, {said}", make=make, work=work)
        # Hundreds of megabytes, to build which is not linear by itself.
        for name, make, work, bare in (
            ("JSON, written", compared, to_json, indented),
            ("JSON, read", lambda rows, make=compared: to_json(make(rows)), from_json, msgspec.json.decode),
        ):
            said_so = f"{name}, against msgspec alone, {said}"
            yield ask(said_so, make=make, work=work, most=PROMISED - 1, against=bare)


def reports() -> dict[str, Work]:
    """Everything that a comparison is shown as to people."""
    return {
        "terminal, 200 wide": lambda comparison: printed(comparison, 200),
        "terminal, 80 wide": lambda comparison: printed(comparison, 80),
        "Markdown": to_markdown,
        "page": to_html,
        "notebook": comparison_html,
    }


def indented(comparison: Any) -> bytes:
    """What msgspec alone makes of a comparison, in the form of our document."""
    return msgspec.json.format(msgspec.json.encode(comparison), indent=2)


def told(run: Run) -> None:
    """What a worker does with each observation: it is checked, made JSON of, and sent."""
    null = os.open(os.devnull, os.O_WRONLY)
    events = Events(null, 2)
    for result in run.scenarios:
        observer = Observer(
            lambda seen, name=result.name: events.send("observed", scenario=name, observation=vars(seen))
        )
        for one in result.observations:
            observer._take(one)
    events._stream.close()


def lines(run: Run) -> list[bytes]:
    """The events of a run."""
    return [
        json.dumps({"event": "observed", "scenario": result.name, "observation": vars(one)}).encode()
        for result in run.scenarios
        for one in result.observations
    ]


def received(said: Sequence[bytes]) -> list[Any]:
    """What the parent does with each event."""
    return [Worker.decoder.decode(line) for line in said]


def printed(comparison: Any, width: int) -> None:
    """The comparison on a terminal of a width."""
    with Path(os.devnull).open("w", encoding="utf-8") as null:
        Console(file=null, width=width, force_terminal=True).print(ComparisonView(comparison))


# -- columns -------------------------------------------------------------------------------------------------


def questions_of_columns(last: int, rows: int) -> Iterator[Question]:
    """Columns side by side: the parts of the road, and the whole of it with columns that are one, repeated."""

    def compared(columns: int) -> Any:
        return compare_runs(runs(rows, 20, columns))

    asked: dict[str, tuple[Callable[[int], Any], Work]] = {
        "compared": (lambda columns: runs(rows, 20, columns), compare_runs),
        "merged, a file for each": (
            lambda columns: {f"{one}.json": compared(2) for one in range(columns)},
            merge,
        ),
        "JSON, written": (compared, to_json),
        **{name: (compared, report) for name, report in reports().items()},
    }
    for name, (make, work) in asked.items():
        yield Question(f"{name}, {rows} observations", "columns", doubling(1, last), make, work)
    # The same work for each, on so many cores.
    yield Question(
        "run: a worker for each, one scenario",
        "columns",
        doubling(1, last),
        repeated_columns,
        lambda work: work(),
        clock=time.perf_counter,
        memory=False,
    )


def repeated_columns(columns: int) -> Callable[[], None]:
    """The reference as so many columns, each with a process of its own, one environment for all."""
    first = parse_column("numpy")
    ready = ensure(first)
    cache = tempfile.TemporaryDirectory(prefix="growth-")  # removed when the work is forgotten
    asked = [replace(first, name=f"numpy-{number}") for number in range(columns)]

    def work() -> None:
        before = os.environ.get("D2LPARAMS_CACHE")
        os.environ["D2LPARAMS_CACHE"] = cache.name
        try:
            for column in asked:
                place = location(column)
                place.parent.mkdir(parents=True, exist_ok=True)
                if not place.exists():
                    place.symlink_to(ready.path)
            found = run(asked, [catalog()["tied-by-construction"]], offline=True)
            assert all(one.status == "ok" for one in found), [one.error for one in found]
        finally:
            os.environ.pop("D2LPARAMS_CACHE")
            if before is not None:
                os.environ["D2LPARAMS_CACHE"] = before

    return work


# -- models --------------------------------------------------------------------------------------------------


def of_models(name: str, given: Namespace) -> list[Figure]:
    """What `growth_inside.py` found in the environment of a backend."""
    adapter = adapters()[name]
    environment = ensure(Column(name, adapter), progress=lambda text: None)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "figures.json"
        order = [str(environment.python), "-I", str(HERE / "growth_inside.py"), name, adapter.class_name]
        asked = ["--rounds", str(given.rounds), "--limit", str(given.limit), "--json", str(file)]
        chosen = [*(["--quick"] if given.quick else []), *(["--only", *given.only] if given.only else [])]
        environ = {**environment.variables(adapter), **os.environ, "TMPDIR": scratch}
        if code := subprocess.run([*order, *asked, *chosen], env=environ).returncode:
            console.print(
                f"{name} ended with exit code {code}; what it was at is not measured", style="bold red"
            )
        return read(file)[name][1] if file.exists() else []


# -- everything ----------------------------------------------------------------------------------------------


def main() -> None:
    """Measure every curve, print the table, and write the JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--backends", nargs="*", default=list(adapters()), help="whose models; all")
    given = parser.parse_args()
    questions = chain(
        questions_of_observations(100 if given.quick else 100_000),
        questions_of_columns(*((4, 40) if given.quick else (32, 400))),
    )
    figures = traced(questions, given, partial(write, given.json, "growth"))
    for name in given.backends:
        figures += of_models(name, given)
        write(given.json, "growth", figures)
    show(f"exponents of growth, {given.rounds} rounds", figures)


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "140")
    collect_seldom()  # as the command does
    main()
