"""PyTorch: what is known of life cycles, files and steps, and no news for a search."""

from __future__ import annotations

from d2lparams.interface import Known

_STEPS = ("train, SGD", "train, SGD with momentum", "train, Adam")

KNOWN: tuple[Known, ...] = (
    Known(
        "functional call",
        ("another model",),
        "functional_call writes into the module that it is called with, where that has tied parameters",
        operations=_STEPS,
        traits=frozenset({"module"}),
    ),
    *(
        Known(
            way,
            ("counts", "ties", "step"),
            "each name of a state dict becomes a parameter of its own, so layers that hold one are untied",
            traits=frozenset({"parameter"}),
        )
        for way in ("load_state_dict(assign=True)", "file: load_state_dict(assign=True)")
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
)
