"""The comparison as a JSON document, and the schema of such documents."""

from __future__ import annotations

from typing import Any

import msgspec

from d2lparams.comparison import Comparison
from d2lparams.results import Outcome


def to_json(comparison: Comparison) -> bytes:
    """The document, indented, with a final line break."""
    return msgspec.json.format(msgspec.json.encode(comparison), indent=2) + b"\n"


def from_json(document: bytes) -> Comparison:
    """Read a document back.

    Raises:
        msgspec.ValidationError: when it is not a comparison of this schema, saying where.
        msgspec.DecodeError: when it is not JSON.
    """
    return msgspec.json.decode(document, type=Comparison)


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the document."""
    (described, outcome), definitions = msgspec.json.schema_components(
        [Comparison, Outcome], ref_template="#/$defs/{name}"
    )
    # A reader may rely on every field; that some have a default matters only to who writes one by hand.
    for definition in definitions.values():
        if "properties" in definition:
            definition["required"] = list(definition["properties"])
    # The types say that a value is any JSON; for one kind it is known better.
    for name, value in (
        ("Observation", {"value": outcome}),
        ("Row", {"values": {"additionalProperties": outcome}}),
    ):
        definitions[name]["if"] = {"properties": {"kind": {"const": "outcome"}}}
        definitions[name]["then"] = {"properties": value}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A comparison made by d2lparams",
        **described,
        "$defs": definitions,
    }
