"""To take down what a scenario calls changes nothing of what it sees."""

from __future__ import annotations

import pytest

from d2lparams.interface import Unsupported
from d2lparams.scenarios import Observer, scenarios
from d2lparams.worker import execute

# Those that go through functions in plain data: there a watched copy takes the place of what was listed. Those
# that take long do the same as others of their group.
LISTED = {
    name: one
    for name, one in scenarios().items()
    if one.group in ("lifecycles", "checkpoints", "claims") and not one.full
}


@pytest.mark.parametrize("name", LISTED)
def test_a_scenario_sees_the_same_whether_it_is_recorded_or_not(backend, name):
    recorded = execute(LISTED[name], backend)
    plain = []
    try:
        LISTED[name].function(backend, Observer(plain.append))
    except Unsupported:
        assert recorded.status == "unsupported"
    assert recorded.observations == plain
