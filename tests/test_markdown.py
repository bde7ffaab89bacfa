"""Markdown of a comparison: alarms first, every table whole, and nothing of a run's text read as Markdown."""

from __future__ import annotations

import re
from html import unescape

import pytest
from markdown_it import MarkdownIt

from d2lparams.comparison import Comparison, compare_runs
from d2lparams.reports.markdown import LONGEST, code, to_markdown, words
from d2lparams.results import Failure, Observation, Outcome, Run, ScenarioResult

HOSTILE = [
    "<script>alert(1)</script>",
    "a | b",
    r"a \| b \ c",
    "`code` and ``more``",
    "*stars* _lines_ __lines__ ~~gone~~",
    "[a link](https://example.com) ![a picture](x.png)",
    "</summary></details><img src=x onerror=alert(1)>",
    "&lt;b&gt; &amp;",
    "two\n\nparagraphs\n| a | b |\n| --- | --- |",
    "$x$ and ``` and # heading",
]


def rendered(markdown: str) -> str:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)


def text_of(page: str) -> str:
    """What a reader sees, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def column(name: str, *results: ScenarioResult, **facts: object) -> Run:
    versions = {name: "1.2.3"}
    return Run(name, name, name.upper(), versions=versions, status="ok", scenarios=list(results), **facts)  # type: ignore[arg-type]


def result(name: str, *seen: Observation, **facts: object) -> ScenarioResult:
    return ScenarioResult(name, "6.2", f"About {name}", **{"status": "ok", "observations": list(seen), **facts})  # type: ignore[arg-type]


def hostile(text: str) -> Comparison:
    """A comparison that has a text wherever a run has text."""
    error = Failure(text, f"{text}\n{text}", text)
    way = vars(Outcome("refused", text, {text: text}, text))
    columns = []
    for name, value in (("numpy", 1), ("torch", 2), ("jax", 1)):
        seen = [
            Observation("output", "invariant", value),
            Observation(text, "trait", {text: [text, name]}),
            Observation(f"way {text}", "outcome", {**way, "outcome": name}),
        ]
        first = ScenarioResult("one", "6.2", text, "ok", observations=seen)
        second = ScenarioResult("two", "6.2", text, "failed", error=error)
        facts = {"platform": text, "python": text, "date": text, "error": error}
        columns.append(
            Run(name, name, f"{name} {text}", name == "numpy", {text: text}, scenarios=[first, second], **facts)  # type: ignore[arg-type]
        )
    return compare_runs(columns)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_run_is_read_as_markdown(text: str) -> None:
    page = rendered(to_markdown(hostile(text)))
    tags = set(re.findall(r"</?([a-z0-9]+)", page))
    ours = {"details", "summary", "br", "code", "pre", "table", "thead", "tbody", "tr", "th", "td"}
    assert tags <= ours | {"h2", "h3", "p", "strong", "ul", "li"}
    assert page.count("<table>") == page.count("</table>") == 5
    assert page.count("<details>") == page.count("</details>") == page.count("<summary>")
    shown = text_of(page)
    for line in filter(None, map(str.strip, text.splitlines())):
        assert " ".join(line.split()) in shown


@pytest.mark.parametrize("text", HOSTILE)
def test_every_row_of_a_table_has_as_many_cells_as_its_heading(text: str) -> None:
    page = rendered(to_markdown(hostile(text)))
    for table in re.findall(r"<table>.*?</table>", page, re.DOTALL):
        heading, *rows = (
            re.findall(r"<t[hd][ >].*?</t[hd]>|<t[hd]>.*?</t[hd]>", row) for row in table.split("<tr>")[1:]
        )
        assert rows
        assert {len(row) for row in rows} == {len(heading)}
        assert all(text_of(cell) for row in rows for cell in row), "no cell is blank"


@pytest.mark.parametrize("text", HOSTILE)
def test_text_comes_out_as_it_went_in(text: str) -> None:
    for escaped in (words(text), code(text)):
        assert text_of(rendered(f"x {escaped}")) == " ".join(f"x {text}".split())


def test_nobody_is_mentioned_and_nothing_referred_to() -> None:
    assert "@somebody" not in unescape(words("thanks to @somebody"))
    assert "#123" not in unescape(words("see #123"))
    assert words("torch@2.4.1") == "torch@2.4.1"


@pytest.mark.parametrize("form", [words, code])
def test_nothing_is_said_to_be_nothing(form: object) -> None:
    assert form("") == form("\n \n") == "(empty)"  # type: ignore[operator]


def test_a_name_with_underscores_is_readable_raw() -> None:
    assert words("a copy by load_state_dict (strict=False)") == "a copy by load_state_dict (strict=False)"


def test_alarms_stand_before_everything_that_folds() -> None:
    judge = Run(
        "numpy",
        "numpy",
        "NumPy",
        True,
        status="ok",
        scenarios=[result("one", Observation("output", "invariant", 1.0))],
    )
    crash = result("two", status="crashed", error=Failure("killed by SIGSEGV", "stack 1\nstack 2"))
    torch = column("torch", result("one", Observation("output", "invariant", 1.5)), crash)
    judge.scenarios.append(result("two"))
    torch.status = "crashed"
    document = to_markdown(compare_runs([judge, torch]))
    assert document.startswith(
        "## ✗ TORCH, side by side\n\n**1 of 2 columns failed** · ✓ 0 agree · ✗ 1 disagree"
    )
    assert "| one: output | TORCH | is off by 5.0e-01 of the largest entry" in document
    assert "**TORCH**, two: crashed: killed by SIGSEGV" in document
    assert "stack 2" in document


def test_facts_that_nobody_knows_are_no_headings_and_those_that_one_knows_are_said_of_all() -> None:
    plain = to_markdown(compare_runs([column("torch"), column("jax")]))
    assert "| column | versions | status | seconds |" in plain
    dated = to_markdown(compare_runs([column("torch", date="2026-01-01T00:00:00Z"), column("jax")]))
    assert "| **JAX** | jax 1.2.3 | not known | ok | 0.0 |" in dated


def test_a_way_that_is_well_everywhere_is_named_and_others_are_shown() -> None:
    def way(name: str, outcome: str) -> Observation:
        return Observation(
            name, "outcome", vars(Outcome(outcome, "copy(net)", {"a write": "did not reach it"}, ""))
        )

    torch = column("torch", result("one", way("deepcopy", "kept"), way("pickle", "broken")))
    jax = column("jax", result("one", way("deepcopy", "kept")))
    document = to_markdown(compare_runs([torch, jax]))
    assert "Well wherever there is such a one: deepcopy." in document
    assert "| pickle | ≠ broken<br>a write: did not reach it | – |" in document  # noqa: RUF001


def test_what_is_too_long_is_named_and_left_out() -> None:
    seen = [Observation(f"trait {number}", "trait", ["x" * 150] * 30) for number in range(20)]
    other = [Observation(one.name, "trait", "y") for one in seen]
    document = to_markdown(
        compare_runs([column("torch", result("long", *seen)), column("jax", result("long", *other))])
    )
    assert len(document) < LONGEST
    assert "Too long to stand here: what differs in long." in document


def test_nothing_at_all_is_a_document_too() -> None:
    assert to_markdown(compare_runs([])).startswith("## ✓ Nothing, side by side")
