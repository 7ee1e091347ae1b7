"""From an image to what the networks see: intensities by hand, resampling against SimpleITK."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dlir.geometry import ImageGrid
from dlir.model.preprocessing import averaging_matrix, intensity_range, prepare, resample_axes, scale
from dlir.model.spec import Preprocessing
from grids import Array, grids, make_grid, random_grid

ORDERS = list(itertools.permutations(range(3)))
FLIPS = list(itertools.product((False, True), repeat=3))
PLAIN = Preprocessing((1.0, 1.0, 1.0))


def random_array(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)


def resampled(array: NDArray[np.float32], source: ImageGrid, target: ImageGrid) -> NDArray[np.float32]:
    result: NDArray[np.float32] = resample_axes(torch.from_numpy(array), source, target).numpy()
    assert result.shape == target.shape
    return result


# -- resampling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("axes", ORDERS)
def test_turned_axes_keep_every_voxel(axes: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> None:
    grid = random_grid(np.random.default_rng(0), (2, 3, 4))
    array = random_array(grid.shape)
    expected = sitk.GetArrayFromImage(sitk.Flip(sitk.PermuteAxes(grid.to_sitk(array), axes), flips))
    np.testing.assert_allclose(resampled(array, grid, grid.permuted(axes, flips)), expected, rtol=0, atol=1e-6)


@given(
    grid=grids(),
    axes=st.sampled_from(ORDERS),
    flips=st.sampled_from(FLIPS),
    factors=st.tuples(*[st.floats(0.3, 1)] * 3),
)
def test_finer_spacings_are_interpolated_as_sitk_does(
    grid: ImageGrid, axes: tuple[int, int, int], flips: tuple[bool, bool, bool], factors: tuple[float, float, float]
) -> None:
    array, turned = random_array(grid.shape), grid.permuted(axes, flips)
    target = turned.with_spacing([s * f for s, f in zip(turned.spacing, factors, strict=True)])
    reference = sitk.Resample(
        grid.to_sitk(array.astype(float)),
        target.to_sitk(np.zeros(target.shape)),
        sitk.Transform(),
        sitk.sitkLinear,
        -1.0,
    )
    expected = sitk.GetArrayFromImage(reference)
    inside = expected >= 0
    assert inside.mean() > 0.1
    np.testing.assert_allclose(resampled(array, grid, target)[inside], expected[inside], rtol=0, atol=1e-5)


def test_beyond_the_outermost_voxels_the_last_one_is_repeated() -> None:
    matrix = averaging_matrix(4, 6, -2.0, 1.5)
    np.testing.assert_allclose(matrix[0], [1, 0, 0, 0])
    np.testing.assert_allclose(matrix[1], [1, 0, 0, 0])
    np.testing.assert_allclose(matrix[5], [0, 0, 0, 1])


@given(
    size=st.integers(1, 20),
    target=st.integers(1, 20),
    start=st.floats(-5, 20),
    step=st.floats(-4, 4).filter(lambda s: s != 0),
)
def test_weights_are_positive_and_sum_to_one(size: int, target: int, start: float, step: float) -> None:
    matrix = averaging_matrix(size, target, start, step)
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(1), torch.ones(target))


@given(size=st.integers(20, 40), step=st.floats(0.2, 4))
def test_a_ramp_stays_a_ramp(size: int, step: float) -> None:
    """Away from the ends every sample lies where it should, to a tenth of a voxel."""
    width = max(1.0, step)
    target = int((size - 1 - 2 * width) // step) + 1
    matrix = averaging_matrix(size, target, width, step)
    ramp = torch.arange(size, dtype=torch.float32)
    # A triangle whose width is no whole number of voxels leans a little.
    exact = step <= 1 or float(step).is_integer()
    expected = width + step * torch.arange(target)
    torch.testing.assert_close(matrix @ ramp, expected, rtol=0, atol=1e-4 if exact else 0.1)


@pytest.mark.parametrize("factors", [(2.0, 2.0, 2.0), (3.0, 1.0, 2.0), (4.0, 5.0, 1.0), (2.5, 1.3, 3.7)])
def test_downsampling_keeps_the_mean(factors: tuple[float, float, float]) -> None:
    """A random image in a dark margin, so that what the ends repeat weighs nothing."""
    grid = make_grid((40, 40, 40), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), (0.1, 0.2, 0.3))
    array = np.pad(random_array((20, 20, 20)), 10)
    target = grid.with_spacing([s * f for s, f in zip(grid.spacing, factors, strict=True)])
    volume = np.prod(target.spacing) / np.prod(grid.spacing)
    whole = all(float(f).is_integer() for f in factors)
    assert resampled(array, grid, target).sum() * volume == pytest.approx(array.sum(), rel=1e-5 if whole else 0.02)


def test_downsampling_leaves_no_alias() -> None:
    grid = ImageGrid((4, 16, 16))
    stripes = np.broadcast_to(np.indices(grid.shape)[2] % 2, grid.shape).astype(np.float32)
    halved = resampled(stripes, grid, grid.with_spacing((2.0, 1.0, 1.0)))
    np.testing.assert_allclose(halved[:, :, 1:-1], 0.5, atol=1e-6)


# -- intensities -------------------------------------------------------------------------------------


def test_the_range_reaches_from_the_minimum_to_the_percentile() -> None:
    array = np.random.default_rng(0).permutation(1000).reshape(10, 10, 10).astype(np.int16) - 300
    assert intensity_range(array, PLAIN) == (-300.0, 690.0)
    assert intensity_range(array, Preprocessing((1, 1, 1), percentile=50.0)) == (-300.0, 200.0)
    assert intensity_range(array, Preprocessing((1, 1, 1), percentile=100.0)) == (-300.0, 699.0)


def test_a_window_is_taken_as_it_is() -> None:
    assert intensity_range(random_array((2, 3, 4)), Preprocessing((1, 1, 1), window=(-1000.0, 500.0))) == (
        -1000.0,
        500.0,
    )


def test_a_mostly_empty_image_falls_back_on_its_whole_range() -> None:
    array = np.zeros((10, 10, 10))
    array[0, 0, :3] = (5, 6, 7)
    assert intensity_range(array, PLAIN) == (0.0, 7.0)


def heart() -> Array:
    """Something like an image: dark noise around a bright body."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices((10, 40, 44))
    body = np.hypot(y - 20, x - 22) < 12
    image: Array = np.abs(rng.normal(6, 5, body.shape)) + body * (120 + 40 * np.sin(x / 5) * np.cos(z / 3))
    return image.round().astype(np.float32)


def rows_padded(value: float) -> Array:
    image = heart()
    image[:, :14] = value
    return image


@pytest.mark.parametrize("value", [-32768, -2048, -1000, -100, -50])
@pytest.mark.parametrize("rows", [1, 6, 14])
def test_padding_does_not_move_the_range(value: int, rows: int) -> None:
    plain, image = heart(), heart()
    image[:, :rows] = value
    low, high = intensity_range(image, PLAIN)
    expected = intensity_range(plain[:, rows:], PLAIN)
    assert (low, high) == expected
    assert high == pytest.approx(intensity_range(plain, PLAIN)[1], rel=0.05)


def test_padding_on_both_sides_of_two_values_does_not_move_it() -> None:
    image = heart()
    image[:, :4], image[:, -3:] = -3024, -1000
    assert intensity_range(image, PLAIN) == intensity_range(heart()[:, 4:-3], PLAIN)


@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("sign", [-1, 1])
def test_single_voxels_do_not_move_it(count: int, sign: int) -> None:
    rng = np.random.default_rng(count)
    plain, image = heart(), heart()
    image.ravel()[rng.choice(image.size, count, replace=False)] = sign * rng.uniform(5_000, 32_000, count)
    low, high = intensity_range(image, PLAIN)
    assert low == intensity_range(plain, PLAIN)[0]
    assert high == pytest.approx(intensity_range(plain, PLAIN)[1], rel=0.02)


def test_padding_and_single_voxels_together_do_not_move_it() -> None:
    image = rows_padded(-1000)
    image[0, 20, 20], image[5, 30, 3] = -32768, 30000
    assert intensity_range(image, PLAIN)[0] == intensity_range(heart()[:, 14:], PLAIN)[0]


def test_a_bad_slice_does_not_move_it() -> None:
    image, plain = heart(), intensity_range(heart(), PLAIN)
    image[4] *= 20
    assert intensity_range(image, PLAIN) == pytest.approx(plain, rel=0.02)
    image[4] = 0
    assert intensity_range(image, PLAIN) == pytest.approx(plain, rel=0.02)


def test_what_is_an_image_keeps_its_range() -> None:
    """A dark background of one value, a bright half, a gradient: none of it is padding or stray."""
    for image in (heart(), heart() * (heart() > 12), np.linspace(0, 1, 4000).reshape(10, 20, 20).astype(np.float32)):
        ordered = np.sort(image.ravel())
        assert intensity_range(image, PLAIN) == (ordered[0], ordered[int(0.99 * image.size)])


def test_prepared_intensities_are_scaled_and_clipped() -> None:
    array = np.array([[[-200, -100, 0, 100, 300, 1000]]], np.int16)
    image, grid = prepare(array, ImageGrid((1, 1, 6)), Preprocessing((1, 1, 1), window=(-100.0, 300.0)))
    assert image.dtype == torch.float32
    assert grid == ImageGrid((1, 1, 6))
    np.testing.assert_allclose(image[0, 0], [0, 0, 0.25, 0.5, 1, 1])


@pytest.mark.parametrize("scale", [1e-27, 1e27])
def test_small_and_large_values_are_an_image_too(scale: float) -> None:
    array = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    wanted, _ = prepare(array, ImageGrid((3, 4, 5)), PLAIN)
    found, _ = prepare(array * np.float32(scale), ImageGrid((3, 4, 5)), PLAIN)
    torch.testing.assert_close(found, wanted)


def test_a_constant_image_becomes_zero() -> None:
    image, _ = prepare(np.full((3, 4, 5), 42.0), ImageGrid((3, 4, 5)), PLAIN)
    assert not image.any()


@settings(deadline=None)
@given(st.integers(1, 3000), st.sampled_from([0.1, 50.0, 97.0, 99.0, 100.0]), st.integers(0, 99), st.integers(1, 500))
def test_a_percentile_is_what_sorting_gives(count: int, percentile: float, seed: int, levels: int) -> None:
    """Many are alike, the order is anything."""
    array = np.random.default_rng(seed).integers(0, levels, (1, 1, count)).astype(np.float32)
    if seed % 3 == 0:
        array.sort()
    low, high = intensity_range(array, Preprocessing((1, 1, 1), percentile=percentile))
    expected = np.sort(array, axis=None)[min(int(count * percentile / 100), count - 1)]
    assert low == array.min()
    assert high == (expected if expected > low else array.max())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "dtype", [np.bool_, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64]
)
def test_a_percentile_is_exact_in_every_type(dtype: type, order: str) -> None:
    """Of values that neighbours differ from by the least that the type holds, at its upper end."""
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    array = top - np.random.default_rng(4).integers(0, 2 if dtype == np.bool_ else 200, (7, 8, 9)).astype(np.int64)
    array = np.array(array.astype(dtype), order=order)  # type: ignore[call-overload]
    before = array.copy()
    _, high = intensity_range(array, Preprocessing((1, 1, 1), percentile=60.0))
    assert high == np.sort(array, axis=None)[int(array.size * 0.6)]
    np.testing.assert_array_equal(array, before)


# -- together ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_type_is_prepared_alike(dtype: type) -> None:
    grid = random_grid(np.random.default_rng(1), (5, 6, 7))
    array = np.random.default_rng(2).integers(0, 255, grid.shape)
    expected, working = prepare(array, grid, Preprocessing((1.5, 1.5, 1.5)))
    image, same = prepare(array.astype(dtype), grid, Preprocessing((1.5, 1.5, 1.5)))
    assert same == working
    assert image.shape == working.shape
    assert 0 <= image.min() < image.max() <= 1
    torch.testing.assert_close(image, expected)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_input_stays_as_it_is_and_may_be_read_only(order: str) -> None:
    array = np.array(random_array((4, 5, 6)), order=order)  # type: ignore[call-overload]
    before = array.copy()
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(array, ImageGrid((4, 5, 6)), PLAIN)
    np.testing.assert_array_equal(array, before)


def test_slices_of_native_thickness_are_never_mixed() -> None:
    """Every working slice comes from one slice of the image: a bright one stays alone."""
    grid = ImageGrid((9, 10, 10), (1.0, 1.0, 9.5))
    array = np.zeros(grid.shape, np.float32)
    array[4] = 1
    native = Preprocessing((2.0, 2.0, 8.0), native_axes=(False, False, True), window=(0.0, 1.0))
    image, working = prepare(array, grid, native)
    assert working.shape == (9, 5, 5)
    np.testing.assert_allclose(image, (np.arange(9) == 4)[:, None, None] * np.ones((1, 5, 5)), atol=1e-6)


@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 2, 1), (4, 1, 2)])
def test_padding_and_averaging_are_those_of_the_model(factors: tuple[int, int, int]) -> None:
    """In one step with the resampling; training does them one after the other."""
    grid = random_grid(np.random.default_rng(5), (7, 11, 9))
    prepared = scale(random_array(grid.shape), grid, Preprocessing((1.1, 1.3, 2.0)))
    whole = prepared.seen()
    padded = tuple(-(-n // 4) * 4 + 4 for n in whole.shape)
    zeros = torch.zeros(padded)
    zeros[tuple(slice(n) for n in whole.shape)] = whole
    expected = torch.nn.functional.avg_pool3d(zeros[None, None], factors[::-1])[0, 0]
    torch.testing.assert_close(prepared.seen(padded, factors), expected, rtol=0, atol=1e-6)
