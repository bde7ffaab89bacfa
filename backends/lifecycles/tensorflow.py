"""The ways that Keras and TensorFlow have to copy, save, rebuild, cast, export and transform a model.

`script` puts the source of a way into a program that runs without the harness; the functions are written as
a user of Keras writes them, and so without types.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import copy
import inspect
import pickle
import tempfile
from collections.abc import Sequence
from functools import partial

import keras
import tensorflow as tf

from backends.tensorflow import NestMLP, plan
from d2lparams.interface import MLP, Lifecycle


def deepcopy(net, again, x):
    """Python's copy; Keras makes it of a whole-model file in memory."""
    return copy.deepcopy(net)


def pickled(net, again, x):
    """Python's pickle and back; it is a whole-model file, too."""
    return pickle.loads(pickle.dumps(net))


def save_and_load(net, again, x):
    """Save the values to a weights file, and load it into another model."""
    with tempfile.TemporaryDirectory() as folder:
        net.save_weights(f"{folder}/net.weights.h5")
        result = again()
        result.load_weights(f"{folder}/net.weights.h5")
    return result


def copy_values(net, again, x):
    """Set another model's values from a list of arrays."""
    result = again()
    result.set_weights(net.get_weights())
    return result


def rebuild_from_config(net, again, x):
    """Build a model of the same class from the configuration, and copy the values."""
    result = type(net).from_config(net.get_config())
    result.set_weights(net.get_weights())
    return result


def model_from_json(net, again, x):
    """Build a model from the configuration as JSON, and copy the values."""
    result = keras.models.model_from_json(net.to_json())
    result.set_weights(net.get_weights())
    return result


def clone_model(net, again, x):
    """Clone the layers, and copy the values."""
    result = keras.models.clone_model(net)
    result.set_weights(net.get_weights())
    return result


def whole_model_file(net, again, x):
    """Save the whole model to a file, and load that."""
    with tempfile.TemporaryDirectory() as folder:
        net.save(f"{folder}/net.keras")
        return keras.models.load_model(f"{folder}/net.keras")


def whole_model_hdf5(net, again, x):
    """Save the whole model to a file of the legacy format, and load that."""
    with tempfile.TemporaryDirectory() as folder:
        net.save(f"{folder}/net.h5")
        return keras.models.load_model(f"{folder}/net.h5", {type(net).__name__: type(net)})


def checkpoint(net, again, x):
    """Write a checkpoint, and read it into another model."""
    with tempfile.TemporaryDirectory() as folder:
        path = tf.train.Checkpoint(model=net).write(f"{folder}/net")
        result = again()
        tf.train.Checkpoint(model=result).read(path).assert_consumed()
    return result


def cast(net, again, x):
    """Clone the layers with another dtype, and copy the values."""

    def in_float64(layer):
        return layer.from_config({**layer.get_config(), "dtype": "float64"})

    result = keras.models.clone_model(net, clone_function=in_float64)
    result.set_weights(net.get_weights())
    return result


def functional_model(net, again, x):
    """Call the layers one after the other on a symbolic input: a functional model of the same layers."""
    inputs = outputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    for layer in net.layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def functional_model_file(net, again, x):
    """The whole-model file of a functional model of the same layers."""
    inputs = outputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    for layer in net.layers:
        outputs = layer(outputs)
    with tempfile.TemporaryDirectory() as folder:
        keras.Model(inputs, outputs).save(f"{folder}/net.keras")
        return keras.models.load_model(f"{folder}/net.keras")


def sequential_of_layers(net, again, x):
    """Put the layers that the model lists into a new one."""
    return keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype.name), *net.layers])


def build_again(net, again, x):
    """Build a model that is built."""
    net.build((None, *x.shape[1:]))
    return net


def functional_call(net, again, x):
    """Call another model with copies of the values, and not with its own."""
    values = [keras.Variable(value.numpy(), name=value.name) for value in net.trainable_variables]
    return partial(again().stateless_call, values, [])


def compiled(net, again, x):
    """Let XLA compile the model's call."""
    return tf.function(net, jit_compile=True)


def export(net, again, x):
    """Export for serving, and load what was exported with TensorFlow."""
    with tempfile.TemporaryDirectory() as folder:
        net.export(folder, verbose=False)
        return tf.saved_model.load(folder)


def tfsm_layer(net, again, x):
    """Export for serving, and take what was exported as a Keras layer."""
    with tempfile.TemporaryDirectory() as folder:
        net.export(folder, verbose=False)
        return keras.layers.TFSMLayer(folder, call_endpoint="serve")


LIFECYCLES: Sequence[Lifecycle[object]] = [
    Lifecycle("deepcopy", "copy.deepcopy(net)", deepcopy),
    Lifecycle("pickle", "pickle.loads(pickle.dumps(net))", pickled),
    Lifecycle(
        "save and load",
        "net.save_weights('net.weights.h5'); other.load_weights('net.weights.h5')",
        save_and_load,
    ),
    Lifecycle("copy values", "other.set_weights(net.get_weights())", copy_values),
    Lifecycle("rebuild from config", "type(net).from_config(net.get_config())", rebuild_from_config),
    Lifecycle("model_from_json", "keras.models.model_from_json(net.to_json())", model_from_json),
    Lifecycle("clone_model", "keras.models.clone_model(net)", clone_model),
    Lifecycle(
        "whole-model file", "net.save('net.keras'); keras.models.load_model('net.keras')", whole_model_file
    ),
    Lifecycle(
        "whole-model file, HDF5", "net.save('net.h5'); keras.models.load_model('net.h5')", whole_model_hdf5
    ),
    Lifecycle(
        "tf.train.Checkpoint",
        "tf.train.Checkpoint(model=net).write(path); tf.train.Checkpoint(model=other).read(path)",
        checkpoint,
    ),
    Lifecycle("cast", "keras.models.clone_model(net, clone_function=in_float64)", cast),
    Lifecycle(
        "functional model", "for layer in net.layers: x = layer(x); keras.Model(inputs, x)", functional_model
    ),
    Lifecycle(
        "functional model, whole-model file",
        "functional.save('net.keras'); keras.models.load_model('net.keras')",
        functional_model_file,
    ),
    Lifecycle("Sequential(net.layers)", "keras.Sequential([inputs, *net.layers])", sequential_of_layers),
    Lifecycle("build again", "net.build((None, 4))", build_again),
    Lifecycle("functional call", "other.stateless_call(values, [], x)", functional_call),
    Lifecycle("compile", "tf.function(net, jit_compile=True)", compiled),
    Lifecycle("export", "net.export(folder); tf.saved_model.load(folder).serve(x)", export),
    Lifecycle("TFSMLayer", "net.export(folder); keras.layers.TFSMLayer(folder)", tfsm_layer),
]

# -- programs without the harness -----------------------------------------------------------------------------

IMPORTS = """\
import copy
import os
import pickle
import sys
import tempfile
from functools import partial
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf
"""

# How what came out is called and what TensorFlow variables it holds: by the way's function.
_KERAS = ("result(x)", "[one.value for one in result.trainable_variables]")
_FORMS = {
    functional_call: ("result(x)[0]", "[one.value for one in result.args[0]]"),
    compiled: ("result(x)", "[one.value for one in result.python_function.trainable_variables]"),
    export: ("result.serve(x)", "list(result.trainable_variables)"),
}

_LOOK = '''\
print("Keras", keras.__version__, "on TensorFlow", tf.__version__)
x = np.random.default_rng(0).uniform(-1, 1, (8, {width})).astype("{dtype}")
net, twin = build(seed=0), build(seed=0)
before = np.array(net(x))


def step(call, variables):
    """A step of gradient descent towards an output of zeros."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(call() ** 2)
    for one, gradient in zip(variables, tape.gradient(loss, variables)):
        one.assign_sub(0.125 * gradient)


def look(result):
    """What came out, held against a twin of the original: one fact in a line."""

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
    whole = np.array_equal(net(x), before)
    print("the original:", "shares its storage" if shares else "as it was" if whole else "damaged")
    if not (whole or shares):
        return "corrupted"
    return "changed" if not same else "kept" if tied else "broken"


try:
    result = {apply}(net, lambda: build(seed=1), x)
except Exception as error:
    print("error:", f"{{type(error).__name__}}: {{error}}".splitlines()[0])
    outcome = "refused" if np.array_equal(net(x), before) else "corrupted"
else:
    print("what came out:", type(result).__name__)
    outcome = look(result)
print("outcome:", outcome)
sys.exit(outcome != "{outcome}")
'''


def script(lifecycle: Lifecycle[object], spec: MLP, outcome: str) -> str:
    """A program that shows what a way does to a model of this form; 0 when the outcome is the one stated."""
    call, variables = _FORMS.get(lifecycle.apply, _KERAS)
    made, _ = plan(spec)
    body = [
        *([inspect.getsource(NestMLP).replace("  # type: ignore[misc]", "")] if spec.nested else []),
        _build(spec),
        inspect.getsource(lifecycle.apply),
        _LOOK.format(
            apply=lifecycle.apply.__name__,
            call=call,
            variables=variables,
            result="result.net" if spec.nested else "result",
            net="net.net" if spec.nested else "net",
            width=spec.sizes[0],
            dtype=spec.dtype,
            shared=[2 * list(made).index(min(group)) for group in spec.tied],
            outcome=outcome,
        ),
    ]
    title = f'"""Keras: {lifecycle.name} of a model in which {_ties(spec)}.\n\n    {lifecycle.how}\n"""\n'
    code = "\n\n".join(body)
    return "\n".join([title, _needed(code), "", code])


def _build(spec: MLP) -> str:
    """The source of a function that builds the model."""
    made, order = plan(spec)
    lines = [
        "def build(seed):",
        f'    """{_ties(spec).capitalize()}."""',
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


def _ties(spec: MLP) -> str:
    groups = [" and ".join(map(str, sorted(group))) for group in spec.tied]
    return "; ".join(f"dense layers {group} are one layer" for group in groups) or "no layers are shared"


def _needed(code: str) -> str:
    """The imports without those that the code has no use for."""
    uses = {
        "copy": "copy.",
        "pickle": "pickle.",
        "tempfile": "tempfile.",
        "functools": "partial(",
        "typing": "Any",
    }
    return "".join(
        line
        for line in IMPORTS.splitlines(keepends=True)
        if not line.strip() or (use := uses.get(line.split()[1])) is None or use in code
    )
