"""When an optimisation ends, by a clock of the test's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dlir.optimization import watch
from dlir.optimization.budget import Budget
from dlir.optimization.deformable import Stage
from dlir.optimization.watch import Progressed, Share, Watch

STAGES = tuple(Stage(1.0, 4.0, 10, 0.1) for _ in range(3))


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    own = _Clock()
    monkeypatch.setattr(watch, "time", SimpleNamespace(perf_counter=own))
    return own


def _watch(seconds: float | None) -> Watch:
    return Watch(Budget(seconds=seconds), lambda: False, lambda told: None)


def _steps(share: Share, clock: _Clock, cost: float, most: int = 1000) -> int:
    """How many there is time for, at so many seconds each."""
    for done in range(most):
        if not share.goes_on():
            return done
        clock.now += cost
    return most


def test_a_share_has_no_end_without_a_time(clock: _Clock) -> None:
    share = Share()
    share.begin(0.5)
    assert _steps(share, clock, 1e6) == 1000


@pytest.mark.parametrize("cost", [0.1, 0.3, 2.0])
def test_no_round_takes_more_than_its_part(clock: _Clock, cost: float) -> None:
    """But for its first step."""
    share = Share(10.0)
    for part in (0.2, 0.5, 1.0):
        begun, left = clock.now, 10.0 - clock.now
        share.begin(part)
        assert _steps(share, clock, cost) >= 1
        assert clock.now - begun <= max(part * left, cost) + 1e-9
    assert clock.now >= 10.0 - 2 * cost


def test_what_comes_before_the_first_step_is_no_part_of_a_steps_time(clock: _Clock) -> None:
    share = Share(10.0)
    share.begin(1.0)
    clock.now += 4.0  # an image is averaged
    assert _steps(share, clock, 1.0) == 6


def test_whoever_is_asked_ends_a_share(clock: _Clock) -> None:
    told: list[int] = []
    share = Share(None, lambda done: told.append(done) or done < 3)  # type: ignore[func-returns-value]
    share.begin(1.0)
    assert _steps(share, clock, 1.0) == 3
    assert told == [0, 1, 2, 3]


def test_the_search_and_the_affine_part_leave_time_for_the_rest(clock: _Clock) -> None:
    own = _watch(10.0)
    assert own.searches()
    clock.now = 2.0
    assert not own.searches()
    share = own.of_affine(100)
    share.begin(1.0)
    _steps(share, clock, 0.1)
    assert clock.now < 6.0
    assert _watch(None).searches()


def test_a_slow_stage_leaves_time_for_those_after_it(clock: _Clock) -> None:
    own, done = _watch(8.0), list[int]()
    for number, later in enumerate((0.9, 0.5, 0.0)):
        proceed, steps = own.of_stage(number, STAGES, later), 0
        while steps < STAGES[number].steps and proceed(steps, 0.0):
            clock.now += 0.5
            steps += 1
        done.append(steps)
    assert min(done) >= 2
    assert clock.now <= 8.0
    assert own.steps == sum(done)


def test_a_wish_to_end_is_heeded_in_each_phase(clock: _Clock) -> None:
    asked: list[Progressed] = []
    own = Watch(Budget(), lambda: True, asked.append)
    assert not own.searches()
    assert not own.of_affine(5).goes_on()
    assert not own.of_stage(0, STAGES, 0.0)(0, 0.0)
    assert [told.step for told in asked] == ["affine", "stage 1 of 3"]
    assert (own.steps, own.ended) == (0, True)
