"""The structure of a model from what an adapter saw of it: names of uses, order, and how images are flattened.

Imports NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from d2lparams.checks import Array
from d2lparams.conventions import Flattened
from d2lparams.natives import NativeLayer, Structure, UnknownLayer


class Uses:
    """Names uses of layers as they are seen: by the places where a layer stands, one after the other.

    A layer that is used more often than it stands somewhere is named by its first place and the number of the
    use: "shared@2".

    Args:
        places: by what tells a layer from another one, the paths at which it stands.
    """

    def __init__(self, places: Mapping[Hashable, Sequence[str]]) -> None:
        self._places = places
        self._seen: dict[Hashable, int] = {}

    def name(self, layer: Hashable) -> str:
        """The path of the next use of a layer."""
        number = self._seen[layer] = self._seen.get(layer, 0) + 1
        places = self._places[layer]
        return places[number - 1] if number <= len(places) else f"{places[0]}@{number}"

    @property
    def unused(self) -> list[Hashable]:
        """The layers that have not been seen."""
        return [layer for layer in self._places if layer not in self._seen]


def structure_of_calls(
    calls: Sequence[Sequence[NativeLayer]],
    unused: Sequence[NativeLayer],
    probed: Callable[[int, int, int], Array],
) -> Structure:
    """The structure that was seen while a model ran.

    Args:
        calls: for each call of a layer, in order, what it is: one layer, or the levels of a recurrent one.
        unused: layers that were not called. They are there all the same, at the end; where they belong is not
            known, and so no order is.
        probed: of (before, after, channels): the input (features,) of one example that the call `after` gets
            when the call `before` gives `probe(channels)`, one number for each channel.
    """
    layers = [layer for call in calls for layer in call]
    number = [place for place, call in enumerate(calls) for _ in call]
    seen: dict[tuple[int, int], Flattened | None] = {}
    for place, before, channels in flattened_inputs(layers):
        # What follows a normalisation of the flattened image is flattened like it, and its own input tells no
        # more: every number of it has been scaled.
        width = next(iter(layers[place].shapes.values()))[-1]
        if (before, width) not in seen:
            given = probed(number[before], number[place], channels)
            seen[before, width] = seen_flattening(layers[place].path, given, channels)
        layers[place] = replace(layers[place], flattened=seen[before, width])
    return Structure((*layers, *unused), ordered=not unused)


def structure_of_places(layers: Sequence[NativeLayer], *, ordered: bool, channels_last: bool) -> Structure:
    """The structure of a model that was not run.

    Args:
        layers: in order of registration.
        ordered: whether they are certainly applied in that order, and nothing else moves an axis.
        channels_last: whether channels stand last in this framework.

    Raises:
        ValueError: when a layer's input may be a flattened image, and it is not certain how.
    """
    found = list(layers)
    for layer, channels in _maybe_flattened(layers) if not ordered else ():
        raise ValueError(
            f"{layer.kind} layer {layer.path!r} may follow a convolution of {channels} channels, and how its "
            "input is flattened is seen only when the model runs; pass x, an example input"
        )
    for place, _, channels in flattened_inputs(layers):
        found[place] = replace(layers[place], flattened=Flattened(channels, channels_last))
    return Structure(tuple(found), ordered)


def _maybe_flattened(layers: Sequence[NativeLayer]) -> Iterator[tuple[NativeLayer, int]]:
    """The layers that could take a flattened image of some channels, in whichever order layers are applied."""
    counts = {layer.shapes["weight"][0] for layer in layers if layer.kind in ("conv1d", "conv2d")}
    for layer in layers:
        inputs = next(iter(layer.shapes.values()), (0,))[-1]
        if layer.kind not in ("conv1d", "conv2d", "embedding"):
            yield from ((layer, one) for one in sorted(counts) if 1 < one < inputs and inputs % one == 0)


def flattened_inputs(layers: Sequence[NativeLayer]) -> list[tuple[int, int, int]]:
    """Which layers take a flattened image, as far as sizes tell.

    Returns:
        For each the place of its use, that of the use before it that gives channels, and their number.
    """
    found: list[tuple[int, int, int]] = []
    before: tuple[int, int] | None = None
    for place, layer in enumerate(layers):
        shapes = layer.shapes
        if layer.kind in ("conv1d", "conv2d"):
            before = (place, shapes["weight"][0])
            continue
        if layer.kind == "embedding":
            before = None
        elif before is not None:
            inputs = next(iter(shapes.values()), (0,))[-1]
            if inputs > before[1] and inputs % before[1] == 0:
                found.append((place, *before))
            elif layer.kind == "batchnorm":
                before = (place, before[1])
            # Behind a normalisation an image is as flat, or as little, as before it.
            if layer.kind not in ("batchnorm", "layernorm"):
                before = None
    return found


def seen_flattening(path: str, values: Array, channels: int) -> Flattened | None:
    """How a layer's input is flattened, from what it gets when each channel is one number everywhere.

    The adapter puts `probe(channels)` in place of what the layer before gives; activations and pooling leave a
    channel constant, but for its border where a pooling pads with zeros.

    Args:
        path: of the dense layer.
        values: its input for one example, (features,).
        channels: of the layer before.

    Returns:
        None when there is nothing to tell, because each channel is one number, or there is only one.

    Raises:
        UnknownLayer: when the columns are neither channel by channel nor place by place.
    """
    if channels == 1 or values.size == channels or values.size % channels:
        return None
    by_channel = values.reshape(channels, -1)
    by_place = values.reshape(-1, channels).T
    # Medians, for the border of a padded pooling is no constant.
    spreads = [
        float(np.abs(one - np.median(one, axis=1, keepdims=True)).mean()) for one in (by_channel, by_place)
    ]
    if min(spreads) > max(spreads) / 4 or max(spreads) == 0:
        raise UnknownLayer(
            f"the input of layer {path!r} mixes the channels of the layer before, so that its columns "
            "have no neutral order"
        )
    return Flattened(channels, channels_last=spreads[1] < spreads[0])


def probe(channels: int) -> Array:
    """A number for each channel, positive and small, so that an activation leaves them apart; (channels,)."""
    return np.linspace(0.25, 2.0, channels, dtype="float32")
