"""What does it cost to keep a tied model of 400 MB in a file, against what safetensors itself needs?

Time: the same storages are written and read by `ParameterSet` and by the library, in turn, in one run; a read
touches every number. The figure is the median of the rounds' ratios, and 1.15 is what is promised. Theirs is
the faster of `load_file` and `safe_open`.

Memory: a real PyTorch model of that size is exported without a copy, saved, and loaded again, in PyTorch's
environment. The figure is how far the process's own memory rose above the model, as a share of the largest
tensor; 1 is what is promised. Pages of the file that is mapped are the system's and are not counted.

    python benchmarks/files.py [--rounds 9] [--json FILE]
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from rich.console import Console

from d2lparams import bootstrap
from d2lparams.columns import parse_column
from d2lparams.environments import ensure
from d2lparams.parameter_set import LayerRecord, ParameterSet

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measuring import Figure, Row, measure, options, seconds, show, write

PROMISED_TIME, PROMISED_MEMORY = 1.15, 1.0
WIDTH, LAYERS = 4096, 6  # 64 MiB a matrix

MEMORY = """
import json, runpy, sys, threading, time
from pathlib import Path
runpy.run_path(sys.argv[1])["expose"]()
import torch
from torch import nn
from backends.torch import TorchBackend
from d2lparams.parameter_set import ParameterSet

width, layers, file = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
def build():
    net = nn.Sequential(*[nn.Linear(width, width) for _ in range(layers)])
    net.append(net[1])
    return net
def own():
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("RssAnon:") + 1]) * 1024

class Watched:
    def __enter__(self):
        self.before = self.most = own()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self
    def look(self):
        while not self.stop.wait(0.001):
            self.most = max(self.most, own())
    def __exit__(self, *exception):
        self.stop.set()
        self.thread.join()
        self.rose = self.most - self.before

backend, net = TorchBackend(), build()
small = nn.Sequential(nn.Linear(2, 2))
backend.export(small, copy=False).save(file + ".small")  # what is imported and set up once
backend.load(small, ParameterSet.open(file + ".small"))
with Watched() as saving:
    parameters = backend.export(net, copy=False)
    parameters.save(file)
shared = len(parameters.shared) / len(parameters)
del parameters
with Watched() as copying:
    backend.export(net)
other = build()
with Watched() as loading:
    backend.load(other, ParameterSet.open(file))
tied = backend.export(other, copy=False).ties == backend.export(net, copy=False).ties
size = sum(p.numel() * p.element_size() for p in net.parameters())
print(json.dumps({"saving": saving.rose, "copying": copying.rose, "loading": loading.rose, "shared": shared,
                  "tied": tied, "model": size, "file": Path(file).stat().st_size}))
"""

console = Console()


def model() -> ParameterSet:
    """Dense layers of one width, of which the last is the second once more."""
    random = np.random.default_rng(0)
    layers = [LayerRecord(str(place), "dense", ("weight", "bias")) for place in range(LAYERS + 1)]
    arrays = {
        key: random.random((WIDTH, WIDTH) if key.endswith("weight") else WIDTH, dtype="float32")
        for layer in layers[:-1]
        for key in layer.keys
    }
    return ParameterSet(layers, arrays, list(zip(layers[1].keys, layers[-1].keys)))


def main(rounds: int, file: Path | None) -> None:
    """Time and measure, and print the table."""
    parameters = model()
    storages = {name: np.array(array) for name, array in parameters.storages.items()}
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs, fresh = (Path(folder, f"{name}.safetensors") for name in ("ours", "theirs", "fresh"))

        def open_theirs() -> None:
            with safetensors.safe_open(theirs, "numpy") as file:
                for name in file.keys():  # noqa: SIM118  (it is no mapping)
                    touch(file.get_tensor(name))

        def alone(work: Callable[[], Any]) -> float:
            fresh.unlink(missing_ok=True)  # whoever replaces a file pays for the old one, too
            return seconds(work)

        work: dict[str, Callable[[], Any]] = {
            "ours, written": lambda: parameters.save(fresh),
            "save_file": lambda: safetensors.numpy.save_file(storages, fresh),
            "ours, read": lambda: [touch(one) for one in ParameterSet.open(ours).storages.values()],
            "load_file": lambda: [touch(one) for one in safetensors.numpy.load_file(theirs).values()],
            "safe_open": open_theirs,
        }
        parameters.save(ours)
        safetensors.numpy.save_file(storages, theirs)
        for one in work.values():
            one()  # so that files are in memory for everyone
        times = measure({name: partial(alone, one) for name, one in work.items()}, rounds)
        size, once = ours.stat().st_size, parameters.nbytes
    faster = min("load_file", "safe_open", key=lambda name: times[name].median)
    rows = [
        Row(f"written, {size / 1e6:.0f} MB", times["ours, written"], times["save_file"], PROMISED_TIME),
        Row(f"read, every number touched, by {faster}", times["ours, read"], times[faster], PROMISED_TIME),
        *memory(),
    ]
    show(f"files, {rounds} rounds", rows)
    console.print(f"the file is {size - once} bytes larger than each storage once, {once / 1e6:.0f} MB")
    write(file, "files", rows)


def touch(array: Any) -> None:
    """Read every number."""
    array.sum()


def memory() -> list[Figure]:
    """How far memory rose above a real model in its framework's process, in parts of its largest tensor."""
    environment = ensure(parse_column("torch"), progress=lambda text: console.print(text, style="dim"))
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "model.safetensors"))
        script = [str(environment.python), "-I", "-c", MEMORY, bootstrap.__file__]
        command = [*script, str(WIDTH), str(LAYERS), file]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    figures = []
    for name, said, promised in (
        ("saving", "export(copy=False).save(file)", PROMISED_MEMORY),
        ("loading", "load(net, ParameterSet.open(file))", PROMISED_MEMORY),
        ("copying", "export(net), a copy, for comparison", None),
    ):
        share = found[name] / (WIDTH * WIDTH * 4)
        figures.append(Figure(f"memory, in largest tensors: {said}", share, share, share, promised))
    console.print(f"views of PyTorch's own memory: {found['shared']:.0%} of the arrays")
    console.print(
        f"model {found['model'] / 1e6:.1f} MB, file {found['file'] / 1e6:.1f} MB; tied: {found['tied']}"
    )
    return figures


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "100")
    given = options(__doc__, rounds=9).parse_args()
    main(given.rounds, given.json)
