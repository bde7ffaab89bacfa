"""Names for distributions: which known rule of initialisation gives the values that a layer starts from.

Rules: Glorot and Bengio (2010), He et al. (2015), LeCun et al. (1998), Saxe et al. (2014, orthogonal). A gate's
matrix may be drawn alone or as a part of all gates' matrix, whose fan out is larger.
"""

from __future__ import annotations

import numpy as np

from d2lparams.interface import Array

TOLERANCE = 0.02
BINS = 32
ENOUGH = 1000  # with fewer numbers a bound cannot be told within the tolerance
# A normal distribution cut off at two deviations has this part of the deviation that it was drawn with.
CUT_OFF = 0.87962566


def describe(values: Array, fans: tuple[int, int], *, summed: bool = False) -> str:
    """The distribution of values, by the known rule that gives its bound or deviation.

    Args:
        values: many numbers of one parameter, canonical; a gate stands on the first of three axes.
        fans: the inputs of one output and the outputs of one input.
        summed: whether it may be the sum of two parameters, which has no form of its own.
    """
    values = np.asarray(values, "float64")
    if (found := np.unique(values)).size <= 2:
        return _constants(values, found)
    if values.size < ENOUGH or (values.ndim == 2 and summed):
        return "drawn at random"
    if values.ndim == 3 and all(_orthogonal(gate) for gate in values):
        return "each gate orthogonal"
    if values.ndim == 3 and _orthogonal(values.reshape(-1, values.shape[-1])):
        return "all gates together orthogonal"
    deviation, largest = float(np.std(values)), float(np.max(np.abs(values)))
    reach = largest / deviation
    # The fourth moment tells a form whose mass lies elsewhere from one that reaches as far.
    kurtosis = float(np.mean((values / deviation) ** 4))
    # What is measured on few numbers is known less well; the factors are some three standard errors.
    margin, moment_margin = max(TOLERANCE, 2 / values.size**0.5), max(0.1, 4 / values.size**0.5)
    if abs(reach / 3**0.5 - 1) < margin and abs(kurtosis - 1.8) < moment_margin:
        return f"uniform within {_rule(largest, _bounds(fans, values))}"
    if abs(reach / (2 / CUT_OFF) - 1) < TOLERANCE and abs(kurtosis - 2.37) < 0.1:
        return f"normal cut off at two deviations, deviation {_rule(deviation, _deviations(fans))}"
    if reach > 3.5 and abs(kurtosis - 3) < 0.15:
        return f"normal, deviation {_rule(deviation, _deviations(fans))}"
    return f"of no known form, deviation {deviation:.1g}, largest {largest:.1g}"


def histogram(values: Array) -> dict[str, Array]:
    """How many values lie in each of `BINS` bins of equal width, from the least to the greatest of them.

    Returns the "edges", one more than there are bins, and the "counts". Where all values are the same, the one
    bin begins and ends there.
    """
    values = np.asarray(values, "float64")
    least, greatest = values.min(), values.max()
    if least == greatest:
        return {"edges": np.array([least, greatest]), "counts": np.array([values.size])}
    counts, edges = np.histogram(values, BINS)
    return {"edges": edges, "counts": counts}


def _constants(values: Array, found: Array) -> str:
    if found.size == 1:
        return {0.0: "zeros", 1.0: "ones"}.get(float(found[0]), f"all {found[0]:g}")
    if values.ndim == 2 and all(np.unique(gate).size == 1 for gate in values):
        gates = ", ".join(f"{gate[0]:g}" for gate in values)
        return f"by gate {gates}"
    return f"{found[0]:g} and {found[1]:g}"


def _orthogonal(matrix: Array) -> bool:
    """Whether the columns, or the rows, are orthonormal."""
    rows, columns = matrix.shape
    gram = matrix.T @ matrix if rows >= columns else matrix @ matrix.T
    return bool(np.allclose(gram, np.eye(len(gram)), atol=1e-4))


def _bounds(fans: tuple[int, int], values: Array) -> dict[str, float]:
    fan_in, fan_out = fans
    gates = len(values) if values.ndim == 3 else 1
    together = {"√(6/(in + gates · out)), Glorot": (6 / (fan_in + gates * fan_out)) ** 0.5}
    return (together if gates > 1 else {}) | {
        "0.07": 0.07,
        "0.05": 0.05,
        "1/√in": fan_in**-0.5,
        "1/√units": fan_out**-0.5,
        "√(6/(in + out)), Glorot": (6 / (fan_in + fan_out)) ** 0.5,
        "√(6/in), He": (6 / fan_in) ** 0.5,
        "√(3/in), LeCun": (3 / fan_in) ** 0.5,
    }


def _deviations(fans: tuple[int, int]) -> dict[str, float]:
    fan_in, fan_out = fans
    return {
        "1": 1.0,
        "0.01": 0.01,
        "0.02": 0.02,
        "1/√in, LeCun": fan_in**-0.5,
        "1/√out": fan_out**-0.5,
        "√(2/(in + out)), Glorot": (2 / (fan_in + fan_out)) ** 0.5,
        "√(2/in), He": (2 / fan_in) ** 0.5,
    }


def _rule(number: float, rules: dict[str, float]) -> str:
    """The rules that give this number, or the number itself, with one digit, for it is measured."""
    found = [name for name, value in rules.items() if abs(number / value - 1) < TOLERANCE]
    return " or ".join(found) or f"{number:.1g}"
