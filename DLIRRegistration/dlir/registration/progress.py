"""What a run tells while it lasts: its steps, how much is done, what the user should know, and seconds afterwards.

Standard library only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from dlir.registration.judging.verdict import Verdict

# Gets the present step, in words, and the fraction done, 0 to 1.
Progress: TypeAlias = Callable[[str, float], None]
# Gets the stage under way, in words, and its objective now, more is better: one for each stage, which do not compare.
Curve: TypeAlias = Callable[[str, float], None]
# Gets one line that the user should read although the run goes on.
Notify: TypeAlias = Callable[[str], None]
# Gets the verdict as far as it is known before the pair is registered the other way round, which may make it worse.
Offer: TypeAlias = "Callable[[Verdict], None]"


def silent(*told: object) -> None:
    """Progress, a curve, notices or an offer that nobody wants."""


def part_of(progress: Progress, low: float, high: float) -> Progress:
    """`progress` for a piece of work that is the share from `low` to `high` of the whole."""
    return lambda step, fraction: progress(step, low + (high - low) * fraction)


@dataclass
class Clock:
    """Seconds of each step so far, in order; a step that comes again adds to its own, and one within another counts
    for itself alone.

    progress: is told each step that states how much is done. wait: returns when all that was begun is finished, for
    devices that compute while the program goes on.
    """

    progress: Progress = silent
    wait: Callable[[], None] = silent
    seconds: dict[str, float] = field(default_factory=dict)
    _within: float = 0.0

    @contextmanager
    def step(self, name: str, fraction: float | None = None) -> Iterator[None]:
        """Times what is done within. fraction: how much of the whole is done before it."""
        if fraction is not None:
            self.progress(name, fraction)
        start, before, self._within = time.perf_counter(), self._within, 0.0
        yield
        self.wait()
        took = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + took - self._within
        self._within = before + took

    def rounded(self) -> dict[str, float]:
        """The seconds as a report has them."""
        return {step: round(seconds, 4) for step, seconds in self.seconds.items()}
