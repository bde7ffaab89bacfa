"""The ways that PyTorch has to copy, save, cast, move, compile, export and call a model.

Their sources become part of programs that run without the harness (`backends.scripts`); they are written as a
user of PyTorch writes them, and so without types.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import copy
import pickle
import tempfile

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from d2lparams.interface import Lifecycle


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
