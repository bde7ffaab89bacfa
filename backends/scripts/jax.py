"""Programs in JAX and Flax alone that show what a life cycle does to a model of a given form."""

from __future__ import annotations

import jax

from backends.models.jax import NestMLP, module_of, plan, tied_class
from backends.uses.jax import Model, places_of
from d2lparams.interface import MLP, Lifecycle, program, source_of, ties_in_words

_LOOK = '''\
def output(model):
    """What a model computes; in the place of the module there may be a function or an exported program."""
    module, variables = model
    return getattr(module, "apply", getattr(module, "call", module))(variables, x)


def step(model):
    """A step of gradient descent towards an output of zeros."""
    module, variables = model
    gradients = jax.grad(lambda variables: jnp.mean(output((module, variables)) ** 2))(variables)
    return module, jax.tree.map(lambda value, gradient: value - 0.125 * gradient, variables, gradients)


def write(model, path):
    """Turn a kernel upside down."""
    module, variables = model
    leaves = flatten_dict(variables)
    leaves[path] = jnp.asarray(leaves[path])[::-1]
    return module, unflatten_dict(leaves)


def same(model, other):
    """Whether two models compute the same."""
    return np.allclose(output(model), output(other), rtol=0, atol=1e-5)


def whole():
    """Whether the original computes what it did; it says why, when it cannot be read any more."""
    try:
        jax.device_get(net[1])
        return np.array_equal(output(net), before)
    except Exception as error:
        print("the original: cannot be read any more:", error)
        return False


def look(result):
    """What came out, held against a twin of the original: one fact in a line."""
    print("what came out:", ", ".join(type(one).__name__ for one in result))
    if not whole():
        return "corrupted"
    print("output:", "the same" if same(result, twin) else "another one")
    if not same(result, twin):
        return "changed"
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(one[1])) for one in (result, twin)]
    print(f"values held: {{sizes[0]}} where there were {{sizes[1]}}")
    stepped = same(step(result), step(twin))
    print("a training step:", "that of the twin" if stepped else "another one")
    tied = sizes[0] == sizes[1] and stepped
    # Where each shared kernel stands, as the twin has it.
    for path in {shared}:
        written = same(write(result, path), write(twin, path))
        print("a write through one use:", "shows in the others" if written else "does not show in the others")
        tied = tied and written
    return "kept" if tied else "broken"


print("JAX", jax.__version__, "Flax", flax.__version__)
x = np.random.default_rng(0).uniform(-1, 1, (8, {width})).astype("{dtype}")
'''

_IMPORTS = {
    "import copy": "copy.deepcopy(",
    "import pickle": "pickle.",
    "import sys": "",
    "import tempfile": "tempfile.",
    "from pathlib import Path": "Path(",
    "": "",
    "import flax": "flax.",
    "import jax": "jax.",
    "import jax.export": "jax.export.",
    "import jax.numpy as jnp": "jnp.",
    "import numpy as np": "np.",
    "import optax": "optax.",
    "from flax import linen as nn": "nn.",
    "from flax import serialization": "serialization.",
    "from flax.training.train_state import TrainState": "TrainState.",
    "from flax.traverse_util import flatten_dict, unflatten_dict": "flatten_dict(",
    "from jax.flatten_util import ravel_pytree": "ravel_pytree(",
}


def script(lifecycle: Lifecycle[Model], spec: MLP, outcome: str) -> str:
    """A program that imports JAX and Flax only; see `Backend.script`."""
    _, ties = plan(spec)
    sources = [path for path in dict.fromkeys(ties.values()) if path[-1] == "kernel"]
    if spec.by == "module":
        # Flax names a layer of a Sequential by one of its places, which need not be the first.
        places = places_of(module_of(spec), jax.ShapeDtypeStruct((1, spec.sizes[0]), spec.dtype))
        sources = [places[min(group)].leaves["weight"] for group in spec.tied]
    parts = [
        *([source_of(NestMLP)] if spec.nested else []),
        *([source_of(tied_class)] if ties else []),
        _build(spec),
        _LOOK.format(width=spec.sizes[0], dtype=spec.dtype, shared=[("params", *path) for path in sources]),
    ]
    # JAX makes every float64 a float32 unless it is told not to, before anything else.
    switch = {'\njax.config.update("jax_enable_x64", True)': ""} if spec.dtype == "float64" else {}
    title = f"Flax: {lifecycle.name} of a net in which {ties_in_words(spec)}."
    return program(lifecycle, outcome, title, _IMPORTS | switch, parts)


def _build(spec: MLP) -> str:
    """The source of a function that builds the model."""
    order, ties = plan(spec)
    lines = ["def build(seed):", f'    """{ties_in_words(spec).capitalize()}."""']
    for layer in dict.fromkeys(one for one in order if isinstance(one, int)):
        lines.append(
            f"    dense_{layer} = nn.Dense({spec.sizes[layer + 1]}, "
            f'bias_init=nn.initializers.normal(), param_dtype="{spec.dtype}")'
        )
    activation = {"identity": "(lambda x: x)"}.get(spec.activation, f"nn.{spec.activation}")
    # A line for each dense layer and the activation after it.
    names = [activation if isinstance(one, str) else f"dense_{one}" for one in order]
    rows = [", ".join(names[index : index + 2]) for index in range(0, len(names), 2)]
    lines += ["    layers = [", *(f"        {row}," for row in rows), "    ]"]
    kind = "NestMLP" if spec.nested else "nn.Sequential"
    if ties:
        lines += ["    ties = {", *(f"        {place}: {source}," for place, source in ties.items()), "    }"]
        kind = f"tied_class({kind}, ties)"
    given = "nn.Sequential(layers[:-1]), layers[-1]" if spec.nested else "layers"
    first = f'np.zeros((1, {spec.sizes[0]}), "{spec.dtype}")'
    lines += [f"    net = {kind}({given})", f"    return net, net.init(jax.random.key(seed), {first})\n"]
    return "\n".join(lines)
