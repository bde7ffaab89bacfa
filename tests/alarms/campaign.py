"""Does the comparison cry wolf? Scenarios with many seeds and in every form, on every framework.

A right framework must agree whatever is drawn and whatever form the models have. So every disagreement here is
a false alarm, and every scenario that does not end well; and every outcome of a way that is another one than
with the usual numbers, for what a framework does to a tie does not hang on them. (Where every width is 1, a
file fits a model that it does not fit otherwise; what loads it is held against the first one of that form.)
Exit code 1 when there is any, with the command that shows it.

    python tests/alarms/campaign.py --seeds 200 --state alarms.json

One worker for each framework runs many variations, seed by seed: each seed with the models of the book, and
every so many seeds (`--formed`, default 1) in one of the forms, which take turns; `--every-form` runs these in
all of them. Life cycles take as long as all else together and are run when they are asked for, by
`-s lifecycles`. It prints as it goes. With a state file it can be stopped and goes on where it was.

`ALARMS_REPORT` names a file that the result is written to as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from d2lparams.columns import Column, parse_columns, parse_scenarios
from d2lparams.comparison import Comparison, compare_runs, strain
from d2lparams.results import Outcome, ScenarioResult
from d2lparams.runner import run
from d2lparams.scenarios import Scenario, scenarios
from d2lparams.variation import FORMS, Variation

sys.path.append(str(Path(__file__).parent))
from varied import with_variation

VARIED = Path(__file__).with_name("varied.py")
# Claims of the book take no variation, and defaults are drawn by the framework.
FIXED = {"book-claims", "default-initializers", "optimizer-defaults"}
SCENARIOS = scenarios()

console = Console(highlight=False, soft_wrap=True)


@dataclass
class Worst:
    """The largest deviation of an invariant, over what is allowed, and where it was."""

    ratio: float = -1.0
    where: str = ""


@dataclass
class State:
    """What is known so far.

    Attributes:
        asked: the columns and scenarios; another question needs another state.
        done: the variations that have been run.
        comparisons: how many numbers, arrays and words of frameworks were held against the reference or what
            they must be by definition.
        outcomes: how many outcomes were held against those with the usual numbers.
        usual: those, by column, scenario and way.
        worst: by scenario and observation.
        alarms: in sentences.
        seconds: of wall clock.
    """

    asked: list[str] = field(default_factory=list)
    done: list[list[int | str]] = field(default_factory=list)
    comparisons: int = 0
    outcomes: int = 0
    usual: dict[str, str] = field(default_factory=dict)
    worst: dict[str, Worst] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    seconds: float = 0.0


def variations(seeds: int, forms: Sequence[str], every_form: bool, formed: int) -> list[Variation]:
    """The usual numbers first, then seed by seed."""
    found = []
    for seed in range(seeds):
        found.append(Variation(seed))
        if seed % formed == 0:
            turn = forms if every_form else [forms[seed // formed % len(forms)]]
            found += [Variation(seed, form) for form in turn]
    if not every_form:
        # However few seeds there are, no form is left out.
        found += [Variation(0, form) for form in forms if not any(one.form == form for one in found)]
    return list(dict.fromkeys(found))


def run_chunk(columns: Sequence[Column], chosen: Sequence[Scenario], chunk: Sequence[Variation]) -> Comparison:
    """Run every scenario with each of the variations, and judge as the command does."""
    plan = [(one.name, variation.seed, variation.form) for variation in chunk for one in chosen]
    all_of_them = [with_variation(one, variation) for variation in chunk for one in chosen]
    with tempfile.TemporaryDirectory(prefix="d2lparams-alarms-") as folder:
        file = Path(folder) / VARIED.name
        shutil.copyfile(VARIED, file)
        file.with_suffix(".json").write_text(json.dumps(plan), encoding="utf-8")
        runs = run(columns, all_of_them, scenario_file=file, timeout=300, logs=Path(folder) / "logs")
        return compare_runs(runs, scenarios=all_of_them)


def take(state: State, comparison: Comparison) -> None:
    """Enter what a comparison says."""
    judge = next(one for one in comparison.columns if one.reference)
    expected = {
        (result.name, seen.name): seen.value for result in judge.scenarios for seen in result.observations
    }
    for one in comparison.columns:
        if one.error and one.status == "install-failed":
            state.alarms.append(f"{one.name}: {one.error.message}")
        for result in one.scenarios:
            enter_end(state, one.name, result)
        if one.reference:
            continue
        for result in one.scenarios:
            name, _, options = result.name.partition(" ")
            for seen in result.observations:
                if seen.kind == "outcome":
                    enter_outcome(state, one.name, result, seen.name, Outcome.of(seen.value).outcome)
                if seen.kind != "invariant":
                    continue
                state.comparisons += 1
                others = [expected.get((result.name, seen.name)), seen.expected]
                ratios = [strain(seen.value, it, seen.rtol, seen.atol) for it in others if it is not None]
                worst = state.worst.setdefault(f"{name}: {seen.name}", Worst())
                if ratios and max(ratios) > worst.ratio:
                    worst.ratio, worst.where = max(ratios), " ".join(filter(None, [one.name, options]))
    for row in comparison.disagreements:
        for column, problem in row.problems.items():
            state.alarms.append(f"{command(column, row.scenario)}: {row.observation}: {problem}")


def enter_end(state: State, column: str, result: ScenarioResult) -> None:
    """A scenario that does not end well is a false alarm."""
    if result.status not in ("ok", "unsupported"):
        message = result.error.message if result.error else "no more is known"
        state.alarms.append(f"{command(column, result.name)}: {result.status}: {message}")


def enter_outcome(state: State, column: str, result: ScenarioResult, way: str, outcome: str) -> None:
    """An outcome must be that of the usual numbers, which were run first."""
    state.outcomes += 1
    name, _, options = result.name.partition(" ")
    fits = SCENARIOS[name].group == "checkpoints" and options.endswith("--form one")
    usual = state.usual.setdefault(f"{column}, {name}{' of width 1' if fits else ''}: {way}", outcome)
    if outcome != usual:
        state.alarms.append(f"{command(column, result.name)}: {way}: {outcome}, and usually {usual}")


def command(column: str, scenario: str) -> str:
    """What shows it: the name of a scenario here ends with the options of its variation."""
    return f"d2lparams compare {column} -s {scenario}"


def report(state: State, columns: Sequence[Column]) -> Iterable[str]:
    """Markdown: the figure, what is behind it, and how near each invariant came to its tolerance."""
    frameworks = [one.name for one in columns if not one.adapter.reference]
    seeds, forms = {one[0] for one in state.done}, {one[1] for one in state.done if one[1]}
    yield (
        f"false alarms: {len(state.alarms)} in {state.comparisons} comparisons "
        f"({len(seeds)} seeds, {len(forms)} forms, {len(frameworks)} frameworks; "
        f"{len(state.done)} variations, {state.outcomes} outcomes, {state.seconds / 60:.0f} minutes)"
    )
    yield ""
    for alarm in state.alarms:
        yield f"- {alarm}"
    if state.alarms:
        yield ""
    yield "| invariant | worst deviation / tolerance | where |"
    yield "| --- | --- | --- |"
    measured = sorted(state.worst.items(), key=lambda item: -item[1].ratio)
    exact = [name for name, worst in measured if worst.ratio <= 0]
    for name, worst in measured:
        if worst.ratio > 0:
            yield f"| {name} | {worst.ratio:.1e} | {worst.where} |"
    yield ""
    yield f"{len(exact)} further invariants were equal to the last bit, or had to be."


def one_or_more(text: str) -> int:
    """A number of an option."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few; it must be at least 1")
    return number


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Does the comparison cry wolf?")
    parser.add_argument("columns", nargs="*", help="default: every framework")
    parser.add_argument("--seeds", type=one_or_more, default=2, help="how many (default 2)")
    parser.add_argument("--form", action="append", choices=FORMS, help="default: every form")
    parser.add_argument("--every-form", action="store_true", help="each seed in every form")
    parser.add_argument(
        "--formed", type=one_or_more, default=1, help="of how many seeds one is run in a form, too"
    )
    parser.add_argument(
        "-s",
        "--scenario",
        action="append",
        default=[],
        help="default: all but long ones and life cycles",
    )
    parser.add_argument("--full", action="store_true", help="those, too, that take long")
    parser.add_argument("--chunk", type=one_or_more, default=8, help="of how many variations for a worker (8)")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no further chunk after these")
    parser.add_argument("--state", type=Path, help="a file to go on from")
    order = parser.parse_args(arguments)

    columns = parse_columns(order.columns)
    chosen = [one for one in parse_scenarios(order.scenario, full=order.full) if one.name not in FIXED]
    if not order.scenario:
        chosen = [one for one in chosen if one.group != "lifecycles"]
    state = State(asked=[*(one.name for one in columns), *(one.name for one in chosen)])
    if order.state and order.state.exists():
        found = json.loads(order.state.read_text(encoding="utf-8"))
        found["worst"] = {name: Worst(**worst) for name, worst in found["worst"].items()}
        if found["asked"] != state.asked:
            parser.error(f"{order.state} is of other columns or scenarios; name another file")
        state = State(**found)
    todo = [
        one
        for one in variations(order.seeds, order.form or list(FORMS), order.every_form, order.formed)
        if [one.seed, one.form] not in state.done
    ]
    began = time.monotonic()
    for start in range(0, len(todo), order.chunk):
        if time.monotonic() - began > 60 * order.minutes:
            console.print(
                f"stopped after {order.minutes:g} minutes: {len(todo) - start} variations were not run"
            )
            break
        chunk, before = todo[start : start + order.chunk], time.monotonic()
        known = len(state.alarms)
        take(state, run_chunk(columns, chosen, chunk))
        state.done += [[one.seed, one.form] for one in chunk]
        state.seconds += time.monotonic() - before
        console.print(
            f"{start + len(chunk)} of {len(todo)}: up to {chunk[-1] or 'the usual'}, "
            f"{state.comparisons} comparisons, {time.monotonic() - before:.0f} s"
        )
        for alarm in state.alarms[known:]:
            console.print(f"  false alarm: {alarm}", markup=False)
        if order.state:
            order.state.write_text(json.dumps(asdict(state)), encoding="utf-8")
    lines = list(report(state, columns))
    console.print("\n".join(lines), markup=False)
    if target := os.environ.get("ALARMS_REPORT"):
        Path(target).write_text("\n".join(["## No false alarm", "", *lines]) + "\n", encoding="utf-8")
    return 1 if state.alarms else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
