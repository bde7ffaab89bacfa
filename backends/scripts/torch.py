"""Programs in PyTorch alone that show what a life cycle does to a model of a given form."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from backends.lifecycles.torch import FunctionalCall, export, functional_call
from backends.torch import NestMLP
from d2lparams.interface import MLP, Lifecycle, program, source_of, ties_in_words

_WEIGHTS = '''\
def weights(model):
    """The weight of every use of a linear layer, in order."""
    modules = model.named_modules(remove_duplicate=False)
    return [module.weight for _, module in modules if isinstance(module, nn.Linear)]
'''

_WEIGHTS_OF_A_GRAPH = '''\
def weights_of_graph(model):
    """The weight of every linear operation of an exported program, in order."""
    nodes = [node for node in model.graph.nodes if node.target == torch.ops.aten.linear.default]
    return [model.get_parameter(node.args[1].target) for node in nodes]
'''

_LOOK = '''\
def same(one, other):
    return torch.allclose(one.double(), other.double(), rtol=0, atol=1e-5)


def step(model, inputs):
    """A step of Adam towards an output of zeros."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.125, eps=0.125)
    model(inputs).square().mean().backward()
    optimizer.step()


def look(result):
    """What came out, held against a twin that lived nothing: a fact in a line."""
    given = inputs.to(next(result.parameters()).dtype)
    mine = {{one.data_ptr() for one in net.parameters()}}
    shares = any(one.data_ptr() in mine for one in result.parameters())
    unchanged = same(result(given), twin(inputs))
    print("output:", "the same" if unchanged else "another one")
    counts = [len(list(model.parameters())) for model in (result, twin)]
    print(f"parameters: {{counts[0]}} where the twin has {{counts[1]}}")
    step(result, given)
    step(twin, inputs)
    stepped = same(result(given), twin(inputs))
    print("a training step:", "that of the twin" if stepped else "another one")
    with torch.no_grad():
        {weights}(result)[{first}].add_(1)
    written = same({weights}(result)[{first}], {weights}(result)[{last}])
    print("a write through one use:", "shows in the other" if written else "does not show in the other")
    result(given)
    intact = shares or whole()
    print("the original:", "shares its storage" if shares else "as it was" if intact else "overwritten")
    kept = written and stepped
    return "corrupted" if not intact else "changed" if not unchanged else "kept" if kept else "broken"


def output(model):
    return model(inputs).detach()


def whole():
    return same(output(net), before)


print("PyTorch", torch.__version__)
torch.manual_seed(2)
inputs = torch.randn(8, {width}, dtype=torch.{dtype})
x = inputs.numpy()
'''

_IMPORTS = {
    "import copy": "copy.deepcopy(",
    "import pickle": "pickle.",
    "import sys": "",
    "import tempfile": "tempfile.",
    "\nimport torch": "",
    "from torch import nn": "",
    "from torch.nn.utils import parametrizations, parametrize": "parametrizations.",
}


def script(lifecycle: Lifecycle[Any], spec: MLP, outcome: str) -> str:
    """A program that imports PyTorch only; see `Backend.script`."""
    first, *_, last = sorted(spec.tied[0])
    graph = lifecycle.apply is export
    parts = [
        *([source_of(NestMLP)] if spec.nested else []),
        *([source_of(FunctionalCall)] if lifecycle.apply is functional_call else []),
        _build(spec),
        _WEIGHTS_OF_A_GRAPH if graph else _WEIGHTS,
        _LOOK.format(
            weights="weights_of_graph" if graph else "weights",
            width=spec.sizes[0],
            dtype=spec.dtype,
            first=first,
            last=last,
        ),
    ]
    title = f"PyTorch: {lifecycle.name} of a net in which {_ties(spec)}."
    return program(lifecycle, outcome, title, _IMPORTS, parts)


def _build(spec: MLP) -> str:
    """The source of a function that builds the model."""
    linear = [
        f"nn.Linear({inputs}, {outputs}, dtype=torch.{spec.dtype})" for inputs, outputs in pairwise(spec.sizes)
    ]
    activation = {"relu": "nn.ReLU()", "tanh": "nn.Tanh()", "identity": "nn.Identity()"}[spec.activation]
    stack = [part for one in linear[:-1] for part in (one, activation)]
    lines = [
        "def build(seed):",
        f'    """{_ties(spec).capitalize()}."""',
        "    torch.manual_seed(seed)",
        "    net = nn.Sequential(",
    ]
    lines += [f"        {part}," for part in (stack if spec.nested else [*stack, linear[-1]])]
    lines += ["    )"]
    if spec.nested:
        lines += [f"    net = NestMLP(net, {linear[-1]})"]
    places = [f"net.net[{2 * layer}]" if spec.nested else f"net[{2 * layer}]" for layer in range(spec.layers)]
    if spec.nested:
        places[-1] = "net.linear"
    for group in spec.tied:
        for layer in sorted(group)[1:]:
            mine, other = places[layer], places[min(group)]
            if spec.by == "module":
                lines.append(f"    {mine} = {other}")
            else:
                lines += [f"    {mine}.{role} = {other}.{role}" for role in spec.roles]
    return "\n".join([*lines, "    return net\n"])


def _ties(spec: MLP) -> str:
    return ties_in_words(spec, layers="linear layers", one="one module")
