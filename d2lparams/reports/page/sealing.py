"""What keeps a page from doing anything but what it was made to do, whatever stands in it.

The page's own scripts are known by their hashes, and no other runs; nothing can be fetched or sent from it.
What is large is packed: it is a fraction as large then, and of letters that no parser of HTML takes for
anything else. A script that was packed has to have its hash in the policy, too.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Iterable

from markupsafe import Markup


def policy(scripts: Iterable[str]) -> str:
    """The content security policy of a page with these scripts."""
    sources = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {sources}",
            "style-src 'unsafe-inline'",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def script(source: str) -> Markup:
    """A script of our own as the content of an element.

    Raises:
        ValueError: when it holds what would end the element, or change how it is read.
    """
    if any(mark in source.lower() for mark in ("</script", "<script", "<!--")):
        raise ValueError("a script that stands in a page cannot hold '<script', '</script' or '<!--'")
    return Markup(source)


def packed(text: str) -> str:
    """Text as base64 of gzip; the same text gives the same."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
