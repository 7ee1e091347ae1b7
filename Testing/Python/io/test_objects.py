"""Images of other libraries as volumes: where they lie, what they hold, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from dlir.errors import DLIRError, GeometryError, ImageError, ImageNote, notes_to
from dlir.geometry import ImageGrid
from dlir.io import Volume, read_image, write_image
from dlir.io.objects import grid_of, labels_of, volume_of
from grids import make_grid
from nibabel_like import Header, NibabelImage

GRIDS = {
    "straight": make_grid((4, 5, 6), (1.5, 2.0, 3.0), (10, -20, 30)),
    "oblique": make_grid((4, 5, 6), (1.5, 2.0, 3.0), (10, -20, 30), (0.3, -0.5, 0.8)),
    "flipped": make_grid((4, 5, 6), (1.5, 2.0, 3.0), (10, -20, 30), (0.3, -0.5, 0.8), mirrored=True),
}
GRID = GRIDS["oblique"]
ARRAY = np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32)
each_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=list(GRIDS))


def same(found: Volume, array: Any, grid: ImageGrid) -> None:
    np.testing.assert_array_equal(found.array, array)
    assert found.grid.shape == grid.shape
    np.testing.assert_allclose(found.grid.index_to_physical, grid.index_to_physical, rtol=0, atol=1e-9)


@each_grid
@pytest.mark.parametrize("ending", ["nii.gz", "nrrd"])
def test_every_form_of_one_image_is_what_its_file_is(grid: ImageGrid, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{ending}"
    write_image(path, ARRAY, grid)
    read = read_image(path)
    for image in (
        sitk.ReadImage(str(path)),
        NibabelImage.of(ARRAY, grid),
        (ARRAY, grid),
        (torch.from_numpy(ARRAY)[None, None], grid),
        (ARRAY, path),
        (ARRAY, grid.to_sitk(ARRAY)),
        (ARRAY, NibabelImage.of(ARRAY, grid)),
        Volume(ARRAY, grid, "volume"),
    ):
        found = volume_of(image, "fixed image")
        np.testing.assert_array_equal(found.array, read.array)
        np.testing.assert_allclose(found.grid.index_to_physical, read.grid.index_to_physical, rtol=0, atol=1e-4)


@each_grid
def test_a_voxel_of_nibabel_lies_where_its_affine_says(grid: ImageGrid) -> None:
    """By the definition: (x, y, z) in RAS is the affine times (i, j, k, 1); LPS turns the first two."""
    image = NibabelImage.of(ARRAY, grid)
    assert image.affine is not None
    found = volume_of(image, "image")
    for i, j, k in ((0, 0, 0), (5, 0, 0), (0, 4, 0), (1, 2, 3)):
        x, y, z, _ = image.affine @ (i, j, k, 1)
        np.testing.assert_allclose(found.grid.to_physical((i, j, k)), (-x, -y, z), atol=1e-9)
        assert found.array[k, j, i] == image.dataobj[i, j, k]


@pytest.mark.parametrize(("unit", "mm"), [("meter", 1000.0), ("micron", 1e-3)])
def test_the_unit_of_a_nibabel_header_counts(unit: str, mm: float) -> None:
    with pytest.warns(ImageNote, match=f"fixed image states its lengths in {unit}; its voxels measure 1.5 x 2 x 3 mm"):
        same(volume_of(NibabelImage.of(ARRAY, GRID, unit, mm), "fixed image"), ARRAY, GRID)


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1.0), ("meter", 1000.0)])
def test_of_two_voxel_sizes_the_one_that_is_not_all_ones_is_meant(unit: str, mm: float) -> None:
    """As in files: ACDC's have an sform of unit columns, and their pixdim is right."""
    image = NibabelImage.of(ARRAY, GRID, unit, mm)
    assert image.affine is not None
    right, lengths = image.affine.copy(), np.linalg.norm(image.affine[:3, :3], axis=0)
    image.affine[:3, :3] /= lengths
    told: list[str] = []
    with notes_to(told.append):
        same(volume_of(image, "image"), ARRAY, GRID)
        image = NibabelImage(image.dataobj, right, Header(unit, (1.0, 1.0, 1.0, 2.5)))
        same(volume_of(image, "image"), ARRAY, GRID)
    assert [line for line in told if "sform" in line] == [
        f"image has voxels of 1.5 x 2 x 3 mm by its sform, which is taken; its pixdim says {mm:g} x {mm:g} x {mm:g} mm"
    ]
    image.header.zooms = tuple(lengths * 2)
    with pytest.raises(GeometryError, match="image: the header states two voxel sizes"):
        volume_of(image, "image")


def test_a_nibabel_image_of_another_format_lies_as_its_affine_says() -> None:
    image = NibabelImage.of(ARRAY, GRID)
    image.header = object()  # type: ignore[assignment]
    same(volume_of(image, "image"), ARRAY, GRID)


def test_a_nibabel_image_keeps_its_type_and_its_files_name() -> None:
    image = NibabelImage.of((ARRAY > 0).astype(">i2"), GRID)
    image.name = "label.nii.gz"
    found = volume_of(image, "moving label")
    assert (found.array.dtype, found.source) == (np.dtype(np.int16), "label.nii.gz")
    assert found.array.flags.c_contiguous
    assert volume_of(NibabelImage(image.dataobj[..., None], image.affine), "image").array.shape == GRID.shape


def test_tensors_of_every_type_are_arrays() -> None:
    wanted = torch.from_numpy(ARRAY).round()
    for kind in (torch.float64, torch.float16, torch.bfloat16, torch.int16):
        same(volume_of((wanted.to(kind).requires_grad_(kind.is_floating_point), GRID), "image"), wanted.numpy(), GRID)


def test_labels_are_whole_numbers() -> None:
    labels = (ARRAY > 0) * 300
    for given, kind in ((labels, labels.dtype), (labels.astype(np.float64), np.int32), (labels > 0, np.uint8)):
        found = labels_of((given, GRID), "moving label")
        assert found.array.dtype == kind
        np.testing.assert_array_equal(found.array, given)
    for wrong in (ARRAY, np.full(ARRAY.shape, 2.0**31, np.float32), np.full(ARRAY.shape, np.inf, np.float16)):
        with pytest.raises(ImageError, match="moving label 'array' has values that are not whole numbers"):
            labels_of((wrong, GRID), "moving label")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_labels_of_any_floating_type_are_taken_without_a_warning(kind: type[np.floating[Any]]) -> None:
    labels = (ARRAY > 0) * 300
    np.testing.assert_array_equal(labels_of((labels.astype(kind), GRID), "moving label").array, labels)


class Unread:
    """What nibabel has for the voxels of a file, which it reads when they are asked for."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        raise self.error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "No such file or directory"), "No such file or directory"),
        (OSError("Expected 9 bytes\n - could the file be damaged?"), "Expected 9 bytes - could the file be damaged?"),
        (EOFError("Compressed file ended"), "Compressed file ended"),
    ],
)
def test_a_nibabel_image_whose_file_cannot_be_read_is_told(error: Exception, words: str) -> None:
    image = NibabelImage.of(ARRAY, GRID)
    image.dataobj = Unread(error)  # type: ignore[assignment]
    with pytest.raises(ImageError) as caught:
        volume_of(image, "fixed image")
    assert str(caught.value).startswith(f"fixed image: its voxels cannot be read by nibabel ({words})")


def cases() -> list[tuple[Any, type[DLIRError], str]]:
    sheared = NibabelImage.of(ARRAY, GRID)
    assert sheared.affine is not None
    sheared.affine[0, 1] += 1
    sheared.header.zooms = tuple(np.linalg.norm(sheared.affine[:3, :3], axis=0))
    flat = NibabelImage(ARRAY.T, np.diag([1.0, 0.0, 1.0, 1.0]))
    lost = NibabelImage(ARRAY.T, np.full((4, 4), np.nan))
    several = NibabelImage(np.stack([ARRAY.T, ARRAY.T], -1), np.eye(4))
    vectors = sitk.GetImageFromArray(np.stack([ARRAY, ARRAY], -1), isVector=True)
    return [
        (ARRAY, ImageError, "a ndarray that lies nowhere in space; give it with its grid: (array, grid)"),
        (torch.from_numpy(ARRAY), ImageError, "a Tensor that lies nowhere"),
        (3, ImageError, "is a int; give a file, a SimpleITK or nibabel image"),
        (None, ImageError, "is a NoneType"),
        ((ARRAY, GRID, 1), ImageError, "a tuple of 3"),
        ((ARRAY[:3], GRID), GeometryError, "of shape (3, 5, 6), but its grid has (4, 5, 6), in the order (z, y, x)"),
        ((ARRAY, (1, 1, 2)), GeometryError, "the grid of the fixed image is a tuple; give an ImageGrid, or an image"),
        ((ARRAY.astype(complex), GRID), ImageError, "voxels of type complex128"),
        ((ARRAY.astype(object), GRID), ImageError, "voxels of type object"),
        ((ARRAY[:1], make_grid((1, 5, 6))), ImageError, "is 2D"),
        (sitk.Image(4, 4, sitk.sitkFloat32), ImageError, "a 2D SimpleITK image"),
        (vectors, ImageError, "has 2 values per voxel"),
        (several, ImageError, "a 4D nibabel image; choose one time point"),
        (NibabelImage(ARRAY.T, None), GeometryError, "has no affine"),
        (sheared, GeometryError, "not perpendicular"),
        (flat, GeometryError, "sends an axis nowhere"),
        (lost, GeometryError, "no 4x4 matrix of finite numbers"),
        ((torch.from_numpy(ARRAY).to_sparse(), GRID), ImageError, "a tensor that is no array"),
        ((torch.from_numpy(ARRAY).to("meta"), GRID), ImageError, "Cannot copy out of meta tensor"),
    ]


@pytest.mark.parametrize(("image", "kind", "words"), cases(), ids=[words for _, _, words in cases()])
def test_what_is_no_image_is_refused(image: Any, kind: type[DLIRError], words: str) -> None:
    with pytest.raises(kind) as caught:
        volume_of(image, "fixed image")
    assert "fixed image" in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_grid_is_one_or_that_of_an_image() -> None:
    assert grid_of(GRID, "image") is GRID
    assert grid_of(Volume(ARRAY, GRID, "a"), "image") is GRID
    for other in (ARRAY, 3, (ARRAY, GRID)):
        with pytest.raises(GeometryError, match="give an ImageGrid, or an image"):
            grid_of(other, "image")
