"""The ways that Keras and TensorFlow have to copy, save, rebuild, cast, export and transform a model.

Their sources become part of programs that run without the harness (`backends.scripts`); they are written as a
user of Keras writes them, and so without types.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import copy
import pickle
import tempfile
from collections.abc import Sequence
from functools import partial

import keras
import tensorflow as tf

from d2lparams.interface import Lifecycle


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
