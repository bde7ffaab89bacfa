"""The comparison as a page: one file that holds all it needs, opens without a network, and sends nothing.

Everything in it that comes from a run is text, whatever it looks like: it is written by templates that escape
all they are given. Without JavaScript every table, value and line of code is still there, and every link works;
with it the page can be searched and filtered, code stands in tabs, and charts are drawn. What is too large for
a mail, as with a dozen columns, is packed, and JavaScript unpacks it.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from d2lparams.comparison import Comparison
from d2lparams.reports.page import sealing
from d2lparams.reports.page.code import highlighted
from d2lparams.reports.page.joints import joints
from d2lparams.reports.page.prose import prose
from d2lparams.reports.page.view import view
from d2lparams.reports.page.wholes import harmless

HERE = Path(__file__).parent
ROOM = 2_000_000  # characters of what ran and what was seen; the rest of a page is less than 0.9 MB
_UNPACKING = Markup('<p class="soft">This report is large and was packed; unpacking it takes JavaScript.</p>')


def to_html(comparison: Comparison) -> str:
    """The page, as one document. Takes about two seconds more, once, where there is a chart."""
    shown = view(comparison)
    scripts = {name: _file(name) for name in ("theme.js", "page.js")}
    specs = [chart.spec for part in shown.parts for chart in part.charts]
    vega = _vega() if specs else ""
    packed = {"vega": vega, "specs": json.dumps(specs)} if specs else {}
    main = Markup(_environment().get_template("main.html.jinja").render(view=shown, comparison=comparison))
    if len(main) > ROOM:
        main, packed["main"] = _UNPACKING, main
    page = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            view=shown,
            comparison=comparison,
            style=Markup(_file("page.css")),
            policy=sealing.policy([*scripts.values(), vega] if specs else scripts.values()),
            packed={name: sealing.packed(text) for name, text in packed.items()},
            main=main,
            scripts={name: sealing.script(source) for name, source in scripts.items()},
        )
    )
    # Half of a character, as a file's name may have it, is no text that can be written down.
    return page.encode("utf-8", "replace").decode("utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_written,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": highlighted, "joints": joints, "prose": prose}
    return environment


def _written(value: Any) -> Any:
    """What a template writes: text without control characters, and not endless. Markup is that already."""
    return harmless(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, about 0.9 MB, whose own names are nobody else's."""
    from vl_convert import javascript_bundle

    bundle = javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return f'(() => {{\n"use strict";\n{bundle}\n}})();'
