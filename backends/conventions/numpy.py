"""The reference keeps every array in canonical form."""

from __future__ import annotations

from d2lparams.interface import Conventions, Held

CONVENTIONS: Conventions = {"dense": [Held("weight", "weight", "out in"), Held("bias", "bias", "out")]}
