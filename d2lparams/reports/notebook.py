"""How objects look in a notebook: comparisons, runs, lists of parameters, and a perceptron as a drawing.

HTML without JavaScript that stands in any cell's output, light or dark: colours are the notebook's own, tinted.
Every text of a run is escaped; symbols and words say what colours say.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from d2lparams.comparison import Comparison, Row, Verdict
from d2lparams.models import MLP, ROLES
from d2lparams.parameters import Parameter, count, listing, partition
from d2lparams.reports.glance import Level, glance
from d2lparams.reports.marks import CLAIMS, DASH, VERDICTS, mark, variations
from d2lparams.reports.matrix import in_order, telling
from d2lparams.reports.perceptron import COLOURS, drawing
from d2lparams.reports.values import plain, short
from d2lparams.results import Outcome, Run

if TYPE_CHECKING:
    from jinja2 import Environment

SUMMARY: dict[Verdict, tuple[str, Level]] = {
    "agree": ("agree", "good"),
    "disagree": ("disagree", "bad"),
    "unjudged": ("without a reference", "differs"),
    "differ": ("differ", "differs"),
    "same": ("the same", "good"),
}
MOST_LAYERS = 40
"""With more, a drawing of a perceptron is no help."""


def comparison_html(comparison: Comparison) -> str:
    """The side-by-side table: every scenario at a glance, then each one's rows, folded if there are several."""
    counts = comparison.counts
    summary = [
        (VERDICTS[verdict][0], f"{counts[verdict]} {word}", level if counts[verdict] else "none")
        for verdict, (word, level) in SUMMARY.items()
        if counts[verdict] or verdict == "disagree"
    ]
    outcomes = comparison.outcomes
    summary += [
        (mark(word).symbol, f"{outcomes[word]} {CLAIMS.get(word, word)}", _level(word))
        for word in in_order(outcomes)
    ]
    return _rendered(
        "comparison.html",
        comparison=comparison,
        summary=summary,
        variations=variations(comparison.columns),
        glance=glance,
        cell=_cell,
        symbols=VERDICTS,
        failures=[failure for run in comparison.columns for failure in _failures(run)],
    )


def run_html(run: Run) -> str:
    """One column: what it is, how each scenario ended, and what that saw."""
    return _rendered("run.html", run=run, value=_value, failures=_failures(run))


def parameters_html(parameters: Sequence[Parameter]) -> str:
    """A table of every use, in which uses that share their numbers have one colour."""
    firsts = partition(parameters)
    shared = [first for first, uses in Counter(firsts).items() if uses > 1]
    colours = {first: place % COLOURS for place, first in enumerate(shared)}
    ties = [colours.get(first) for first in firsts]
    return _rendered("parameters.html", rows=listing(parameters), ties=ties, count=count(parameters))


def mlp_html(spec: MLP) -> str:
    """A drawing of the layers with their sizes and ties, and what there is to know beside it."""
    every = [
        (layer, role, math.prod(spec.weight_shape(layer)[: 2 if role == "weight" else 1]))
        for layer in range(spec.layers)
        for role in ROLES
    ]
    stored = sum(size for layer, role, size in every if spec.owner(layer, role) == layer)
    return _rendered(
        "mlp.html",
        spec=spec,
        stored=stored,
        used=sum(size for *_, size in every),
        drawing=drawing(spec) if spec.layers <= MOST_LAYERS else None,
    )


# -- cells ---------------------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """What stands in a cell of a table of observations.

    Attributes:
        text: which may have several lines.
        level: as of a `Glance`.
        note: what is to be said besides: why it disagrees, or the evidence of an outcome.
        code: whether the text is a value, and not a word of ours.
    """

    text: str
    level: Level
    note: str = ""
    code: bool = True


def _cell(row: Row, run: Run) -> Cell:
    if run.name not in row.values:
        reason = row.absent.get(run.name, "not-run")
        problem = row.problems.get(run.name, "")
        bad = problem or reason not in ("not-applicable", "unsupported", "not-run", "ok")
        word = DASH if reason == "not-applicable" else reason
        return Cell(word, "bad" if bad else "none", problem, code=False)
    value = row.values[run.name]
    if run.name in row.problems:
        return Cell(_text(value), "bad", row.problems[run.name])
    if row.kind == "drawing":
        return Cell(f"{VERDICTS['shown'][0]} {row.form or 'a drawing'}", "none", code=False)
    if row.kind == "outcome":
        return _ending(Outcome.of(value))
    if row.verdict == "unjudged" or (row.verdict == "differ" and not run.reference):
        return Cell(_text(value), "differs")
    return Cell(_text(value), "none" if row.kind == "trait" and run.reference else "good")


def _ending(outcome: Outcome) -> Cell:
    """How a way ended, the expression that was run and, where it is not well, what shows it."""
    level, but = _level(outcome.outcome), "but" in outcome.evidence
    told = telling(outcome) if but or level != "good" else ""
    word = f"{mark(outcome.outcome).symbol} {outcome.outcome}{', but' if but else ''}"
    return Cell(word, "differs" if but else level, "\n".join(filter(None, [outcome.how, told])), code=False)


def _text(value: Any) -> str:
    """A value as text that is never blank."""
    return short(value).strip() or "(empty)"


def _value(value: Any, kind: str) -> str:
    """An observation's value without a judge."""
    return VERDICTS["shown"][0] if kind == "drawing" else _text(value)


def _level(outcome: str) -> Level:
    return "good" if mark(outcome).good else "differs"


def _failures(run: Run) -> list[tuple[str, str, str, str]]:
    """What went wrong on a column: its title, where and how, the sentence, and the detail."""
    ended = [one for one in run.scenarios if one.status not in ("ok", "unsupported", "not-run")]
    found = [(f"{one.name} {one.status}", one.error) for one in ended]
    if not ended and (run.error or run.status != "ok"):
        found.append((run.status, run.error))
    return [
        (
            run.title,
            what,
            error.message if error else "no more is known",
            "\n".join(filter(None, [error.command, error.detail.strip()])) if error else "",
        )
        for what, error in found
    ]


# -- templates -----------------------------------------------------------------------------------------------


def _rendered(template: str, **given: Any) -> str:
    return _templates().get_template(template).render(**given)


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def shown(value: object) -> object:
        # What a framework prints for a terminal means nothing here, or worse.
        return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    return Environment(
        loader=PackageLoader("d2lparams.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
