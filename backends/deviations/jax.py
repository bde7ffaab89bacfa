"""JAX and Flax: what is known of life cycles, files and steps, and no news for a search."""

from __future__ import annotations

from d2lparams.interface import Known

KNOWN: tuple[Known, ...] = (
    Known(
        "pickle",
        ("raises",),
        "a module holds its initialisers, which are local functions",
        error="AttributeError",
    ),
    Known(
        "pickle",
        ("raises",),
        "the class that nn.map_variables makes stands in no module",
        error="PicklingError: Can't pickle <class 'flax.linen.transforms.Map_variables",
        traits=frozenset({"parameter"}),
    ),
    Known("jit with donation", ("another model",), "donation gives the buffers of the original away"),
)
