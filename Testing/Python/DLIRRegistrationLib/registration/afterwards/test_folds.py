"""Folded places of a Jacobian volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

from DLIRRegistrationLib.registration.afterwards.folds import MOST, folds
from grids import make_grid

if TYPE_CHECKING:
    from mrml import MRML

GRID = make_grid((8, 20, 24), (1.5, 1.5, 4.0), (-20.0, 30.0, 12.0), (0.2, -0.1, 0.3))


def test_places_that_touch_are_one_and_the_worst_is_first(scene: MRML) -> None:
    jacobian = np.ones(GRID.shape, np.float32)
    jacobian[2, 5, 7] = -0.1
    jacobian[3, 6, 8] = -0.2  # at a corner
    jacobian[6, 15, 20] = -0.9
    jacobian[0, 0, 0] = 0.0
    first, second, third = folds(scene.volume(jacobian, GRID))
    assert (first.voxels, second.voxels, third.voxels) == (1, 2, 1)
    assert [fold.lowest for fold in (first, second, third)] == pytest.approx([-0.9, -0.2, 0.0])
    lps = GRID.to_physical(np.array([[20.0, 15.0, 6.0], [8.0, 6.0, 3.0]]))
    for fold, place in zip((first, second), lps, strict=True):
        assert fold.position == pytest.approx(tuple(place * [-1, -1, 1]), abs=1e-4)


def test_what_is_not_a_number_folds_worst(scene: MRML) -> None:
    jacobian = np.ones(GRID.shape, np.float32)
    jacobian[1, 1, 1], jacobian[5, 5, 5] = np.nan, -3.0
    assert [fold.lowest for fold in folds(scene.volume(jacobian, GRID))] == [-np.inf, -3.0]


def test_nothing_folds(scene: MRML) -> None:
    assert folds(scene.volume(np.full(GRID.shape, 0.01, np.float32), GRID)) == []


def test_no_more_than_a_person_looks_at(scene: MRML) -> None:
    jacobian = np.ones(GRID.shape, np.float32)
    jacobian[::2, ::2, ::2] = -1.0
    assert len(folds(scene.volume(jacobian, GRID))) == MOST


def test_a_volume_that_has_changed_is_looked_at_again(scene: MRML) -> None:
    import slicer

    from DLIRRegistrationLib.logic import DLIRRegistrationLogic

    logic = DLIRRegistrationLogic()
    node = scene.volume(np.ones(GRID.shape, np.float32), GRID)
    assert logic.folds(node) == []
    slicer.util.arrayFromVolume(node)[1, 1, 1] = -1.0
    slicer.util.arrayFromVolumeModified(node)
    assert len(logic.folds(node)) == 1
    logic.close()
