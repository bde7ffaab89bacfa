"""The ways that Flax has to copy, save and rebuild a model, and what JAX does to a tree of variables.

`script` puts the source of a way into a program that runs without the harness; the functions are written as
a user of Flax writes them, and so without types. A functional call is missing: every call of Flax is one.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import copy
import inspect
import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path

import flax
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization
from flax.training.train_state import TrainState
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.flatten_util import ravel_pytree

from backends.jax import Model, NestMLP, plan, tied_class
from d2lparams.interface import MLP, Lifecycle


def deepcopy(net, again, x):
    """Python's copy of the module and its variables."""
    return copy.deepcopy(net)


def pickled(net, again, x):
    """Python's pickle of the module and its variables, and back."""
    return pickle.loads(pickle.dumps(net))


def save_and_load(net, again, x):
    """Save the variables to a file of bytes, and load it into those of another model."""
    other, target = again()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.msgpack"
        path.write_bytes(serialization.to_bytes(net[1]))
        return other, serialization.from_bytes(target, path.read_bytes())


def msgpack(net, again, x):
    """Write the variables as bytes, and read them without a target to hold them against."""
    module, variables = net
    return module, serialization.msgpack_restore(serialization.msgpack_serialize(variables))


def flat_archive(net, again, x):
    """Save the variables as an archive of NumPy, by their paths, and load them."""
    module, variables = net
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/net.npz", **flatten_dict(variables, sep="/"))
        with np.load(f"{folder}/net.npz") as archive:
            return module, unflatten_dict(dict(archive), sep="/")


def orbax(net, again, x):
    """Save the variables to a folder, and restore them by the shapes of another model's."""
    import orbax.checkpoint  # type: ignore[import-not-found]

    other, target = again()
    with tempfile.TemporaryDirectory() as folder, orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(f"{folder}/net", net[1])
        checkpointer.wait_until_finished()
        return other, checkpointer.restore(f"{folder}/net", target)


def train_state(net, again, x):
    """Save what a training loop holds, and load it into that of another model."""

    def state(module, variables):
        return TrainState.create(apply_fn=module.apply, params=variables["params"], tx=optax.adam(0.1))

    other, target = again()
    restored = serialization.from_bytes(state(other, target), serialization.to_bytes(state(*net)))
    return other, {"params": restored.params}


def copy_values(net, again, x):
    """Put the values, as a dict of state, into another model's variables."""
    other, target = again()
    return other, serialization.from_state_dict(target, serialization.to_state_dict(net[1]))


def tree_map(net, again, x):
    """Copy every leaf of the variables."""
    module, variables = net
    return module, jax.tree.map(jnp.copy, variables)


def unflatten(net, again, x):
    """Hang the leaves, in their order, into the tree that init would give."""
    module, variables = net
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    return module, jax.tree.unflatten(jax.tree.structure(shapes), jax.tree.leaves(variables))


def raveled(net, again, x):
    """Make one vector of all values, and the variables of it again."""
    module, variables = net
    vector, unravel = ravel_pytree(variables)
    return module, unravel(vector)


def frozen(net, again, x):
    """Make a frozen dict of the variables, and a dict again."""
    module, variables = net
    return module, flax.core.unfreeze(flax.core.freeze(variables))


def build_again(net, again, x):
    """Initialize the module again, and put the old values into what that gives."""
    module, variables = net
    fresh = module.init(jax.random.key(1), x)
    return module, serialization.from_state_dict(fresh, serialization.to_state_dict(variables))


def clone(net, again, x):
    """Clone the module."""
    module, variables = net
    return module.clone(), variables


def bind(net, again, x):
    """Bind the module to its variables, and take both apart again."""
    module, variables = net
    return module.bind(variables).unbind()


def cast(net, again, x):
    """Cast the values, which takes a switch of the whole process."""
    module, variables = net
    jax.config.update("jax_enable_x64", True)
    return module, jax.tree.map(lambda value: value.astype("float64"), variables)


def device_put(net, again, x):
    """Put the variables onto a device."""
    module, variables = net
    return module, jax.device_put(variables, jax.devices()[0])


def jitted(net, again, x):
    """Let a compiled function give new variables."""
    module, variables = net
    update = jax.jit(lambda tree: jax.tree.map(lambda value: value + 0, tree))
    return module, update(variables)


def jitted_with_donation(net, again, x):
    """Let a compiled function give new variables, and donate it the buffers of the old ones."""
    module, variables = net
    update = jax.jit(lambda tree: jax.tree.map(lambda value: value + 0, tree), donate_argnums=0)
    return module, update(variables)


def vmapped(net, again, x):
    """Stack the variables twice, compute both at once, and take the second."""
    module, variables = net
    stacked = jax.tree.map(lambda value: jnp.stack([value, value]), variables)
    jax.vmap(module.apply, in_axes=(0, None))(stacked, x)
    return module, jax.tree.map(lambda value: value[1], stacked)


def compiled(net, again, x):
    """Compile the module's apply, and call that in its place."""
    module, variables = net
    return jax.jit(module.apply), jax.tree.map(jnp.copy, variables)


def checkpointed(net, again, x):
    """Compute activations a second time for the gradient, and do not keep them."""
    module, variables = net
    return jax.checkpoint(module.apply), jax.tree.map(jnp.copy, variables)


def export(net, again, x):
    """Export the module's apply for inputs of this shape, and call the program in its place."""
    module, variables = net
    program = jax.export.export(jax.jit(module.apply))(variables, x)
    return program, jax.tree.map(jnp.copy, variables)


LIFECYCLES: Sequence[Lifecycle[Model]] = [
    Lifecycle("deepcopy", "copy.deepcopy((net, params))", deepcopy),
    Lifecycle("pickle", "pickle.loads(pickle.dumps((net, params)))", pickled),
    Lifecycle(
        "save and load",
        "serialization.from_bytes(other_params, serialization.to_bytes(params))",
        save_and_load,
    ),
    Lifecycle(
        "msgpack_restore",
        "serialization.msgpack_restore(serialization.msgpack_serialize(params))",
        msgpack,
    ),
    Lifecycle("numpy.savez", "np.savez(file, **flatten_dict(params, sep='/'))", flat_archive),
    Lifecycle("orbax", "StandardCheckpointer().restore(folder, other_params)", orbax),
    Lifecycle("TrainState", "serialization.from_bytes(other_state, to_bytes(state))", train_state),
    Lifecycle(
        "copy values",
        "serialization.from_state_dict(other_params, serialization.to_state_dict(params))",
        copy_values,
    ),
    Lifecycle("jax.tree.map", "jax.tree.map(jnp.copy, params)", tree_map),
    Lifecycle("jax.tree.unflatten", "jax.tree.unflatten(structure, jax.tree.leaves(params))", unflatten),
    Lifecycle("ravel_pytree", "vector, unravel = ravel_pytree(params); unravel(vector)", raveled),
    Lifecycle("freeze and unfreeze", "flax.core.unfreeze(flax.core.freeze(params))", frozen),
    Lifecycle("clone", "net.clone()", clone),
    Lifecycle("bind and unbind", "net.bind(params).unbind()", bind),
    Lifecycle("build again", "serialization.from_state_dict(net.init(key, x), values)", build_again),
    Lifecycle("device_put", "jax.device_put(params, device)", device_put),
    Lifecycle("jit", "jax.jit(update)(params)", jitted),
    Lifecycle("jit with donation", "jax.jit(update, donate_argnums=0)(params)", jitted_with_donation),
    Lifecycle("vmap", "jax.vmap(net.apply, in_axes=(0, None))(stacked, x)", vmapped),
    Lifecycle("jax.checkpoint", "jax.checkpoint(net.apply)(params, x)", checkpointed),
    Lifecycle("compile", "jax.jit(net.apply)(params, x)", compiled),
    Lifecycle("export", "jax.export.export(jax.jit(net.apply))(params, x).call(params, x)", export),
    Lifecycle("cast", "jax.tree.map(lambda value: value.astype('float64'), params)", cast),
]

# -- programs without the harness -----------------------------------------------------------------------------

# What is imported, and the word in a program that needs it.
_IMPORTS = {
    "import copy": "copy.deepcopy(",
    "import pickle": "pickle.",
    "import sys": "sys.",
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

# What the adapter's own sources have, and a program that somebody pastes has no use for.
_ANNOTATIONS = (
    "  # type: ignore[misc]",
    "  # type: ignore[import-not-found]",
    ": type[nn.Module]",
    ": Mapping[Path, Path]",
    ": Any",
    " -> Any",
)

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


def damage():
    """What has become of the original; nothing when it computes what it did."""
    try:
        jax.device_get(net[1])
        return "" if np.array_equal(output(net), before) else "computes something else"
    except Exception as error:
        return f"cannot be read any more: {{error}}"


def look(result):
    """What came out, held against a twin of the original: one fact in a line."""
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
net, twin = build(seed=0), build(seed=0)
before = np.array(output(net))
try:
    result = {apply}(net, lambda: build(seed=1), x)
except Exception as error:
    print("error:", f"{{type(error).__name__}}: {{error}}".splitlines()[0])
    outcome = "refused"
else:
    print("what came out:", ", ".join(type(one).__name__ for one in result))
    outcome = look(result)
print("the original:", damage() or "as it was")
if damage():
    outcome = "corrupted"
print("outcome:", outcome)
sys.exit(outcome != "{outcome}")
'''


def script(lifecycle: Lifecycle[Model], spec: MLP, outcome: str) -> str:
    """A program that shows what a way does to a model of this form; 0 when the outcome is the one stated."""
    _, ties = plan(spec)
    sources = [path for path in dict.fromkeys(ties.values()) if path[-1] == "kernel"]
    if spec.by == "module":
        first = [min(group) for group in spec.tied]
        inner = ("net",) if spec.nested else ()
        sources = [(*inner, f"layers_{2 * layer}", "kernel") for layer in first]
    parts = [
        *([inspect.getsource(NestMLP)] if spec.nested else []),
        *([inspect.getsource(tied_class)] if ties else []),
        _build(spec),
        inspect.getsource(lifecycle.apply),
        _LOOK.format(
            apply=lifecycle.apply.__name__,
            width=spec.sizes[0],
            dtype=spec.dtype,
            shared=[("params", *path) for path in sources],
            outcome=outcome,
        ),
    ]
    code = "\n\n".join(parts)
    for annotation in _ANNOTATIONS:
        code = code.replace(annotation, "")
    if spec.dtype == "float64":
        switch = 'jax.config.update("jax_enable_x64", True)'
        code = f"{switch}\n\n\n{code}"
    imports = "\n".join(line for line, word in _IMPORTS.items() if word in code)
    # The switch goes right below the imports, a definition two lines further down.
    space = "\n\n" if spec.dtype == "float64" else "\n\n\n"
    title = f'"""Flax: {lifecycle.name}.\n\nIn the model, {_ties(spec)}.\n\n    {lifecycle.how}\n"""'
    return f"{title}\n\n{imports}{space}{code}"


def _build(spec: MLP) -> str:
    """The source of a function that builds the model."""
    order, ties = plan(spec)
    lines = ["def build(seed):", f'    """{_ties(spec).capitalize()}."""']
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


def _ties(spec: MLP) -> str:
    what = "are one layer" if spec.by == "module" else f"hold one {' and one '.join(spec.roles)}"
    groups = [" and ".join(map(str, sorted(group))) for group in spec.tied]
    return "; ".join(f"dense layers {group} {what}" for group in groups) or "no layers are shared"
