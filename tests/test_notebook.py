"""How objects look in a notebook: whole, harmless whatever a run says, and plain where there is no HTML."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from d2lparams import MLP, backend
from d2lparams.comparison import Comparison, compare_runs
from d2lparams.interface import Parameters
from d2lparams.reports.perceptron import drawing
from d2lparams.results import Failure, Observation, Outcome, Run, ScenarioResult, Status

ROOT = Path(__file__).parent.parent
ALERT = "<script>alert(1)</script>"
VOID = {"br", "path", "polygon", "rect"}


class Page(HTMLParser):
    """A document read by a parser: its tags, attributes and text; every element is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.cells: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if {"td", "th"} & set(self._open):
            self.cells[-1] += data


def read(thing: Any) -> Page:
    """How a thing looks, after what holds for everything: nothing runs, and nothing is fetched."""
    html = thing._repr_html_()
    page = Page(html)
    assert "script" not in page.tags
    names = {name for name, _ in page.attributes}
    assert not [name for name in names if name.startswith("on")]
    assert not names & {"src", "href", "srcset", "action"}
    assert "url(" not in html
    assert "@import" not in html
    assert all(cell.strip() for cell in page.cells), "no cell is blank"
    return page


def result(name: str, text: str, *, status: Status = "ok", value: Any = 1) -> ScenarioResult:
    way = vars(Outcome("refused", text, {"error": text}, text))
    seen = [
        Observation("output", "invariant", value),
        Observation(f"trait {text}", "trait", {text: [text, value]}),
        Observation(f"way {text}", "outcome", way),
        Observation("empty", "trait", ""),
        Observation("weights", "drawing", {text: [[1.0]]}, form="matrices"),
    ]
    error = None if status == "ok" else Failure(text, text, text)
    return ScenarioResult(name, "6.2", f"Title {text}", status, 0.1, seen, error)


def compared(text: str, scenarios: int = 1) -> Comparison:
    runs = []
    for name, value in (("numpy", 1), ("torch", 1), ("jax", 2)):
        results = [result(f"s{number} {text}", text, value=value) for number in range(scenarios)]
        failed = result(f"bad {text}", text, status="crashed")
        run = Run(
            name,
            name,
            f"{name} {text}",
            name == "numpy",
            {text: text},
            text,
            "crashed",
            1.0,
            Failure(text),
            text,
        )
        run.scenarios, run.platform, run.date = [*results, failed], text, text
        runs.append(run)
    made = compare_runs(runs, interrupted=True)
    made.questions = {one.name: text for one in made.scenarios}
    return made


# -- what a run says is text ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [ALERT, '" onmouseover="alert(1)', "</style></details><img src=x>", "{{ 7 * 7 }}"]
)
def test_a_comparison_shows_what_a_run_says_as_text(text: str) -> None:
    page = read(compared(text))
    assert page.text.count(text) > 10
    assert "img" not in page.tags
    assert "49" not in page.text


@pytest.mark.parametrize("text", [ALERT, '" onmouseover="alert(1)', "</style></details><img src=x>"])
def test_a_run_shows_what_it_says_as_text(text: str) -> None:
    assert read(compared(text).columns[1]).text.count(text) > 10


def test_what_a_framework_prints_for_a_terminal_is_made_visible_or_left_out() -> None:
    page = read(compared("red \x1b[31m and \x00 bell \x07"))
    assert "red  and ␀ bell ␇" in page.text
    assert not [sign for sign in page.text if sign < " " and sign != "\n"]


# -- what is shown -------------------------------------------------------------------------------------------


def test_every_scenario_at_a_glance_and_one_alone_is_open() -> None:
    runs = [
        Run(name, name, name, name == "numpy", {}, "", "ok", scenarios=[result("one", "x")])
        for name in ("numpy", "torch")
    ]
    html = compare_runs(runs)._repr_html_()
    assert "<details open>" in html
    assert "✓ 1 = 2" not in html, "the same is no news"
    assert "✓ 1 × 1" in html  # noqa: RUF001
    for run in runs:
        run.scenarios.append(result("two", "x"))
    assert "<details open>" not in compare_runs(runs)._repr_html_()


def test_alarms_are_said_in_words() -> None:
    text = read(compared("x")).text
    assert "✗ 1 disagree" in text
    assert "interrupted" in text
    assert "is off by 1.0e+00 of the largest entry of the reference" in text
    assert "bad x crashed: x" in " ".join(text.split())


def test_nothing_is_shown_as_nothing() -> None:
    assert "A comparison of nothing" in read(compare_runs([])).text
    blank = Run("torch", "torch", "PyTorch")
    assert "no scenario was run" in read(compare_runs([blank])).text
    assert "no scenario was run" in read(blank).text
    assert "no parameters" in read(Parameters()).text


def test_plain_forms_are_short() -> None:
    assert repr(Parameters()) == "<no parameters>"
    assert repr(Run("torch", "torch", "PyTorch")) == "<Run of torch: not-run, 0 scenarios, 0.0 s>"
    assert repr(compared("x").columns[1]) == "<Run of torch: crashed, 2 scenarios, 1.0 s; x x>"
    assert repr(compare_runs([])) == "<Comparison of nothing: no rows>"


# -- parameters ----------------------------------------------------------------------------------------------


@pytest.fixture
def parameters() -> Parameters:
    numpy = backend("numpy")
    made = numpy.parameters(numpy.mlp(MLP((4, 8, 8, 8, 1), tied=((1, 2),))))
    assert isinstance(made, Parameters)
    return made


def test_a_list_of_parameters_is_a_list(parameters: Parameters) -> None:
    assert len(parameters) == 8
    assert parameters == list(parameters)
    assert type(parameters[2:4]) is list


def test_a_list_of_parameters_is_an_aligned_table(parameters: Parameters) -> None:
    heading, *rows, last = repr(parameters).splitlines()
    assert heading.split() == ["layer", "role", "name", "access", "shape", "dtype", "storage"]
    assert len(rows) == 8
    for word, name in (("dtype", "float32"), ("access", "net.layers["), ("storage", "")):
        assert all(row[heading.index(word) :].startswith(name) for row in rows)
    assert rows[2].endswith("float32  shared with layer 2")
    assert rows[4].endswith("float32  shared with layer 1")
    assert rows[0].endswith("float32  its own")
    assert last == "8 uses of 6 parameters, 121 values"


def test_another_orientation_is_told_apart_from_the_canonical_one(parameters: Parameters) -> None:
    from dataclasses import replace

    turned = Parameters([replace(parameters[0], native_shape=(4, 8), native_name="odd\nname")])
    heading, row, last = repr(turned).splitlines()
    assert "canonical" in heading
    assert "(4, 8)  (8, 4)" in row
    assert r"odd\nname" in row
    assert last == "1 parameter, 32 values"
    assert "canonical" in read(turned).text


def test_uses_of_one_storage_have_one_colour_and_a_word(parameters: Parameters) -> None:
    page = read(parameters)
    classes = [
        value for name, value in page.attributes if name == "class" and value and value.startswith("d2lp-tie")
    ]
    assert classes == ["d2lp-tie-0", "d2lp-tie-1"] * 2
    assert page.text.count("shared with layer 1") == 2


def test_a_hostile_name_of_a_parameter_is_text(parameters: Parameters) -> None:
    from dataclasses import replace

    assert ALERT in read(Parameters([replace(parameters[0], native_name=ALERT)])).text


# -- a perceptron --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        MLP((3, 1)),
        MLP((4, 8, 8, 8, 1), tied=((1, 2),)),
        MLP((4, 8, 8, 8, 8, 8, 1), tied=((1, 3), (2, 4)), by="parameter", roles=("weight",)),
        MLP((4, 8, 1), lazy=True, nested=True),
    ],
)
def test_a_perceptron_is_drawn_with_its_sizes_and_ties(spec: MLP) -> None:
    page = read(spec)
    assert page.tags.count("svg") == 1
    assert page.tags.count("rect") == len(spec.sizes)
    assert page.tags.count("polygon") == spec.layers
    assert page.tags.count("path") == sum(len(group) - 1 for group in spec.tied)
    for layer in range(spec.layers):
        assert f"layer {layer}" in page.text


def test_everything_stands_within_the_drawing() -> None:
    for spec in (MLP((1, 1)), MLP((2, *[10**6] * 20, 3), tied=((1, 19), (2, 18), (3, 4, 5)))):
        drawn = drawing(spec)
        for bar in drawn.bars:
            assert 0 <= bar.x <= drawn.width
            assert 0 <= bar.y <= bar.y + bar.height <= drawn.base
        for arc in drawn.arcs:
            assert 10 <= arc.y <= drawn.height
        assert drawn.base <= drawn.height


def test_values_are_counted_once_and_by_use() -> None:
    assert "121 values, 193 with every use counted" in read(MLP((4, 8, 8, 8, 1), tied=((1, 2),))).text
    plain = read(MLP((3, 2, 1)))
    assert "11 values" in plain.text
    assert "every use" not in plain.text


def test_a_very_deep_perceptron_is_not_drawn() -> None:
    page = read(MLP((2,) * 200))
    assert "svg" not in page.tags
    assert "199 dense layers" in page.text


# -- pandas --------------------------------------------------------------------------------------------------


def test_a_comparison_as_a_frame_has_a_value_or_a_word_in_every_cell() -> None:
    pytest.importorskip("pandas")
    runs = [
        Run("numpy", "numpy", "NumPy", True, scenarios=[result("one", "x")]),
        Run("torch", "torch", "PyTorch", scenarios=[ScenarioResult("one", "6.2", "One", "unsupported")]),
    ]
    frame = compare_runs(runs).to_frame()
    assert frame.index.names == ["scenario", "observation"]
    assert list(frame.columns) == ["kind", "verdict", "numpy", "torch"]
    assert frame.loc[("one", "output"), "numpy"] == 1
    assert frame.loc[("one", "trait x"), "numpy"] == {"x": ["x", 1]}
    assert list(frame["torch"]) == ["unsupported"] * 5
    assert list(compare_runs([]).to_frame().columns) == ["kind", "verdict"]


def test_without_pandas_one_sentence_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['pandas'] = None\n"
        "from d2lparams.comparison import compare_runs\n"
        "try: compare_runs([]).to_frame()\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "to_frame() needs pandas, which is not installed here: python -m pip install pandas\n"
