"""The ways that MXNet's Gluon has to copy, save, cast, compile, export and share a model.

Their sources become part of programs that run without the harness (`backends.scripts`); they are written as a
user of Gluon writes them, and so without types. Gluon keeps no configuration of a model: its ways either load
values into another model that the user's code builds, or keep the graph and forget the blocks.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import copy
import pickle
import tempfile
from collections.abc import Sequence

import mxnet as mx
from mxnet import gluon, np, npx

from d2lparams.interface import Lifecycle


def deepcopy(net, again, x):
    """Python's copy."""
    return copy.deepcopy(net)


def deepcopy_and_reset_ctx(net, again, x):
    """Python's copy, whose arrays are then copied once more, with gradients that autograd knows."""
    result = copy.deepcopy(net)
    result.collect_params().reset_ctx(mx.cpu())
    return result


def deepcopy_hybridized(net, again, x):
    """Python's copy of a model that has compiled its graph."""
    net.hybridize()
    net(np.array(x, dtype=x.dtype))
    return copy.deepcopy(net)


def pickled(net, again, x):
    """Python's pickle and back."""
    return pickle.loads(pickle.dumps(net))


def pickled_hybridized(net, again, x):
    """Python's pickle of a model that has compiled its graph."""
    net.hybridize()
    net(np.array(x, dtype=x.dtype))
    return pickle.loads(pickle.dumps(net))


def save_and_load(net, again, x):
    """Save the values by the places of the blocks, and load them into another model."""
    with tempfile.TemporaryDirectory() as folder:
        net.save_parameters(f"{folder}/net.params")
        result = again()
        result.load_parameters(f"{folder}/net.params")
    return result


def save_deduplicated(net, again, x):
    """Save each shared parameter at one of its places only, and load that into another model."""
    with tempfile.TemporaryDirectory() as folder:
        net.save_parameters(f"{folder}/net.params", deduplicate=True)
        result = again()
        result.load_parameters(f"{folder}/net.params")
    return result


def save_deduplicated_and_load_leniently(net, again, x):
    """Save each shared parameter once, and load what is there into another model."""
    with tempfile.TemporaryDirectory() as folder:
        net.save_parameters(f"{folder}/net.params", deduplicate=True)
        result = again()
        result.load_parameters(f"{folder}/net.params", allow_missing=True, ignore_extra=True)
    return result


def save_by_name(net, again, x):
    """Save the values by the names of the parameters."""
    with tempfile.TemporaryDirectory() as folder:
        net.collect_params().save(f"{folder}/net.params")
        result = again()
        result.collect_params().load(f"{folder}/net.params")
    return result


def load_by_name(net, again, x):
    """Load a file of values by the names of the parameters into the model that they are from."""
    with tempfile.TemporaryDirectory() as folder:
        npx.save(f"{folder}/net.params", {name: one.data() for name, one in net.collect_params().items()})
        net.collect_params().load(f"{folder}/net.params")
    return net


def load_dict(net, again, x):
    """Load values by name into a model that was built later, whose names count on."""
    result = again()
    result.collect_params().load_dict({name: one.data() for name, one in net.collect_params().items()})
    return result


def load_dict_leniently(net, again, x):
    """Load the values whose names are found in a model that was built later."""
    result = again()
    values = {name: one.data() for name, one in net.collect_params().items()}
    result.collect_params().load_dict(values, allow_missing=True, ignore_extra=True)
    return result


def block_save_and_load(net, again, x):
    """Save the values and the names of the blocks, and load them into another model."""
    with tempfile.TemporaryDirectory() as folder:
        net.save(f"{folder}/net")
        result = again()
        result.load(f"{folder}/net")
    return result


def copy_values(net, again, x):
    """Set another model's values, one parameter after the other."""
    result = again()
    pairs = zip(net.collect_params().values(), result.collect_params().values())
    for one, other in pairs:
        other.set_data(one.data())
    return result


def cast(net, again, x):
    """Cast the model."""
    net.cast("float64")
    return net


def build_again(net, again, x):
    """Initialise a model that is initialised."""
    net.initialize()
    return net


def compiled(net, again, x):
    """Compile the model's graph, with memory that is allocated once."""
    net.hybridize(static_alloc=True, static_shape=True)
    net(np.array(x, dtype=x.dtype))
    return net


def export(net, again, x):
    """Export the graph and the values, and import them as one block."""
    net.hybridize()
    net(np.array(x, dtype=x.dtype))
    with tempfile.TemporaryDirectory() as folder:
        net.export(f"{folder}/net")
        return gluon.SymbolBlock.imports(f"{folder}/net-symbol.json", ["data"], f"{folder}/net-0000.params")


def symbol_block(net, again, x):
    """Make a block of the model's graph, which shares the parameters."""
    data = mx.sym.var("data").as_np_ndarray()
    return gluon.SymbolBlock(net(data), data, params=net.collect_params())


LIFECYCLES: Sequence[Lifecycle[object]] = [
    Lifecycle("deepcopy", "copy.deepcopy(net)", deepcopy),
    Lifecycle(
        "deepcopy, reset_ctx",
        "other = copy.deepcopy(net); other.collect_params().reset_ctx(mx.cpu())",
        deepcopy_and_reset_ctx,
    ),
    Lifecycle("deepcopy, hybridized", "net.hybridize(); net(x); copy.deepcopy(net)", deepcopy_hybridized),
    Lifecycle("pickle", "pickle.loads(pickle.dumps(net))", pickled),
    Lifecycle("pickle, hybridized", "net.hybridize(); net(x); pickle.dumps(net)", pickled_hybridized),
    Lifecycle(
        "save and load", "net.save_parameters('net.params'); other.load_parameters('net.params')", save_and_load
    ),
    Lifecycle(
        "save and load, deduplicated",
        "net.save_parameters('net.params', deduplicate=True); other.load_parameters('net.params')",
        save_deduplicated,
    ),
    Lifecycle(
        "save and load, deduplicated and lenient",
        "net.save_parameters(path, deduplicate=True); "
        "other.load_parameters(path, allow_missing=True, ignore_extra=True)",
        save_deduplicated_and_load_leniently,
    ),
    Lifecycle(
        "collect_params().save",
        "net.collect_params().save('net.params'); other.collect_params().load('net.params')",
        save_by_name,
    ),
    Lifecycle("collect_params().load", "npx.save(path, values); net.collect_params().load(path)", load_by_name),
    Lifecycle("load_dict", "other.collect_params().load_dict(values)", load_dict),
    Lifecycle(
        "load_dict, lenient",
        "other.collect_params().load_dict(values, allow_missing=True, ignore_extra=True)",
        load_dict_leniently,
    ),
    Lifecycle("Block.save and Block.load", "net.save('net'); other.load('net')", block_save_and_load),
    Lifecycle("copy values", "for p, q in zip(...): q.set_data(p.data())", copy_values),
    Lifecycle("cast", "net.cast('float64')", cast),
    Lifecycle("build again", "net.initialize()", build_again),
    Lifecycle("compile", "net.hybridize(static_alloc=True, static_shape=True)", compiled),
    Lifecycle(
        "export",
        "net.export('net'); gluon.SymbolBlock.imports('net-symbol.json', ['data'], 'net-0000.params')",
        export,
    ),
    Lifecycle("SymbolBlock", "gluon.SymbolBlock(net(data), data, params=net.collect_params())", symbol_block),
]
