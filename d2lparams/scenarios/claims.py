"""What the book says about a framework, held against the installed version."""

from __future__ import annotations

from typing import Any

from d2lparams.interface import Backend, Claim, Unsupported
from d2lparams.results import jsonable
from d2lparams.scenarios.registry import Observer, scenario
from d2lparams.scenarios.sentences import sentence

HOLDS, NO_LONGER = "holds", "no longer holds"


@scenario(section="6.2", title="What the book says")
def book_claims(backend: Backend[Any], observe: Observer) -> None:
    """Does each statement that the section makes in this framework's tab still hold, and if not, what is there?

    The statements are in our words. A topic is the same for all tabs that say something on one thing.
    """
    claims = backend.claims()
    if not claims:
        raise Unsupported("the book has no tab for it")
    for claim in claims:
        with backend.fresh():
            now = _now(claim)
        evidence = {"section": claim.section, "there is now": now}
        if now != (claimed := jsonable(claim.claimed)):
            evidence["the book has"] = claimed
        observe.outcome(claim.topic, HOLDS if now == claimed else NO_LONGER, how=claim.says, evidence=evidence)


def _now(claim: Claim) -> Any:
    """What is there now; where looking fails, the framework's error."""
    try:
        return jsonable(claim.look())
    except Exception as error:
        return sentence(error)
