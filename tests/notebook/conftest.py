"""A kernel as a notebook has one, without any framework: cells go in, and what they display comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import Empty
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

PATIENCE = 1800.0
"""Seconds that a cell may take: an environment may have to be built."""


@dataclass
class Reply:
    """What came of a cell.

    Attributes:
        status: "ok" or "error".
        error: the exception's text.
        outputs: as a notebook keeps them, displays in their last form.
    """

    status: str
    error: str = ""
    outputs: list[dict[str, Any]] = field(default_factory=list)

    def of(self, mime: str) -> str:
        """All that was shown, in one form."""
        return "\n".join(one.get("data", {}).get(mime, one.get("text", "")) for one in self.outputs)

    @property
    def text(self) -> str:
        return self.of("text/plain")

    @property
    def page(self) -> str:
        return self.of("text/html")


class Kernel:
    """One kernel, and what it says."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self.client = manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self._known: dict[str, tuple[Reply, dict[str, Any]]] = {}

    def start(self, source: str) -> str:
        """Have it run a cell, and do not wait for it."""
        return str(self.client.execute(source))

    def run(self, source: str, seconds: float = PATIENCE) -> Reply:
        """Run a cell to its end."""
        return self.follow(self.start(source), seconds)

    def follow(
        self, cell: str, seconds: float = PATIENCE, until: Callable[[Reply], bool] = lambda reply: False
    ) -> Reply:
        """What a cell has displayed when it ends, or when that is enough."""
        reply, displays = self._known.setdefault(cell, (Reply("running"), {}))
        limit = time.monotonic() + seconds
        while not until(reply):
            try:
                message = self.client.get_iopub_msg(timeout=max(limit - time.monotonic(), 0.1))
            except Empty:
                raise AssertionError(f"the cell did not end within {seconds:g} s; {reply}") from None
            if message["parent_header"].get("msg_id") != cell:
                continue
            content, kind = message["content"], message["msg_type"]
            identity = content.get("transient", {}).get("display_id")
            if kind == "update_display_data" and identity in displays:
                displays[identity]["data"] = content["data"]
            elif kind in ("display_data", "execute_result", "stream"):
                reply.outputs.append(content)
                displays[identity] = content
            elif kind == "error":
                reply.error = "\n".join(content["traceback"])
            elif kind == "status" and content["execution_state"] == "idle":
                reply.status = "error" if reply.error else "ok"
                shell = self.client.get_shell_msg(timeout=10)
                while shell["parent_header"].get("msg_id") != cell:
                    shell = self.client.get_shell_msg(timeout=10)
                reply.status = shell["content"]["status"]
                break
        return reply

    def interrupt(self) -> None:
        """What the square button does."""
        self.manager.interrupt_kernel()

    def value(self, expression: str) -> Any:
        """What an expression is in the kernel, where that is plain data."""
        reply = self.run(expression)
        assert reply.status == "ok", reply.error
        return eval(reply.text)


@pytest.fixture
def new_kernel() -> Iterator[Callable[[], Kernel]]:
    """Start kernels, with the magics loaded."""
    managers: list[KernelManager] = []

    def start() -> Kernel:
        managers.append(KernelManager(kernel_name="python3"))
        managers[-1].start_kernel()
        kernel = Kernel(managers[-1])
        assert kernel.run("%load_ext d2lparams").status == "ok"
        return kernel

    yield start
    for manager in managers:
        manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(new_kernel: Callable[[], Kernel]) -> Kernel:
    return new_kernel()
