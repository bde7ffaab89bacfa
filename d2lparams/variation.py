"""Which numbers and which form of models scenarios use: the seed and the form that a run is asked for.

Without either, a scenario uses the numbers and the model that its section of the book has. A seed draws other
starting values, inputs and targets. A form makes another model of each:

    one        every width is 1
    wide       widths of 68 to 256
    deep       ten layers more, of widths 9 and 8 in turn, before the last one
    large      starting values, inputs and targets are 8 times as large, and activations saturate; a training of
               many steps has a rate 8**3 times as small, for at the usual one it is chaotic
    tiny       starting values, inputs and targets are 2**20 times as small
    float32    float32 where the section's model is float64, with float32's tolerances

Ties stay between the same layers; one with the last layer stays one with the last layer. What has no free form
keeps its own: layers of other kinds (`layers`), the models that are carried elsewhere (`transfers`), and what a
scenario sets itself to make its point, such as Adam's tiny gradient. Claims of the book take neither.

Imports the standard library only: this runs inside every framework's environment, and in the parent.
"""

from __future__ import annotations

from dataclasses import dataclass

FORMS = {
    "one": "every width is 1",
    "wide": "widths of 68 to 256",
    "deep": "ten layers more",
    "large": "values 8 times as large",
    "tiny": "values 2**20 times as small",
    "float32": "float32 instead of float64",
}
"""The forms, by name, with what they change in a few words."""

LARGEST_SEED = 2**20
"""Seeds are below this: each takes a block of 2**12 seeds of NumPy's generator, which has 2**32 of them."""


@dataclass(frozen=True)
class Variation:
    """What a run changes of its scenarios' numbers and models.

    Attributes:
        seed: of all that is drawn; 0 draws the numbers that are always used.
        form: one of `FORMS`, or "" for the models that the sections have. A result may name one that only a
            newer release knows, so this is checked where it is asked for, and not here.
    """

    seed: int = 0
    form: str = ""

    def __str__(self) -> str:
        """Such as "seed 7, form wide"; "" when nothing is changed."""
        return ", ".join(f"{name} {value}" for name, value in vars(self).items() if value)

    @property
    def options(self) -> list[str]:
        """What asks the command for it: ["--seed", "7", "--form", "wide"]."""
        return [part for name, value in vars(self).items() if value for part in (f"--{name}", str(value))]
