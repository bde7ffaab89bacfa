"""What an adapter lists of its framework beside the interface: life cycles, file formats, layers, claims.

Also what is known of it already. Each is plain data; functions in it are the framework's own code, so that what
is executed is what can be shown. Imports the standard library and NumPy only: this module runs inside every
framework's environment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from d2lparams.checks import Array
from d2lparams.models import Layer, LayerKind

Native = TypeVar("Native")


@dataclass(frozen=True)
class Lifecycle(Generic[Native]):
    """One of a framework's own ways to copy, save, rebuild, cast, move or transform a model.

    `apply` is written as a user of the framework writes it, with nothing of the harness in it, because its
    source becomes part of a script that runs without the harness.

    Attributes:
        name: what it is called in the table; the same on each framework that has the same way.
        how: the expression, in the framework's own words.
        apply: of (net, again, x): the model; a function without arguments that builds another model of the
            same form, with values of its own; and an example input, a NumPy array (n, inputs). Returns the
            model that came out: a new one, or the same one changed. What the framework raises is let through.
    """

    name: str
    how: str
    apply: Callable[[Native, Callable[[], Native], Array], Native]


@dataclass(frozen=True)
class Format(Generic[Native]):
    """One of a framework's own ways to keep a model's values in a file and to load them into a model.

    Attributes:
        name: what it is called in the table.
        how: the expression that loads, in the framework's own words.
        save: of (model, path); writes the file, as the framework does.
        load: of (model, path); loads it into a model that exists and returns the model. What the framework
            raises is let through.
        edit: of (path, change); rewrites the file with what `change` makes of its entries, a dict from the
            format's own names to arrays in the native orientation, in the format's own order.
    """

    name: str
    how: str
    save: Callable[[Native, Path], None]
    load: Callable[[Native, Path], Native]
    edit: Callable[[Path, Callable[[dict[str, Array]], dict[str, Array]]], None]


@dataclass(frozen=True)
class Claim:
    """A statement that the book makes about a framework, in our words, and how it is looked up.

    Attributes:
        topic: what it is about, the same for the statements of all tabs on one thing.
        section: of *Dive into Deep Learning*.
        says: the statement.
        claimed: what the statement says is there.
        look: finds out what is there now; equal to `claimed` when the statement holds.
    """

    topic: str
    section: str
    says: str
    claimed: Any
    look: Callable[[], Any]


@dataclass(frozen=True)
class Part:
    """One array of a layer, as the framework keeps it.

    Attributes:
        name: the framework's own, without what comes from the place of the layer or a counter.
        shape: native.
        dtype: NumPy's name.
        axes: what the axes are, in native order, such as "out, in, height, width", "in, 4 * units (i f g o)".
        trained: whether an optimizer would change it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    axes: str
    trained: bool = True


class Layers(ABC, Generic[Native]):
    """Single layers of a framework: what their arrays look like, and what they compute.

    The canonical form of each kind, which `read` gives and `assign` takes:

    dense           weight (out, in), bias (out,)
    conv2d          weight (out, in, height, width), bias (out,)
    batchnorm       weight (n,), bias (n,), running mean (n,), running variance (n,)
    layernorm       weight (n,), bias (n,)
    lstm            input weight (4, units, in), hidden weight (4, units, units), bias (4, units); the gates are
                    input, forget, cell, output, and bias is the sum where a framework keeps two
    gru             input weight (3, units, in), hidden weight (3, units, units), input bias (3, units) and
                    hidden bias (units,) of the new gate alone; the gates are reset, update, new, and the input
                    bias of reset and update is the sum where a framework keeps two
    embedding       weight (vocabulary, width)
    tied-embedding  weight (vocabulary, width)

    Inputs x and outputs: dense, layernorm, batchnorm (n, features); conv2d (n, channels, height, width) in and
    out, transposed by the adapter where the framework has channels last; lstm, gru (n, time, features), with
    zeros as the first state; embedding whole numbers (n,) to (n, width); tied-embedding whole numbers (n,) to
    logits (n, vocabulary), logits = embedding(x) @ weight.T.
    """

    @abstractmethod
    def build(self, layer: Layer) -> Native:
        """A layer with its arrays, by the framework's default initialisation.

        Raises:
            Unsupported: when the framework has no such layer.
        """

    @abstractmethod
    def parts(self, native: Native, layer: Layer) -> list[Part]:
        """Its arrays as the framework lists them, those that are not trained last; a shared one once."""

    @abstractmethod
    def read(self, native: Native, layer: Layer) -> dict[str, Array]:
        """Its values in canonical form."""

    @abstractmethod
    def assign(self, native: Native, layer: Layer, values: Mapping[str, Array]) -> None:
        """Write values that are in canonical form; where the framework keeps two biases, the second is zero."""

    @abstractmethod
    def forward(self, native: Native, layer: Layer, x: Array, *, training: bool = False) -> Array:
        """The output. In training a batch normalisation uses the batch's statistics and updates its own."""

    @abstractmethod
    def gradients(self, native: Native, layer: Layer, x: Array, y: Array) -> dict[str, Array]:
        """Gradients of the mean squared error of "tied-embedding", canonical form; of no other kind."""

    @abstractmethod
    def defaults(self, kind: LayerKind) -> dict[str, Any]:
        """What the layer does when nobody says otherwise, by the framework's own argument names.

        Such as epsilon and momentum of a normalisation, the recurrent activation, whether there is a bias; read
        from the framework's own object or signature. Numbers and text only.
        """


@dataclass(frozen=True)
class Known:
    """What a search finds and is no news: a framework's own way, which scenarios show as an outcome or a trait.

    It names one way, what it violates, and the state in which it does; anything else about the same way is new.

    Attributes:
        way: the last way before it, or the operation, where there was none.
        violated: words of `d2lparams.exploring.judging.MUST`.
        why: what the framework does, in one sentence.
        error: the type of the error, where one is raised, and how it begins.
        operations: at which it is seen; empty for the way itself.
        traits: words that must all be among the deviation's.
        after: a way that came before the last.
    """

    way: str
    violated: tuple[str, ...]
    why: str
    error: str = ""
    operations: tuple[str, ...] = ()
    traits: frozenset[str] = frozenset()
    after: str = ""
