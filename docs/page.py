"""Makes the README's picture of the page: `python docs/page.py report.html docs/page.png`; needs Chromium."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

report, picture = map(Path, sys.argv[1:])
with sync_playwright() as driver:
    browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme="light")
    page.goto(f"{report.resolve().as_uri()}#tied-by-construction")
    page.locator("#tied-by-construction .panel:visible").first.wait_for()
    page.screenshot(path=picture)
    browser.close()
