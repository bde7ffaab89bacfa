"""Models that are built before their input width is known."""

from __future__ import annotations

from typing import Any

from d2lparams.interface import MLP, Backend
from d2lparams.scenarios.inputs import batch, formed, named, shapes_of, starting_values, values_of
from d2lparams.scenarios.registry import Observer, scenario
from d2lparams.scenarios.sentences import sentence


@scenario(section="6.4", title="Lazy shapes")
def lazy_shapes(backend: Backend[Any], observe: Observer) -> None:
    """What is known of the shapes before the first batch, and what does reading a parameter do then?

    A placeholder without a shape, a shape with a hole, a list that is still empty, or no variables at all.
    Then a first batch of 4 inputs makes every shape known. Another one changes no value that was written since.
    """
    spec = formed(MLP(sizes=(4, 8, 1), lazy=True))
    model = backend.mlp(spec)
    observe.trait("listed before", backend.listings(model))
    observe.trait("reading parameters before", _what_happens(backend, model))
    x, _ = batch(spec, rows=2)
    ready = backend.initialize(model, x)
    observe.trait("a first batch", "completes the model in place" if ready is model else "gives a new model")
    shapes = [one.shape for one in backend.parameters(ready)]
    observe.invariant("shapes after", shapes, expected=shapes_of(spec))
    values = starting_values(spec)
    for (layer, role), value in values.items():
        backend.assign(ready, layer, role, value)
    observe.invariant(
        "values after another first batch",
        values_of(backend, backend.initialize(ready, x + 1)),
        expected=named(values),
    )


def _what_happens(backend: Backend[Any], model: Any) -> str:
    """The framework's own error, its first sentence."""
    try:
        bias = backend.parameter(model, 1, "bias")
    except Exception as error:
        return sentence(error)
    return f"{bias.native_shape}"
