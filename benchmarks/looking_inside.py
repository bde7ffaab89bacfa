"""What of `looking.py` runs in a framework's environment: models, both sides, times and memory as JSON.

python looking_inside.py bootstrap.py '{"backend": "torch", ...}'
"""

from __future__ import annotations

import gc
import json
import math
import runpy
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

ENOUGH = 0.02  # seconds that a look is repeated for when it is shorter


class Framework(NamedTuple):
    """How a framework's user builds such a model, and lists what is in it.

    Attributes:
        sequential: of (layers, width), all values 0.5, float32.
        own: the same applied by a class of the user's own; None where that is read as a sequential one is.
        listed: name, shape and type of each parameter.
    """

    sequential: Callable[[int, int], Any]
    own: Callable[[int, int], Any] | None
    listed: Callable[[Any], list[tuple[Any, ...]]]


def torch() -> Framework:
    """PyTorch; layers are not drawn at random, which would take minutes."""
    from torch import nn, no_grad
    from torch.nn.utils import skip_init

    def sequential(layers: int, width: int) -> Any:
        net = nn.Sequential(*[skip_init(nn.Linear, width, width) for _ in range(layers)])
        with no_grad():
            for one in net.parameters():
                one.fill_(0.5)
        return net

    def listed(net: Any) -> list[tuple[Any, ...]]:
        named = dict(net.named_parameters(remove_duplicate=False))
        return [(name, tuple(one.shape), one.dtype) for name, one in named.items()]

    return Framework(sequential, None, listed)


def mxnet() -> Framework:
    """Gluon, with NumPy semantics as the adapter has set them."""
    from mxnet import init, nd
    from mxnet.gluon import nn

    class Own(nn.HybridBlock):  # type: ignore[misc]
        def __init__(self, layers: int, width: int) -> None:
            super().__init__()
            self.parts = [nn.Dense(width, in_units=width) for _ in range(layers)]
            for one in self.parts:
                self.register_child(one)

        def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: N803
            for one in self.parts:
                x = one(x)
            return x

    def sequential(layers: int, width: int) -> Any:
        net = nn.HybridSequential()
        net.add(*[nn.Dense(width, in_units=width) for _ in range(layers)])
        net.initialize(init.Constant(0.5))
        nd.waitall()  # values are filled in behind the scenes
        return net

    def own(layers: int, width: int) -> Any:
        net = Own(layers, width)
        net.initialize(init.Constant(0.5))
        nd.waitall()  # values are filled in behind the scenes
        return net

    def listed(net: Any) -> list[tuple[Any, ...]]:
        return [(name, one.shape, one.dtype) for name, one in net.collect_params().items()]

    return Framework(sequential, own, listed)


def jax() -> Framework:
    """Flax; the variables are made by hand, for `init` of so many layers traces them for minutes."""
    from flax import linen as nn
    from jax import block_until_ready
    from jax import numpy as jnp
    from jax.tree_util import keystr, tree_leaves_with_path

    class Own(nn.Module):  # type: ignore[misc]
        layers: int
        width: int

        @nn.compact
        def __call__(self, x: Any) -> Any:
            for place in range(self.layers):
                x = nn.Dense(self.width, name=f"layers_{place}")(x)
            return x

    def variables(layers: int, width: int) -> dict[str, Any]:
        made: dict[str, Any] = block_until_ready(
            {
                f"layers_{place}": {"kernel": jnp.full((width, width), 0.5), "bias": jnp.full(width, 0.5)}
                for place in range(layers)
            }
        )
        return {"params": made}

    def sequential(layers: int, width: int) -> Any:
        return nn.Sequential([nn.Dense(width) for _ in range(layers)]), variables(layers, width)

    def own(layers: int, width: int) -> Any:
        return Own(layers, width), variables(layers, width)

    def listed(net: Any) -> list[tuple[Any, ...]]:
        return [(keystr(path), one.shape, one.dtype) for path, one in tree_leaves_with_path(net[1])]

    return Framework(sequential, own, listed)


def tensorflow() -> Framework:
    """Keras; each layer is built by itself, for the graph of so many is deeper than Python goes."""
    import keras

    def sequential(layers: int, width: int) -> Any:
        half = keras.initializers.Constant(0.5)
        parts = [keras.layers.Dense(width, kernel_initializer=half) for _ in range(layers)]
        for one in parts:
            one.build((None, width))
        return keras.Sequential(parts)

    def listed(net: Any) -> list[tuple[Any, ...]]:
        return [(one.path, one.shape, one.dtype) for one in net.weights]

    return Framework(sequential, None, listed)


def resident() -> int:
    """The bytes that this process holds in memory; where the system does not say, the most that it held."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii").split()
        return int(status[status.index("VmRSS:") + 1]) * 1024
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def seconds(look: Callable[[Any], Any], net: Any, repeats: int = 1) -> float:
    """Of one look, of the processor. What it gave is gone afterwards."""
    began = time.process_time()
    for _ in range(repeats):
        look(net)
    return (time.process_time() - began) / repeats


def measure(
    model: str, net: Any, ours: Callable[[Any], Any], theirs: Callable[[Any], Any], rounds: int
) -> dict[str, Any]:
    """Both sides in turn on one model, and what a list that is kept takes."""
    gc.collect()
    before = resident()
    began = time.process_time()
    kept = ours(net)
    first = time.process_time() - began
    grown = resident() - before
    tensors, size = len(kept), sum(one.nbytes for one in kept)
    listed = theirs(net)
    shapes = sorted(one.native_shape for one in kept), sorted(tuple(shape) for _, shape, _ in listed)
    assert shapes[0] == shapes[1], "the two sides do not list the same"
    assert size == sum(4 * math.prod(shape) for _, shape, _ in listed)
    del kept, listed, shapes
    repeats = max(1, math.ceil(ENOUGH / max(seconds(theirs, net), 1e-6)))
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(rounds):
        for side, look in (("ours", ours), ("theirs", theirs))[:: -1 if number % 2 else 1]:
            times[side].append(seconds(look, net, repeats))
    return {"model": model, "tensors": tensors, "bytes": size, "grown": grown, "first": first, **times}


def main(order: dict[str, Any]) -> list[dict[str, Any]]:
    """All models of one framework."""
    backend = getattr(import_module(f"backends.{order['backend']}"), order["class"])()
    framework = {"torch": torch, "mxnet": mxnet, "jax": jax, "tensorflow": tensorflow}[order["backend"]]()
    small = framework.sequential(2, 4)
    backend.parameters(small)
    framework.listed(small)
    many, large = order["many"], order["large"]
    found = []
    for model, (layers, width), build in (
        ("many tensors", many, framework.sequential),
        ("large tensors", large, framework.sequential),
        ("a class of one's own", (many[0] // 10, many[1]), framework.own),
    ):
        if build is None:
            continue
        net = build(layers, width)
        seen = measure(model, net, backend.parameters, framework.listed, order["rounds"])
        found.append({**seen, "promised": build is framework.sequential})
        del net
    return found


if __name__ == "__main__":
    runpy.run_path(sys.argv[1])["expose"]()
    answer = main(json.loads(sys.argv[2]))
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
