"""What the columns of a cell printed and showed, as tabs: one for each, and one at a time.

The tabs are radio buttons and a style sheet: no script, arrow keys move between them. Where styles are taken
away, as where a notebook is shown on the web, headings and their contents stay. Colours are those around.
"""

from __future__ import annotations

import html
import textwrap
import uuid
from collections.abc import Sequence

from d2lparams.columns import Column
from d2lparams.notebook.tabs import Output
from d2lparams.reports.values import plain

_STYLE = """
.d2lp-tabs{position:relative;margin:.25em 0;padding-left:10px;max-width:100%;box-sizing:border-box}
.d2lp-tabs>input{position:absolute;opacity:0;pointer-events:none;width:1px;height:1px}
.d2lp-tabs>label{display:inline-block;padding:.3em .9em;margin:0 .15em -1px 0;cursor:pointer;opacity:.65;
border:1px solid transparent;border-bottom:2px solid transparent;border-radius:4px 4px 0 0;line-height:1.4}
.d2lp-tabs>label:hover{opacity:1}
.d2lp-tabs>input:checked+label{opacity:1;font-weight:600;border-bottom-color:#3b82c4}
.d2lp-tabs>input:focus-visible+label{outline:2px solid #3b82c4;outline-offset:-2px}
.d2lp-panels{border-top:1px solid rgba(128,128,128,.4);padding:.5em 0 0}
.d2lp-panels>section{display:none}
.d2lp-panels>section>h4{display:none}
.d2lp-panels pre{margin:0 0 .5em;padding:0;border:0;background:none;color:inherit;white-space:pre-wrap;
overflow-wrap:anywhere;max-height:40em;overflow-y:auto;
font:var(--jp-code-font-size,13px)/1.4 var(--jp-code-font-family,ui-monospace,Menlo,Consolas,monospace)}
.d2lp-panels .d2lp-printed{opacity:.8}
.d2lp-panels .d2lp-note{margin:0 0 .5em;font-style:italic}
.d2lp-panels .d2lp-error{border-left:3px solid #d1495b;padding-left:.8em;margin:.25em 0 .5em}
.d2lp-panels .d2lp-rich{overflow-x:auto;margin:0 0 .5em}
.d2lp-panels img,.d2lp-panels svg{max-width:100%;height:auto}
@media print{.d2lp-tabs>label{display:none}
.d2lp-panels>section,.d2lp-panels>section>h4{display:block!important}}
"""
_SCHEME = ("text/html", "image/svg+xml", "image/png", "text/markdown", "text/plain")


def bundle(outputs: Sequence[Output]) -> dict[str, str]:
    """What a notebook displays, by MIME type: the tabs, and the same as plain text."""
    of: dict[str, list[Output]] = {}
    for output in outputs:
        of.setdefault(output.column.name, []).append(output)
    return {"text/plain": _as_text(of), "text/html": _as_tabs(of)}


def title(column: Column) -> str:
    """What a column is called: the framework's name, and the version where it was asked for."""
    version = column.name.partition("@")[2]
    return f"{column.adapter.title} {version}".strip()


def shown(text: str) -> str:
    """Printed text as a terminal would leave it: what a progress bar wrote over is gone, and so are colours."""
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        parts = [part for part in _erased(line).split("\r") if plain(part).strip()]
        lines.append(plain(parts[-1]) if parts else "")
    return "\n".join(lines)


def _erased(line: str) -> str:
    """A line after its backspaces."""
    kept: list[str] = []
    for character in line:
        if character != "\b":
            kept.append(character)
        elif kept:
            kept.pop()
    return "".join(kept)


def _as_text(of: dict[str, list[Output]]) -> str:
    blocks = []
    for outputs in of.values():
        name = title(outputs[0].column)
        lines = [name, "-" * len(name)]
        for output in outputs:
            lines += output.notes
            lines += [shown(output.printed).rstrip("\n")] if output.printed.strip() else []
            lines += [plain(data.get("text/plain", "")) for data in output.shown]
            lines += [_error(output)] if output.error else []
        blocks.append("\n".join(lines if len(lines) > 2 else [*lines, "(nothing to show)"]))
    return "\n\n".join(blocks)


def _as_tabs(of: dict[str, list[Output]]) -> str:
    key = f"d2lp-{uuid.uuid4().hex[:12]}"
    failed = [any(output.error for output in outputs) for outputs in of.values()]
    first = failed.index(True) if any(failed) else 0
    tabs, panels, rules = [], [], []
    for number, (outputs, wrong) in enumerate(zip(of.values(), failed)):
        name = html.escape(title(outputs[0].column))
        checked = " checked" if number == first else ""
        mark = '<span aria-label="failed" style="color:#d1495b">✗</span> ' if wrong else ""
        tabs.append(
            f'<input type="radio" name="{key}" id="{key}-{number}"{checked}>'
            f'<label for="{key}-{number}">{mark}{name}</label>'
        )
        contents = "".join(map(_panel, outputs)) or '<p class="d2lp-note">Nothing to show.</p>'
        panels.append(f'<section aria-label="{name}"><h4>{mark}{name}</h4>{contents}</section>')
        place = number + 1
        rules.append(f"#{key}-{number}:checked~.d2lp-panels>section:nth-child({place}){{display:block}}")
    return (
        f"<style>{_STYLE}{''.join(rules)}</style>"
        f'<div class="d2lp-tabs" role="radiogroup" aria-label="Framework">{"".join(tabs)}'
        f'<div class="d2lp-panels">{"".join(panels)}</div></div>'
    )


def _panel(output: Output) -> str:
    parts = [f'<p class="d2lp-note">{html.escape(note)}</p>' for note in output.notes]
    if output.printed.strip():
        parts.append(f'<pre class="d2lp-printed">{html.escape(shown(output.printed).strip(chr(10)))}</pre>')
    parts += [_rich(data) for data in output.shown]
    if output.error:
        parts.append(f'<pre class="d2lp-error" role="alert">{html.escape(_error(output))}</pre>')
    return "".join(parts)


def _rich(data: dict[str, str]) -> str:
    """A value in the richest way that it has."""
    mime = next((mime for mime in _SCHEME if mime in data), "text/plain")
    content = data.get(mime, "")
    match mime:
        case "text/html" | "image/svg+xml":
            return f'<div class="d2lp-rich">{content}</div>'
        case "image/png":
            text = html.escape(plain(data.get("text/plain", "")), quote=True)
            return f'<div class="d2lp-rich"><img alt="{text}" src="data:image/png;base64,{content}"></div>'
        case "text/markdown":
            from markdown_it import MarkdownIt

            return f'<div class="d2lp-rich">{MarkdownIt().render(content)}</div>'
        case _:
            return f"<pre>{html.escape(plain(content))}</pre>"


def _error(output: Output) -> str:
    """The traceback, which ends with the message; or the message, and what is known besides."""
    assert output.error is not None
    message, detail = plain(output.error.message), plain(output.error.detail).rstrip()
    if detail.startswith("Traceback") or ("\n" in detail and detail.lstrip().startswith("File ")):
        return detail
    command = f"\ncommand: {output.error.command}" if output.error.command else ""
    return "\n".join([message, *([textwrap.indent(detail, "  ")] if detail else [])]) + command
