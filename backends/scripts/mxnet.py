"""Programs in MXNet alone that show what a life cycle does to a model of a given form."""

from __future__ import annotations

from backends.models.mxnet import NestMLP, activations
from d2lparams.interface import MLP, ROLES, Lifecycle, program, source_of, ties_in_words

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
    print("what came out:", type(result).__name__)
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
    intact = shares or whole()
    print("the original:", "shares its storage" if shares else "as it was" if intact else "damaged")
    if not intact:
        return "corrupted"
    return "changed" if not same else "kept" if tied else "broken"


def whole():
    return numpy.array_equal(output(net), before)


print("MXNet", mx.__version__)
x = numpy.random.RandomState(0).uniform(-1, 1, (8, {width})).astype("{dtype}")
'''

_IMPORTS = {
    "import copy": "copy.deepcopy(",
    "import pickle": "pickle.",
    "import sys": "",
    "import tempfile": "tempfile.",
    "\nimport mxnet as mx": "",
    "import numpy": "",
    "from mxnet import autograd, gluon, np, npx": "",
    "from mxnet.gluon import nn": "",
    "\nnpx.set_np()": "",
}


def script(lifecycle: Lifecycle[object], spec: MLP, outcome: str) -> str:
    """A program that imports MXNet only; see `Backend.script`."""
    inner, last = _stack(spec)
    places = [*inner, last]
    shared = []
    for group in spec.tied:
        place = places.index(f"dense_{min(group)}")
        block = "twin.linear" if spec.nested and place == len(inner) else f"twin{'.net' * spec.nested}[{place}]"
        shared.append(f"{block}.{spec.roles[0]}")
    parts = [
        *([source_of(NestMLP)] if spec.nested else []),
        _build(spec),
        _LOOK.format(width=spec.sizes[0], dtype=spec.dtype, shared=", ".join(shared)),
    ]
    title = f"MXNet Gluon: {lifecycle.name} of a model in which {_ties(spec)}."
    return program(lifecycle, outcome, title, _IMPORTS, parts)


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
    return ties_in_words(spec, one="one block")
