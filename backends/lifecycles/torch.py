"""The ways that PyTorch has to copy, save, cast, move, compile, export and call a model.

`script` puts the source of a way into a program that runs without the harness; the functions are written as a
user of PyTorch writes them, and so without types.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import tempfile
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from backends.torch import NestMLP
from d2lparams.interface import MLP, Lifecycle


def deepcopy(net, again, x):
    """Python's copy of the whole object."""
    return copy.deepcopy(net)


def pickled(net, again, x):
    """Python's pickle and back."""
    return pickle.loads(pickle.dumps(net))


def save_and_load(net, again, x):
    """Save the state dict to a file, and load it into another model."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(net.state_dict(), f"{folder}/net.pt")
        result = again()
        result.load_state_dict(torch.load(f"{folder}/net.pt"))
    return result


def whole_model_file(net, again, x):
    """Save the whole object to a file and load it."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(net, f"{folder}/net.pt")
        return torch.load(f"{folder}/net.pt", weights_only=False)


def copy_values(net, again, x):
    """Copy the state dict's values into another model."""
    result = again()
    result.load_state_dict(net.state_dict())
    return result


def assign_values(net, again, x):
    """Make the state dict's tensors the parameters of another model."""
    state = copy.deepcopy(net.state_dict())
    result = again()
    result.load_state_dict(state, assign=True)
    return result


def cast(net, again, x):
    """Cast every parameter, in place."""
    return net.double()


def move_through_meta(net, again, x):
    """Drop the storage, allocate it anew, and load the values that were kept."""
    state = copy.deepcopy(net.state_dict())
    net.to("meta")
    net.to_empty(device="cpu")
    net.load_state_dict(state)
    return net


class FunctionalCall(nn.Module):  # type: ignore[misc]
    """A net that is called with the values of its copy, and should keep its own."""

    def __init__(self, net):
        super().__init__()
        self.values = copy.deepcopy(net)
        self.called = (net,)  # in a tuple, so that it does not become a part of this module

    def forward(self, x):
        """The output of the net with the copy's values."""
        values = dict(self.values.named_parameters())
        return torch.func.functional_call(self.called[0], values, (x,))


def functional_call(net, again, x):
    """Call the net with other values than its own."""
    return FunctionalCall(net)


def compiled(net, again, x):
    """Trace and compile, by the backend that needs no C++ compiler."""
    return torch.compile(net, backend="aot_eager")


def export(net, again, x):
    """Export a graph, for any size of batch, and make a module of it."""
    batch = {0: torch.export.Dim.DYNAMIC}
    return torch.export.export(net, (torch.from_numpy(x),), dynamic_shapes=(batch,)).module()


def weight_norm(net, again, x):
    """Parametrize the second linear layer, and make it plain again."""
    layer = [module for module in net.modules() if isinstance(module, nn.Linear)][1]
    parametrizations.weight_norm(layer)
    parametrize.remove_parametrizations(layer, "weight")
    return net


def vector_to_parameters(net, again, x):
    """Copy all values as one vector into another model."""
    result = again()
    vector = nn.utils.parameters_to_vector(net.parameters()).detach()
    nn.utils.vector_to_parameters(vector, result.parameters())
    return result


LIFECYCLES = [
    Lifecycle("deepcopy", "copy.deepcopy(net)", deepcopy),
    Lifecycle("pickle", "pickle.loads(pickle.dumps(net))", pickled),
    Lifecycle("save and load", "new.load_state_dict(torch.load(file))", save_and_load),
    Lifecycle("whole-model file", "torch.load(file, weights_only=False)", whole_model_file),
    Lifecycle("copy values", "new.load_state_dict(net.state_dict())", copy_values),
    Lifecycle("load_state_dict(assign=True)", "new.load_state_dict(state, assign=True)", assign_values),
    Lifecycle("vector_to_parameters", "vector_to_parameters(vector, new.parameters())", vector_to_parameters),
    Lifecycle("cast", "net.double()", cast),
    Lifecycle("to meta and back", 'net.to("meta"); net.to_empty(device="cpu")', move_through_meta),
    Lifecycle("functional call", "torch.func.functional_call(net, values, x)", functional_call),
    Lifecycle("compile", 'torch.compile(net, backend="aot_eager")', compiled),
    Lifecycle("export", "torch.export.export(net, (x,)).module()", export),
    Lifecycle("weight_norm and back", "weight_norm(layer); remove_parametrizations(layer)", weight_norm),
]

# -- programs without the harness -----------------------------------------------------------------------------

_WEIGHTS = """\
def weights(model):
    \"\"\"The weight of every use of a linear layer, in order.\"\"\"
    modules = model.named_modules(remove_duplicate=False)
    return [module.weight for _, module in modules if isinstance(module, nn.Linear)]
"""

_WEIGHTS_OF_A_GRAPH = (
    _WEIGHTS
    + """

def weights_of_graph(model):
    \"\"\"The weight of every linear operation of an exported program, in order.\"\"\"
    nodes = [node for node in model.graph.nodes if node.target == torch.ops.aten.linear.default]
    return [model.get_parameter(node.args[1].target) for node in nodes]
"""
)

_LOOK = """\
def same(one, other):
    return torch.allclose(one.double(), other.double(), rtol=0, atol=1e-5)


def step(model, x):
    \"\"\"A step of Adam towards an output of zeros.\"\"\"
    optimizer = torch.optim.Adam(model.parameters(), lr=0.125, eps=0.125)
    model(x).square().mean().backward()
    optimizer.step()


def look(after):
    \"\"\"What came out, held against a twin that lived nothing: a fact in a line.\"\"\"
    given = x.to(next(after.parameters()).dtype)
    mine = {{one.data_ptr() for one in net.parameters()}}
    shares = any(one.data_ptr() in mine for one in after.parameters())
    unchanged = same(after(given), twin(x))
    print("output:", "the same" if unchanged else "another one")
    counts = [len(list(model.parameters())) for model in (after, twin)]
    print(f"parameters: {{counts[0]}} where the twin has {{counts[1]}}")
    step(after, given)
    step(twin, x)
    stepped = same(after(given), twin(x))
    print("a training step:", "that of the twin" if stepped else "another one")
    with torch.no_grad():
        {weights}(after)[{first}].add_(1)
    written = same({weights}(after)[{first}], {weights}(after)[{last}])
    print("a write through one use:", "shows in the other" if written else "does not show in the other")
    after(given)
    whole = shares or same(net(x), before)
    print("the original:", "shares its storage" if shares else "as it was" if whole else "overwritten")
    kept = written and stepped
    return "corrupted" if not whole else "changed" if not unchanged else "kept" if kept else "broken"


print("PyTorch", torch.__version__)
torch.manual_seed(0)
x = torch.randn(8, {width}, dtype=torch.{dtype})
net, twin = build(), build()
twin.load_state_dict(net.state_dict())
before = net(x).detach()
try:
    after = {apply}(net, build, x.numpy())
except Exception as error:
    print("error:", f"{{type(error).__name__}}: {{error}}".splitlines()[0])
    outcome = "refused" if same(net(x), before) else "corrupted"
else:
    outcome = look(after)
print("outcome:", outcome)
sys.exit(outcome != "{outcome}")
"""

# By what shows that a program needs it.
_IMPORTS = {
    "copy.": "import copy",
    "pickle.": "import pickle",
    "sys.": "import sys",
    "tempfile.": "import tempfile",
    "torch.": "\nimport torch",
    "nn.": "from torch import nn",
    "parametrizations.": "from torch.nn.utils import parametrizations, parametrize",
}


def script(lifecycle: Lifecycle[Any], spec: MLP, outcome: str) -> str:
    """A program that shows what a way does to a model of this form; 0 when the outcome is the one stated."""
    first, *_, last = sorted(spec.tied[0])
    graph = lifecycle.apply is export
    look = _LOOK.format(
        apply=lifecycle.apply.__name__,
        weights="weights_of_graph" if graph else "weights",
        width=spec.sizes[0],
        dtype=spec.dtype,
        first=first,
        last=last,
        outcome=outcome,
    )
    parts = [
        *([_untyped(NestMLP)] if spec.nested else []),
        *(
            [inspect.getsource(FunctionalCall).replace("  # type: ignore[misc]", "")]
            if lifecycle.apply is functional_call
            else []
        ),
        _build(spec),
        inspect.getsource(lifecycle.apply),
        _WEIGHTS_OF_A_GRAPH if graph else _WEIGHTS,
        look,
    ]
    code = "\n\n".join(parts)
    imports = "\n".join(line for use, line in _IMPORTS.items() if use in code)
    title = f'"""PyTorch: `{lifecycle.how}` of a net in which {_ties(spec)}."""'
    return f"{title}\n\n{imports}\n\n\n{code}"


def _build(spec: MLP) -> str:
    """The source of a function that builds the model."""
    linear = [
        f"nn.Linear({inputs}, {outputs}, dtype=torch.{spec.dtype})" for inputs, outputs in pairwise(spec.sizes)
    ]
    activation = {"relu": "nn.ReLU()", "tanh": "nn.Tanh()", "identity": "nn.Identity()"}[spec.activation]
    stack = [part for one in linear[:-1] for part in (one, activation)]
    lines = [
        "def build():",
        f'    """{_ties(spec)[0].upper()}{_ties(spec)[1:]}."""',
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
    shared = "are one module" if spec.by == "module" else f"hold one {' and one '.join(spec.roles)}"
    groups = [" and ".join(map(str, sorted(group))) for group in spec.tied]
    return ", ".join(f"linear layers {group} {shared}" for group in groups)


def _untyped(cls: type) -> str:
    """The source of a class without its annotations, which would need imports."""
    tree = ast.parse(inspect.getsource(cls))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(tree) + "\n"
