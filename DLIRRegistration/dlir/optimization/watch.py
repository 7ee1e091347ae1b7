"""When an optimisation ends: its time is over, somebody wants it ended, or nothing is gained any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dlir.optimization.budget import Budget
from dlir.optimization.deformable import Stage

# A stage that is to converge ends where so many steps have gained less than this.
_WAITED, _GAIN = 15, 2e-4
# Parts of a time that the search for starts and each affine part may take: less than they do need within 5 s.
_SEARCH, _AFFINE = 0.15, 0.4
# What is kept of the time that later stages are to take, so that none of them is left out.
_KEPT = 0.5
# The affine part's share of the progress bar.
_SHOWN = 0.2


@dataclass(frozen=True)
class Progressed:
    """step: in words. done: part of the budget, 0 to 1. value: of the objective now."""

    step: str
    done: float
    value: float | None = None


@dataclass
class Watch:
    """Ends the work when its time is over or somebody wants it ended.

    stop: asked before each step. tell: told of each.
    """

    budget: Budget
    stop: Callable[[], bool]
    tell: Callable[[Progressed], None]
    began: float = field(default_factory=lambda: time.perf_counter())
    steps: int = 0
    ended: bool = False

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def left(self) -> float | None:
        return None if self.budget.seconds is None else self.budget.seconds - self.seconds

    def over(self) -> bool:
        """Checked before each step."""
        self.ended = self.ended or self.stop() or (self.left is not None and self.left <= 0)
        return self.ended

    def searches(self) -> bool:
        """Whether there is time to look for more starts."""
        seconds = self.budget.seconds
        return not self.over() and (seconds is None or self.seconds < _SEARCH * seconds)

    def of_affine(self, steps: int) -> Share:
        """A share of the time that is left, for an affine part of so many steps."""

        def proceed(done: int) -> bool:
            self.tell(Progressed("affine", _SHOWN * done / steps))
            return not self.over()

        return Share(None if self.left is None else _AFFINE * self.left, proceed)

    def of_stage(self, number: int, planned: Sequence[Stage], later: float) -> Callable[[int, float], bool]:
        """What a stage asks before each step. later: part of the work that is left which comes after it."""
        gains = _Gains() if self.budget.converged else None
        share = Share(self.left)
        share.begin(1 - _KEPT * later)
        first, total = sum(own.steps for own in planned[:number]), sum(own.steps for own in planned)
        told = f"stage {number + 1} of {len(planned)}"

        def proceed(step: int, value: float) -> bool:
            self.tell(Progressed(told, _SHOWN + (1 - _SHOWN) * (first + step) / total, value))
            if self.over() or (gains and gains.over(value)) or not share.goes_on():
                return False
            self.steps += 1
            return True

        return proceed


class Share:
    """The time of several rounds of steps: each has its part of what those before it have left.

    seconds: of all; None for as long as they take. proceed: told how many steps are done; False ends them all.
    """

    def __init__(self, seconds: float | None = None, proceed: Callable[[int], bool] = lambda done: True) -> None:
        self._ends = None if seconds is None else time.perf_counter() + seconds
        self._proceed, self._done = proceed, 0
        self._round_ends = self._first = 0.0
        self._steps = 0

    def begin(self, part: float) -> None:
        """A round that may have such a part of what is left."""
        self._steps = 0
        if self._ends is not None:
            now = time.perf_counter()
            self._round_ends = now + part * (self._ends - now)

    def goes_on(self) -> bool:
        """Whether there is time for one more step, to judge by those before it; always for the first of a round."""
        if not self._proceed(self._done):
            return False
        if self._ends is not None:
            now = time.perf_counter()
            if not self._steps:
                self._first = now
            elif now + (now - self._first) / self._steps > self._round_ends:
                return False
        self._steps, self._done = self._steps + 1, self._done + 1
        return True


@dataclass
class _Gains:
    """Whether a stage that is to converge still gains."""

    values: list[float] = field(default_factory=list)

    def over(self, value: float) -> bool:
        """With the objective of one more step."""
        self.values.append(value)
        return len(self.values) > _WAITED and max(self.values) - max(self.values[:-_WAITED]) < _GAIN
