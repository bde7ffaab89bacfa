"""Harms a file in thousands of ways and opens it each time; a program of its own, see `test_fuzz`.

    python -m tests.fuzzing FORMAT ROUNDS FOLDER SEED

It takes no more memory than it is allowed, and a round no more time; a round that ends in anything but
`BadFile` or a whole file ends the program, with the file left in the folder. HDF5 reads in another process each
time, as ever; here that is forked from this one, which has imported it, because there are so many.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import selectors
import signal
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from d2lparams import errand, errands
from d2lparams.checkpoints import BadFile, hdf5, open_checkpoint, torch_pt
from d2lparams.checkpoints.archive import Archive
from d2lparams.checkpoints.mapped import Mapped
from tests import samples

MEMORY = 768 * 2**20
SECONDS_EACH, SECONDS_APART = 12, 6

NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    255,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    2**64 - 1,
]
VALUES: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        1,
        1.5,
        2**31,
        2**63,
        10**400,
        "",
        "F32",
        "BF16",
        "F8_E4M3",
        "x" * 1000,
        "\ud800",
        "\0",
    ),
    *([], [0], [1, 2], [[1]], [-1, 4], [2**62, 2**62], [0] * 100, {}, {"a": 1}, {"ties": [["a", "b"]]}),
]


# -- the harm ------------------------------------------------------------------------------------------------


def harmed(data: bytes, draw: random.Random) -> bytes:
    """A file with a few bytes, numbers or pieces changed."""
    content = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        # What a file says of itself stands at its beginning or its end.
        place = draw.choice((draw.randrange(len(content) + 1), draw.randrange(min(len(content), 64) + 1)))
        place = len(content) - place if draw.random() < 0.3 else place
        piece = draw.randrange(1, 40)
        match draw.randrange(8):
            case 0 | 1:
                for at in range(place, min(place + draw.choice((1, 1, 4)), len(content))):
                    content[at] ^= 1 << draw.randrange(8)
            case 2:
                del content[place:]
            case 3:
                del content[place : place + piece]
            case 4:
                start = draw.randrange(len(content) + 1)
                content[place:place] = content[start : start + piece]
            case 5:
                start = draw.randrange(len(content) + 1)
                content[place : place + piece] = content[start : start + piece]
            case 6:
                width, order = draw.choice((1, 2, 4, 8)), draw.choice(("little", "big"))
                number = draw.choice(NUMBERS) % 2 ** (8 * width)
                content[place : place + width] = number.to_bytes(width, order)
            case 7:
                content[place : place + piece] = draw.randbytes(piece)
        if not content:
            break
    return bytes(content)


def harmed_zip(data: bytes, draw: random.Random) -> bytes:
    """A zip file that is whole, with a member that is not, or another name, twice, or packed another way."""
    members = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    chosen = draw.randrange(len(members))
    name, content = members[chosen]
    method = zipfile.ZIP_STORED
    match draw.randrange(5):
        case 0 | 1:
            members[chosen] = (name, harmed(content, draw) if content else b"x")
        case 2:
            members[chosen] = (
                draw.choice(("../../x.npy", "/etc/x.npy", "a\x1b[2J.npy", "x" * 3000, "", name[1:])),
                content,
            )
        case 3:
            members.append((name, content) if draw.random() < 0.5 else (f"more/{name}", b""))
        case 4:
            method = zipfile.ZIP_DEFLATED
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in members:
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, content, method)
    return target.getvalue()


def harmed_header(data: bytes, draw: random.Random) -> bytes:
    """A safetensors file whose header says something else, in good JSON."""
    length = int.from_bytes(data[:8], "little")
    document = json.loads(data[8 : 8 + length])
    entry = document[draw.choice(list(document))]
    place = draw.choice(list(entry))
    entry[place] = draw.choice(VALUES)
    if isinstance(entry[place], list) and draw.random() < 0.5:
        entry[place] = [draw.choice((0, 1, 3, 12, 48, 2**40)) for _ in range(2)]
    if draw.random() < 0.2:
        document[draw.choice(("x", "", "__metadata__", "../x"))] = draw.choice(VALUES)
    text = json.dumps(document).encode()
    if draw.random() < 0.2:
        text = text.replace(b"{", b'{"half":1,"half":2,', 1)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


AWARE: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    "safetensors": harmed_header,
    **dict.fromkeys(("npz", "npz-compressed", "pt", "keras"), harmed_zip),
}


# -- what comes of it ----------------------------------------------------------------------------------------


def outcome(path: Path, opened: Callable[[Path], Any]) -> str:
    """Open a file and read all of it: "bad", or "whole" when every array is what was announced."""
    try:
        with opened(path) as checkpoint:
            names = [one.name for one in checkpoint.tensors]
            assert len(set(names)) == len(names)
            for one in checkpoint.tensors:
                array = one.read()
                assert array.shape == one.shape
                assert str(array.dtype) == ("float32" if one.dtype == "bfloat16" else one.dtype)
                assert not array.flags.writeable
                array.sum()
            assert all(len(group) > 1 for group in checkpoint.ties())
            assert all(isinstance(text, str) for item in checkpoint.metadata.items() for text in item)
    except BadFile as error:
        sentence = str(error)
        if not sentence.startswith(f"{path}: ") or "\n" in sentence or len(sentence) > 1000:
            raise AssertionError(f"no sentence: {sentence}") from error
        return "bad"
    return "whole"


def without_torch(path: Path) -> Any:
    """A PyTorch file, of which PyTorch always says the same."""
    archive = Archive(Mapped(path))
    if not torch_pt.belongs(archive):
        raise BadFile(f"{path}: it is none")
    torch_pt.check(archive)
    storage = archive.members.get("sample/data/0")
    return torch_pt.listed(archive, samples.layout(storage.start if storage else 0))


def forked(function: str, arguments: Mapping[str, Any], *, memory: int, seconds: float) -> Any:
    """`errands.run_apart`, in a process that is forked and not started."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(0)
        errand.limit(MEMORY)
        os.close(reading)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with os.fdopen(writing, "wb") as stream:
            stream.write(errand.answer(function, dict(arguments)))
        os._exit(0)
    os.close(writing)
    answer, deadline = b"", time.monotonic() + SECONDS_APART
    with os.fdopen(reading, "rb", buffering=0) as stream, selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while selector.select(max(deadline - time.monotonic(), 0)):
            chunk = stream.read(2**16)
            answer += chunk or b""
            if not chunk:
                break
        else:
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not answer.endswith(b"\n"):
        raise errands.ErrandFailed(f"the process ended with status {status}")
    return errands.outcome(answer)


def run(form: str, rounds: int, folder: Path, seed: int) -> dict[str, int]:
    """Harm a file of a format again and again, and count what comes of it."""
    original = samples.sample(form, folder)
    data, counts = original.read_bytes(), {"bad": 0, "whole": 0}
    opened = without_torch if form == "pt" else open_checkpoint
    assert outcome(original, opened) == "whole"
    target = folder / f"harmed{original.suffix}"
    for number in range(rounds):
        draw = random.Random(f"{form} {seed} {number}")
        change = AWARE[form] if form in AWARE and draw.random() < 0.5 else harmed
        target.write_bytes(change(data, draw))
        signal.alarm(SECONDS_EACH)
        try:
            counts[outcome(target, opened)] += 1
        except BaseException as error:
            raise AssertionError(f"{form}, seed {seed}, round {number}") from error
        finally:
            signal.alarm(0)
    return counts


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    assert hdf5  # for the processes that are forked
    errands.run_apart = forked
    warnings.simplefilter("ignore")  # names that stand twice, sums of what is no number
    form, rounds, folder, seed = sys.argv[1:]
    print(json.dumps(run(form, int(rounds), Path(folder), int(seed))))  # noqa: T201  (its answer)
