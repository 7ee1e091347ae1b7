"""The slice view that other tests judge pictures by draws as Slicer's does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from grids import make_grid
from segments import ball, segmentation

pytest.importorskip("slicer", reason="needs slicer-core")

if TYPE_CHECKING:
    from mrml import MRML

GRID = make_grid((8, 40, 40))


def test_segments_are_drawn_over_the_image_and_let_it_through(scene: MRML) -> None:
    from mrml import SliceView

    stripes = np.broadcast_to(np.arange(40) % 20 < 10, GRID.shape).astype(np.float32)
    image = scene.volume(stripes, GRID, "stripes")
    view = SliceView(scene, size=(200, 200))
    view.show(image)
    plain = view.pixels().astype(int)
    assert np.ptp(plain[100]) > 200
    node = segmentation(scene, {"ventricle": ball(GRID, (0.5, 0.5, 0.5), 12)}, GRID)
    node.GetDisplayNode().SetOpacity2DFill(0.4)
    filled = view.pixels().astype(int)
    middle = filled[100, 50:150]
    assert np.ptp(middle[:, 1]) > 80  # the stripes still show
    assert (middle[:, 0] > middle[:, 1]).all()  # and are red
    np.testing.assert_array_equal(filled[:20], plain[:20])
