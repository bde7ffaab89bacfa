"""What a file of values holds, whatever its format: tensors with names, and notes.

Nothing here reads a file. A format's module makes these objects, and hands each tensor the way to its values,
which is gone only when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from d2lparams.checks import Array
from d2lparams.tensor_file import BadFile, shown, shown_path

MOST_TENSORS = 1_000_000
"""A file with more of them is refused: no model has so many, and their names alone would fill the memory."""

UNPACKED_AT_LEAST, UNPACKED_TIMES = 256 * 2**20, 100
"""What is compressed may become so many bytes, or so many times the file; more is refused."""


@dataclass(frozen=True)
class Tensor:
    """A named array in a file.

    Attributes:
        name: unique in the file.
        shape: in the file's own orientation; () for a single number.
        dtype: such as "float32" or "bfloat16"; one that NumPy does not have is listed, too.
        nbytes: how many bytes its numbers take.
        storage: equal for tensors that are one stored block of numbers, as far as the format says.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    storage: Hashable
    source: Callable[[], Array] = field(repr=False, compare=False)

    def read(self) -> Array:
        """Its values, read-only; a bfloat16 is given as float32. No copy where the file can show them.

        Raises:
            BadFile: when they are not whole, or of a dtype that NumPy cannot read.
        """
        return self.source()


@dataclass
class Checkpoint:
    """An open file; a context manager. Arrays that were read stay good when it is closed.

    Attributes:
        path: the file.
        format: "safetensors", "NumPy", "MXNet", "Keras", "Flax" or "PyTorch".
        tensors: in the order of the file.
        metadata: whatever else it holds, as text.
        remark: a sentence on what is odd about it, though it can be read; or "".
    """

    path: Path
    format: str
    tensors: tuple[Tensor, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    remark: str = ""
    resources: ExitStack = field(default_factory=ExitStack, repr=False)

    def ties(self) -> list[tuple[str, ...]]:
        """The names of tensors that are one storage, group by group, in the order of the file."""
        groups: dict[Hashable, list[str]] = {}
        for tensor in self.tensors:
            groups.setdefault(tensor.storage, []).append(tensor.name)
        return [tuple(names) for names in groups.values() if len(names) > 1]

    def close(self) -> None:
        """Let go of the file, and of what was unpacked from it."""
        self.resources.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def bad(path: Path, problem: str) -> BadFile:
    """What is wrong with a file; the sentence begins with the path."""
    return BadFile(f"{shown_path(path)}: {problem}")


def most_unpacked(size: int) -> int:
    """How many bytes may come out of a file of a size."""
    return max(UNPACKED_AT_LEAST, UNPACKED_TIMES * size)


def each_once(path: Path, names: Iterable[str]) -> None:
    """Names must be text, no name may stand twice in a file, and there must be a sane number of them.

    Raises:
        BadFile: when that is not so.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise bad(path, f"it holds two arrays that are called {shown(name)}")
        if not _is_text(name):
            raise bad(path, f"the name {shown(name)} in it is no text")
        seen.add(name)
        if len(seen) > MOST_TENSORS:
            raise bad(path, f"it holds more than {MOST_TENSORS} arrays, which no checkpoint does")


def _is_text(name: str) -> bool:
    """Whether a name can be written; JSON can name characters that there are not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
