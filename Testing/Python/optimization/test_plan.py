"""Which stages there are, and for how many steps."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.optimization.deformable import Stage
from dlir.optimization.levels import Pyramid, spacing_for
from dlir.optimization.plan import SAMPLES, affordable_plan, plan, stiffened, work
from grids import grids, make_grid

LARGE = make_grid((150, 256, 256), (0.9, 0.9, 1.2))


@given(grids(8, 60), st.integers(1, 400), st.booleans())
def test_the_steps_add_up_to_what_is_asked(grid: ImageGrid, steps: int, fine: bool) -> None:
    stages = plan(grid, SAMPLES, steps, fine=fine)
    assert sum(stage.steps for stage in stages) == steps
    assert all(stage.steps > 0 for stage in stages)


@pytest.mark.parametrize("fine", [False, True])
def test_stages_go_from_coarse_to_fine(fine: bool) -> None:
    stages = plan(LARGE, SAMPLES, fine=fine)
    for before, after in itertools.pairwise(stages):
        assert after.image <= before.image
        assert after.control <= before.control
    assert all(stage.control >= 4 * stage.image for stage in stages)


def test_on_top_of_what_is_nearly_right_there_is_less_to_do() -> None:
    whole, fine = (plan(LARGE, SAMPLES, fine=fine) for fine in (False, True))
    assert len(fine) < len(whole)
    assert max(stage.control for stage in fine) < max(stage.control for stage in whole)
    assert fine[-1] == whole[-1]


@given(st.floats(1e6, 1e9), st.booleans())
def test_more_time_never_means_coarser_samples(affordable: float, fine: bool) -> None:
    fewer, more = (affordable_plan(LARGE, most, fine=fine) for most in (affordable, 4 * affordable))
    assert more[-1].image <= fewer[-1].image


@given(st.floats(1e7, 7e7), st.booleans())
def test_what_is_planned_can_be_afforded(affordable: float, fine: bool) -> None:
    """With samples of a ladder, so that a little more or less time changes nothing."""
    done = work(LARGE, affordable_plan(LARGE, affordable, fine=fine))
    assert 0.7 * affordable < done <= affordable


def test_time_measured_a_little_differently_makes_the_same_plan() -> None:
    plans = [affordable_plan(LARGE, affordable, fine=False) for affordable in np.linspace(4e7, 5e7, 50)]
    assert 1 < len(set(plans)) <= 4


def test_time_that_is_left_goes_into_closer_control_points_but_not_along_thick_slices() -> None:
    usual = plan(LARGE, SAMPLES, fine=False)
    closer = affordable_plan(LARGE, 1e9, fine=False)
    assert len(closer) == len(usual) + 1
    assert closer[-1].control == pytest.approx(2 * closer[-1].image)
    assert len(affordable_plan(LARGE, 2e7, fine=False)) == len(usual)
    thick = make_grid((12, 256, 256), (1.4, 1.4, 8.0))
    assert len(affordable_plan(thick, 1e9, fine=False)) == len(usual)
    small = make_grid((40, 50, 36), (1.0, 1.0, 1.0))  # all of it is affordable, however little that is
    assert len(affordable_plan(small, 1e8, fine=False)) == len(usual) + 1


@given(grids(8, 30), st.floats(1_000, 50_000))
def test_the_work_is_that_of_the_levels(grid: ImageGrid, samples: float) -> None:
    """An image is left as it is where a level is hardly coarser, which then has more samples than were asked for."""
    volume = Volume(np.zeros(grid.shape, np.float32), grid, "blank")
    stages = (Stage(spacing_for(grid, samples), 1.0, 3, 0.0), Stage(1.1 * min(grid.spacing), 1.0, 2, 0.0))
    done = sum(stage.steps * Pyramid(volume).at(stage.image).image.numel() for stage in stages)
    assert work(grid, stages) == done


def test_whatever_the_time_there_are_bounds() -> None:
    for fine in (False, True):
        assert affordable_plan(LARGE, 0.0, fine=fine) == affordable_plan(LARGE, 1.0, fine=fine)
        assert work(LARGE, affordable_plan(LARGE, float("inf"), fine=fine)) < 1e9


@pytest.mark.parametrize("fine", [False, True])
def test_finer_stages_bend_more_freely_unless_stiffened(fine: bool) -> None:
    stages = plan(LARGE, SAMPLES, fine=fine)
    assert all(after.stiffness <= before.stiffness for before, after in itertools.pairwise(stages))
    assert stages[-1].stiffness < stages[0].stiffness
    stiff = stiffened(stages)
    (stiffness,) = {stage.stiffness for stage in stiff}
    assert stiffness > 10 * stages[0].stiffness
    assert stages == tuple(
        replace(after, stiffness=before.stiffness, tightness=before.tightness)
        for before, after in zip(stages, stiff, strict=True)
    )
