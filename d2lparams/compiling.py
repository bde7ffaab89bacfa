"""When a compilation pays: a rule of counted steps and of the model's size, never of a clock.

To wait for a compiler is to buy what else is rented step by step, and whoever buys when the rent that he has
paid comes to the price pays never more than twice of what he would have paid had he known how long he would
go on (the ski rental problem; Karlin, Manasse, Rudolph and Sleator, 1988). The rent of a step is what it takes
longer without the compiler.

Compiled and uncompiled arithmetic differ in their rounding. A price that was measured on the spot would make
results depend on what else the machine does at that moment; so price and rent are nominal figures, of about
what two cores need, and the same training is compiled at the same step wherever it runs.

Imports the standard library only: this module runs inside every framework's environment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Price:
    """What a compilation takes, and what it saves with each step; all in seconds.

    Attributes:
        compilation: of one step for one shape of batch.
        step: saved by each step, whatever the model.
        number: saved by each step for each number that the model stores.
    """

    compilation: float
    step: float
    number: float = 0.0

    def steps(self, numbers: int) -> int:
        """How many steps of a model that stores so many numbers save what the compilation takes."""
        return math.ceil(self.compilation / (self.step + self.number * numbers))
