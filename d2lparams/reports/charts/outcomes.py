"""How each of a framework's ways ended, as a matrix: ways down, frameworks across.

The symbol says what the colour says. A framework that has no such way has a dash.
"""

from __future__ import annotations

from typing import Any

from d2lparams.comparison import Comparison
from d2lparams.reports.charts.chart import SCHEMA, Chart, labels, sentences
from d2lparams.reports.marks import DASH, OUTCOMES, mark, subject
from d2lparams.reports.matrix import telling
from d2lparams.reports.values import plain
from d2lparams.results import Outcome

STEP = 21  # pixels a row
FEWEST = 3  # ways that a matrix says more of than the table does

# By the colour that the terminal has: far enough apart in lightness, too, for any kind of colour vision.
HUES = {"green": "#2f9e77", "yellow": "#e6a100", "magenta": "#b86bb0", "red": "#c8402f", "cyan": "#6aaed6"}
UNKNOWN, NOTHING = "#9a9a9a", "rgba(128, 128, 128, 0.14)"
NOTHING_WORD = "nothing"


def outcome_matrix(comparison: Comparison, scenario: str) -> list[Chart]:
    """The matrix of one scenario, where it has outcomes of several ways; otherwise nothing."""
    rows = [row for row in comparison.of(scenario) if row.kind == "outcome"]
    if len(rows) < FEWEST:
        return []
    named = labels(comparison)
    shown = {run.name: named[run.name] for run in comparison.frameworks}
    # What several frameworks have stands above what one has alone.
    rows.sort(key=lambda row: sum(name in row.values for name in shown) < 2)
    cells: list[dict[str, Any]] = []
    for row in rows:
        for name, label in shown.items():
            outcome = Outcome.of(row.values[name]) if name in row.values else None
            reason = row.absent.get(name, "")
            word = outcome.outcome if outcome else reason
            cells.append(
                {
                    "way": plain(row.observation),
                    "framework": label,
                    "outcome": plain(word) if outcome else NOTHING_WORD,
                    "said": plain(word).replace("not-applicable", "has no such way"),
                    "symbol": mark(word).symbol if outcome else DASH,
                    "how": plain(outcome.how) if outcome else "",
                    "seen": telling(outcome) if outcome else "",
                }
            )
    words = _order(cells)
    what = {"ways": "way", "files": "file", "claims": "claim"}[subject(words[0]) if words else "ways"]
    counts = {word: sum(one["outcome"] == word for one in cells) for word in words}
    said = ", ".join(f"{number} {word}" for word, number in counts.items())
    meanings = ", ".join(f"{mark(word).symbol} {word}" for word in words)
    caption = sentences(
        f"{meanings}, {DASH} nothing there." if words else "", "Point at a cell to see what was run and seen."
    )
    spec = _spec(cells, [plain(row.observation) for row in rows], list(shown.values()), words)
    return [
        Chart(
            "outcomes",
            f"How each {what} ended",
            caption,
            spec,
            f"{len(rows)} ways on {', '.join(shown.values())}: {said}.",
        )
    ]


def _order(cells: list[dict[str, Any]]) -> list[str]:
    """The outcomes that there are, from good to bad, those that nobody has foreseen last."""
    seen = {one["outcome"] for one in cells} - {NOTHING_WORD}
    return [word for word in OUTCOMES if word in seen] + sorted(seen - set(OUTCOMES))


def _hue(word: str) -> str:
    return next((hue for name, hue in HUES.items() if name in str(mark(word).style)), UNKNOWN)


def _spec(
    cells: list[dict[str, Any]], ways: list[str], frameworks: list[str], words: list[str]
) -> dict[str, Any]:
    x = {
        "field": "framework",
        "type": "nominal",
        "sort": frameworks,
        "title": None,
        "axis": {"orient": "top", "labelAngle": 0, "domain": False, "ticks": False, "labelPadding": 6},
    }
    y = {
        "field": "way",
        "type": "nominal",
        "sort": ways,
        "title": None,
        "axis": {"domain": False, "ticks": False, "labelPadding": 8, "labelLimit": 260},
    }
    return {
        "$schema": SCHEMA,
        "width": {"step": 96},
        "height": {"step": STEP},
        "data": {"values": cells},
        "encoding": {"x": x, "y": y},
        "layer": [
            {
                "mark": {
                    "type": "rect",
                    "cornerRadius": 3,
                    "xOffset": 1,
                    "x2Offset": -1,
                    "yOffset": 1,
                    "y2Offset": -1,
                },
                "encoding": {
                    "color": {
                        "field": "outcome",
                        "type": "nominal",
                        "scale": {"domain": [*words, NOTHING_WORD], "range": [*map(_hue, words), NOTHING]},
                        "legend": None,
                    },
                    "tooltip": [
                        {"field": name, "type": "nominal", "title": title}
                        for name, title in (
                            ("way", "way"),
                            ("framework", "framework"),
                            ("said", "outcome"),
                            ("how", "how"),
                            ("seen", "seen"),
                        )
                    ],
                },
            },
            _symbols("datum.outcome !== 'nothing'", {"color": "#101214", "fontWeight": "bold"}),
            _symbols("datum.outcome === 'nothing'", {"opacity": 0.5}),
        ],
    }


def _symbols(which: str, style: dict[str, Any]) -> dict[str, Any]:
    mark = {"type": "text", "fontSize": 12, "tooltip": False, **style}
    return {"transform": [{"filter": which}], "mark": mark, "encoding": {"text": {"field": "symbol"}}}
