"""The ways that Flax has to copy, save and rebuild a model, and what JAX does to a tree of variables.

Their sources become part of programs that run without the harness (`backends.scripts`); they are written as a
user of Flax writes them, and so without types. A functional call is missing: every call of Flax is one.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import copy
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

from backends.uses.jax import Model
from d2lparams.interface import Lifecycle


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
