"""The page as its readers use it: searched, filtered, linked to, read with keys, copied from, printed.

That nothing is asked of the network, and that nothing goes wrong, is looked for in every test: see `opened`.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from d2lparams.comparison import Comparison, Row, compare_runs
from d2lparams.merging import merge
from d2lparams.reports.page import to_html
from d2lparams.results import Failure

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"
SCENARIO = ".scenario:visible"
MEGABYTE = 1_000_000
UNFOLD = "document.querySelectorAll('main details').forEach(one => { one.open = true })"


def texts(locator: Any) -> list[str]:
    return [one.inner_text().strip() for one in locator.all()]


def titles(view: Any) -> list[str]:
    return texts(view.page.locator(f"{SCENARIO} h3"))


def count(view: Any) -> str:
    return str(view.page.locator("#_count").inner_text())


def search(view: Any, text: str) -> None:
    before = count(view)
    view.page.locator("#_search").fill(text)
    view.page.wait_for_function(
        "before => document.getElementById('_count').textContent !== before", arg=before
    )


def focused(view: Any) -> str:
    return str(
        view.page.evaluate("document.activeElement.closest('.scenario')?.id ?? document.activeElement.id")
    )


# -- what is there ------------------------------------------------------------------------------------------


def test_all_of_a_real_run_is_there(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    assert titles(view) == [result.title for result in comparison.scenarios]
    for run in comparison.columns:
        card = view.page.locator(".card", has_text=run.title).first
        assert run.python in card.inner_text()
    rows = view.page.locator(".row").count()
    alone = {(row.scenario, row.observation) for row in comparison.rows}
    assert rows >= len(alone)
    glance = view.page.locator(".glance td.level")
    assert glance.count() == len(comparison.scenarios) * len(comparison.columns)
    assert all(texts(glance))
    assert "every invariant agrees" in view.page.locator(".lead").inner_text()


def test_the_command_writes_it(written: Path, real: Comparison) -> None:
    assert (written / "x.html").read_text(encoding="utf-8") == to_html(real)


def test_it_is_small_enough_for_any_mail(real: Comparison) -> None:
    assert len(to_html(real).encode()) < 3 * MEGABYTE


def test_the_code_is_that_of_the_adapters(opened: Any, real: Comparison) -> None:
    view = opened(real, "#tied-by-construction")
    panel = view.page.locator("#tied-by-construction .panel:visible").first.inner_text()
    assert "backends/torch.py:" in panel
    assert "nn.Linear" in panel


def test_without_javascript_tables_links_and_code_are_there(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison, "#tied-by-construction/own-counts", java_script_enabled=False)
    row = view.page.locator("[id='tied-by-construction/own-counts']")
    row.wait_for()
    assert "len(net.state_dict())" in row.inner_text()
    assert not view.page.locator(".bar").is_visible()
    assert view.shown("button") == []
    view.page.locator("#tied-by-construction .sources a").first.click()
    assert "def _mlp(self, spec):" in view.page.locator("article:target").inner_text()


@pytest.fixture(scope="session")
def large(real: Comparison) -> Comparison:
    """A report of the same run on many days."""
    return merge({f"day {number}": real for number in range(12)})


def test_a_report_of_many_columns_is_no_larger(large: Comparison) -> None:
    assert len(large.columns) == 4 * 12 + 1
    assert len(to_html(large).encode()) < 3 * MEGABYTE


def test_a_large_report_unpacks_itself_and_is_used_as_any_other(opened: Any, large: Comparison) -> None:
    view = opened(large, "#life-cycles-by-module/deepcopy")
    row = view.page.locator("[id='life-cycles-by-module/deepcopy']")
    row.wait_for()
    assert "found" in (row.get_attribute("class") or "")
    search(view, "train-step")
    assert len(titles(view)) == 1
    view.go("#tied-by-construction")
    assert "nn.Linear" in view.page.locator("#tied-by-construction .panel:visible").first.inner_text()


def test_a_large_report_says_what_it_takes_to_be_read(opened: Any, large: Comparison) -> None:
    view = opened(large, java_script_enabled=False)
    assert "takes JavaScript" in view.page.locator("main").inner_text()


# -- search and filters -------------------------------------------------------------------------------------


def test_search_finds_titles_questions_and_values(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    assert count(view) == "5 of 5 scenarios"
    search(view, "train-step")
    assert titles(view) == ["Training a tied model"]
    search(view, "state_dict()")
    assert "Tied by construction" in titles(view)
    found = view.page.locator("#tied-by-construction .row:visible")
    assert found.count() < view.page.locator("#tied-by-construction .row").count()
    assert all("state_dict()" in text for text in texts(found))
    assert view.page.locator("#tied-by-construction .matches").inner_text().endswith("rows")


def test_a_search_that_finds_nothing_says_so_and_can_be_undone(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    search(view, "xyzzy")
    assert titles(view) == []
    assert count(view) == "0 of 5 scenarios"
    view.page.locator("#_nothing button").click()
    assert len(titles(view)) == 5
    assert view.page.locator("#_reset").is_disabled()


def test_what_a_search_opened_is_closed_after_it(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    search(view, "state_dict()")
    assert view.page.locator(".scenario[open]").count() > 0
    view.page.keyboard.press("Escape")
    assert len(titles(view)) == 5
    assert view.page.locator(".scenario[open]").count() == 0


def test_a_framework_can_be_hidden_everywhere(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison, "#tied-by-construction")
    place = str([run.name for run in comparison.columns].index("mxnet"))
    assert any("MXNet" in text for text in view.shown("th"))
    view.page.locator(".chip", has_text="MXNet").click()
    assert not any("MXNet" in text for text in view.shown("th"))
    assert view.shown(f"[data-c='{place}']") == []
    view.page.locator("#_reset").click()
    assert any("MXNet" in text for text in view.shown("th"))


def test_one_framework_always_stays(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    for chip in view.page.locator("[data-chip]").all():
        chip.click()
    assert view.page.locator("[data-chip][aria-pressed='true']").count() == 1


def test_a_group_and_a_section_can_be_chosen(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    view.page.locator("#_group").select_option("group:training")
    assert titles(view) == ["Training a tied model"]
    assert count(view) == "1 of 5 scenarios"
    view.page.locator("#_group").select_option("section:6.2.1.1")
    assert titles(view) == ["One parameter: its value and its gradient"]


def test_only_what_differs_stays(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    view.page.locator("#_differs").click()
    view.page.locator("#_open-all").click()
    rows = texts(view.page.locator(".row:visible"))
    # What is the same elsewhere stays where a framework cannot do it; a way, where it did harm or failed.
    telling = ("differ", "unsupported", "refused", "corrupted", "changed", "broken")
    assert rows
    assert [row for row in rows if not any(word in row for word in telling)] == []
    assert any("differ" in row for row in rows)
    assert "Training a tied model" not in titles(view)


# -- addresses ----------------------------------------------------------------------------------------------


def test_a_link_opens_what_it_names_and_shows_it(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison, "#life-cycles-by-module/deepcopy")
    row = view.page.locator("[id='life-cycles-by-module/deepcopy']")
    assert row.is_visible()
    assert "found" in (row.get_attribute("class") or "")
    box = row.bounding_box()
    bar = view.page.locator(".bar").bounding_box()
    assert bar["y"] + bar["height"] <= box["y"] < 900
    plain = view.page.locator("[id='life-cycles-by-module/pickle'] > th")
    colour = "one => getComputedStyle(one).backgroundColor"
    assert row.locator("> th").evaluate(colour) != plain.evaluate(colour)


def test_a_link_within_the_page_leads_there_again_and_again(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    link = view.page.locator(".glance a", has_text="Tied by construction")
    for _ in range(2):
        link.click()
        view.page.locator("#tied-by-construction .body").wait_for()
        assert view.page.locator("#tied-by-construction > summary").evaluate(
            "one => one === document.activeElement"
        )
        view.page.locator("#_close-all").click()


def test_a_link_to_what_is_filtered_out_shows_it_nevertheless(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    search(view, "train-step")
    view.go("#tied-by-construction/own-counts")
    view.page.locator("[id='tied-by-construction/own-counts']").wait_for()
    assert count(view) == "5 of 5 scenarios"


def test_an_address_of_nothing_does_no_harm(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison, "#no/such%ZZthing")
    assert len(titles(view)) == 5


# -- code ---------------------------------------------------------------------------------------------------


def panels(view: Any) -> set[str]:
    """Whose code is shown in the tabs that can be seen."""
    return {text.partition("\n")[0].split(".")[0] for text in texts(view.page.locator(".panel:visible"))}


def test_tabs_show_one_framework_the_same_in_the_whole_page(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison, "#tied-by-construction")
    view.page.locator("#train-step > summary").click()
    assert panels(view) == {"backends/torch"}
    view.page.locator("#tied-by-construction").get_by_role("tab", name="JAX/Flax").first.click()
    assert panels(view) == {"backends/jax"}
    selected = view.page.locator("[role=tab][aria-selected=true]")
    assert {*texts(selected)} == {"JAX/Flax"}
    assert selected.count() > 2
    view.page.locator("#targeted-parameter > summary").click()
    view.page.locator("#targeted-parameter .panel:visible").first.wait_for()
    assert panels(view) == {"backends/jax"}


def test_arrow_keys_go_from_tab_to_tab(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison, "#train-step")
    tabs = view.page.locator("#train-step [role=tablist]").first.get_by_role("tab")
    tabs.nth(1).focus()
    reached = []
    for key in ("ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowLeft", "Home", "End"):
        view.page.keyboard.press(key)
        reached.append(view.page.evaluate("document.activeElement.textContent"))
        assert view.page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
    assert reached == ["MXNet", "PyTorch", "NumPy", "TensorFlow/Keras", "NumPy", "TensorFlow/Keras"]
    assert panels(view) == {"backends/tensorflow"}


def test_a_tab_says_what_it_controls(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison, "#train-step")
    for tab in view.page.locator("#train-step [role=tab]").all():
        panel = view.page.locator(f"#{tab.get_attribute('aria-controls')}")
        assert panel.get_attribute("role") == "tabpanel"
        assert panel.get_attribute("aria-labelledby") == tab.get_attribute("id")
        assert panel.is_visible() == (tab.get_attribute("aria-selected") == "true")


def test_side_by_side_shows_all_at_once_and_is_remembered(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison, "#train-step")
    view.page.locator("#train-step [data-view=beside]").click()
    assert len(panels(view)) == len(comparison.columns)
    view.page.reload()
    view.page.locator("#train-step .panel:visible").first.wait_for()
    assert len(panels(view)) == len(comparison.columns)
    view.page.locator("#train-step [data-view=tabs]").click()
    assert len(panels(view)) == 1


def test_what_the_code_calls_is_folded_below_it(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison, "#train-step")
    panel = view.page.locator("#train-step .panel:visible").first
    assert "backends/torch.py:7" in panel.inner_text()
    assert "def _dense" not in panel.inner_text()
    panel.get_by_text("what it calls: _dense").click()
    assert "def _dense" in panel.inner_text()


def test_a_framework_that_was_not_asked_says_why(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison, "#tied-by-parameter")
    tabs = view.page.locator("#tied-by-parameter .tabs").first
    assert "TensorFlow/Keras" not in texts(tabs.get_by_role("tab"))
    assert texts(tabs.locator(".others")) == ["unsupported: TensorFlow/Keras"]


# -- charts and colours -------------------------------------------------------------------------------------


def chart(view: Any) -> Any:
    return view.page.locator("#train-step .chart", has=view.page.locator("svg.marks")).first


def test_a_chart_is_drawn_when_it_is_seen_and_not_before(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    assert view.page.locator("svg.marks").count() == 0
    view.go("#train-step")
    chart(view).scroll_into_view_if_needed()
    chart(view).locator(".mark-rect path, .mark-line path").first.wait_for()


@pytest.mark.parametrize("width", [390, 1440])
def test_a_chart_is_no_wider_than_its_frame(opened: Any, comparison: Comparison, width: int) -> None:
    view = opened(comparison, "#train-step", viewport={"width": width, "height": 844})
    view.page.locator("#train-step .chart").first.scroll_into_view_if_needed()
    chart(view).locator(".mark-rect path, .mark-line path").first.wait_for()
    assert chart(view).locator(".canvas").evaluate("one => one.scrollWidth <= one.clientWidth")


def test_a_chart_offers_its_picture_and_no_way_out(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison, "#train-step")
    chart(view).scroll_into_view_if_needed()
    chart(view).locator("summary").click()
    assert texts(chart(view).locator(".vega-actions a")) == ["Save as SVG", "Save as PNG"]
    with view.page.expect_download() as download:
        chart(view).get_by_text("Save as SVG").click()
    assert download.value.suggested_filename.endswith(".svg")


def luminance(view: Any, selector: str) -> float:
    colour = view.page.locator(selector).first.evaluate("one => getComputedStyle(one).backgroundColor")
    return sum(float(part) for part in colour.partition("(")[2].rstrip(")").split(",")[:3]) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_those_of_the_system(opened: Any, comparison: Comparison, scheme: str) -> None:
    view = opened(comparison, color_scheme=scheme)
    assert (luminance(view, "body") < 128) == (scheme == "dark")
    view.page.emulate_media(color_scheme="light" if scheme == "dark" else "dark")
    assert (luminance(view, "body") < 128) == (scheme == "light")


def test_colours_can_be_chosen_are_remembered_and_charts_follow(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison, "#train-step", color_scheme="light")
    background = "#train-step svg.marks"
    chart(view).scroll_into_view_if_needed()
    paper = "one => one.style.backgroundColor"
    light = view.page.locator(background).first.evaluate(paper)
    theme = view.page.locator("#_theme")
    theme.click()
    assert "Light" in theme.inner_text()
    theme.click()
    assert "Dark" in theme.inner_text()
    assert luminance(view, "body") < 128
    view.page.wait_for_function(
        "light => document.querySelector('#train-step svg.marks')?.style.backgroundColor !== light", arg=light
    )
    view.page.reload()
    assert luminance(view, "body") < 128
    theme.click()
    assert "Auto" in theme.inner_text()
    assert luminance(view, "body") > 128


# -- keys ---------------------------------------------------------------------------------------------------


def test_scenarios_are_reached_and_opened_with_keys(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    names = [result.name for result in comparison.scenarios]
    reached = []
    for key in "jjkjjjjj":
        view.page.keyboard.press(key)
        reached.append(names.index(focused(view)))
    assert reached == [0, 1, 0, 1, 2, 3, 4, 4]
    last = view.page.locator(".scenario").last
    for key, open_after in (("o", True), ("o", False), ("Enter", True), ("Enter", False)):
        view.page.keyboard.press(key)
        assert (last.get_attribute("open") is not None) == open_after


def test_search_has_a_key_and_enter_goes_to_what_was_found(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    view.page.keyboard.press("/")
    assert focused(view) == "_search"
    view.page.keyboard.type("train-step")
    view.page.keyboard.press("Enter")
    assert focused(view) == "train-step"
    view.page.keyboard.press("Escape")
    assert len(titles(view)) == 5


def test_keys_in_the_search_are_letters(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    view.page.locator("#_search").click()
    view.page.keyboard.type("jok?/")
    assert view.page.locator("#_search").input_value() == "jok?/"


def test_keys_are_told(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    view.page.keyboard.press("?")
    assert view.page.locator("#_keys").is_visible()
    view.page.keyboard.press("Escape")
    assert not view.page.locator("#_keys").is_visible()


def test_the_first_tab_stop_skips_to_the_scenarios(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    view.page.keyboard.press("Tab")
    assert view.page.evaluate("document.activeElement.className") == "skip"
    view.page.keyboard.press("Enter")
    view.page.wait_for_function("document.activeElement.id === '_scenarios'")


# -- copying ------------------------------------------------------------------------------------------------

NO_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', { value: undefined })"


@pytest.fixture(params=["clipboard", "fallback"])
def copied(request: pytest.FixtureRequest, opened: Any, comparison: Comparison) -> Any:
    """Click on things, the last of which copies; what is then on the clipboard, which may lack an interface."""

    def copied(address: str, *clicked: str) -> str:
        modern = request.param == "clipboard"
        permissions = ("clipboard-read", "clipboard-write")
        view = opened(comparison, address, permissions=permissions, script="" if modern else NO_CLIPBOARD)
        for selector in clicked:
            view.page.locator(selector).first.click()
        view.page.locator(".toast.shown").wait_for()
        assert view.page.locator(".toast").inner_text().endswith("copied")
        view.page.evaluate(
            "document.body.append(Object.assign(document.createElement('textarea'), { id: 'paste' }))"
        )
        view.page.locator("#paste").focus()
        view.page.keyboard.press("Control+V")
        return str(view.page.locator("#paste").input_value())

    return copied


def test_a_table_is_copied_as_markdown(copied: Any, comparison: Comparison) -> None:
    lines = copied("#tied-by-construction", "#tied-by-construction [data-copy=markdown]").splitlines()
    titles = [run.title for run in comparison.columns]
    assert lines[0].startswith("| observation | verdict | NumPy reference | ")
    assert all(title in lines[0] for title in titles)
    assert lines[1] == f"|{' --- |' * (len(titles) + 2)}"
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines[2:]}
    assert {*rows} >= {"one storage", "own counts", r"\[0, 0\] through the other use"}
    assert rows["one storage"].split(" | ")[1:4] == ["✓ agree", "True", "✓<br>True"]
    assert r"len(net.state\_dict()): 8" in rows["own counts"]
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1


def test_a_link_to_a_row_is_copied(copied: Any) -> None:
    text = copied("#train-step", "[id='train-step/still-tied'] .anchor")
    assert text.startswith("file://")
    assert text.endswith("#train-step/still-tied")


def test_a_script_is_copied_as_it_is(copied: Any, comparison: Comparison) -> None:
    (row,) = [row for row in comparison.of("life-cycles-by-module") if row.observation == "functional call"]
    cell = "[id='life-cycles-by-module/functional-call'] td[data-c='1']"
    fold = f"{cell} .fold:has(.program) > summary"
    text = copied("#life-cycles-by-module", fold, f"{cell} [data-copy=program]")
    assert text.strip() == row.values["torch"]["script"].strip()


# -- hostile ------------------------------------------------------------------------------------------------


def hostile(comparison: Comparison) -> Comparison:
    """The real run, in which names, values, titles and an error are markup with a script in it."""
    made = deepcopy(comparison)
    for run in made.columns:
        run.title += HOSTILE
        run.log = f"/{HOSTILE}"
        for result in run.scenarios:
            result.title += HOSTILE
            if result.name == "train-step":
                result.name += HOSTILE
            for seen in result.observations:
                seen.name += HOSTILE
                if isinstance(seen.value, str):
                    seen.value += HOSTILE
    made.columns[1].error = Failure(f"an error {HOSTILE}", f"a traceback {HOSTILE}")
    made.columns[1].status = "failed"
    again = compare_runs(made.columns)
    again.groups = {result.name: f"group {HOSTILE}" for result in again.scenarios}
    again.questions = {result.name: f"question {HOSTILE} `{HOSTILE}`" for result in again.scenarios}
    curves = {run.name: {f"tied {HOSTILE}": [1.0, 0.5]} for run in again.columns}
    place = again.scenarios[0].name
    again.rows.append(Row(place, f"curve {HOSTILE}", "invariant", "agree", curves, form="curves"))
    return again


def test_markup_in_a_run_is_text_and_does_nothing(opened: Any, comparison: Comparison) -> None:
    view = opened(hostile(comparison))
    view.page.locator("#_open-all").click()
    view.page.evaluate(UNFOLD)
    view.page.locator(".chart").first.scroll_into_view_if_needed()
    view.page.locator(".chart svg.marks").first.wait_for()
    view.page.locator(".chart svg.marks").first.hover(force=True)
    assert view.page.locator("main img").count() == 0
    shown = view.page.locator("main").text_content()
    for place in ("an error ", "question ", "group ", "/"):
        assert f"{place}{HOSTILE}" in shown
    assert view.page.locator("tr.row .name", has_text=HOSTILE).count() > 10
    view.page.locator("#_search").fill("<img src=x onerror")
    view.page.keyboard.press("Enter")
    assert len(titles(view)) == 5
    view.page.evaluate("document.querySelectorAll('.code-of button').forEach(one => one.click())")


def test_a_script_put_into_the_page_does_not_run(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison)
    view.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
        }"""
    )
    assert view.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in trouble for trouble in view.trouble)
    view.trouble.clear()


# -- any screen, and paper ----------------------------------------------------------------------------------

# Whatever reaches beyond the screen, but for what scrolls within itself.
WIDER = """
    [...document.querySelectorAll("body *")]
        .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
        .filter((one) => !one.closest(".scroll, pre, .panels, [role=tablist], .canvas, .spoken"))
        .map((one) => one.outerHTML.slice(0, 80))
"""


@pytest.mark.parametrize("width", [360, 768, 1180, 1440])
@pytest.mark.parametrize("unfolded", [False, True])
def test_no_page_is_wider_than_its_screen(
    opened: Any, comparison: Comparison, width: int, unfolded: bool
) -> None:
    view = opened(comparison, viewport={"width": width, "height": 800})
    if unfolded:
        view.page.evaluate("localStorage.setItem('d2lparams-view', 'beside')")
        view.page.reload()
    if not view.page.locator("#_differs").is_visible():
        view.page.locator("#_more").click()
    view.page.locator("#_open-all").click()
    if unfolded:
        view.page.evaluate(UNFOLD)
    view.page.locator("#train-step .chart").last.scroll_into_view_if_needed()
    view.page.locator("#train-step svg.marks").first.wait_for(state="attached")
    assert view.page.evaluate("document.documentElement.scrollWidth") <= width
    assert view.page.evaluate(WIDER) == []


def test_many_columns_scroll_within_their_table(opened: Any, comparison: Comparison) -> None:
    runs = deepcopy(comparison.columns)
    for number in range(7):
        older = deepcopy(runs[1])
        older.name, older.versions = f"torch@2.{number}.0", {"torch": f"2.{number}.0"}
        runs.append(older)
    view = opened(compare_runs(runs), "#tied-by-construction")
    assert view.page.evaluate("document.documentElement.scrollWidth") <= 1440
    table = view.page.locator("#tied-by-construction .scroll").first
    assert table.evaluate("one => one.scrollWidth > one.clientWidth")
    name = view.page.locator("[id='tied-by-construction/one-storage'] > th")
    before = name.bounding_box()
    table.evaluate("one => { one.scrollLeft = 300 }")
    assert name.bounding_box() == before


def test_paper_has_all_tables_and_no_tools(opened: Any, comparison: Comparison) -> None:
    view = opened(comparison, color_scheme="dark")
    view.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    view.page.emulate_media(media="print")
    assert not view.page.locator(".bar").is_visible()
    assert view.shown("button") == []
    assert view.page.locator("#train-step .row").first.is_visible()
    view.page.locator("#train-step svg.marks").first.wait_for()
    overflow = (
        "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth + 1).length"
    )
    assert view.page.evaluate(overflow) == 0
    view.page.emulate_media(media="screen")
    view.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert view.page.locator(".scenario[open]").count() == 0
    assert luminance(view, "body") < 128
