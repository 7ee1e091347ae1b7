"""How long a pair may be optimised for. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dlir.errors import OptionError

OFF, CONVERGED = "off", "converged"
_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|it)")


@dataclass(frozen=True)
class Budget:
    """One of three: seconds of optimisation, a number of steps, or, with neither, until nothing is gained any more."""

    seconds: float | None = None
    steps: int | None = None

    @property
    def converged(self) -> bool:
        """Whether it ends where nothing is gained any more."""
        return self.seconds is None and self.steps is None

    def __str__(self) -> str:
        if self.steps is not None:
            return f"{self.steps}it"
        return CONVERGED if self.seconds is None else f"{self.seconds:g}s"


def budget_of(text: str) -> Budget | None:
    """ "10s", "50it", "converged", or "off", which is None. Raises OptionError for anything else."""
    text = text.strip().lower()
    if text == OFF:
        return None
    if text == CONVERGED:
        return Budget()
    match = _NUMBER.fullmatch(text)
    if match and float(match[1]) > 0:
        if match[2] == "s":
            return Budget(seconds=float(match[1]))
        if float(match[1]).is_integer():
            return Budget(steps=int(float(match[1])))
    raise OptionError(f"'{text}' is no budget for --refine; give seconds (10s), steps (50it), converged or off")
