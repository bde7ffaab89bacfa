"""Reading a model: its output, one layer, one parameter and its gradient, all parameters at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from d2lparams.interface import MLP, Activation, Array, Backend, Gradient, Parameter
from d2lparams.scenarios.inputs import batch, built, formed, shapes_of, starting_values, values_in, values_of
from d2lparams.scenarios.registry import Observer, scenario
from d2lparams.scenarios.sentences import sentence
from d2lparams.scenarios.tolerances import gradient_bounds, output_bound

# The network that the section opens with: 4 inputs, a hidden layer of 8, 1 output.
BOOK = MLP(sizes=(4, 8, 1), dtype="float64")
OTHER_ACTIVATIONS: tuple[Activation, ...] = ("tanh", "identity")
# Twelve layers of one shape: names in alphabetical order are in another order than layers, and no shape tells.
DEEP = MLP(sizes=(8,) * 13, activation="tanh", dtype="float64")


@scenario(section="6.2", title="An MLP computes the same everywhere")
def forward(backend: Backend[Any], observe: Observer) -> None:
    """Does a network of 4 inputs, 8 hidden units and 1 output compute the same from the same values?

    What differs is the kind of object that a framework calls a model.
    """
    spec = formed(BOOK)
    model = built(backend, spec)
    x, _ = batch(spec, rows=2)
    output = backend.forward(model, x)
    observe.trait("model", _type_name(model))
    observe.invariant("output shape", output.shape, expected=(2, spec.sizes[-1]))
    values = starting_values(spec)
    observe.invariant("output", output, atol=output_bound(spec, values, x))
    for activation in OTHER_ACTIVATIONS:
        other = replace(spec, activation=activation)
        output = backend.forward(built(backend, other), x)
        observe.invariant(f"output with {activation}", output, atol=output_bound(other, values, x))


@scenario(section="6.2.1", title="The parameters of one layer")
def layer_access(backend: Backend[Any], observe: Observer) -> None:
    """How are the second dense layer's parameters reached, and what are they called?

    The values read are those that were written; look at the names, at the index of the layer (does the
    activation count?), and at the orientation of the weight, (out, in) or (in, out). Of both layers the values
    are drawn, too, as (out, in) and as each framework holds them.
    """
    spec = formed(BOOK)
    model, values = built(backend, spec), starting_values(spec)
    weight, bias = backend.parameter(model, 1, "weight"), backend.parameter(model, 1, "bias")
    observe.trait("access", [weight.access, bias.access])
    where = [_leads_to(model, one) for one in (weight, bias)]
    observe.invariant("what the access leads to", where, expected=["the parameter"] * 2)
    observe.trait("names and shapes", [f"{one.native_name} {one.native_shape}" for one in (weight, bias)])
    observe.invariant("weight", weight.value, expected=values[1, "weight"])
    observe.invariant("bias", bias.value, expected=values[1, "bias"])
    parameters = backend.parameters(model)
    written = {f"layer {layer} {role}": value for (layer, role), value in values.items()}
    observe.invariant("both layers", values_of(backend, model), expected=written, form="matrices")
    held = {f"layer {one.layer} {one.role}": _as_held(one) for one in parameters}
    observe.drawing("both layers, as the framework holds them", held, form="matrices")
    # Float32 holds the starting values, too. It does not hold thirds: what goes through it comes out changed.
    thirds = {f"layer {layer} {role}": value / 3 for (layer, role), value in values.items()}
    for layer, role in values:
        backend.assign(model, layer, role, thirds[f"layer {layer} {role}"])
    observe.invariant("values with all their digits", values_of(backend, model), expected=thirds)


@scenario(section="6.2.1.1", title="One parameter: its value and its gradient")
def targeted_parameter(backend: Backend[Any], observe: Observer) -> None:
    """What kind of object is the bias of the second dense layer, and where does its gradient live?

    A parameter may be more than its value. Before a backward pass, one framework keeps no gradient yet, one
    keeps zeros, and where gradients are returned by a transformation or a tape, none is ever kept.
    """
    spec = formed(BOOK)
    model, values = built(backend, spec), starting_values(spec)
    bias = backend.parameter(model, 1, "bias")
    observe.trait("parameter object", _type_name(bias.native))
    observe.trait("value object", _type_name(bias.native_value))
    observe.invariant("value", bias.value, expected=values[1, "bias"])
    observe.trait("gradient lives in", bias.gradient.where)
    observe.trait("gradient before backward", _state(bias.gradient))
    x, y = batch(spec, rows=2)
    gradients = backend.gradients(model, x, y)
    after = backend.parameter(model, 1, "bias").gradient
    observe.trait("gradient after backward", _state(after))
    kept = after.value if after.kept else gradients[1, "bias"]
    observe.invariant("gradient", kept, atol=gradient_bounds(spec, values, x, y)[1, "bias"])


@scenario(section="6.2.1.2", title="All parameters at once")
def all_parameters_at_once(backend: Backend[Any], observe: Observer) -> None:
    """What do a framework's own listings of all parameters show, in its own order, and how many are there?

    A model of twelve layers computes what it should when its values were written layer by layer.
    """
    spec = formed(BOOK)
    model = backend.mlp(spec)
    parameters = backend.parameters(model)
    observe.trait("own listings", backend.listings(model))
    observe.trait("own counts", backend.counts(model))
    observe.invariant("shapes, canonical", [one.shape for one in parameters], expected=shapes_of(spec))
    count = values_in(spec)
    observe.invariant("number of values", sum(one.size for one in parameters), expected=count)
    size = count * np.dtype(spec.dtype).itemsize
    observe.invariant(f"bytes in {spec.dtype}", sum(one.nbytes for one in parameters), expected=size)
    deep = formed(DEEP)
    x, _ = batch(deep, rows=2)
    output, within = backend.forward(built(backend, deep), x), output_bound(deep, starting_values(deep), x)
    observe.invariant("output of a deep model", output, atol=within)


def _leads_to(model: Any, parameter: Parameter) -> str:
    """What the expression that is shown gives, when it is run as it stands."""
    names = {"net": model[0], "params": model[1]} if type(model) is tuple else {"net": model}
    try:
        found = eval(parameter.access, names)
    except Exception as error:
        return sentence(error)
    return "the parameter" if found is parameter.native else f"another {_type_name(found)}"


def _as_held(parameter: Parameter) -> Array:
    """The values in the framework's own orientation; the shape tells which one, for no layer here is square."""
    value = parameter.value
    return value if value.shape == tuple(parameter.native_shape) else value.T


def _type_name(thing: Any) -> str:
    """The name of an object's type, with its module; of a pair, both."""
    if type(thing) is tuple:
        return f"({', '.join(map(_type_name, thing))})"
    module = "" if type(thing).__module__ == "builtins" else f"{type(thing).__module__}."
    return f"{module}{type(thing).__qualname__}"


def _state(gradient: Gradient) -> str:
    if not gradient.kept:
        return "not kept"
    if gradient.value is None:
        return "None"
    return f"{'values' if gradient.value.any() else 'zeros'} {gradient.value.shape}"
