"""What a backend is asked to build: a multilayer perceptron with its ties, one layer, or an example to carry.

Plain descriptions, checked when they are made. Imports the standard library and NumPy only: this module runs
inside every framework's environment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

from d2lparams import checks

Role = Literal["weight", "bias"]
By = Literal["module", "parameter"]
Activation = Literal["relu", "tanh", "identity"]
DType = Literal["float32", "float64"]
LayerKind = Literal["dense", "conv2d", "batchnorm", "layernorm", "lstm", "gru", "embedding", "tied-embedding"]

ROLES: tuple[Role, Role] = ("weight", "bias")


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron: dense layers with biases, an activation between them, none after the last.

    Attributes:
        sizes: widths from input to output; `(4, 8, 1)` has two dense layers, 4 to 8 and 8 to 1.
        activation: applied after every dense layer but the last.
        tied: groups of dense layers that are one layer; `((1, 2),)` applies the same layer twice.
        by: how they are tied: "module" uses one layer object several times, "parameter" lets several layer
            objects hold the same parameters.
        roles: what tied layers share; a weight without its bias can only be shared by "parameter".
        dtype: of parameters and inputs.
        lazy: leave the input widths for the framework to find out from the first batch (`Backend.initialize`).
        nested: build a `NestMLP` as in section 6.1 of the book: an object of a class, whose attribute `net` is
            a sequential model of all dense layers but the last (an activation after each of them), and whose
            attribute `linear` is the last dense layer.

    Raises:
        ValueError: for sizes, an activation, tied layers or a dtype that describe no model.
    """

    sizes: tuple[int, ...]
    activation: Activation = "relu"
    tied: tuple[tuple[int, ...], ...] = ()
    dtype: DType = "float32"
    lazy: bool = False
    by: By = "module"
    roles: tuple[Role, ...] = ROLES
    nested: bool = False

    def __post_init__(self) -> None:
        # Lists are what a notebook user types; frozen tuples are what the rest relies on.
        object.__setattr__(self, "sizes", checks.sizes(self.sizes))
        object.__setattr__(self, "tied", checks.groups(self.tied))
        object.__setattr__(self, "roles", checks.shared_roles(self.roles, self.by))
        checks.one_of("activation", self.activation, get_args(Activation))
        checks.one_of("dtype", self.dtype, get_args(DType))
        for first, *others in self.tied:
            checks.layer_exists(first, self.layers)
            for layer in others:
                checks.layer_exists(layer, self.layers)
                checks.same_shape(layer, self.weight_shape(layer), first, self.weight_shape(first))
        if self.lazy and self.by == "parameter":
            raise ValueError("a lazy model has no parameters to share yet; tie its layers by 'module'")
        if self.nested and self.layers < 2:
            raise ValueError(f"a nested model has at least two dense layers; sizes {self.sizes} give one")

    @property
    def layers(self) -> int:
        """The number of dense layers, each use counted."""
        return len(self.sizes) - 1

    def weight_shape(self, layer: int) -> tuple[int, int]:
        """The shape (out, in) of a dense layer's weight."""
        return self.sizes[layer + 1], self.sizes[layer]

    def owner(self, layer: int, role: Role = "weight") -> int:
        """The first layer that shares this parameter of `layer`; itself when it is not tied."""
        return self._owners.get(layer, layer) if role in self.roles else layer

    @cached_property
    def _owners(self) -> dict[int, int]:
        # Looked up for every layer, so that groups are gone through once and not once for each.
        return {layer: first for group in self.tied for first in [min(group)] for layer in group}

    def _repr_html_(self) -> str:
        # A notebook asks an object how it looks: the one step back on the road, taken when it asks.
        from d2lparams.reports.notebook import mlp_html

        return mlp_html(self)


@dataclass(frozen=True)
class Layer:
    """One layer of a kind that frameworks keep differently.

    Attributes:
        kind: "dense", "conv2d" (no padding, stride 1), "batchnorm" and "layernorm" (over the last axis of a
            batch of vectors), "lstm", "gru" (one direction; returns every step's output), "embedding", and
            "tied-embedding": an embedding, and the same matrix again as output projection, without bias.
        inputs: channels, features, or the size of the vocabulary.
        outputs: channels, units, or the width of the embedding; a normalisation's are its inputs.
        kernel: height and width of a convolution's kernel.
        epsilon: of a normalisation; None leaves the framework's default.
        dtype: of parameters and inputs.
    """

    kind: LayerKind
    inputs: int
    outputs: int
    kernel: tuple[int, int] = (3, 3)
    epsilon: float | None = None
    dtype: DType = "float32"


@dataclass(frozen=True)
class Example:
    """A model that parameters are carried out of and into. Every one is float32, and takes no settings.

    Attributes:
        name: what it is asked for by.
        title: what it is, in one line.
        inputs: the shape of one input, canonical: channels first.
        tokens: the size of the vocabulary, where inputs are whole numbers below it; 0 where they are not.
        kind: of the layer that takes the input.
        mlp: what to build, where it is a multilayer perceptron.
    """

    name: str
    title: str
    inputs: tuple[int, ...]
    kind: Literal["dense", "conv2d", "lstm", "embedding"]
    tokens: int = 0
    mlp: MLP | None = None


_PLAIN = MLP(sizes=(4, 8, 8, 8, 1), activation="tanh")

EXAMPLES = {
    one.name: one
    for one in (
        Example("mlp", "a multilayer perceptron 4-8-8-8-1", (4,), "dense", mlp=_PLAIN),
        Example(
            "tied-mlp",
            "the same with its second and third layer tied",
            (4,),
            "dense",
            mlp=replace(_PLAIN, tied=((1, 2),)),
        ),
        # Convolution 1 to 6 (5x5, padded by 2), sigmoid, average pooling 2x2; convolution 6 to 16 (5x5, not
        # padded), sigmoid, average pooling 2x2; flattened as the framework does it; dense 64-12-10-4, sigmoids
        # between. Section 7.6 of the book, on smaller images.
        Example("lenet", "a small LeNet: two convolutions, three dense layers", (1, 16, 16), "conv2d"),
        # LSTM 4 to 8, and a dense layer 8 to 3 on every step: (n, 5, 4) to (n, 5, 3).
        Example("lstm", "an LSTM 4-8 and a dense layer 8-3 on every step", (5, 4), "lstm"),
        # Embedding 11 x 6, LSTM 6 to 6, and logits over the vocabulary by the embedding's matrix, without bias:
        # (n, 5) whole numbers to (n, 5, 11).
        Example(
            "language-model",
            "an embedding, an LSTM, and logits by the embedding's own matrix",
            (5,),
            "embedding",
            tokens=11,
        ),
    )
}
"""The models that transfers are shown on, by name."""
