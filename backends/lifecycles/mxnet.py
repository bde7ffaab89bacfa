"""The ways that MXNet's Gluon has to copy, save, cast, compile, export and share a model.

`script` puts the source of a way into a program that runs without the harness; the functions are written as
a user of Gluon writes them, and so without types. Gluon keeps no configuration of a model: its ways either load
values into another model that the user's code builds, or keep the graph and forget the blocks.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import copy
import inspect
import pickle
import tempfile
from collections.abc import Sequence

import mxnet as mx
from mxnet import gluon, np, npx

from backends.mxnet import NestMLP, activations
from d2lparams.interface import MLP, ROLES, Lifecycle


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

# -- programs without the harness ------------------------------------------------------------------------------

IMPORTS = """\
import copy
import pickle
import sys
import tempfile

import mxnet as mx
import numpy
from mxnet import autograd, gluon, np, npx
from mxnet.gluon import nn

npx.set_np()
"""

_LOOK = '''\
def parameters(model):
    """Each once, though collect_params may list one under two names."""
    return list({{one.name: one for one in model.collect_params().values()}}.values())


def output(model):
    dtype = parameters(model)[0].data().dtype
    return model(np.array(x, dtype=dtype)).asnumpy()


def same_output(model, other):
    expected = output(other)
    return numpy.allclose(output(model), expected, rtol=0, atol=1e-5 * abs(expected).max())


def step(model):
    """A step of gradient descent towards an output of zeros."""
    dtype = parameters(model)[0].data().dtype
    trainer = gluon.Trainer(parameters(model), "sgd", {{"learning_rate": 0.125}}, kvstore=None)
    with autograd.record():
        loss = (model(np.array(x, dtype=dtype)) ** 2).mean()
    loss.backward()
    trainer.step(1)


def look(result):
    """What came out, held against a twin of the original: one fact in a line."""
    arrays = [{{id(one.data()) for one in parameters(model)}} for model in (result, net)]
    shares = bool(arrays[0] & arrays[1])
    same = same_output(result, twin)
    print("output:", "the same" if same else "another one")
    sizes = [sum(one.data().size for one in parameters(model)) for model in (result, twin)]
    print(f"values held: {{sizes[0]}} where there were {{sizes[1]}}")
    tied = sizes[0] == sizes[1]
    if same:
        # Write through the first use of each shared parameter.
        for shared in ({shared},):
            value = shared.data().asnumpy()
            found = next(one for one in parameters(result) if numpy.array_equal(one.data().asnumpy(), value))
            for one in (found, shared):
                one.set_data(one.data()[::-1])
        written = same_output(result, twin)
        print("a write through one use:", "shows in the others" if written else "does not show in the others")
        tied = tied and written
        try:
            step(result)
        except mx.MXNetError as error:
            print("a training step: refused:", str(error).splitlines()[-1])
        else:
            step(twin)
            stepped = same_output(result, twin)
            print("a training step:", "that of the twin" if stepped else "another one")
            tied = tied and stepped
    whole = numpy.array_equal(output(net), before)
    print("the original:", "shares its storage" if shares else "as it was" if whole else "damaged")
    if not (whole or shares):
        return "corrupted"
    return "changed" if not same else "kept" if tied else "broken"


print("MXNet", mx.__version__)
x = numpy.random.RandomState(0).uniform(-1, 1, (8, {width})).astype("{dtype}")
net, twin = build(seed=0), build(seed=0)
before = output(net)
try:
    result = {apply}(net, lambda: build(seed=1), x)
except Exception as error:
    print("error:", f"{{type(error).__name__}}: {{error}}".splitlines()[0])
    outcome = "refused" if numpy.array_equal(output(net), before) else "corrupted"
else:
    print("what came out:", type(result).__name__)
    outcome = look(result)
print("outcome:", outcome)
sys.exit(outcome != "{outcome}")
'''


def script(lifecycle: Lifecycle[object], spec: MLP, outcome: str) -> str:
    """A program that shows what a way does to a model of this form; 0 when the outcome is the one stated."""
    inner, last = _stack(spec)
    places = [*inner, last]
    shared = []
    for group in spec.tied:
        place = places.index(f"dense_{min(group)}")
        block = "twin.linear" if spec.nested and place == len(inner) else f"twin{'.net' * spec.nested}[{place}]"
        shared.append(f"{block}.{spec.roles[0]}")
    body = [
        *([_nested_class()] if spec.nested else []),
        _build(spec),
        inspect.getsource(lifecycle.apply),
        _LOOK.format(
            apply=lifecycle.apply.__name__,
            width=spec.sizes[0],
            dtype=spec.dtype,
            shared=", ".join(shared),
            outcome=outcome,
        ),
    ]
    title = f'"""MXNet Gluon: {lifecycle.name} of a model in which {_ties(spec)}.\n\n    {lifecycle.how}\n"""\n'
    code = "\n\n".join(body)
    return "\n".join([title, _needed(code), "", code])


def _nested_class() -> str:
    """The source of the class, without what is there for those who check types and style."""
    lines = inspect.getsource(NestMLP).splitlines(keepends=True)
    code = "".join(line.split("  # ")[0].rstrip() + "\n" for line in lines)
    for typed in (": Any", " -> Any", " -> None"):
        code = code.replace(typed, "")
    return code


def _stack(spec: MLP) -> tuple[list[str], str]:
    """The names of the blocks in order of application, and that of the last one apart."""
    after, separate = activations(spec)
    stack: list[str] = []
    for layer, activation in enumerate(after):
        owner = spec.owner(layer) if spec.by == "module" else layer
        stack.append(f"dense_{owner}")
        if separate and activation:
            stack.append(f'nn.Activation("{activation}")')
    return stack[:-1], stack[-1]


def _build(spec: MLP) -> str:
    """The source of a function that builds the model."""
    after, separate = activations(spec)
    lines = [
        "def build(seed):",
        f'    """{_ties(spec).capitalize()}."""',
        "    mx.random.seed(seed)",
        "    net = nn.HybridSequential()",
    ]
    for layer, activation in enumerate(after):
        owner = spec.owner(layer, spec.roles[0])
        if owner != layer and spec.by == "module":
            continue
        outputs, inputs = spec.weight_shape(layer)
        options = [f"{outputs}", f"in_units={inputs}", 'bias_initializer="normal"']
        if activation and not separate:
            options.insert(1, f'activation="{activation}"')
        if owner != layer and set(spec.roles) == set(ROLES):
            options.append(f"params=dense_{owner}.params")
        elif owner != layer:
            (role,) = spec.roles
            lines += [
                f'    names = gluon.ParameterDict(net.prefix + "dense{layer}_")',
                f'    names.update({{names.prefix + "{role}": dense_{owner}.{role}}})',
            ]
            options.append("params=names")
        lines.append(f"    dense_{layer} = nn.Dense({', '.join(options)})")
    inner, last = _stack(spec)
    added = inner if spec.nested else [*inner, last]
    lines += [f"    net.add({one})" for one in added]
    if spec.nested:
        lines.append(f"    net = NestMLP(net, {last})")
    lines.append("    net.initialize(mx.init.Xavier())")
    if spec.dtype != "float32":
        lines.append(f'    net.cast("{spec.dtype}")')
    return "\n".join([*lines, "    return net\n"])


def _ties(spec: MLP) -> str:
    """Which layers share what, in words."""
    groups = [" and ".join(map(str, sorted(group))) for group in spec.tied]
    what = "are one block" if spec.by == "module" else f"share {' and '.join(spec.roles)}"
    return "; ".join(f"dense layers {group} {what}" for group in groups) or "no layers are shared"


def _needed(code: str) -> str:
    """The imports without those that the code has no use for."""
    spare = [f"import {name}\n" for name in ("copy", "pickle", "tempfile") if f"{name}." not in code]
    return "".join(line for line in IMPORTS.splitlines(keepends=True) if line not in spare)
