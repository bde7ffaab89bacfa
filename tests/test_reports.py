"""What a comparison looks like: whole in every width, plain where nothing but text can be shown."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len
from rich.console import Console

from d2lparams.comparison import Comparison, Row, compare_runs
from d2lparams.reports.marks import DASH
from d2lparams.reports.matrix import telling, usual_evidence
from d2lparams.reports.picture import to_svg
from d2lparams.reports.progress import Progress
from d2lparams.reports.scripts import Way, in_files, in_one
from d2lparams.reports.terminal import ComparisonView
from d2lparams.reports.values import short
from d2lparams.results import Failure, Observation, Outcome, Run, ScenarioResult, Status
from d2lparams.runner import Event
from d2lparams.scenarios import Scenario

FRAMEWORKS = {"torch": "PyTorch", "mxnet": "MXNet", "jax": "JAX/Flax", "tensorflow": "TensorFlow/Keras"}
TITLES = {"numpy": "NumPy", **FRAMEWORKS}
LOG = "/home/somebody/.cache/d2lparams/logs/20260101-000000-000000-1/{}.log"
NAMES = [f"sequential/dense_{number}/kernel (4, 8)" for number in range(6)]
MATRIX = [[0.125 * (row + column) for column in range(8)] for row in range(8)]
ESCAPE = re.compile(r"\x1b")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:[34][0-8]|9[0-7]|10[0-7])[;m]")


def observations(column: str) -> list[Observation]:
    """What a column sees, up to the place where it ends."""
    off = column == "mxnet"
    return [
        Observation("an output", "invariant", [[0.5], [0.75]] if off else [[0.5], [0.5]], rtol=1e-12),
        Observation("unique values", "invariant", 121, expected=121),
        Observation("a large array", "invariant", MATRIX),
        Observation("where [bold]gradients[/bold] live", "trait", f"net[2].bias.grad of <b>{column}</b>"),
        Observation("own listings", "trait", {"net.weights": [f"{column} {name}" for name in NAMES]}),
        Observation("before backward", "trait", "zeros" if column == "numpy" else "None"),
    ]


def cell(column: str, name: str, status: Status, seen: int, reason: str = "") -> ScenarioResult:
    error = Failure(reason, "Traceback:\n  ...\nValueError: [/red]\n") if reason else None
    title = {"first": "The first", "second": "The second [red]and[/red] last"}[name]
    return ScenarioResult(name, "6.2", title, status, 0.25, observations(column)[:seen], error)


def run(column: str, status: Status, *cells: ScenarioResult, error: Failure | None = None) -> Run:
    return Run(
        name=column,
        backend=column,
        title=TITLES[column],
        reference=column == "numpy",
        versions={column: "1.2.3", "numpy": "2.4.6"},
        python="3.11.7",
        status=status,
        seconds=12.3,
        error=error,
        log=LOG.format(column),
        scenarios=list(cells),
    )


@pytest.fixture
def comparison() -> Comparison:
    """Five columns, of which one is whole; all statuses and all verdicts but one are in it."""
    crash = "the worker was killed by SIGSEGV"
    install = Failure(
        "jax==1.2.3 could not be installed: no [solution]", "No solution found", "uv pip install jax"
    )
    return compare_runs(
        [
            run("numpy", "ok", cell("numpy", "first", "ok", 6), cell("numpy", "second", "ok", 6)),
            run(
                "torch",
                "crashed",
                cell("torch", "first", "ok", 6),
                cell("torch", "second", "crashed", 4, crash),
                error=Failure(f"second: {crash}"),
            ),
            run(
                "mxnet",
                "timeout",
                cell("mxnet", "first", "ok", 6),
                cell("mxnet", "second", "timeout", 1, "killed after 60 s"),
                error=Failure("second: killed after 60 s"),
            ),
            run(
                "jax",
                "install-failed",
                cell("jax", "first", "not-run", 0, "the environment could not be built"),
                cell("jax", "second", "not-run", 0, "the environment could not be built"),
                error=install,
            ),
            run(
                "tensorflow",
                "failed",
                cell("tensorflow", "first", "failed", 2, "ValueError: [/red] is no tag"),
                cell("tensorflow", "second", "unsupported", 0, "layers here have no names"),
                error=Failure("first: ValueError: [/red] is no tag"),
            ),
        ],
        interrupted=True,
    )


def shown(comparison: Comparison, width: int, **options: Any) -> str:
    file = io.StringIO()
    Console(file=file, width=width, **{"_environ": {}, **options}).print(ComparisonView(comparison))
    return file.getvalue()


def unwrapped(text: str) -> str:
    """The text without any white space, for what a narrow screen has broken into lines."""
    return "".join(text.split())


# -- the terminal --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120, 200, 300])
def test_no_line_is_wider_than_the_screen(comparison: Comparison, width: int) -> None:
    assert max(map(cell_len, shown(comparison, width).splitlines())) <= width


def test_a_wide_screen_has_a_column_per_framework_and_no_blank_cell(comparison: Comparison) -> None:
    lines = shown(comparison, 200).splitlines()
    headings = [line for line in lines if all(title in line for title in TITLES.values())]
    assert len(headings) == 2, "one per scenario"
    versions = next(line for line in lines if "observation" in line)
    starts = [versions.index("observation"), *(headings[0].index(title) for title in TITLES.values())]
    rows = [line for line in lines if re.match(r" {1,3}[✓✗=≠?] ", line)]
    assert len(rows) == len(comparison.rows) == 12
    for line in rows:
        cells = [line[start:end].strip() for start, end in zip(starts, [*starts[1:], None])]
        assert all(cells), line
    assert [versions[start:].split("  ")[0] for start in starts[1:]] == [
        "numpy 2.4.6",
        *(f"{name} 1.2.3" for name in FRAMEWORKS),
    ]


def blocks(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """The rows on a narrow screen: symbol, what stands beside the name, and the lines below of its own."""
    block: tuple[str, str, list[str]] | None = None
    for line in text.partition("Summary")[0].splitlines():
        if line[:2] in ("✓ ", "✗ ", "= ", "≠ ", "? "):
            if block:
                yield block
            _, *value = re.split(r"  +", line[2:].strip(), maxsplit=1)
            block = line[0], "".join(value), []
        elif block:
            block[2].append(line)
    if block:
        yield block


def test_a_narrow_screen_has_a_line_per_framework_and_no_blank_cell(comparison: Comparison) -> None:
    rows = list(blocks(shown(comparison, 80)))
    assert [symbol for symbol, _, _ in rows] == [
        *"✗✓✓≠≠=",
        *"✗✓✓===",
    ]
    for _, value, below in rows:
        for title in FRAMEWORKS.values():
            assert value or any(re.match(rf"\s+{title} +\S", line) for line in below), title


def test_what_the_frameworks_share_is_not_the_reference_s(comparison: Comparison) -> None:
    """On a narrow screen too, where a row that is the same has one line."""
    same = compare_runs(
        [
            run(column, "ok", ScenarioResult("first", "6.2", "The first", "ok", 0.0, [seen]))
            for column, seen in (
                ("numpy", Observation("gradient after backward", "trait", "not kept")),
                ("torch", Observation("gradient after backward", "trait", "values (1,)")),
                ("mxnet", Observation("gradient after backward", "trait", "values (1,)")),
            )
        ]
    )
    for width in (60, 80, 200):
        assert "values (1,)" in shown(same, width)


@pytest.mark.parametrize("width", [80, 200])
def test_verdicts_problems_and_statuses_are_shown(comparison: Comparison, width: int) -> None:
    text = shown(comparison, width)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert any(line.startswith("✗ an output") for line in lines)
    assert any(line.startswith("✓ unique values") for line in lines)
    assert any(line.startswith("≠ own listings") for line in lines)
    assert any(line.startswith("= before backward") for line in lines)
    assert "[[0.5], [0.75]]" in text
    assert "isoffby5.0e-01ofthelargestentryofthereference" in unwrapped(text)
    for status in ("crashed", "timeout", "install-failed", "failed", "unsupported", "not-run"):
        assert status in text
    for reason in ("killed by SIGSEGV", "killed after 60 s", "layers here have no names"):
        assert unwrapped(reason) in unwrapped(text)


def test_an_unjudged_invariant_is_marked() -> None:
    first = ScenarioResult("first", "6.2", "The first", "ok", 0.0, [Observation("an output", "invariant", 1.0)])
    nothing = ScenarioResult("first", "6.2", "The first", "crashed", error=Failure("gone"))
    text = shown(compare_runs([run("numpy", "crashed", nothing), run("torch", "ok", first)]), 80)
    assert re.search(r"\? +an output", text)
    assert "1 had no reference to be held against" in text


@pytest.mark.parametrize("width", [80, 200])
def test_the_summary_says_what_failed_and_where_its_log_is(comparison: Comparison, width: int) -> None:
    summary = shown(comparison, width).rpartition("Summary")[2]
    told = unwrapped(summary)
    assert "4 agree, 2 disagree" in summary
    for column in ("torch", "mxnet", "jax", "tensorflow"):
        assert unwrapped(f"log: {LOG.format(column)}") in told
    assert LOG.format("numpy") not in told
    for line in (
        "✗ first: an output: mxnet is off by 5.0e-01",
        "torch: second crashed: the worker was killed by SIGSEGV",
        "mxnet: second timeout: killed after 60 s",
        "jax: install-failed: jax==1.2.3 could not be installed: no [solution]",
        "command: uv pip install jax",
        "No solution found",
        "tensorflow: first failed: ValueError: [/red] is no tag",
        "Interrupted: what was known by then is shown.",
    ):
        assert unwrapped(line) in told
    assert "Python 3.11.7" in summary
    assert "12.3 s" in summary


@pytest.mark.parametrize("width", [80, 200])
def test_what_looks_like_markup_is_text(comparison: Comparison, width: int) -> None:
    text = unwrapped(shown(comparison, width))
    for words in (
        "[bold]gradients[/bold]",
        "<b>torch</b>",
        "The second [red]and[/red] last",
        "ValueError: [/red]",
    ):
        assert unwrapped(words) in text


def test_long_values_are_shortened(comparison: Comparison) -> None:
    text = shown(comparison, 200)
    assert "(8, 8) [[0, 0.125, 0.25" in " ".join(text.split())
    assert "…" in text
    assert "as the reference" in text


def test_a_file_gets_no_escape_codes(comparison: Comparison) -> None:
    assert not ESCAPE.search(shown(comparison, 200))
    assert COLOUR.search(shown(comparison, 200, force_terminal=True, color_system="truecolor"))


def test_no_color_is_honoured(comparison: Comparison) -> None:
    colour = {"force_terminal": True, "color_system": "truecolor"}
    assert not COLOUR.search(shown(comparison, 200, **colour, _environ={"NO_COLOR": "1"}))


def coloured() -> Comparison:
    """What a framework says may be coloured itself, as Keras' messages are."""
    seen = Observation("reading it", "trait", "ValueError: \x1b[1mlayer\x1b[0m \x00\x07")
    error = Failure("ValueError: \x1b[31mlayer\x1b[0m", "\x1b[1mTraceback\x1b[0m\r\n\x1b[2J")
    failed = ScenarioResult("first", "6.2", "The first", "failed", 0.0, [seen], error)
    return compare_runs([run("numpy", "ok", failed), run("torch", "failed", failed)])


@pytest.mark.parametrize("width", [60, 200])
def test_escape_codes_of_a_framework_s_do_not_pass(width: int) -> None:
    text = shown(coloured(), width)
    assert "layer" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)


# -- outcomes ------------------------------------------------------------------------------------------------

SCRIPT = "print('the tie is broken')\n"
KEPT = {"output": "the same", "storages": "6", "original": "as it was"}
WAYS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "deep copy": dict.fromkeys(FRAMEWORKS, ("kept", KEPT)),
    "save and load, one by one and each into a model of its own": {
        "torch": ("kept", KEPT),
        "mxnet": ("broken", {**KEPT, "storages": "8 where there were 6"}),
        "jax": ("changed", {**KEPT, "output": "off by 0.25 of the largest"}),
        "tensorflow": (
            "broken",
            {**KEPT, "storages": "8 where there were 6", "warning": "no [bold]tie[/bold]"},
        ),
    },
    "half precision": {
        "torch": ("corrupted", {**KEPT, "original": "layer 0's bias has other values"}),
        "tensorflow": ("refused", {"error": "TypeError: \x1b[31mno\x1b[0m", "original": "as it was"}),
    },
    "it's new": {"mxnet": ("set aside", {"why": "nobody has foreseen it"})},
}
CLAIMS = {
    "shape": {"torch": ("holds", {"section": "6.2"}), "jax": ("holds", {"section": "6.2"})},
    "reading it": {
        "jax": ("no longer holds", {"section": "6.2", "there is now": ["a", "b"], "the book has": 1.5})
    },
}


def outcomes(column: str, ways: Any) -> list[Observation]:
    silent = ("broken", "changed", "corrupted")
    return [
        Observation(
            name,
            "outcome",
            {
                "outcome": ended[column][0],
                "how": f"do_{name.split()[0]}(net)",
                "evidence": ended[column][1],
                "script": SCRIPT if ended[column][0] in silent else "",
            },
        )
        for name, ended in ways.items()
        if column in ended
    ]


def of_outcomes(*columns: str) -> Comparison:
    """Two scenarios, of ways and of claims. The reference has no ways, and the first scenario an invariant."""
    invariant = Observation("output, untouched", "invariant", [0.5])
    first = [[invariant, *outcomes(column, WAYS)] for column in columns]
    second = [outcomes(column, CLAIMS) for column in columns]
    runs = [
        run(
            column,
            "ok",
            ScenarioResult("life-cycles", "6.2.2", "Life cycles", "ok", 0.0, ways),
            ScenarioResult("book-claims", "6.2", "What the book says", "ok", 0.0, claims),
        )
        for column, ways, claims in zip(columns, first, second)
    ]
    groups = {"life-cycles": "lifecycles", "book-claims": "claims"}
    scenarios = [Scenario(name, "6.2", name, "?", print, group) for name, group in groups.items()]
    return compare_runs(runs, scenarios=scenarios, left_out=["a", "b"])


@pytest.fixture
def ways() -> Comparison:
    return of_outcomes(*TITLES)


def part(text: str, heading: str) -> list[str]:
    """The lines below a heading, down to the next one."""
    lines = text.splitlines()
    (start,) = [place for place, line in enumerate(lines) if line.startswith(heading)]
    return list(takewhile(lambda line: not re.search(r"\w.*[─━]{2}$", line), lines[start + 1 :]))


def cells(text: str, heading: str, first: str) -> dict[str, list[str]]:
    """The first line of each row of the matrix below a heading: the way, and one cell for each framework."""
    lines = part(text, heading)
    (top,) = [place for place, line in enumerate(lines) if line.startswith(first)]
    titles = ("PyTorch", "MXNet", "JAX/Flax", "(TensorFlow/)?Keras")
    starts = [0, *(found.start() for title in titles if (found := re.search(title, lines[top])))]
    rows = takewhile(lambda line: line.strip() and not line.startswith(DASH), lines[top + 2 :])
    first_lines = [line for line in rows if not line.startswith(" ")]
    split = [[line[a:b].strip() for a, b in zip(starts, [*starts[1:], None])] for line in first_lines]
    return {row[0]: row[1:] for row in split}


@pytest.mark.parametrize("width", [80, 120, 200])
def test_ways_and_frameworks_are_a_matrix_in_which_no_cell_is_blank(ways: Comparison, width: int) -> None:
    found = cells(shown(ways, width), "Life cycles", "way ")
    assert list(found.values()) == [
        ["✓ kept", "✓ kept", "✓ kept", "✓ kept"],
        ["✓ kept", "≠ broken", "~ changed", "≠ broken"],
        ["! corrupted", DASH, DASH, "× refused"],  # noqa: RUF001
    ]
    assert list(found)[::2] == ["deep copy", "half precision"]
    assert f"{DASH} has no such way" in shown(ways, width).splitlines()


def test_claims_are_a_matrix_too(ways: Comparison) -> None:
    found = cells(shown(ways, 120), "What the book says", "claim ")
    assert found == {
        "shape": ["✓ holds", DASH, "✓ holds", DASH],
    }
    assert "≠ no longer" in shown(ways, 80)
    assert f"{DASH} the book says nothing on it there" in shown(ways, 80).splitlines()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_ways_of_one_framework_alone_are_named_below_the_matrix(ways: Comparison, width: int) -> None:
    told = unwrapped("\n".join(part(shown(ways, width), "Life cycles")))
    assert unwrapped("MXNet alone · set aside: it's new") in told
    claims = unwrapped("\n".join(part(shown(ways, width), "What the book says")))
    assert unwrapped("JAX/Flax alone ≠ no longer holds: reading it") in claims


def test_where_one_framework_ran_all_its_ways_are_in_the_matrix() -> None:
    told = unwrapped("\n".join(part(shown(of_outcomes("numpy", "mxnet"), 80), "Life cycles")))
    assert unwrapped("it's new") in told
    assert "alone" not in told


def test_where_no_matrix_fits_each_way_names_the_frameworks(ways: Comparison) -> None:
    told = unwrapped("\n".join(part(shown(ways, 60), "Life cycles")))
    for words in (
        "deep copy ✓ kept: PyTorch, MXNet, JAX/Flax, TensorFlow/Keras",
        "≠ broken: MXNet, TensorFlow/Keras",
        "has no such way: MXNet, JAX/Flax",
        "! corrupted: PyTorch",
    ):
        assert unwrapped(words) in told


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_line_of_outcomes_is_wider_than_the_screen(ways: Comparison, width: int) -> None:
    """The names of a column, a scenario and a way may be too long for any screen; they are broken then."""
    assert max(map(cell_len, shown(ways, width).splitlines())) <= width


def test_why_a_column_has_no_outcomes_stands_in_its_cells(ways: Comparison) -> None:
    ways.columns[4].scenarios[0] = ScenarioResult(
        "life-cycles", "6.2.2", "Life cycles", "install-failed", error=Failure("no network")
    )
    again = compare_runs(ways.columns)
    found = cells(shown(again, 200), "Life cycles", "way ")
    assert [row[3] for row in found.values()] == ["install-failed"] * 4
    narrow = shown(again, 80)
    assert len(re.findall(r"install- *$", narrow, re.MULTILINE)) == 4
    assert unwrapped("TensorFlow/Keras install-failed: no network") in unwrapped(narrow)


@pytest.mark.parametrize(("width", "there"), [(80, 0), (120, 0), (160, 4), (200, 4)])
def test_a_wide_cell_shows_the_expression_too(ways: Comparison, width: int, there: int) -> None:
    matrix = "".join(part(shown(ways, width), "Life cycles")).partition(f"{DASH} has no such way")[0]
    assert matrix.count("do_deep(net)") == there


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_what_did_not_go_well_is_explained_and_can_be_reproduced(ways: Comparison, width: int) -> None:
    """With what shows it, and not with what ways that went well have shown too."""
    told = unwrapped(shown(ways, width))
    assert "PyTorch,deepcopy" not in told
    long = "save and load, one by one and each into a model of its own"
    for words in (
        f"MXNet, {long}: ≠ broken",
        "storages: 8 where there were 6",
        "warning: no [bold]tie[/bold]; storages: 8 where there were 6",
        "output: off by 0.25 of the largest",
        "PyTorch, half precision: ! corrupted",
        "original: layer 0's bias has other values",
        "TensorFlow/Keras, half precision: × refused",  # noqa: RUF001
        "error: TypeError: no",
        "MXNet, it's new: · set aside",
        "why: nobody has foreseen it",
        "JAX/Flax, reading it: ≠ no longer holds",
        "the book has: 1.5; there is now: a, b",
    ):
        assert unwrapped(words) in told
    assert "storages:6" not in told
    assert "original:asitwas" not in told


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_command_that_is_shown_is_one_for_a_shell(ways: Comparison, width: int) -> None:
    """As it stands on the screen, on two lines too; a column that is a file is called by its path."""
    file = io.StringIO()
    view = ComparisonView(ways, {"torch": "my files/torch.py"})
    Console(file=file, width=width, _environ={}).print(view)
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    found = []
    for place, line in enumerate(lines):
        if line.startswith("    d2lparams repro"):
            found.append("\n".join(lines[place : place + (2 if line.endswith("\\") else 1)]))
    long = "save and load, one by one and each into a model of its own"
    commands = [
        ["d2lparams", "repro", column, "life-cycles", long] for column in ("mxnet", "jax", "tensorflow")
    ]
    if width > 60:
        assert [shlex.split(one.replace("\\\n", "")) for one in found] == [
            *commands,
            ["d2lparams", "repro", "my files/torch.py", "life-cycles", "half precision"],
        ]
    assert len(found) == 4, "one for each that has a script"


def test_outcomes_need_no_colour_and_have_some(ways: Comparison) -> None:
    assert not ESCAPE.search(shown(ways, 120))
    assert COLOUR.search(shown(ways, 120, force_terminal=True, color_system="truecolor"))


@pytest.mark.parametrize("width", [80, 200])
def test_the_other_rows_of_the_scenario_are_shown_as_ever(ways: Comparison, width: int) -> None:
    lines = part(shown(ways, width), "Life cycles")
    assert any(re.match(r" *✓ +output, untouched", line) for line in lines)


def test_groups_are_headings_where_there_are_several(ways: Comparison) -> None:
    headings = [line.split()[0] for line in shown(ways, 80).splitlines() if line.endswith("━")]
    assert headings == ["lifecycles", "claims"]
    alone = of_outcomes("numpy", "torch")
    alone.groups = dict.fromkeys(alone.groups, "lifecycles")
    assert "━" not in shown(alone, 80)


def test_the_summary_counts_ways_and_claims_and_explains_what_is_used(ways: Comparison) -> None:
    lines = shown(ways, 200).rpartition("Summary")[2].splitlines()
    assert "ways: 5 kept, 2 broken, 1 changed, 1 corrupted, 1 refused, 1 set aside" in lines
    assert "claims: 2 hold, 1 no longer hold" in lines
    assert "invariants: 1 agree, 0 disagree; traits: 0 different, 0 the same" in lines
    (legend,) = [line for line in lines if line.startswith("✓ agree")]
    assert "≠ broken: silently no longer tied" in legend
    assert "! corrupted: the original was damaged" in legend
    assert "differ" not in legend, "nothing does"
    assert "left out: 2 scenarios that take long; `d2lparams compare --full` runs all" in lines

    some = shown(of_outcomes("numpy", "jax"), 200).rpartition("Summary")[2]
    assert "ways: 1 kept, 1 changed" in some
    assert "corrupted" not in some


def test_a_run_of_everything_that_left_nothing_out_says_nothing_of_it(comparison: Comparison) -> None:
    assert "left out" not in shown(comparison, 80)
    one = compare_runs(comparison.columns, left_out=["a"])
    assert "left out: 1 scenario that takes long; " in shown(one, 80)


def test_an_outcome_without_the_usual_form_is_shown_all_the_same() -> None:
    seen = [Observation("a way", "outcome", value) for value in ("kept", {"outcome": "broken"})]
    columns = [
        run(column, "ok", ScenarioResult("first", "6.2", "The first", "ok", 0.0, [one]))
        for column, one in zip(("torch", "jax"), seen)
    ]
    assert "✓ kept" in shown(compare_runs(columns), 80)
    assert "JAX/Flax, a way: ≠ broken" in shown(compare_runs(columns), 80)


def test_what_ways_that_went_well_have_shown_too_explains_nothing() -> None:
    def outcome(word: str, **evidence: Any) -> Outcome:
        return Outcome(word, "", evidence, "")

    def row(*outcomes: Outcome) -> Row:
        values = {str(place): vars(one) for place, one in enumerate(outcomes)}
        return Row("only", "a way", "outcome", "differ", values)

    usual = usual_evidence(
        [row(outcome("kept", warning="w", storages=[1, {"a": 2}])), row(outcome("broken", output=1))]
    )
    assert telling(outcome("changed", warning="w", output=1), usual) == "output: 1"
    assert telling(outcome("changed", warning="another", output=1), usual) == "warning: another; output: 1"
    assert telling(outcome("broken", warning="x", storages=[1, {"a": 2}]), usual) == "warning: x"
    assert telling(outcome("broken", storages=[1, {"a": 3}]), usual) == "storages: 1, a: 3"
    # Where nothing else was seen, that is said.
    assert telling(outcome("broken", storages=[1, {"a": 2}]), usual) == "storages: 1, a: 2"


def test_the_picture_shows_outcomes(ways: Comparison) -> None:
    text = unwrapped("".join(ElementTree.fromstring(to_svg(ways)).itertext()).replace("\xa0", " "))
    for words in ("✓ kept", "! corrupted", f"{DASH} has no such way", "d2lparams repro mxnet life-cycles"):
        assert unwrapped(words) in text


# -- scripts -------------------------------------------------------------------------------------------------


def way(name: str, outcome: str = "broken", script: str = SCRIPT, column: str = "torch") -> Way:
    return Way(column, "life-cycles", name, Outcome(outcome, "", {}, script))


def test_one_script_is_the_script_and_several_have_headings() -> None:
    assert in_one([way("a"), way("b", "kept", "")]) == SCRIPT
    assert in_one([way("a", script="x = 1"), way("b\nc", "changed")]) == (
        f"# torch, life-cycles, a: broken\nx = 1\n\n# torch, life-cycles, b c: changed\n{SCRIPT}"
    )
    assert in_one([]) == ""


def test_each_script_has_a_file_of_its_own_with_a_safe_name() -> None:
    names = ["a/b", "a b", "A B", "../..", "", "copy.deepcopy(net)", "läuft & hält"]
    files = in_files([*(way(name) for name in names), way("kept", "kept", "")])
    assert list(files) == [
        "torch-life-cycles-a-b.py",
        "torch-life-cycles-a-b-2.py",
        "torch-life-cycles-A-B-3.py",
        "torch-life-cycles.py",
        "torch-life-cycles-2.py",
        "torch-life-cycles-copy.deepcopy-net.py",
        "torch-life-cycles-l-uft-h-lt.py",
    ]
    assert set(files.values()) == {SCRIPT}
    assert list(in_files([way("a", column="torch@2.13.0")])) == ["torch-2.13.0-life-cycles-a.py"]


# -- the picture ---------------------------------------------------------------------------------------------


def test_the_picture_needs_no_network(comparison: Comparison) -> None:
    picture = ElementTree.fromstring(to_svg(comparison))
    for element in picture.iter():
        # ElementTree has taken the namespaces apart; they are names, and nothing is fetched from them.
        for text in (element.text or "", *element.attrib.values()):
            assert "//" not in text
            assert "@import" not in text
            assert "font-face" not in text
            assert not re.search(r"url\((?!#)", text)
        assert element.tag.rpartition("}")[2] not in {"script", "image", "use", "a"}


def test_the_picture_shows_the_text(comparison: Comparison) -> None:
    picture = ElementTree.fromstring(to_svg(comparison))
    text = unwrapped("".join(picture.itertext()).replace("\xa0", " "))
    for words in ("PyTorch", "<b>torch</b>", "[bold]gradients[/bold]", "d2lparams compare"):
        assert unwrapped(words) in text


def test_the_picture_is_well_formed_whatever_a_framework_says() -> None:
    ElementTree.fromstring(to_svg(coloured()))


# -- values in a cell ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        (121, "121"),
        (0.1 + 0.2, "0.3"),
        (1 / 3, "0.3333"),
        (1e-17, "1e-17"),
        ("NaN", "NaN"),
        ("relu", "relu"),
        ([], "nothing"),
        ({}, "nothing"),
        ([1, 2.5], "[1, 2.5]"),
        ([[1.0], [2.0]], "[[1], [2]]"),
        (["a", "b"], "a\nb"),
        ({"net.weights": ["a", "b"]}, "net.weights: 2\n  a\n  b"),
        ({"net.weights": []}, "net.weights: none"),
        ({"len(x)": 6, "y": 0.25}, "len(x): 6\ny: 0.25"),
        ({"layer 0": [[1.0]], "layer 1": [2.0]}, "2 arrays"),
        ([True, False], "True\nFalse"),
        (
            {"outcome": "broken", "how": "copy(net)", "evidence": {"a": [1]}, "script": SCRIPT},
            "broken: copy(net)",
        ),
        ({"outcome": "broken", "how": "copy(net)"}, "outcome: broken\nhow: copy(net)"),
    ],
)
def test_a_value_as_text(value: Any, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["a", "b"], "a, b"),
        ({"net.weights": ["a", "b"]}, "net.weights: 2 (a, b)"),
        ({"net.weights": []}, "net.weights: none"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_a_list_on_one_line(value: Any, text: str) -> None:
    assert short(value, lines=False) == text


@pytest.mark.parametrize("bad", [0.0, "NaN", "-Infinity"])
def test_a_large_array_is_its_shape_and_its_beginning(bad: Any) -> None:
    """A number that is none does not make an array a list of words."""
    text = short([[bad, *range(31)], *[list(range(32))] * 63])
    assert text.startswith("(64, 32) [[")
    assert text.endswith("…")
    assert len(text) < 80


def test_a_long_text_is_cut() -> None:
    text = short("x" * 1000)
    assert len(text) <= 160
    assert text.endswith("…")


# -- progress ------------------------------------------------------------------------------------------------


def told(*events: Event, columns: tuple[str, ...] = ("torch", "jax"), **options: Any) -> str:
    file = io.StringIO()
    console = Console(file=file, **{"width": 80, "_environ": {}, **options})
    with Progress(console, columns, ["forward"]) as progress:
        for event in events:
            progress(event)
    return file.getvalue()


EVENTS = [
    Event("torch", "installing torch==1", 0, 2, 0.1),
    Event("torch", "installing torch==1", 0, 2, 0.2),
    Event("torch", "starting", 0, 2, 5.0),
    Event("torch", "forward", 0, 2, 6.0),
    Event("torch", "ok", 2, 2, 7.25, "ok"),
    Event("jax", "install-failed", 0, 2, 1.5, "install-failed"),
]


def test_progress_is_plain_lines_where_there_is_no_terminal() -> None:
    assert told(*EVENTS).splitlines() == [
        "torch: installing torch==1",
        "torch: starting",
        "torch: ok after 7.2 s",
        "jax: install-failed after 1.5 s",
    ]


def test_progress_is_a_board_on_a_terminal() -> None:
    board = told(*EVENTS[:-1], force_terminal=True)
    for words in ("torch", "2/2", "7.2 s", "✓", "jax", "waiting for its turn"):
        assert words in board
    assert board.rstrip("\r").endswith("\x1b[2K"), "it is taken away when all is done"


@pytest.mark.parametrize(("width", "shown"), [(80, False), (120, True)])
def test_the_board_says_what_a_column_runs_on_where_there_is_room(width: int, shown: bool) -> None:
    event = Event("torch", "forward", 0, 2, 6.0, release="torch 2.13.0")
    assert ("torch 2.13.0" in told(event, force_terminal=True, width=width)) is shown


@pytest.mark.parametrize("terminal", [False, True])
def test_a_column_s_name_is_no_markup(terminal: bool) -> None:
    name = "my[bold]fake"
    events = [Event(name, "creating [env]", 0, 1, 0.1), Event(name, "ok", 1, 1, 0.2, "ok")]
    text = told(*events, columns=(name,), force_terminal=terminal, no_color=True)
    assert text.count(name) >= (1 if terminal else 2)
    assert terminal or "creating [env]" in text
