"""MXNet: what is known of life cycles, files and steps, and no news for a search."""

from __future__ import annotations

from d2lparams.interface import Known

KNOWN: tuple[Known, ...] = (
    Known("deepcopy, hybridized", ("raises",), "a compiled graph cannot be copied", error="ValueError: ctypes"),
    Known("pickle, hybridized", ("raises",), "a compiled graph cannot be pickled", error="ValueError: ctypes"),
    *(
        Known(way, ("raises",), "a model that was trained has compiled its graph", error="ValueError: ctypes")
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
    *(
        Known(way, ("raises",), "names of a later model count on", error="AssertionError: Parameter")
        for way in ("load_dict", "file: collect_params().load_dict")
    ),
    *(
        Known(way, ("values", "output"), "names of a later model count on, and none is found")
        for way in (
            "load_dict, lenient",
            "file: collect_params().load_dict(allow_missing=True, ignore_extra=True)",
        )
    ),
    Known(
        "Block.save and Block.load",
        ("raises",),
        "it lists a block once and looks for it at each of its places",
        error="ValueError: Parameter",
        traits=frozenset({"tied"}),
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
)
