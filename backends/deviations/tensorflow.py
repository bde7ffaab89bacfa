"""TensorFlow and Keras: what is known of life cycles, files and steps, and no news for a search."""

from __future__ import annotations

from d2lparams.interface import Known

_TIED, _NESTED = frozenset({"tied"}), frozenset({"nested"})

KNOWN: tuple[Known, ...] = (
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
)
