"""Files of values: Keras' weights file, its list of arrays as NumPy saves it, and TensorFlow's checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py  # comes with Keras
import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from d2lparams.interface import Array, Format

Entries = dict[str, Array]
# What a checkpoint holds beside the values: which object has which.
_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def _weights_file(path: Path) -> Path:
    """Keras takes no other ending."""
    return path.with_name(f"{path.name}.weights.h5")


def save_weights(model: keras.Model, path: Path) -> None:
    """Write Keras' weights file."""
    model.save_weights(_weights_file(path))


def load_weights(model: keras.Model, path: Path) -> keras.Model:
    """Load it; everything must fit."""
    model.load_weights(_weights_file(path))
    return model


def load_what_matches(model: keras.Model, path: Path) -> keras.Model:
    """Load it, and leave out what does not fit."""
    model.load_weights(_weights_file(path), skip_mismatch=True)
    return model


def edit_weights(path: Path, change: Callable[[Entries], Entries]) -> None:
    """Rewrite the arrays in the file; its groups stay."""
    with h5py.File(_weights_file(path), "r+") as file:
        entries: Entries = {}

        def take(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                entries[name] = item[()]

        file.visititems(take)
        for name in entries:
            del file[name]
        for name, value in change(dict(entries)).items():
            file[name] = value


def save_list(model: keras.Model, path: Path) -> None:
    """Write the list of arrays with NumPy."""
    with path.open("wb") as file:
        np.savez(file, *model.get_weights())


def load_list(model: keras.Model, path: Path) -> keras.Model:
    """Read the list, and set the model's values from it."""
    with np.load(path) as file:
        model.set_weights([file[name] for name in file.files])
    return model


def edit_list(path: Path, change: Callable[[Entries], Entries]) -> None:
    """Rewrite the list."""
    with np.load(path) as file:
        changed: dict[str, Any] = change({name: file[name] for name in file.files})
    with path.open("wb") as other:
        np.savez(other, **changed)


def write_checkpoint(model: keras.Model, path: Path) -> None:
    """Write TensorFlow's checkpoint."""
    tf.train.Checkpoint(model=model).write(str(path))


def read_all(model: keras.Model, path: Path) -> keras.Model:
    """Read it; everything in the file and in the model must be matched."""
    tf.train.Checkpoint(model=model).read(str(path)).assert_consumed()
    return model


def read_existing(model: keras.Model, path: Path) -> keras.Model:
    """Read it; everything in the model must be matched."""
    tf.train.Checkpoint(model=model).read(str(path)).assert_existing_objects_matched()
    return model


def read_partially(model: keras.Model, path: Path) -> keras.Model:
    """Read what is matched."""
    tf.train.Checkpoint(model=model).read(str(path)).expect_partial()
    return model


def edit_checkpoint(path: Path, change: Callable[[Entries], Entries]) -> None:
    """Rewrite the values and the graph of objects: a value that is missing or extra is an object that is."""
    reader = tf.train.load_checkpoint(str(path))
    graph = TrackableObjectGraph.FromString(reader.get_tensor(_GRAPH))
    found = {one.checkpoint_key for node in graph.nodes for one in node.attributes}
    entries: Entries = {
        name: reader.get_tensor(name)
        for name in sorted(reader.get_variable_to_shape_map())
        if name in found and "save_counter" not in name
    }
    changed = change(dict(entries))
    gone = entries.keys() - changed.keys()
    missing = {
        number
        for number, node in enumerate(graph.nodes)
        if any(one.checkpoint_key in gone for one in node.attributes)
    }
    for number, node in enumerate(graph.nodes):
        if number in missing:
            node.ClearField("attributes")
        kept = [child for child in node.children if child.node_id not in missing]
        node.ClearField("children")
        node.children.extend(kept)
    for name in changed.keys() - entries.keys():
        graph.nodes[0].children.add(node_id=len(graph.nodes), local_name=name.replace("/", "_"))
        graph.nodes.add().attributes.add(name="VARIABLE_VALUE", full_name=name, checkpoint_key=name)
    tensors = {**changed, _GRAPH: np.array(graph.SerializeToString(), object)}
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(value) for value in tensors.values()],
    )


FORMATS: Sequence[Format[Any]] = [
    Format("load_weights", "net.load_weights('net.weights.h5')", save_weights, load_weights, edit_weights),
    Format(
        "load_weights(skip_mismatch=True)",
        "net.load_weights('net.weights.h5', skip_mismatch=True)",
        save_weights,
        load_what_matches,
        edit_weights,
    ),
    Format("set_weights", "net.set_weights(list of arrays in an .npz)", save_list, load_list, edit_list),
    Format(
        "Checkpoint.read, assert_consumed()",
        "tf.train.Checkpoint(model=net).read(path).assert_consumed()",
        write_checkpoint,
        read_all,
        edit_checkpoint,
    ),
    Format(
        "Checkpoint.read, assert_existing_objects_matched()",
        "tf.train.Checkpoint(model=net).read(path).assert_existing_objects_matched()",
        write_checkpoint,
        read_existing,
        edit_checkpoint,
    ),
    Format(
        "Checkpoint.read, expect_partial()",
        "tf.train.Checkpoint(model=net).read(path).expect_partial()",
        write_checkpoint,
        read_partially,
        edit_checkpoint,
    ),
]
