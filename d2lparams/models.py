"""What a backend is asked to build: a multilayer perceptron with its ties, or one layer of another kind.

Plain descriptions, checked when they are made. Imports the standard library and NumPy only: this module runs
inside every framework's environment.
"""

from __future__ import annotations

from dataclasses import dataclass
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
        groups = self.tied if role in self.roles else ()
        return next((min(group) for group in groups if layer in group), layer)


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
