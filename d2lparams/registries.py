"""Where packages come from: the settings that the user's pip already has, said in uv's words.

uv reads its own variables and none of pip's. Whoever has told pip of a mirror, a folder of wheels or a
certificate has told this program too: when uv's variable is unset, its twin is handed on. uv's own word always
stands. Only the environment is read, never a file of pip's.

noxfile.py uses it too, for the tools that it installs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

# Each decides what gets installed, and so belongs to an environment's key.
_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
_CHOICES = (*_INDEXES, "UV_FIND_LINKS", "UV_INDEX_STRATEGY", "UV_TORCH_BACKEND", "UV_EXCLUDE_NEWER")
_FILES = ("UV_CONSTRAINT", "UV_OVERRIDE")


def registry_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables to add to `environ` so that uv reaches the registries that pip reaches there.

    `PIP_NO_INDEX` is not among them, because uv has a flag for it and no variable: see `registry_flags`.
    """
    settings: dict[str, str] = {}
    for twin, (name, *others), translate in _TWINS:
        value = translate(environ.get(twin, "").strip())
        if value and not _any_set(environ, name, *others):
            settings.setdefault(name, value)
    if "UV_INDEX" in settings and not _any_set(environ, "UV_INDEX_STRATEGY"):
        # pip takes the best version of all its indexes. uv by itself stops at the first index that has the
        # package, and so would not find what an extra index holds in other versions only.
        settings["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return settings


def registry_flags(environ: Mapping[str, str]) -> list[str]:
    """What to add to `uv pip install` and cannot be said with a variable: `--no-index`."""
    asked = environ.get("PIP_NO_INDEX", "").strip().lower() in {"1", "true", "t", "yes", "y", "on"}
    return ["--no-index"] if asked and not _any_set(environ, *_INDEXES) else []


def names_a_registry(environ: Mapping[str, str]) -> bool:
    """Whether the user says where packages come from, to uv or to pip; then nothing else is tried first."""
    settings = {**environ, **registry_settings(environ)}
    return _any_set(settings, *_INDEXES, "UV_FIND_LINKS", "UV_TORCH_BACKEND") or bool(registry_flags(environ))


def fingerprint(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings that decide what gets installed, without user names and passwords: they change, it stays."""
    settings = {**environ, **registry_settings(environ)}
    found = {name: _CREDENTIALS.sub("://", settings[name]) for name in _CHOICES if settings.get(name)}
    found |= {name: _texts(settings[name]) for name in _FILES if settings.get(name)}
    return found | dict.fromkeys(registry_flags(environ), "")


def _any_set(environ: Mapping[str, str], *names: str) -> bool:
    return any(environ.get(name) for name in names)


def _texts(value: str) -> str:
    """What stands in these files; of one that cannot be read, a URL for instance, its name."""
    texts = []
    for part in value.split():
        try:
            texts.append(Path(part).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            texts.append(part)
    return "\n".join(texts)


def _same(value: str) -> str:
    return value


def _locations(value: str) -> str:
    """A list as uv takes it, with commas and whole paths; pip's has spaces, and knows the home folder."""
    return ",".join(str(Path(part).expanduser()) if part.startswith("~") else part for part in value.split())


def _whole_seconds(value: str) -> str:
    try:
        return str(math.ceil(float(value)))
    except (ValueError, OverflowError):
        return ""


# pip's variable, uv's (what is set comes first, then other names for the same), and how the value is put.
_TWINS: tuple[tuple[str, tuple[str, ...], Callable[[str], str]], ...] = (
    ("PIP_INDEX_URL", ("UV_DEFAULT_INDEX", "UV_INDEX_URL"), _same),
    ("PIP_EXTRA_INDEX_URL", ("UV_INDEX", "UV_EXTRA_INDEX_URL"), _same),
    ("PIP_FIND_LINKS", ("UV_FIND_LINKS",), _locations),
    ("PIP_TRUSTED_HOST", ("UV_INSECURE_HOST",), _same),
    ("PIP_CERT", ("SSL_CERT_FILE",), _same),
    ("PIP_CLIENT_CERT", ("SSL_CLIENT_CERT",), _same),
    ("PIP_PROXY", ("ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), _same),
    ("PIP_RETRIES", ("UV_HTTP_RETRIES",), _same),
    ("PIP_TIMEOUT", ("UV_HTTP_TIMEOUT", "UV_REQUEST_TIMEOUT", "HTTP_TIMEOUT"), _whole_seconds),
    ("PIP_DEFAULT_TIMEOUT", ("UV_HTTP_TIMEOUT", "UV_REQUEST_TIMEOUT", "HTTP_TIMEOUT"), _whole_seconds),
)
_CREDENTIALS = re.compile(r"://[^/@\s]*@")
