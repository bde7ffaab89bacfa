"""A registry of packages on this machine, with one tiny wheel in it, that misbehaves as it is told."""

from __future__ import annotations

import base64
import hashlib
import io
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.faults.conftest import Place

WHEEL = "homemade-1.0-py3-none-any.whl"
MODULE = """\
import os, time
if stop := os.environ.get("HOMEMADE_STOP"):
    open(stop, "w").close()
    time.sleep(3600)
"""
TINY = """\
# /// script
# requires-python = ">=3.11"
# dependencies = ["homemade==1.0"]
# [tool.d2lparams]
# title = "tiny"
# class = "Fake"
# modules = ["homemade"]
# ///
"""


@cache  # an archive says when it was made, and then its hash would be another one
def wheel() -> bytes:
    """The wheel: one module, which waits at its import when it is told to."""
    files = {
        "homemade.py": MODULE,
        "homemade-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: homemade\nVersion: 1.0\n",
        "homemade-1.0.dist-info/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text)}\n"
    files["homemade-1.0.dist-info/RECORD"] = record + "homemade-1.0.dist-info/RECORD,,\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


class Answer(BaseHTTPRequestHandler):
    """What a request is answered with; tests put functions of their own in the place of these."""

    def do_GET(self) -> None:
        registry: Registry = self.server.registry  # type: ignore[attr-defined]
        file = self.path.endswith(WHEEL)
        registry.asked.set() if file else registry.listed.set()
        try:
            (registry.file if file else registry.page)(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # who asked has gone

    do_HEAD = do_GET  # noqa: N815

    def send(self, content: bytes, kind: str = "text/html", code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        return


Say = Callable[[Answer], None]


class Registry:
    """One that runs.

    Attributes:
        page: answers for the list of files.
        file: answers for the wheel.
        listed: set when the list was asked for.
        asked: set when the wheel was asked for.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/simple"
        self.listed, self.asked = threading.Event(), threading.Event()
        self.heal()

    def heal(self) -> None:
        self.page: Say = lambda answer: answer.send(listing())
        self.file: Say = lambda answer: answer.send(wheel(), "application/octet-stream")


def listing(digest: str = "") -> bytes:
    digest = digest or hashlib.sha256(wheel()).hexdigest()
    return f'<!DOCTYPE html><html><body><a href="/{WHEEL}#sha256={digest}">{WHEEL}</a></body></html>'.encode()


@contextmanager
def registry() -> Iterator[Registry]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    server.registry = found = Registry(server.server_address[1])  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.socket.close()


def use(place: Place, url: str, **settings: str) -> None:
    """Have the commands of a place know this registry and no other, and nothing that was downloaded before."""
    for name in list(place.environ):
        if name.upper().startswith(("PIP_", "UV_")) or name.upper().endswith("_PROXY"):
            del place.environ[name]
    place.environ |= {
        "PIP_INDEX_URL": url,
        "PIP_TIMEOUT": "1",
        "UV_CACHE_DIR": str(place.root / "uv"),
        "UV_HTTP_RETRIES": "0",
        "UV_PYTHON_DOWNLOADS": "never",
        "NO_PROXY": "127.0.0.1",
        **settings,
    }


def closed_port() -> int:
    """A port at which nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.005)
