"""The comparison as Markdown in GitHub's flavour, for a pull request or a README: short, and the rest folds.

It says first what failed or disagrees, then what differs. Every text of a run is escaped: none of it becomes a
column of a table, a tag, a link, a mention or a reference, and none is lost. The raw text is readable, too.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from d2lparams.comparison import Comparison, Row
from d2lparams.reports.glance import glance
from d2lparams.reports.marks import CLAIMS, DASH, VERDICTS, mark, subject, variations
from d2lparams.reports.matrix import Evidence, in_order, nothing, subject_of, telling, usual_evidence
from d2lparams.reports.values import plain, short
from d2lparams.results import Failure, Outcome, Run, ScenarioResult

LONGEST = 60_000
"""Characters of the whole, about what a comment on GitHub may have; what folds is left out from there on."""

LAST_LINES = 12  # of a traceback or a log
NOTHING = "(empty)"
BREAK = "<br>"

# What Markdown reads in the middle of a line. An underscore within a word is none of it.
_SPECIAL = re.compile(r"[\\`*\[<|~&$]|(?<![^\W_])_|_(?![^\W_])|(?<!\w)[@#](?=\w)|:(?=//)|(?<=www)\.")
# In a span of code nothing is read but its end and, in a table, the end of a cell.
_NO_SPAN = re.compile(r"[`|\\]")
_BY_NAME = {"&": "&amp;", "<": "&lt;"}
_BY_BACKSLASH = "`*[~_"


def to_markdown(comparison: Comparison) -> str:
    """The document, with a final line break."""
    parts = [
        f"## {_headline(comparison)}",
        *_summary(comparison),
        _columns(comparison),
        *_at_a_glance(comparison),
        *_alarms(comparison),
    ]
    length = sum(map(len, parts))
    left_out = []
    for result in comparison.scenarios:
        folded = "\n\n".join([*_differences(comparison, result), *_outcomes(comparison, result)])
        if length + len(folded) <= LONGEST:
            parts += [folded] if folded else []
            length += len(folded)
        else:
            left_out.append(words(result.name))
    if left_out:
        parts.append(f"Too long to stand here: what differs in {', '.join(left_out)}.")
    return "\n\n".join(parts) + "\n"


def words(text: str) -> str:
    """Text of a run as words within a line; its line breaks stay line breaks."""
    lines = [_SPECIAL.sub(_escaped, line.strip()) for line in plain(text).splitlines() if line.strip()]
    return BREAK.join(lines) or NOTHING


def code(text: str) -> str:
    """Text of a run as code within a line, each of its lines for itself."""
    return BREAK.join(map(_code, filter(None, map(str.strip, plain(text).splitlines())))) or NOTHING


def _code(line: str) -> str:
    # What stands in a tag is read as Markdown all the same.
    return f"<code>{_SPECIAL.sub(_escaped, line)}</code>" if _NO_SPAN.search(line) else f"`{line}`"


def _escaped(found: re.Match[str]) -> str:
    """A sign that is not read as Markdown, as readable as can be."""
    sign = found.group()
    if sign in _BY_BACKSLASH:
        return f"\\{sign}"
    # Mentions and references are looked for in what is shown, when it is too late to escape a sign: a space
    # that has no width ends them.
    return _BY_NAME.get(sign, f"&#{ord(sign)};") + ("&#8203;" if sign in "@#" else "")


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _folded(heading: str, *parts: str) -> str:
    """What is shown on demand; blank lines around, or GitHub would not read what is within as Markdown."""
    inside = "\n\n".join(parts)
    return f"<details><summary>{heading}</summary>\n\n{inside}\n\n</details>"


def _in_tag(text: str) -> str:
    """Text of a run where Markdown is not read, as in a summary."""
    return html.escape(" ".join(plain(text).split())) or NOTHING


# -- the parts -----------------------------------------------------------------------------------------------


def _headline(comparison: Comparison) -> str:
    symbol = VERDICTS["agree" if comparison.ok else "disagree"][0]
    titles = ", ".join(words(run.title) for run in comparison.frameworks)
    return f"{symbol} {titles or 'Nothing'}, side by side"


def _summary(comparison: Comparison) -> Iterator[str]:
    counts = comparison.counts
    said = [
        f"{VERDICTS['agree'][0]} {counts['agree']} agree",
        f"{VERDICTS['disagree'][0]} {counts['disagree']} disagree",
        f"{VERDICTS['differ'][0]} {counts['differ']} differ",
        f"{VERDICTS['same'][0]} {counts['same']} the same",
    ]
    if counts["unjudged"]:
        said.insert(2, f"{VERDICTS['unjudged'][0]} {counts['unjudged']} without a reference")
    failed = sum(run.status != "ok" for run in comparison.columns)
    lines = [f"**{failed} of {len(comparison.columns)} columns failed** · " if failed else ""]
    lines[0] += " · ".join(said)
    lines += map(words, variations(comparison.columns))
    if comparison.outcomes:
        outcomes = comparison.outcomes
        # Words alone: some of the symbols are digits.
        ended = [
            f"{what}: {', '.join(f'{outcomes[one]} {words(CLAIMS.get(one, one))}' for one in some)}"
            for what, some in groupby(in_order(outcomes), subject)
        ]
        lines.append(" · ".join(ended))
    if drawings := sum(row.kind == "drawing" for row in comparison.rows):
        some = f"{drawings} drawing{'s' * (drawings != 1)}"
        lines.append(f"Not shown here: {some}; see `--output report.html`.")
    if comparison.left_out:
        lines.append(f"Left out, because they take long: {', '.join(map(words, comparison.left_out))}.")
    if comparison.interrupted:
        lines.append("**Interrupted:** what was known by then is shown.")
    yield from lines


def _columns(comparison: Comparison) -> str:
    """A row for each column. Where nobody knows of a fact, as in a document of before, it is no heading."""
    facts: dict[str, Callable[[Run], str]] = {
        "column": lambda run: f"**{words(run.title)}**{' (reference)' if run.reference else ''}",
        "versions": lambda run: words(", ".join(f"{name} {one}" for name, one in run.versions.items())),
        "Python": lambda run: words(run.python),
        "platform": lambda run: words(run.platform),
        "date": lambda run: words(run.date),
        "status": lambda run: run.status,
        "seconds": lambda run: f"{run.seconds:.1f}",
    }
    known = {
        heading: fact
        for heading, fact in facts.items()
        if any(fact(run) != NOTHING for run in comparison.columns)
    }
    rows = [[fact(run).replace(NOTHING, "not known") for fact in known.values()] for run in comparison.columns]
    return _table(list(known), rows)


def _at_a_glance(comparison: Comparison) -> Iterator[str]:
    if not comparison.scenarios:
        return
    headings = ["scenario", *(words(run.title) for run in comparison.columns)]
    yield _table(
        headings,
        [
            [words(one.name), *(glance(comparison, one.name, run.name).words for run in comparison.columns)]
            for one in comparison.scenarios
        ],
    )
    yield (
        "✓ agrees with the reference, or went well · ✗ disagrees or failed · ≠ a framework's own way, or tied "
        f"no longer · {DASH} there is nothing of this"
    )
    reasons = [
        f"- {words(run.title)}, {words(one.name)}: {_message(one.error)}"
        for run in comparison.columns
        for one in run.scenarios
        if one.status == "unsupported"
    ]
    if reasons:
        yield _folded(f"{DASH} {len(reasons)} unsupported, and why", "\n".join(reasons))


def _alarms(comparison: Comparison) -> Iterator[str]:
    """What disagrees, and what failed."""
    titles = {run.name: run.title for run in comparison.columns}
    judge = next((run.name for run in comparison.columns if run.reference), None)
    wrong = [
        [
            words(f"{row.scenario}: {row.observation}"),
            words(titles[name]),
            words(problem),
            _value(row, name),
            _value(row, judge) if judge else "no reference",
        ]
        for row in comparison.disagreements
        for name, problem in row.problems.items()
    ]
    if wrong:
        yield "### ✗ What disagrees"
        yield _table(["observation", "column", "why", "value", "reference"], wrong)
    failed = [part for run in comparison.columns for part in _failures(run)]
    if failed:
        yield "### ✗ What failed"
        yield from failed


def _failures(run: Run) -> Iterator[str]:
    """What went wrong on a column, each with the end of its traceback or log, folded."""
    ended = [one for one in run.scenarios if one.status not in ("ok", "unsupported", "not-run")]
    for one in ended:
        yield f"**{words(run.title)}**, {words(one.name)}: {one.status}: {_message(one.error)}"
        yield from _detail(one.error)
    if not ended and (run.error or run.status != "ok"):
        yield f"**{words(run.title)}**: {run.status}: {_message(run.error)}"
        yield from _detail(run.error)


def _message(error: Failure | None) -> str:
    return words(error.message) if error else "no more is known"


def _detail(error: Failure | None) -> Iterator[str]:
    if not error:
        return
    lines = [f"command: {error.command}"] if error.command else []
    lines += error.detail.strip().splitlines()[-LAST_LINES:]
    if lines:
        text = plain("\n".join(lines))
        # A fence ends at a line of as many backticks.
        fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
        yield _folded("its last lines", f"{fence}text\n{text}\n{fence}")


def _differences(comparison: Comparison, result: ScenarioResult) -> Iterator[str]:
    """The traits of a scenario that differ, folded."""
    runs = comparison.frameworks
    rows = [row for row in comparison.of(result.name) if row.kind == "trait" and row.verdict == "differ"]
    if rows:
        yield _folded(
            f"{VERDICTS['differ'][0]} {_in_tag(result.title)} ({_in_tag(result.name)}): {len(rows)} "
            f"{'differs' if len(rows) == 1 else 'differ'}",
            _table(
                ["observation", *(words(run.title) for run in runs)],
                [[words(row.observation), *(_value(row, run.name) for run in runs)] for row in rows],
            ),
        )


def _outcomes(comparison: Comparison, result: ScenarioResult) -> Iterator[str]:
    """The outcomes of a scenario as a matrix of way and framework, folded; those well everywhere are named."""
    runs = comparison.frameworks
    rows = [row for row in comparison.of(result.name) if row.kind == "outcome"]
    if not rows:
        return
    usual = usual_evidence(rows)
    well = [all(_well(row, run.name) for run in runs) for row in rows]
    shown = [row for row, good in zip(rows, well, strict=True) if not good]
    parts = []
    if shown:
        what = subject_of(rows).removesuffix("s")
        parts.append(
            _table(
                [what, *(words(run.title) for run in runs)],
                [[words(row.observation), *(_ending(row, run.name, usual) for run in runs)] for row in shown],
            )
        )
        parts.append(f"{DASH} {nothing(rows)}")
    if others := [words(row.observation) for row, good in zip(rows, well, strict=True) if good]:
        parts.append(f"Well wherever there is such a one: {', '.join(others)}.")
    yield _folded(f"{_in_tag(result.title)} ({_in_tag(result.name)}): {len(rows)} {subject_of(rows)}", *parts)


def _well(row: Row, column: str) -> bool:
    """Whether a cell needs no further words: it went well, or there is no such way."""
    if column not in row.values:
        return row.absent.get(column) == "not-applicable"
    outcome = Outcome.of(row.values[column])
    return mark(outcome.outcome).good and "but" not in outcome.evidence


def _ending(row: Row, column: str, usual: Evidence) -> str:
    """How a way ended and, where that was not well, what shows it."""
    if column not in row.values:
        return _absence(row, column)
    outcome = Outcome.of(row.values[column])
    head = f"{mark(outcome.outcome).symbol} {words(outcome.outcome)}"
    told = "" if _well(row, column) else telling(outcome, usual)
    return f"{head}{BREAK}{words(told)}" if told else head


def _value(row: Row, column: str) -> str:
    return code(short(row.values[column])) if column in row.values else _absence(row, column)


def _absence(row: Row, column: str) -> str:
    reason = row.absent.get(column, "not-run")
    return DASH if reason == "not-applicable" else reason
