"""How far apart two right answers may be: bounds on rounding errors, derived for each model and its numbers.

Every operation on floating-point numbers rounds: fl(a op b) = (a op b)(1 + d) + e with |d| <= u, where the unit
roundoff u is 2**-53 in float64 and 2**-24 in float32, and |e| at most the smallest normal number, for some
frameworks flush what is smaller to zero. A sum of n products is then off by at most gamma(n) times the sum of
their magnitudes, gamma(n) = n u / (1 - n u), in whatever order it is added, fused or not (Higham, Accuracy and
Stability of Numerical Algorithms, 2nd edition, sections 2.2, 3.1 and 3.5). A framework's tanh is taken to be
within TANH_ULPS units in the last place: the libraries' own promises are 1 (SLEEF, MKL), 2 (glibc) and some 5
(Eigen, XLA).

From that follows a running error bound (section 3.3 there): beside each number its error is carried, through
the layers and back for the gradients. It depends on the numbers themselves, as it must: where terms cancel, no
bound relative to the result exists, while one relative to the terms does. So bounds are absolute. What is
compared are two results, the reference's and a framework's, so that twice the bound is allowed. An activation
that is a kink (ReLU) may take either side where the error reaches over it; then its gradient is as uncertain.

Over many steps of training such bounds grow out of all use, for they multiply what in truth cancels or is
contracted; the gradients of a deep net do so in one. There the growth is measured: the formula is followed
once as it is and some times with what each operation gives disturbed at random, by its own error bound times
a factor so large that the result is well above rounding, and so small that it still grows in proportion
(Monte Carlo arithmetic: Parker, 1997). What the disturbed ones are off, over that factor, is the effect of
rounding in this very training, and SAFETY times the largest of them is allowed: a factor of 2 for the two
that are compared, and one of 2 because a few draws do not hit the worst.

Bounds are rounded up to two digits, so that every column, whatever its NumPy, states the same one.

Imports the standard library and NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from d2lparams.interface import MLP, ROLES, SGD, Adam, Array, Role

Key = tuple[int, Role]
Values = Mapping[Key, Array]


Noise = Callable[[Array, Array], Array]
"""Makes of a number, and how far the operation that gives it may be off, a disturbed one."""

TANH_ULPS = 8
SAFETY = 4.0
DRAWS = 4
"""How many disturbed trainings are followed: one for each case of `_disturbed`."""
NOISE = 2.0**-33
"""The unit roundoff of disturbed trainings: far above float64's, and still in proportion."""

_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24}
_SMALLEST = {"float64": 2.0**-1022, "float32": 2.0**-126}


def unit_roundoff(dtype: str) -> float:
    """The largest relative error of one rounding."""
    return _ROUNDOFF[dtype]


def gamma(terms: int, dtype: str) -> float:
    """The largest relative error of so many roundings after each other."""
    error = terms * unit_roundoff(dtype)
    return error / (1 - error)


def squares_rtol(terms: int, dtype: str) -> float:
    """Of a sum of squares and of its root, relative: nothing cancels in it. For two that are compared."""
    return rounded_up(2 * gamma(terms + 2, dtype))


def rounded_up(bound: float) -> float:
    """To two digits."""
    if not bound or not math.isfinite(bound):
        return bound
    unit = 10.0 ** (math.floor(math.log10(bound)) - 1)
    return float(f"{math.ceil(bound / unit) * unit:.1e}")


class Uncertain(NamedTuple):
    """Numbers, and how far each may be off."""

    value: Array
    error: Array


@dataclass(frozen=True)
class Computed:
    """What a net computes for a batch, by the formula in float64, with error bounds of the spec's dtype.

    Attributes:
        output: of the net.
        loss: the mean squared error.
        gradients: by layer and role; each use of what is shared has the sum of all its uses.
    """

    output: Uncertain
    loss: Uncertain
    gradients: dict[Key, Uncertain]


def output_bound(spec: MLP, values: Values, x: Array) -> float:
    """How far two outputs for x may be apart."""
    return allowed(_activations(spec, values, x)[-1].error)


def output(spec: MLP, values: Values, x: Array) -> Array:
    """What the net gives for x, by the formula in float64."""
    return _activations(spec, values, x)[-1].value


def gradient_bounds(spec: MLP, values: Values, x: Array, y: Array) -> dict[Key, float]:
    """How far two gradients of each use may be apart.

    In a deep net the carried bound grows with the magnitudes of the weights, where gradients vanish in truth;
    so it is held to what disturbed passes show. Not where there are kinks, for those may miss them.
    """
    carried = computed(spec, values, x, y).gradients
    bounds = {key: allowed(one.error) for key, one in carried.items()}
    if spec.activation == "relu":
        return bounds
    factor, rounding = NOISE / unit_roundoff(spec.dtype), 4 * unit_roundoff(spec.dtype)
    noise = _noise(np.random.RandomState(0), factor)
    for key, (plain, *others) in _by_copy(computed(spec, _copies(values), x, y, noise).gradients):
        off = max(float(np.max(np.abs(one - plain))) for one in others)
        seen = SAFETY * off / factor + rounding * float(np.max(np.abs(plain)))
        bounds[key] = min(bounds[key], rounded_up(seen))
    return bounds


def _by_copy(gradients: Mapping[Key, Uncertain]) -> Iterator[tuple[Key, Array]]:
    return ((key, one.value) for key, one in gradients.items())


def loss_bound(spec: MLP, values: Values, x: Array, y: Array) -> float:
    """How far two losses may be apart."""
    return allowed(computed(spec, values, x, y).loss.error)


def allowed(*errors: Array) -> float:
    """What two results may be apart, each of which may be off by so much; where several, by their sum."""
    return rounded_up(2 * float(sum(np.max(error) for error in errors)))


# -- one pass ------------------------------------------------------------------------------------------------


def computed(spec: MLP, values: Values, x: Array, y: Array, noise: Noise | None = None) -> Computed:
    """Forward and backward; see the module for the error analysis.

    Values may have further axes in front, the same ones all of them; so has what comes out. With noise, what
    each operation gives is disturbed by its own error; errors that are carried are of no use then.
    """
    noise = noise or _no_noise

    def few(terms: int) -> float:
        return gamma(terms, spec.dtype)

    u, smallest = unit_roundoff(spec.dtype), _SMALLEST[spec.dtype]
    outputs = _activations(spec, values, x, noise)
    rows, width = y.shape
    size = rows * width
    difference = outputs[-1].value - y
    difference = noise(difference, u * np.abs(difference))
    off = outputs[-1].error + u * np.abs(difference)
    # Squared, added and divided: a sum of as many products, and two roundings more.
    loss = np.mean(difference**2, axis=(-2, -1))
    loss = noise(loss, few(size + 2) * loss)
    loss_error = np.mean(2 * np.abs(difference) * off + off**2, axis=(-2, -1)) + few(size + 2) * loss
    delta = 2 * difference / size
    delta = noise(delta, few(4) * np.abs(delta))
    delta_error = 2 * off / size + few(4) * np.abs(delta) + smallest
    sums: dict[Key, Uncertain] = {}
    for layer in reversed(range(spec.layers)):
        below, weight = outputs[layer], np.asarray(values[layer, "weight"], "float64")
        magnitude = np.abs(delta)
        own = few(rows) * (_turned(magnitude) @ np.abs(below.value)) + rows * smallest
        of_weight = Uncertain(
            noise(_turned(delta) @ below.value, own),
            _turned(delta_error) @ np.abs(below.value) + _turned(magnitude + delta_error) @ below.error + own,
        )
        own = few(rows) * magnitude.sum(-2)
        of_bias = Uncertain(noise(delta.sum(-2), own), delta_error.sum(-2) + own)
        for role, one in zip(ROLES, (of_weight, of_bias)):
            key = spec.owner(layer, role), role
            before = sums.get(key)
            total = one.value if before is None else before.value + one.value
            error = one.error if before is None else before.error + one.error + u * np.abs(total)
            sums[key] = Uncertain(total, error)
        if layer:
            outs = weight.shape[-2]
            own = few(outs) * (magnitude @ np.abs(weight)) + outs * smallest
            through = noise(delta @ weight, own)
            error = delta_error @ np.abs(weight) + own
            slope = _slope(spec, below, u)
            delta = through * slope.value
            delta = noise(delta, np.abs(through) * slope.own + u * np.abs(delta) + smallest)
            delta_error = error * (np.abs(slope.value) + slope.error) + np.abs(through) * slope.error
            delta_error = delta_error + u * np.abs(delta) + smallest
    uses = [(layer, role) for layer in range(spec.layers) for role in ROLES]
    gradients = {use: sums[spec.owner(*use), use[1]] for use in uses}
    return Computed(outputs[-1], Uncertain(loss, loss_error), gradients)


def _activations(spec: MLP, values: Values, x: Array, noise: Noise | None = None) -> list[Uncertain]:
    """The input and the output of every layer."""
    u, smallest = unit_roundoff(spec.dtype), _SMALLEST[spec.dtype]
    noise = noise or _no_noise
    at = Uncertain(np.asarray(x, "float64"), np.zeros(x.shape))
    outputs = [at]
    for layer in range(spec.layers):
        weight = _turned(np.asarray(values[layer, "weight"], "float64"))
        bias = np.asarray(values[layer, "bias"], "float64")[..., None, :]
        inputs = weight.shape[-2]
        z = at.value @ weight + bias
        terms = np.abs(at.value) @ np.abs(weight) + np.abs(bias)
        own = gamma(inputs + 1, spec.dtype) * terms + inputs * smallest
        z, error = noise(z, own), at.error @ np.abs(weight) + own
        if layer < spec.layers - 1:
            if spec.activation == "tanh":
                a = np.tanh(z)
                # The mean value theorem: the slope within the error is at most that here and what it may grow.
                steepest = np.minimum(1.0, 1 - a**2 + 2 * np.abs(a) * error + error**2)
                own = TANH_ULPS * u * np.abs(a) + smallest
                z, error = noise(a, own), error * steepest + own
            elif spec.activation == "relu":
                # What is below zero for certain gives a certain zero.
                error = np.where(z < -error, 0.0, error)
                z = np.maximum(z, 0.0)
        at = Uncertain(z, error)
        outputs.append(at)
    return outputs


def _turned(matrices: Array) -> Array:
    return np.swapaxes(matrices, -1, -2)


class _Slope(NamedTuple):
    """A derivative, how far it may be off, and how much of that is its own operations'."""

    value: Array
    error: Array
    own: float


def _slope(spec: MLP, output: Uncertain, u: float) -> _Slope:
    """The activation's derivative, by its output."""
    a, error = output
    if spec.activation == "tanh":
        return _Slope(1 - a**2, 2 * np.abs(a) * error + error**2 + 2 * u, 2 * u)
    if spec.activation == "relu":
        # A zero that is certain has no error, see `_activations`; what is within its error may be either.
        return _Slope((a > 0).astype("float64"), ((error > 0) & (a <= error)).astype("float64"), 0.0)
    return _Slope(np.ones_like(a), np.zeros_like(a), 0.0)


def _no_noise(value: Array, error: Array) -> Array:
    return value


def _noise(random: np.random.RandomState, factor: float) -> Noise:
    """Disturbs all but the first along the first axis."""

    def disturbed(value: Array, error: Array) -> Array:
        drawn = random.uniform(-1, 1, value.shape)
        drawn[0] = 0
        return value + factor * error * drawn

    return disturbed


def _copies(values: Values) -> dict[Key, Array]:
    """One to be left as it is and the others to be disturbed, along a first axis."""
    return {
        key: np.broadcast_to(np.asarray(value, "float64"), (1 + DRAWS, *value.shape))
        for key, value in values.items()
    }


# -- training ------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """What there is before a step; after the last one, what there would be before the next.

    Attributes:
        loss: of the batch.
        values: of each use.
        gradients: of each use.
    """

    loss: float
    values: dict[Key, Array]
    gradients: dict[Key, Array]


class Look(NamedTuple):
    """What an observation holds of a training.

    Attributes:
        steps: how many have been taken when it is looked at.
        at: makes of the state then a number, an array, or a dict of these. Those of all steps are one array in
            the observation, or one for each entry.
        terms: how many numbers are added up for that, as for a norm; each is one more rounding.
    """

    steps: Collection[int]
    at: Callable[[State], Any]
    terms: int = 0


def training_bounds(
    spec: MLP,
    values: Values,
    x: Array,
    y: Array,
    rule: SGD | Adam,
    looks: Mapping[str, Look],
    *,
    either_epsilon: bool = False,
    writes: Mapping[int, Values] = {},
    batches: Mapping[int, tuple[Array, Array]] = {},
) -> dict[str, Any]:
    """How far two trainings may be apart, in each of the things that are looked at.

    Args:
        spec: the model.
        values: the starting values of each use.
        x: the batch's inputs.
        y: its targets.
        rule: of the steps.
        looks: what is observed, by name.
        either_epsilon: whether Adam's epsilon may be added before or after the bias correction.
        writes: what is written into parameters when so many steps have been taken and looked at.
        batches: the inputs and targets of the step that follows so many others, and of all after it.

    Returns:
        By name, what `Observation.atol` takes: a number, or one for each entry of a dict.
    """
    off: dict[str, dict[str | None, float]] = {name: {} for name in looks}
    largest: dict[str, dict[str | None, float]] = {name: {} for name in looks}
    # What a setting in float32 does is far above rounding already, and is not enlarged.
    factor = 1.0 if isinstance(rule, Adam) else NOISE / unit_roundoff(spec.dtype)
    last = max(step for look in looks.values() for step in look.steps)
    followed = _disturbed(spec, values, x, y, rule, last, factor, either_epsilon, writes, batches)
    for step, states in enumerate(followed):
        for name, look in looks.items():
            if step not in look.steps:
                continue
            plain, *others = (_entries(look.at(state)) for state in states)
            for key, value in plain.items():
                furthest = max(float(np.max(np.abs(one[key] - value))) for one in others)
                off[name][key] = max(off[name].get(key, 0.0), furthest)
                largest[name][key] = max(largest[name].get(key, 0.0), float(np.max(np.abs(value))))
    bounds: dict[str, Any] = {}
    for name, found in off.items():
        # Never less than a few roundings of what is observed. Norms are computed in float32 where values are.
        rounding = gamma(4 + looks[name].terms, spec.dtype)
        within = {
            key: rounded_up(SAFETY * furthest / factor + rounding * largest[name][key])
            for key, furthest in found.items()
        }
        bounds[name] = within.get(None, within)
    return bounds


def _entries(seen: Any) -> dict[str | None, Any]:
    return seen if isinstance(seen, dict) else {None: seen}


def _disturbed(
    spec: MLP,
    values: Values,
    x: Array,
    y: Array,
    rule: SGD | Adam,
    steps: int,
    factor: float,
    either_epsilon: bool,
    writes: Mapping[int, Values],
    batches: Mapping[int, tuple[Array, Array]],
) -> Iterator[list[State]]:
    """The state after each number of steps, of the training as it is and of the disturbed ones."""
    u = unit_roundoff(spec.dtype)
    disturbed = _noise(np.random.RandomState(0), factor)
    # All are followed at once, the undisturbed one in front. What is not drawn anew at each step is its sign
    # and where epsilon is added, of which the disturbed ones are the four cases.
    signs, early = np.array([0.0, 1, -1, 1, -1]), np.array([False, False, False, True, True])
    early &= either_epsilon

    uses = [(layer, role) for layer in range(spec.layers) for role in ROLES]
    owners = {use: (spec.owner(*use), use[1]) for use in uses}
    held = _copies({owner: values[owner] for owner in dict.fromkeys(owners.values())})
    first = {owner: np.zeros(value.shape) for owner, value in held.items()}
    second = {owner: np.zeros(value.shape) for owner, value in held.items()}
    for step in range(steps + 1):
        before = dict(held)
        held |= _copies({owners[use]: value for use, value in writes.get(step, {}).items()})
        x, y = batches.get(step, (x, y))
        seen = computed(spec, {use: held[owner] for use, owner in owners.items()}, x, y, disturbed)
        gradients = {owner: seen.gradients[owner].value for owner in held}
        losses = seen.loss.value
        yield [
            State(
                float(losses[place]),
                {use: before[owner][place] for use, owner in owners.items()},
                {use: gradients[owner][place] for use, owner in owners.items()},
            )
            for place in range(1 + DRAWS)
        ]
        for owner, gradient in gradients.items():
            if isinstance(rule, SGD):
                carried = rule.momentum * first[owner]
                first[owner] = carried + gradient
                change = rule.learning_rate * first[owner]
                # Two roundings of the velocity, two of the step.
                error = u * (2 * rule.learning_rate * np.abs(carried) + 3 * np.abs(change))
            else:
                axes = (-1,) + (1,) * (gradient.ndim - 1)
                change, relative = _adam(
                    rule, first[owner], second[owner], gradient, step + 1, early.reshape(axes)
                )
                change = change * (1 + factor * relative * signs.reshape(axes))
                error = 8 * u * np.abs(change)
            held[owner] = disturbed(held[owner] - change, error + u * np.abs(held[owner]))


def _adam(
    rule: Adam, mean: Array, variance: Array, gradient: Array, step: int, early: Array
) -> tuple[Array, float]:
    """What a step of Adam subtracts, and its relative error. The moments are changed in place.

    MXNet and Keras compute the step's size in float32: 1 - beta**t is off by a rounding of beta**t, which the
    subtraction makes larger relative to what is left, and the root halves; some roundings more are multiplied.
    That error is the same for all numbers and much the same for all steps, so that it is not drawn anew.
    Where epsilon is added, before or after the bias correction, is a framework's own way: where it is added
    early, it is larger by one over the root of 1 - beta2**t.
    """
    mean += (1 - rule.beta1) * (gradient - mean)
    variance += (1 - rule.beta2) * (gradient**2 - variance)
    left1, left2 = 1 - rule.beta1**step, 1 - rule.beta2**step
    epsilon = np.where(early, rule.epsilon / math.sqrt(left2), rule.epsilon)
    change = rule.learning_rate * (mean / left1) / (np.sqrt(variance / left2) + epsilon)
    single = unit_roundoff("float32")
    # A power function is within 2 units in the last place, and the first power is exact: the settings are.
    powers = 2 * single * (step > 1)
    relative = powers * rule.beta1**step / left1 + powers * rule.beta2**step / left2 / 2 + 6 * single
    return change, relative
