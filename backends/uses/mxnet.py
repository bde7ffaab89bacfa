"""Where a Gluon model uses dense layers, in order of application: from its blocks, or from its graph."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn

from backends.models.mxnet import NestMLP
from d2lparams.interface import ROLES, Role


class Use(NamedTuple):
    """One use of a dense layer: the keys of the children that lead to its block, the block, its parameters.

    Of each parameter the expression that reaches it, and itself. A use that is read from a graph alone has no
    block and no path.
    """

    path: tuple[str, ...]
    block: Any
    parameters: Mapping[Role, tuple[str, Any]]


def listed(model: nn.Block) -> list[Any]:
    """The model's parameters, each once.

    `collect_params` lists a weight that is shared without its bias under two names, and Gluon's trainer refuses
    to step a parameter that it was given twice.
    """
    return list({parameter.name: parameter for parameter in model.collect_params().values()}.values())


def uses_of(model: nn.Block) -> list[Use]:
    """Every use of every dense layer, in order of application."""
    standing = list(_standing(model, (), "net"))
    if _applies_children_in_order(model):
        return standing
    try:
        # Symbols of parameters that have no shape yet would be kept by the blocks.
        parameters = {one.name: one for one in listed(model) if one.data() is not None}
        nodes = json.loads(_graph(model).tojson())["nodes"]
    except Exception:
        # Its class computes with arrays only, or has no values yet; its children are what is known of it.
        return standing
    return list(_applied(nodes, parameters, standing))


def _standing(block: nn.Block, path: tuple[str, ...], access: str) -> Iterator[Use]:
    """A use for each place where a dense block stands, in the order in which the blocks were added."""
    if isinstance(block, nn.Dense):
        found: dict[Role, Any] = {role: getattr(block, role) for role in ROLES}
        parameters = {role: (f"{access}.{role}", one) for role, one in found.items() if one is not None}
        yield Use(path, block, parameters)
        return
    indexed = isinstance(block, (nn.Sequential, nn.HybridSequential))
    for place, (key, child) in enumerate(block._children.items()):
        yield from _standing(child, (*path, key), f"{access}[{place}]" if indexed else f"{access}.{key}")


def _applies_children_in_order(block: nn.Block) -> bool:
    """Whether all that a block applies are its children, one after the other."""
    if type(block) in (nn.Sequential, nn.HybridSequential, NestMLP):
        return all(_applies_children_in_order(child) for child in block._children.values())
    return isinstance(block, nn.Dense) or not (block._children or block._reg_params)


def _graph(model: nn.Block) -> Any:
    """The model as a symbol."""
    if isinstance(model, gluon.SymbolBlock):
        return model._cached_graph[1]  # with NumPy semantics, a SymbolBlock cannot be called with a symbol
    return model(mx.sym.var("data").as_np_ndarray())


def _applied(
    nodes: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any], standing: Sequence[Use]
) -> Iterator[Use]:
    """The uses that a graph makes of dense layers; its nodes stand in order of application."""
    # By the names of what a node reads, the blocks that stand for it, and how many of them have been taken.
    places: dict[tuple[str, ...], list[Use]] = {}
    for use in standing:
        places.setdefault(tuple(one.name for _, one in use.parameters.values()), []).append(use)
    taken: Counter[tuple[str, ...]] = Counter()
    for node in nodes:
        if node["op"] != "FullyConnected":
            continue
        read = tuple(nodes[place]["name"] for place, *_ in node["inputs"][1:])
        if not all(name in parameters for name in read):
            continue  # its weight is computed, and no parameter
        if read not in places:
            found = {
                role: (f"net.collect_params()[{name!r}]", parameters[name]) for role, name in zip(ROLES, read)
            }
            yield Use((), None, found)
            continue
        # Blocks with the same parameters stand for one use each; a block that is called again, for the next.
        blocks = places[read]
        yield blocks[min(taken[read], len(blocks) - 1)]
        taken[read] += 1
