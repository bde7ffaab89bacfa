"""The page of a real run on all four frameworks, in a real browser.

Environments are shared with the user's own runs: what is not there yet is built, which takes minutes. Where
there is no browser, all of it is skipped.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from d2lparams.comparison import Comparison, Row
from d2lparams.reports.document import from_json
from d2lparams.reports.page import to_html
from d2lparams.results import Code

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCENARIOS = (
    "targeted-parameter",
    "tied-by-construction",
    "tied-by-parameter",
    "train-step",
    "life-cycles-by-module",
)
PATIENCE = 3600  # seconds, for environments that have to be built


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium: the system's, or else the one that Playwright has installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    arguments = ["--no-sandbox", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=found, args=arguments)
        except playwright.Error:
            if found:
                raise
            pytest.skip("there is no browser: no Chromium on the path, and none that Playwright has installed")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def written(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of what the command wrote of a run of some scenarios on all four frameworks."""
    folder = tmp_path_factory.mktemp("page")
    chosen = [part for name in SCENARIOS for part in ("-s", name)]
    targets = ("--output", folder / "x.json", "--output", folder / "x.html")
    process = command("compare", *chosen, *targets, seconds=PATIENCE)
    assert process.returncode == 0, process.stdout + process.stderr
    return folder


@pytest.fixture(scope="session")
def real(written: Path) -> Comparison:
    """What was seen in it."""
    return from_json((written / "x.json").read_bytes())


@pytest.fixture(scope="session")
def comparison(real: Comparison) -> Comparison:
    """The same, with code and curves that the tests know."""
    known = deepcopy(real)
    for run in known.columns:
        run.code = {
            "Adapter._mlp": Code(f"backends/{run.backend}.py", 7, MLP.format(run.name), ["_dense"]),
            "Adapter._parameters": Code(f"backends/{run.backend}.py", 20, PARAMETERS.format(run.name)),
            "_dense": Code(f"backends/{run.backend}.py", 70, "def _dense(layer):\n    return layer\n"),
        }
        for result in run.scenarios:
            result.called = {}
            if result.status == "ok":
                result.called = {"mlp": "Adapter._mlp", "parameters": "Adapter._parameters"}
    curves = {run.name: {"tied": [1.0, 0.5, 0.25], "untied": [1.0, 0.75, 0.5]} for run in known.columns}
    known.rows.append(Row("train-step", "a known curve", "invariant", "agree", curves, form="curves"))
    return known


MLP = "    def _mlp(self, spec):\n        return _dense({!r})\n"
PARAMETERS = "    def _parameters(self, model):\n        yield {!r}\n"


@dataclass
class Opened:
    """A page in a browser, and what it did that it should not."""

    page: Any
    trouble: list[str] = field(default_factory=list)

    def shown(self, selector: str) -> list[str]:
        """The texts of all elements that can be seen."""
        return [one.inner_text() for one in self.page.locator(selector).all() if one.is_visible()]

    def go(self, address: str) -> None:
        """Follow a link within the page."""
        self.page.evaluate("address => { location.hash = address }", address)


@pytest.fixture(scope="session")
def made() -> dict[int, tuple[Comparison, str]]:
    """The pages that were made, by the identity of the comparison, which is kept alive with them."""
    return {}


@pytest.fixture
def opened(
    browser: Any, tmp_path: Path, made: dict[int, tuple[Comparison, str]]
) -> Iterator[Callable[..., Opened]]:
    """Open a comparison as a page; errors, dialogs, and requests of anything but the file fail the test."""
    pages: list[Opened] = []

    def opened(
        comparison: Comparison,
        address: str = "",
        *,
        script: str = "",
        permissions: tuple[str, ...] = (),
        **options: Any,
    ) -> Opened:
        file = tmp_path / f"page-{len(pages)}.html"
        # Most tests look at the same run: it is made into a page once.
        if id(comparison) not in made:
            made[id(comparison)] = comparison, to_html(comparison)
        file.write_text(made[id(comparison)][1], encoding="utf-8")
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        context.set_default_timeout(10_000)
        context.grant_permissions([*permissions])
        if script:
            context.add_init_script(script)
        one = Opened(context.new_page())

        def message(said: Any) -> None:
            if said.type == "error":
                one.trouble.append(f"error: {said.text}")

        def request(asked: Any) -> None:
            if asked.url.partition("#")[0] != file.as_uri() and not asked.url.startswith(("data:", "blob:")):
                one.trouble.append(f"request: {asked.url}")

        def dialog(asked: Any) -> None:
            one.trouble.append(f"dialog: {asked.message}")
            asked.dismiss()

        one.page.on("console", message)
        one.page.on("pageerror", lambda error: one.trouble.append(f"error: {error}"))
        one.page.on("request", request)
        one.page.on("dialog", dialog)
        one.page.goto(file.as_uri() + address)
        pages.append(one)
        return one

    yield opened
    for one in pages:
        one.page.context.close()
    assert [trouble for one in pages for trouble in one.trouble] == []
