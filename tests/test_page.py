"""The page as a document: whole, with everything of a run in it as text, and nothing that asks for more."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest

from d2lparams.comparison import Comparison, compare_runs
from d2lparams.reports.page import to_html
from d2lparams.reports.page.anchors import Anchors
from d2lparams.reports.page.code import highlighted
from d2lparams.reports.page.joints import joints
from d2lparams.reports.page.prose import prose
from d2lparams.reports.page.sealing import packed, script
from d2lparams.reports.page.wholes import BUDGET, limit, says_all, whole
from d2lparams.results import Code, Failure, Observation, Outcome, Run, ScenarioResult, Status

TITLES = {"numpy": "NumPy", "torch": "PyTorch", "mxnet": "MXNet", "jax": "JAX/Flax"}
HOSTILE = "</script></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'><b>&amp;{{ 7 * 7 }}"
CURVES = {"tied": [1.0, 0.5, 0.25], "untied": [1.0, 0.75, 0.5]}


class Page(HTMLParser):
    """What a browser would find in a document."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.cells: list[str] = []
        self._open: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        self._open.append(tag)
        if tag in self.inside:
            self.inside[tag].append("")
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, text: str) -> None:
        if self._open and self._open[-1] in self.inside:
            self.inside[self._open[-1]][-1] += text
            return
        self.texts.append(text)
        if {"td", "th"} & {*self._open}:
            self.cells[-1] += text

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def values(self, name: str) -> list[str]:
        """All values of an attribute."""
        return [value for _, attribute, value in self.attributes if attribute == name]


def unpacked(text: str) -> str:
    return gzip.decompress(base64.b64decode(text)).decode()


def seen(column: str, say: str = "") -> list[Observation]:
    off = column == "jax"
    return [
        Observation("an output", "invariant", [[0.5], [0.75 if off else 0.5]], rtol=1e-12),
        Observation(f"a trait{say}", "trait", f"net.bias of {column}{say}"),
        Observation("a listing", "trait", {f"net{say}": [f"{column} {number}{say}" for number in range(3)]}),
        Observation("a curve", "invariant", CURVES, form="curves"),
        Observation(
            "copy",
            "outcome",
            vars(
                Outcome(
                    "broken" if off else "kept", f"copy(net){say}", {"storages": f"6{say}"}, f"print(1){say}"
                )
            ),
        ),
    ]


def run(column: str, status: Status = "ok", say: str = "") -> Run:
    """Three scenarios on a column; the last of them ended as the column did."""
    failure = Failure(f"it ended{say}", f"Traceback{say}", f"uv pip{say}") if status != "ok" else None
    whole = status in ("ok", "unsupported")
    body = f"def _mlp(self):  # {column}{say}\n    return _dense({column!r})\n"
    return Run(
        column,
        column,
        TITLES.get(column, column) + say,
        reference=column == "numpy",
        versions={f"{column}{say}": "1.2.3"},
        python="3.11.7",
        status="ok" if whole else status,
        seconds=12.3,
        error=None if whole else failure,
        log=f"/logs/{column}.log{say}",
        platform=f"Linux{say}",
        date="2026-03-01T12:30:00Z",
        code={
            "X._mlp": Code(f"backends/{column}.py", 7, body, ["_dense"]),
            "_dense": Code(f"backends/{column}.py", 70, f"def _dense(a):\n    return a{say}\n"),
        },
        scenarios=[
            ScenarioResult(
                f"first{say}", "6.2", f"The first{say}", "ok", 0.1, seen(column, say), called={"mlp": "X._mlp"}
            ),
            ScenarioResult("second", "6.3", "The second", "ok", 0.1, seen(column)[:2]),
            ScenarioResult("third", "6.4", "The third", status, 0.1, [], failure),
        ],
    )


def compared(say: str = "") -> Comparison:
    """Five columns, of which two are not whole, and an invariant that disagrees."""
    columns = [
        run("numpy", "ok", say),
        run("torch", "ok", say),
        run("mxnet", "crashed", say),
        run("jax", "ok", say),
        run("other", "unsupported", say),
    ]
    comparison = compare_runs(columns)
    comparison.groups = {f"first{say}": f"access{say}", "second": "tying", "third": "tying"}
    comparison.questions = {f"first{say}": f"Is `it`{say}?\n\nLook."}
    return comparison


@pytest.fixture(scope="module")
def document() -> str:
    return to_html(compared())


@pytest.fixture(scope="module")
def page(document: str) -> Page:
    return Page(document)


# -- nothing leaves it, and nothing gets in --------------------------------------------------------------------


def test_whatever_a_run_says_is_text(page: Page) -> None:
    hostile = Page(to_html(compared(HOSTILE)))
    without_breaks = [tag for tag in hostile.tags if tag not in ("wbr", "i")]
    assert without_breaks == [tag for tag in page.tags if tag not in ("wbr", "i")]
    assert {name for _, name, _ in hostile.attributes} == {name for _, name, _ in page.attributes}
    assert HOSTILE in hostile.text
    assert "{{ 7 * 7 }}" in hostile.text


def test_every_script_that_runs_has_its_hash_in_the_policy_and_nothing_else_may(page: Page) -> None:
    (policy,) = [value for value in page.values("content") if "default-src" in value]
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    theme, vega, specs, own = page.inside["script"]
    scripts = [theme, unpacked(vega), own]
    assert {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts} == allowed
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert isinstance(json.loads(unpacked(specs)), list)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_nothing_is_fetched(page: Page) -> None:
    assert not page.values("src")
    assert {value[:1] for tag, name, value in page.attributes if (tag, name) == ("a", "href")} == {"#"}
    assert {value for tag, name, value in page.attributes if (tag, name) == ("link", "href")} == {"data:,"}
    assert not re.search(r"url\(|@import", "".join(page.inside["style"]))


def test_control_characters_are_shown_and_not_obeyed() -> None:
    said = to_html(compared(" \x1b[31mred\x1b[0m \x07 \x00 \ud800"))
    assert "red" in said
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", re.sub(r"<script.*?</script>", "", said, flags=re.S))
    said.encode("utf-8")


def test_what_is_packed_comes_back_as_it_was_and_is_no_markup() -> None:
    text = HOSTILE * 100 + "\u2028 é 🙂"
    assert unpacked(packed(text)) == text
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", packed(text))
    assert len(packed(text)) < len(text) / 10


@pytest.mark.parametrize("text", ["a</Script>", "<!--", "'<script'"])
def test_a_script_that_would_end_itself_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        script(text)


# -- everything is there ---------------------------------------------------------------------------------------


def test_every_address_is_there_once(page: Page) -> None:
    ids = page.values("id")
    assert [one for one, times in Counter(ids).items() if times > 1] == []
    for tag, name, value in page.attributes:
        if name == "href" and tag == "a":
            assert value[1:] in ids
    assert {"first", "first/an-output", "first/copy", "second/a-trait", "third"} <= {*ids}


def test_no_cell_is_blank(page: Page) -> None:
    assert page.cells
    assert [cell for cell in page.cells if not cell.strip()] == []


def test_why_there_is_no_value_is_said(page: Page) -> None:
    for words in ("crashed", "unsupported", "it ended", "Traceback", "$ uv pip"):
        assert words in page.text


def test_what_is_wrong_stands_above_all_else_and_leads_to_its_place(document: str) -> None:
    alarm = re.search(r'<section class="alarm".*?</section>', document, re.DOTALL)
    assert alarm
    links = re.findall(r'href="#([^"]+)"', alarm[0])
    assert links == ["first/an-output", "second/an-output", "third"]
    assert "is off by" in alarm[0]
    assert "MXNet crashed: it ended" in alarm[0]


def test_where_all_is_well_it_says_so_and_there_is_no_alarm() -> None:
    document = to_html(compare_runs([run("numpy"), run("torch")]))
    assert "every invariant agrees" in document
    assert 'class="alarm"' not in document


def test_an_interruption_is_an_alarm() -> None:
    comparison = compare_runs([run("numpy")], interrupted=True)
    assert "It was interrupted" in Page(to_html(comparison)).text


def test_the_code_is_there_once_with_what_it_calls(page: Page) -> None:
    assert page.text.count("def _mlp(self):  # torch") == 1
    assert "backends/torch.py:7" in page.text
    assert page.values("data-calls").count("_code-1-1") == 1


def test_columns_with_the_same_code_share_it() -> None:
    older = run("torch")
    older.name, older.versions = "torch@1.0", {"torch": "1.0"}
    text = Page(to_html(compare_runs([run("numpy"), run("torch"), older]))).text
    assert text.count("def _mlp(self):  # torch") == 1
    assert "PyTorch (torch), PyTorch (torch@1.0): 2 functions" in text


def test_without_charts_there_is_no_vega() -> None:
    runs = [run("numpy"), run("torch")]
    for one in runs:
        for result in one.scenarios:
            result.observations = [seen for seen in result.observations if seen.kind == "trait"]
    assert "vegaEmbed=" not in re.sub(r"\s", "", to_html(compare_runs(runs)))
    assert len(to_html(compare_runs(runs))) < 100_000


def test_a_chart_has_words_for_those_who_do_not_see_it(document: str) -> None:
    figures = re.findall(r'<figure class="chart">.*?</figure>', document, re.DOTALL)
    assert figures
    for figure in figures:
        assert re.search(r'role="img" aria-label="[^"]+"', figure)
        assert re.search(r'<p class="alt">[^<]+', figure)


# -- of any size -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 12])
def test_any_number_of_columns(number: int) -> None:
    page = Page(to_html(compare_runs([run(f"torch@{index}") for index in range(number)])))
    assert page.tags.count("article") == number * 2
    assert [cell for cell in page.cells if not cell.strip()] == []


def test_huge_values_are_cut_and_say_so() -> None:
    one = run("torch")
    one.scenarios[0].observations += [
        Observation("text", "trait", "word " * 2_000_000),
        Observation("numbers", "trait", [[0.123456789] * 1000] * 1000),
        Observation("names", "trait", [f"name {number}" for number in range(100_000)]),
    ]
    one.scenarios[0].title = "t" * 2_000_000
    document = to_html(compare_runs([one]))
    assert len(document) < 3_000_000
    assert "more characters" in document


def test_a_document_of_an_older_version_has_no_code_no_date_and_no_group() -> None:
    one = run("torch")
    one.code, one.date, one.platform = {}, "", ""
    for result in one.scenarios:
        result.called = {}
    text = Page(to_html(compare_runs([one]))).text
    assert "not noted" in text
    assert "What it asks was not written down" in text
    assert "The code that ran" not in text


# -- its parts -------------------------------------------------------------------------------------------------


def test_of_many_addresses_with_one_name_each_has_the_next_free_number() -> None:
    anchors = Anchors()
    assert [anchors.make("a", "b") for _ in range(3)] == ["a/b", "a/b-2", "a/b-3"]
    assert [anchors.make("a", name) for name in ("b-5", "b", "b", "B")] == ["a/b-5", "a/b-4", "a/b-6", "a/b-7"]


def test_addresses_are_plain_and_never_the_same() -> None:
    anchors = Anchors()
    made = [
        anchors.make(*names)
        for names in (("a b",), ("a-b",), ("a b", "C/d"), ("A b", "c d"), ("_glance",), ("<>",), ("x" * 999,))
    ]
    assert made[:6] == ["a-b", "a-b-2", "a-b/c-d", "a-b/c-d-2", "glance", "unnamed"]
    assert len({*made}) == len(made)
    assert all(re.fullmatch(r"[a-z0-9-]+(/[a-z0-9-]+)?", one) and len(one) < 100 for one in made)


def test_prose_has_paragraphs_code_and_examples() -> None:
    text = "Is `a < b` so\non two lines?\n\n    x = 1\n      y\n\nThe <b>end</b>."
    assert prose(text) == (
        "<p>Is <code>a &lt; b</code> so on two lines?</p>\n"
        "<pre>x = 1\n  y</pre>\n"
        "<p>The &lt;b&gt;end&lt;/b&gt;.</p>"
    )


def test_code_loses_nothing_in_its_colours() -> None:
    source = "@cache\ndef f(a: int) -> str:\n    return f'<{a}>' or 1.5  # &\n"
    made = highlighted(f"    {source}".replace("\n", "\n    "))
    assert Page(made).text == source.rstrip("\n")
    for kind, coloured in {"k": "def", "f": "f", "m": "1.5", "d": "@cache"}.items():
        assert f'<i class="{kind}">{coloured}</i>' in made


def test_broken_python_is_code_too() -> None:
    assert Page(highlighted('def (:\n  "open')).text == 'def (:\n  "open'


def test_long_names_can_break_and_are_copied_whole() -> None:
    made = joints("sequential/dense_1/kernel and a.b\u200bc")
    assert "sequential/<wbr>dense_<wbr>1/<wbr>kernel" in made
    assert Page(made).text == "sequential/dense_1/kernel and a.b\ufffdc"


VALUES: list[Any] = [
    [[0.1, 0.2], [1 / 3, 2.0]],
    {"a": [1, 2], "b": {"c": [], "d": None}},
    ["x", ["y"], True],
    [],
    {},
    0.1,
    None,
]


@pytest.mark.parametrize("value", VALUES)
def test_a_whole_value_is_whole(value: Any) -> None:
    assert json.loads(whole(value)) == value


def test_text_says_all_that_it_has_the_words_of() -> None:
    assert says_all("net: 2\n  a.b (8, 4)\n  None", '{"net": ["a.b (8, 4)", null]}')
    assert not says_all("0.3333", "0.3333333")
    assert not says_all("a\na", '["a", "a", "a"]')


def test_there_is_room_for_less_of_each_value_where_there_are_many() -> None:
    assert limit(["x" * 50_000]) >= 50_000
    texts = ["x" * 50_000] * 100
    assert limit(texts) * len(texts) <= BUDGET
