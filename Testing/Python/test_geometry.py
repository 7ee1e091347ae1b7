"""ImageGrid against SimpleITK, and the grids derived from it against the voxels they came from."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from dlir.errors import GeometryError
from dlir.geometry import ImageGrid
from grids import grids, index_points, make_grid, random_grid, rotation

ORDERS = list(itertools.permutations(range(3)))
FLIPS = list(itertools.product((False, True), repeat=3))


def numbered(grid: ImageGrid) -> sitk.Image:
    """An image on `grid` in which every voxel has its own value."""
    return grid.to_sitk(np.arange(np.prod(grid.shape), dtype=np.int32).reshape(grid.shape))


def values_at(image: sitk.Image, grid: ImageGrid) -> np.ndarray:
    """The values of `image` at the voxel centres of `grid`, (z, y, x); each must be a voxel centre of `image` too."""
    index = ImageGrid.from_sitk(image).to_index(grid.voxel_centers())
    assert np.abs(index - np.rint(index)).max() < 1e-6
    x, y, z = np.rint(index).astype(int).transpose(3, 0, 1, 2)
    array: np.ndarray = sitk.GetArrayFromImage(image)
    return array[z, y, x]


# -- conversion --------------------------------------------------------------------------------------


@given(grid=grids())
def test_sitk_round_trip(grid: ImageGrid) -> None:
    image = numbered(grid)
    assert image.GetSize() == grid.size
    assert ImageGrid.from_sitk(image) == grid


@given(grid=grids(), seed=st.integers(0, 1000))
def test_index_and_physical_match_sitk(grid: ImageGrid, seed: int) -> None:
    image = numbered(grid)
    size = np.array(grid.size)
    index = index_points(np.random.default_rng(seed), np.full(3, -0.5), size - 0.5, 30)
    physical = np.array([image.TransformContinuousIndexToPhysicalPoint(i.tolist()) for i in index])
    np.testing.assert_allclose(grid.to_physical(index), physical, rtol=0, atol=1e-9)
    expected = np.array([image.TransformPhysicalPointToContinuousIndex(p.tolist()) for p in physical])
    np.testing.assert_allclose(grid.to_index(physical), expected, rtol=0, atol=1e-8)
    np.testing.assert_allclose(grid.to_index(physical), index, rtol=0, atol=1e-8)


def test_voxel_centers_match_sitk() -> None:
    grid = random_grid(np.random.default_rng(1), (2, 3, 4))
    image, centers = numbered(grid), grid.voxel_centers()
    assert centers.shape == (2, 3, 4, 3)
    for z, y, x in np.ndindex(*grid.shape):
        expected = image.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose(centers[z, y, x], expected, rtol=0, atol=1e-9)


def test_to_sitk_refuses_an_array_of_another_shape() -> None:
    with pytest.raises(GeometryError, match=r"array of shape \(2, 3, 5\) does not fit"):
        ImageGrid((2, 3, 4)).to_sitk(np.zeros((2, 3, 5)))


def test_to_sitk_keeps_vector_components() -> None:
    grid = random_grid(np.random.default_rng(2), (2, 3, 4))
    image = grid.to_sitk(np.arange(72.0).reshape(2, 3, 4, 3), is_vector=True)
    assert ImageGrid.from_sitk(image) == grid
    assert image[3, 2, 1] == (69.0, 70.0, 71.0)


def test_dictionary_goes_through_json_and_back() -> None:
    grid = random_grid(np.random.default_rng(3))
    assert ImageGrid(**json.loads(json.dumps(grid.to_dict()))) == grid


# -- derived quantities ------------------------------------------------------------------------------


def test_center_and_extent_of_a_known_grid() -> None:
    grid = ImageGrid((3, 5, 9), (2.0, 3.0, 10.0), (-8.0, 1.0, 4.0))
    np.testing.assert_allclose(grid.center, [0.0, 7.0, 14.0])
    assert grid.extent == (18.0, 15.0, 30.0)


@given(grid=grids(), seed=st.integers(0, 1000))
def test_contains_matches_sitk(grid: ImageGrid, seed: int) -> None:
    image = numbered(grid)
    points = grid.to_physical(
        index_points(np.random.default_rng(seed), np.full(3, -0.5), np.array(grid.size) - 0.5, 30)
    )
    reference = sitk.Image(grid.size, sitk.sitkUInt8) + 1
    reference.CopyInformation(image)
    expected = []
    for point in points:
        try:
            expected.append(reference.EvaluateAtPhysicalPoint(point.tolist(), sitk.sitkNearestNeighbor) == 1)
        except RuntimeError:  # sitk refuses points outside the buffer
            expected.append(False)
    assert grid.contains(points).tolist() == expected


def test_contains_counts_the_border_in() -> None:
    grid = ImageGrid((1, 2, 3))
    assert grid.contains([[-0.5, -0.5, -0.5], [2.5, 1.5, 0.5]]).all()
    assert not grid.contains([[-0.51, 0, 0], [0, 1.51, 0], [0, 0, 0.51]]).any()


@given(grid=grids(), other=grids())
def test_relative_to_goes_through_physical_space(grid: ImageGrid, other: ImageGrid) -> None:
    index = np.array([[0.0, 0.0, 0.0], [1.5, -2.0, 3.25]])
    matrix = grid.relative_to(other)
    expected = other.to_index(grid.to_physical(index))
    np.testing.assert_allclose(index @ matrix[:3, :3].T + matrix[:3, 3], expected, rtol=0, atol=1e-7)


# -- the same voxels ---------------------------------------------------------------------------------


def test_same_as_allows_rounding_in_the_header_only() -> None:
    grid = make_grid((10, 20, 30), (1.0, 1.5, 8.0), (100.0, -50.0, 30.0), (0.2, 0.3, 0.4))
    assert grid.same_as(ImageGrid(grid.shape, grid.spacing, np.array(grid.origin) + 1e-4, grid.direction))
    assert not grid.same_as(ImageGrid(grid.shape, grid.spacing, np.array(grid.origin) + 1e-2, grid.direction))
    assert not grid.same_as(ImageGrid((10, 20, 31), grid.spacing, grid.origin, grid.direction))
    assert not grid.same_as(ImageGrid(grid.shape, (1.0, 1.5, 8.01), grid.origin, grid.direction))
    turned = np.array(grid.direction).reshape(3, 3) @ rotation((0.01, 0, 0))
    assert not grid.same_as(ImageGrid(grid.shape, grid.spacing, grid.origin, turned))


def test_same_as_sees_the_direction_of_a_single_voxel() -> None:
    single = ImageGrid((1, 1, 1))
    assert single.same_as(ImageGrid((1, 1, 1)))
    assert not single.same_as(make_grid((1, 1, 1), angles=(0.1, 0, 0)))


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("axes", ORDERS)
def test_permuted_keeps_every_voxel_at_its_place(axes: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> None:
    grid = random_grid(np.random.default_rng(4), (2, 3, 4))
    permuted = grid.permuted(axes, flips)
    expected = sitk.Flip(sitk.PermuteAxes(numbered(grid), axes), flips)
    assert permuted.same_as(ImageGrid.from_sitk(expected), 1e-9)
    np.testing.assert_array_equal(values_at(numbered(grid), permuted), sitk.GetArrayFromImage(expected))


@given(grid=grids())
def test_canonical_keeps_every_voxel_and_lies_along_lps(grid: ImageGrid) -> None:
    canonical = grid.canonical()
    assert sorted(values_at(numbered(grid), canonical).ravel()) == list(range(int(np.prod(grid.shape))))
    matrix = canonical.direction_matrix
    assert (np.diag(matrix) >= 0).all()
    others = [sum(abs(matrix[row, column]) for row, column in enumerate(order)) for order in ORDERS]
    assert np.trace(matrix) >= max(others) - 1e-12


def test_canonical_of_a_sagittal_scan() -> None:
    """Index axes A, I, R: slices from left to right, rows downward, columns forward."""
    sagittal = ImageGrid((3, 4, 5), (1.0, 2.0, 6.0), (0.0, 0.0, 0.0), (0, 0, -1, -1, 0, 0, 0, -1, 0))
    canonical = sagittal.canonical()
    assert canonical.size == (3, 5, 4)
    assert canonical.spacing == (6.0, 1.0, 2.0)
    assert canonical.direction == ImageGrid((1, 1, 1)).direction
    assert canonical.origin == (-12.0, -4.0, -6.0)


# -- other spacings ----------------------------------------------------------------------------------


def test_lattice_places_its_points() -> None:
    grid = random_grid(np.random.default_rng(5))
    lattice = grid.lattice((-1.0, 0.5, 2.0), (2.0, 3.0, 0.5), (4, 3, 2))
    assert lattice.size == (4, 3, 2)
    np.testing.assert_allclose(lattice.to_physical([0, 0, 0]), grid.to_physical([-1.0, 0.5, 2.0]), atol=1e-9)
    np.testing.assert_allclose(lattice.to_physical([3, 2, 1]), grid.to_physical([5.0, 6.5, 2.5]), atol=1e-9)


@given(grid=grids(), spacing=st.tuples(*[st.floats(0.2, 30)] * 3))
def test_with_spacing_covers_the_extent(grid: ImageGrid, spacing: tuple[float, float, float]) -> None:
    other = grid.with_spacing(spacing)
    np.testing.assert_allclose(other.spacing, spacing)
    assert other.direction == grid.direction
    np.testing.assert_allclose(other.center, grid.center, rtol=0, atol=1e-6)
    excess = np.array(other.extent) - grid.extent
    assert (excess > -1e-3 * np.array(spacing)).all()
    assert (excess < spacing).all()


@given(grid=grids())
def test_with_its_own_spacing_a_grid_stays_as_it_is(grid: ImageGrid) -> None:
    assert grid.with_spacing(grid.spacing).same_as(grid, 1e-6)


def test_with_whole_multiples_voxels_become_blocks() -> None:
    blocks = ImageGrid((2, 4, 6), (1.0, 1.0, 5.0)).with_spacing((2.0, 4.0, 5.0))
    assert blocks.size == (3, 1, 2)
    assert blocks.origin == (0.5, 1.5, 0.0)


# -- refusals ----------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": (2, 3)}, "not three positive sizes"),
        ({"shape": (2, 0, 3)}, "not three positive sizes"),
        ({"spacing": (1.0, 0.0, 1.0)}, "not positive"),
        ({"spacing": (1.0, -2.0, 1.0)}, "not positive"),
        ({"spacing": (1.0, NAN, 1.0)}, "not positive"),
        ({"spacing": (1.0, INF, 1.0)}, "not positive"),
        ({"spacing": (1.0, 1.0)}, "not positive"),
        ({"origin": (0.0, INF, 0.0)}, "not finite"),
        ({"origin": (0.0, 0.0)}, "not finite"),
        ({"direction": (1, 0, 0, 1)}, "not a 3x3 matrix"),
        ({"direction": (1, 0, 0, 0, NAN, 0, 0, 0, 1)}, "not a 3x3 matrix"),
        ({"direction": (1, 0, 0, 0, 1, 0, 0, 0, 0)}, "singular"),
        ({"direction": (1, 1, 0, 0, 0, 0, 0, 0, 1)}, "singular"),
        ({"direction": (1, 0.1, 0, 0, 1, 0, 0, 0, 1)}, "not perpendicular unit vectors"),
        ({"direction": (2, 0, 0, 0, 1, 0, 0, 0, 1)}, "not perpendicular unit vectors"),
    ],
)
def test_unusable_geometry_is_refused_in_one_line(values: dict[str, tuple[float, ...]], message: str) -> None:
    with pytest.raises(GeometryError, match=message) as caught:
        ImageGrid(**{"shape": (2, 3, 4), **values})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_two_dimensional_image_is_refused() -> None:
    with pytest.raises(GeometryError, match="give a 3D volume"):
        ImageGrid.from_sitk(sitk.Image(4, 5, sitk.sitkUInt8))


def test_a_direction_as_rounded_in_headers_is_accepted() -> None:
    rounded = np.round(rotation((0.3, 0.5, -0.8)), 4)
    assert ImageGrid((2, 3, 4), direction=tuple(rounded.ravel())).shape == (2, 3, 4)
