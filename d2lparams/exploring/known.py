"""Deviations that are known: a framework's own ways, which the scenarios show as outcomes or traits already.

Each names one way, what it violates, and the state in which it does; anything else about the same way is new.
"""

from __future__ import annotations

from dataclasses import dataclass

from d2lparams.exploring.judging import Deviation


@dataclass(frozen=True)
class Known:
    """A deviation that is no news.

    Attributes:
        way: the last way before it, or the operation, where there was none.
        violated: words of `judging.MUST`.
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

    def matches(self, deviation: Deviation) -> bool:
        """Whether a deviation is this one."""
        return (
            self.way == (deviation.way or deviation.operation)
            and deviation.violated in self.violated
            and deviation.operation in (self.operations or (self.way,))
            and deviation.seen.startswith(self.error)
            and self.traits <= deviation.traits
            and (not self.after or self.after in deviation.ways[:-1])
        )


_STEPS = ("train, SGD", "train, SGD with momentum", "train, Adam")
_TIED, _NESTED = frozenset({"tied"}), frozenset({"nested"})

KNOWN: dict[str, tuple[Known, ...]] = {
    "torch": (
        Known(
            "functional call",
            ("another model",),
            "functional_call writes into the module that it is called with, where that has tied parameters",
            operations=_STEPS,
            traits=frozenset({"module"}),
        ),
        Known(
            "load_state_dict(assign=True)",
            ("counts", "ties", "step"),
            "each name of a state dict becomes a parameter of its own, so layers that hold one are untied",
            traits=frozenset({"parameter"}),
        ),
        Known(
            "file: load_state_dict(assign=True)",
            ("counts", "ties", "step"),
            "each name of a state dict becomes a parameter of its own, so layers that hold one are untied",
            traits=frozenset({"parameter"}),
        ),
        Known(
            "to meta and back",
            ("ties", "counts"),
            "to() makes a parameter anew for each module that holds it",
            traits=frozenset({"parameter"}),
        ),
        Known(
            "weight_norm and back",
            ("ties", "counts"),
            "a parametrization takes the parameter out of its layer and puts a new one there",
            traits=frozenset({"parameter"}),
        ),
        Known(
            "weight_norm and back",
            ("raises",),
            "the life cycle takes the second of the linear layers that are listed, a shared one once",
            error="IndexError",
        ),
        Known(
            "vector_to_parameters",
            ("values",),
            "remove_parametrizations puts a weight behind its bias, and a vector goes by order (FINDINGS.md)",
            after="weight_norm and back",
        ),
        *(
            Known(
                way,
                ("raises",),
                "vector_to_parameters makes views of one vector, which safetensors does not save (FINDINGS.md)",
                error="RuntimeError: Error while trying to find names",
                after="vector_to_parameters",
            )
            for way in ("file: safetensors", "file: safetensors(strict=False)")
        ),
        Known(
            "compile",
            ("unreadable",),
            "what torch.compile gives for a compiled module is a function (FINDINGS.md)",
            error="AttributeError: 'function'",
            after="compile",
        ),
    ),
    "mxnet": (
        Known(
            "deepcopy, hybridized", ("raises",), "a compiled graph cannot be copied", error="ValueError: ctypes"
        ),
        Known(
            "pickle, hybridized", ("raises",), "a compiled graph cannot be pickled", error="ValueError: ctypes"
        ),
        *(
            Known(
                way, ("raises",), "a model that was trained has compiled its graph", error="ValueError: ctypes"
            )
            for way in ("deepcopy", "pickle", "deepcopy, reset_ctx")
        ),
        Known(
            "collect_params().save",
            ("raises",),
            "the file format of names takes no arrays of the NumPy interface",
            error="TypeError: cannot save",
        ),
        Known(
            "collect_params().load",
            ("raises",),
            "the file format of names gives no arrays of the NumPy interface",
            error="TypeError: Cannot assign",
        ),
        Known("load_dict", ("raises",), "names of a later model count on", error="AssertionError: Parameter"),
        Known("load_dict, lenient", ("values", "output"), "names of a later model count on, and none is found"),
        Known(
            "file: collect_params().load_dict(allow_missing=True, ignore_extra=True)",
            ("values", "output"),
            "names of a later model count on, and none is found",
        ),
        Known(
            "file: collect_params().load_dict",
            ("raises",),
            "names of a later model count on",
            error="AssertionError: Parameter",
        ),
        Known(
            "Block.save and Block.load",
            ("raises",),
            "it lists a block once and looks for it at each of its places",
            error="ValueError: Parameter",
            traits=_TIED,
        ),
        Known(
            "Block.save and Block.load",
            ("counts",),
            "it lists the parameters of each block anew, also those that are shared",
            traits=frozenset({"parameter"}),
        ),
        *(
            Known(
                "Block.save and Block.load",
                ("unreadable",),
                "a compiled graph that is loaded gives arrays of the legacy interface (FINDINGS.md)",
                error="TypeError: Block's output",
                traits=traits,
                after=after,
            )
            for traits, after in (
                (frozenset({"trained"}), ""),
                (frozenset(), "compile"),
            )
        ),
        *(
            Known(
                way,
                ("raises", "unreadable"),
                "Block.load leaves other names in the model than those of its graph (FINDINGS.md)",
                error="AssertionError: Unknown input to HybridBlock",
                after="Block.save and Block.load",
            )
            for way in ("compile", "export", "deepcopy, hybridized", "pickle, hybridized")
        ),
        *(
            Known(
                way,
                ("raises", "unreadable"),
                "a tie of one role after building is listed by d2lparams under other names than its own",
                error="AssertionError: Unknown input to HybridBlock",
                traits=frozenset({"tied later", "parameter"}),
            )
            for way in ("compile", "export", "deepcopy, hybridized", "pickle, hybridized", "tie by parameter")
        ),
        *(
            Known(
                way,
                ("counts",),
                "d2lparams lists a shared parameter under a name of each layer, where one role is shared",
                traits=frozenset({"parameter", only}),
            )
            for way in ("export", "SymbolBlock")
            for only in ("weight only", "bias only")
        ),
        Known(
            "SymbolBlock",
            ("unreadable",),
            "Block.load leaves other names in the model than those of its graph (FINDINGS.md)",
            error="ValueError: the model has no dense layer",
            after="Block.save and Block.load",
        ),
        Known(
            "SymbolBlock",
            ("raises",),
            "a symbol of data is float32 where nothing else is said (FINDINGS.md)",
            error="AssertionError: Cannot retrieve Parameter",
            traits=frozenset({"float64"}),
        ),
    ),
    "jax": (
        Known(
            "pickle",
            ("raises",),
            "a module holds its initialisers, which are local functions",
            "AttributeError",
        ),
        Known("jit with donation", ("another model",), "donation gives the buffers of the original away"),
    ),
    "tensorflow": (
        *(
            Known(
                way,
                ("raises", "layers", "output", "ties"),
                "a configuration lists a shared layer once, or builds one for each of its places",
                traits=_TIED,
            )
            for way in (
                "deepcopy",
                "pickle",
                "rebuild from config",
                "model_from_json",
                "whole-model file",
                "whole-model file, HDF5",
                "functional model, whole-model file",
            )
        ),
        Known(
            "clone_model",
            ("raises",),
            "a model of a class of the user's own is cloned by its configuration, without its ties",
            error="ValueError: You called `set_weights",
            traits=_NESTED | _TIED,
        ),
        Known(
            "cast",
            ("raises",),
            "a model of a class of the user's own is cloned without a function for its layers",
            error="ValueError: Arguments `clone_function`",
            traits=_NESTED,
        ),
        *(
            Known(
                way,
                ("raises",),
                "a model of a class of the user's own is exported once it was called on arrays",
                error="ValueError: The model provided has never called",
                traits=_NESTED,
            )
            for way in ("export", "TFSMLayer")
        ),
        Known(
            "build again",
            ("raises",),
            "a model that was built by a first batch is built for batches of this size (FINDINGS.md)",
            error="ValueError: Sequential model",
            traits=frozenset({"lazy"}),
        ),
        Known(
            "TFSMLayer",
            ("unreadable",),
            "a layer casts its input to its own dtype, float32 where nothing else is said (FINDINGS.md)",
            error="TypeError: Exception encountered when calling TFSMLayer",
            traits=frozenset({"float64"}),
        ),
    ),
}
"""By the name of the backend."""


def known(backend: str, deviation: Deviation) -> Known | None:
    """Which known one a deviation is, or None."""
    return next((one for one in KNOWN.get(backend, ()) if one.matches(deviation)), None)
