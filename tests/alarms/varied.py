"""Each scenario once for each variation, as scenarios of their own, so that one worker runs them all.

A worker takes this as its file of scenarios. Which ones stands in the JSON file beside it: a name, a seed and
a form for each. A scenario is called by its name and these, such as "forward --seed 7 --form wide".

Imports the standard library and the package only: this runs inside every framework's environment.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from d2lparams.interface import Backend
from d2lparams.scenarios import Observer, Scenario, scenarios
from d2lparams.scenarios.inputs import varied
from d2lparams.scenarios.registry import REGISTERED
from d2lparams.variation import Variation


def with_variation(one: Scenario, variation: Variation) -> Scenario:
    """The scenario with a variation, under a name that says so."""

    def function(backend: Backend[Any], observe: Observer) -> None:
        if observe.folder is not None:
            # Columns meet there; those of one variation only.
            observe.folder = observe.folder / "-".join(["varied", *variation.options])
            observe.folder.mkdir(exist_ok=True)
        with varied(variation):
            one.function(backend, observe)

    return replace(one, name=" ".join([one.name, *variation.options]), function=function)


PLAN = Path(__file__).with_suffix(".json")
if PLAN.exists():
    KNOWN = scenarios()
    for name, seed, form in json.loads(PLAN.read_text(encoding="utf-8")):
        added = with_variation(KNOWN[name], Variation(seed, form))
        REGISTERED[added.name] = added
