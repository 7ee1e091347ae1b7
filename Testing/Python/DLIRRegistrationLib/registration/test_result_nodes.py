"""Results outside of the scene."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

from dlir.geometry import ImageGrid
from dlir.transforms.resample import resample
from dlir.transforms.spatial import CompositeTransform
from DLIRRegistrationLib.registration.result_nodes import resampled_layers, segment_volumes
from DLIRRegistrationLib.scene.segmentations import SegmentLayer
from DLIRRegistrationLib.scene.volumes import image_array
from grids import make_grid
from stepping import exhausted

GRID = make_grid((6, 7, 8), (1.1, 2.2, 3.3), (10, 20, 30), (0.1, 0.2, 0.3))


@pytest.mark.parametrize("start", [(0, 0, 0), (2, -1, 3), (-3, 2, 0), (0, 40, 0), (0.4, 0.3, -0.2)])
def test_layers_are_found_on_another_grid(start: tuple[float, float, float]) -> None:
    grid = GRID.lattice(start, (1, 1, 1), (9, 4, 6))
    layer = SegmentLayer(np.random.default_rng(0).integers(0, 4, grid.shape).astype(np.uint8), grid, {})
    [image] = resampled_layers([layer], GRID)
    expected = resample(layer.array, grid, CompositeTransform(()), GRID, "nearest")
    assert image_array(image).dtype == np.uint8
    np.testing.assert_array_equal(image_array(image), expected)


def test_volumes_are_counted_in_millilitres() -> None:
    array = np.zeros((4, 5, 6), np.uint8)
    array[1:3, 1:4, 2:5] = 2
    array[0, 0] = 1
    grid = ImageGrid(array.shape, (2.0, 3.0, 5.0))
    volumes, _ = exhausted(segment_volumes(array, grid, {"cavity": 2, "rim": 1, "nothing": 3}))
    assert volumes == pytest.approx({"cavity": 18 * 0.03, "rim": 6 * 0.03, "nothing": 0})
