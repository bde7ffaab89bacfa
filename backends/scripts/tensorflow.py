"""Programs in Keras and TensorFlow alone that show what a life cycle does to a model of a given form."""

from __future__ import annotations

from backends.lifecycles.tensorflow import compiled, export, functional_call
from backends.models.tensorflow import NestMLP, plan
from d2lparams.interface import MLP, Lifecycle, program, source_of, ties_in_words

# How what came out is called and what TensorFlow variables it holds: by the way's function.
_KERAS = ("result(x)", "[one.value for one in result.trainable_variables]")
_FORMS = {
    functional_call: ("result(x)[0]", "[one.value for one in result.args[0]]"),
    compiled: ("result(x)", "[one.value for one in result.python_function.trainable_variables]"),
    export: ("result.serve(x)", "list(result.trainable_variables)"),
}

_LOOK = '''\
def step(call, variables):
    """A step of gradient descent towards an output of zeros."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(call() ** 2)
    for one, gradient in zip(variables, tape.gradient(loss, variables)):
        one.assign_sub(0.125 * gradient)


def look(result):
    """What came out, held against a twin of the original: one fact in a line."""
    print("what came out:", type(result).__name__)

    def call():
        return {call}

    def same_output():
        return np.allclose(call(), twin(x), rtol=0, atol=1e-5)

    variables = {variables}
    mine, twins = ([one.value for one in model.trainable_variables] for model in (net, twin))
    shares = any(one is other for one in variables for other in mine)
    if type(result) is type(net):
        print(f"layers: {{len({result}.layers)}} where there were {{len({net}.layers)}}")
    same = same_output()
    print("output:", "the same" if same else "another one")
    held, were = (sum(int(tf.size(one)) for one in some) for some in (variables, mine))
    print(f"values held: {{held}} where there were {{were}}")
    tied = held == were
    if same:
        # Write through the first use of each shared kernel: where it stands in the list of variables.
        for place in {shared}:
            found = next(one for one in variables if np.array_equal(one, twins[place]))
            for one in (found, twins[place]):
                one.assign(one[::-1])
        written = same_output()
        print("a write through one use:", "shows in the others" if written else "does not show in the others")
        step(call, variables)
        step(lambda: twin(x), twins)
        stepped = same_output()
        print("a training step:", "that of the twin" if stepped else "another one")
        tied = tied and written and stepped
    intact = shares or whole()
    print("the original:", "shares its storage" if shares else "as it was" if intact else "damaged")
    if not intact:
        return "corrupted"
    return "changed" if not same else "kept" if tied else "broken"


def output(model):
    return np.array(model(x))


def whole():
    return np.array_equal(output(net), before)


print("Keras", keras.__version__, "on TensorFlow", tf.__version__)
x = np.random.default_rng(0).uniform(-1, 1, (8, {width})).astype("{dtype}")
'''

_IMPORTS = {
    "import copy": "copy.deepcopy(",
    "import os": "",
    "import pickle": "pickle.",
    "import sys": "",
    "import tempfile": "tempfile.",
    "from functools import partial": "partial(",
    '\nos.environ.setdefault("KERAS_BACKEND", "tensorflow")': "",
    "\nimport keras": "",
    "import numpy as np": "",
    "import tensorflow as tf": "",
}


def script(lifecycle: Lifecycle[object], spec: MLP, outcome: str) -> str:
    """A program that imports Keras and TensorFlow only; see `Backend.script`."""
    call, variables = _FORMS.get(lifecycle.apply, _KERAS)
    made, _ = plan(spec)
    parts = [
        *([source_of(NestMLP)] if spec.nested else []),
        _build(spec),
        _LOOK.format(
            call=call,
            variables=variables,
            result="result.net" if spec.nested else "result",
            net="net.net" if spec.nested else "net",
            width=spec.sizes[0],
            dtype=spec.dtype,
            shared=[2 * list(made).index(min(group)) for group in spec.tied],
        ),
    ]
    title = f"Keras: {lifecycle.name} of a model in which {ties_in_words(spec)}."
    return program(lifecycle, outcome, title, _IMPORTS, parts)


def _build(spec: MLP) -> str:
    """The source of a function that builds the model."""
    made, order = plan(spec)
    lines = [
        "def build(seed):",
        f'    """{ties_in_words(spec).capitalize()}."""',
        "    keras.utils.set_random_seed(seed)",
    ]
    options = f'bias_initializer="random_normal", dtype="{spec.dtype}"'
    for layer, (units, activation) in made.items():
        given = f'activation="{activation}", ' if activation not in (None, "linear") else ""
        lines.append(f"    dense_{layer} = keras.layers.Dense({units}, {given}{options})")
    stack = [
        f'keras.layers.Activation("{one}", dtype="{spec.dtype}")' if isinstance(one, str) else f"dense_{one}"
        for one in order
    ]
    inner, last = (stack[:-1], stack[-1]) if spec.nested else (stack, None)
    lines += ["    net = keras.Sequential(", "        ["]
    lines += [
        f"            {one}," for one in (f'keras.Input(({spec.sizes[0]},), dtype="{spec.dtype}")', *inner)
    ]
    lines += ["        ]", "    )"]
    if last is None:
        return "\n".join([*lines, "    return net\n"])
    lines += [
        f'    nest = NestMLP(net, {last}, dtype="{spec.dtype}")',
        f"    nest.build((None, {spec.sizes[0]}))",
    ]
    return "\n".join([*lines, "    return nest\n"])
