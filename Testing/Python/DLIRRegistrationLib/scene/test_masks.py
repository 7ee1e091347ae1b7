"""Masks from segments and labelmaps, in the voxels of the image, whatever hangs under what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk

from chains import random_chain, sitk_bspline
from dlir.errors import ImageError, ImageNote
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.transforms.resample import resample
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from grids import Array, make_grid, rotation
from segments import ball, overlapping, segmentation

pytest.importorskip("slicer", reason="needs slicer-core")

from DLIRRegistrationLib.scene.frames import matrix_lps, points_ras
from DLIRRegistrationLib.scene.masks import mask_array, placed_mask
from DLIRRegistrationLib.scene.volumes import placed_volume
from transform_nodes import set_native_transform

if TYPE_CHECKING:
    from mrml import MRML

DRAWN = make_grid((20, 22, 24), (1.3, 1.7, 2.9), (40.0, -70.0, 110.0), (0.4, -0.3, 0.9))


def image_on(grid: ImageGrid, name: str = "image") -> Volume:
    return Volume(np.zeros(grid.shape, np.int16), grid, name)


def another_grid() -> ImageGrid:
    """Oblique otherwise than what is drawn, about the same place, mirrored."""
    grid = make_grid((15, 16, 17), (2.0, 2.5, 3.0), angles=(-0.2, 0.7, 0.1), mirrored=True)
    return ImageGrid(grid.shape, grid.spacing, tuple(DRAWN.center - grid.center), grid.direction)


def table() -> Array:
    """(4, 4), RAS: turns about the middle of what is drawn, and shifts."""
    matrix, middle = np.eye(4), points_ras(DRAWN.center)
    matrix[:3, :3] = rotation((0.3, 0.1, -0.5))
    matrix[:3, 3] = middle - matrix[:3, :3] @ middle + (4, -5, 6)
    return matrix


@pytest.mark.parametrize("segment", ["ventricle", "muscle", "scar"])
@pytest.mark.parametrize("parented", [False, True])
def test_a_mask_on_voxels_of_its_own_says_the_same(scene: MRML, segment: str, parented: bool) -> None:
    node = segmentation(scene, overlapping(DRAWN), DRAWN)
    if parented:
        node.SetAndObserveTransformNodeID(scene.linear_transform(table()).GetID())
    placed = placed_mask(node, segment)
    assert placed is not None
    array, grid = placed
    image = image_on(another_grid())
    moved = resample(array, grid, CompositeTransform(()), image.grid, "nearest")
    np.testing.assert_array_equal(moved, mask_array(node, segment, image))


def test_a_labelmap_volume_is_a_mask_on_voxels_of_its_own(scene: MRML) -> None:
    labels = np.zeros(DRAWN.shape, np.int16)
    labels[3:9, 4:11, 5:12] = 300
    placed = placed_mask(scene.volume(labels, DRAWN, "labels", "LabelMapVolume"), None)
    assert placed is not None
    assert placed[0].dtype == np.uint8
    np.testing.assert_array_equal(placed[0], labels > 0)
    assert placed[1].same_as(DRAWN)


def test_segments_side_by_side_are_one_mask_and_overlapping_ones_are_not(scene: MRML) -> None:
    masks = overlapping(DRAWN)
    overlap = segmentation(scene, masks, DRAWN)
    assert placed_mask(overlap, None) is None
    side_by_side = segmentation(scene, {name: masks[name] for name in ("ventricle", "muscle")}, DRAWN)
    placed = placed_mask(side_by_side, None)
    assert placed is not None
    assert placed[0].sum() == (masks["ventricle"] | masks["muscle"]).sum()


def test_what_bends_or_shears_has_no_voxels_of_its_own(scene: MRML) -> None:
    node = segmentation(scene, overlapping(DRAWN), DRAWN)
    shear = np.eye(4)
    shear[0, 1] = 0.4
    node.SetAndObserveTransformNodeID(scene.linear_transform(shear).GetID())
    assert placed_mask(node, "scar") is None
    with pytest.raises(ImageError, match="no segment 'gone' any more"):
        placed_mask(node, "gone")


def test_one_segment_or_all_of_them(scene: MRML) -> None:
    masks = overlapping(DRAWN)
    node = segmentation(scene, masks, DRAWN)
    for segment_id, mask in masks.items():
        found = mask_array(node, segment_id, image_on(DRAWN))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, mask)
    np.testing.assert_array_equal(mask_array(node, None, image_on(DRAWN)), np.any(list(masks.values()), 0))


@pytest.mark.parametrize("code", ["B", "h", "I", "f", "d"])
def test_every_voxel_of_a_volume_that_is_not_zero(scene: MRML, code: str) -> None:
    mask = ball(DRAWN, (0.5, 0.4, 0.6), 6)
    kind = "ScalarVolume" if code in "fd" else "LabelMapVolume"
    node = scene.volume((mask * 7).astype(code), DRAWN, "mask", kind)
    np.testing.assert_array_equal(mask_array(node, None, image_on(DRAWN)), mask)


def test_a_mask_of_fractions_counts_where_it_is_not_zero(scene: MRML) -> None:
    mask = ball(DRAWN, (0.5, 0.4, 0.6), 6)
    node = scene.volume((mask * 0.25).astype(np.float32), DRAWN, "mask")
    np.testing.assert_array_equal(mask_array(node, None, image_on(DRAWN)), mask)


@pytest.mark.parametrize("kind", ["segmentation", "labelmap"])
def test_parents_of_both_are_honoured(scene: MRML, kind: str) -> None:
    mask, grid = ball(DRAWN, (0.5, 0.4, 0.6), 6), another_grid()
    if kind == "segmentation":
        node = segmentation(scene, {"ball": mask}, DRAWN)
    else:
        node = scene.volume(mask.astype(np.uint8), DRAWN, "mask", "LabelMapVolume")
    under, over = scene.linear_transform(table(), "under"), scene.linear_transform(table() @ table(), "over")
    node.SetAndObserveTransformNodeID(under.GetID())
    volume = scene.volume(np.arange(np.prod(grid.shape), dtype=np.float32).reshape(grid.shape), grid, "image")
    volume.SetAndObserveTransformNodeID(over.GetID())
    found = mask_array(node, None, placed_volume(volume))
    # From the image's own place to that of the mask.
    between = AffineTransform(np.linalg.inv(matrix_lps(table())) @ matrix_lps(table() @ table()))
    expected = resample(mask.astype(np.uint8), DRAWN, between, grid, "nearest")
    assert expected.sum() > 50
    assert np.count_nonzero(found != expected) <= 2  # voxels whose centre falls between two of the mask


def test_a_mask_under_a_deformation(scene: MRML) -> None:
    rng = np.random.default_rng(0)
    chain = CompositeTransform(random_chain(rng).parts[:1])
    control = chain.parts[0].grid
    grid = control.lattice((3, 3, 3), (0.2, 0.2, 0.2), (np.array(control.size) - 7) * 5)
    mask = ball(grid, (0.5, 0.5, 0.5), 9)
    parent = scene.add("Transform")
    set_native_transform(parent, chain)
    node = segmentation(scene, {"ball": mask}, grid)
    node.SetAndObserveTransformNodeID(parent.GetID())
    reference = grid.to_sitk(np.zeros(grid.shape, np.uint8))
    expected = sitk.GetArrayFromImage(
        sitk.Resample(
            grid.to_sitk(mask.astype(np.uint8)), reference, sitk_bspline(chain.parts[0]), sitk.sitkNearestNeighbor, 0
        )
    )
    assert np.count_nonzero(mask_array(node, None, image_on(grid)) != expected) <= 2
    assert np.count_nonzero(expected != mask) > 20


def _away(scene: MRML) -> tuple[Any, str | None]:
    far = ImageGrid(DRAWN.shape, DRAWN.spacing, (5000.0, 0.0, 0.0), DRAWN.direction)
    return segmentation(scene, {"ball": ball(far, (0.5, 0.5, 0.5), 4)}, far, "mask"), None


def _undrawn(scene: MRML) -> tuple[Any, str | None]:
    node = segmentation(scene, {"ball": ball(DRAWN, (0.5, 0.5, 0.5), 4)}, DRAWN, "mask")
    node.GetSegmentation().AddEmptySegment("later", "to be drawn")
    return node, "later"


def _gone(scene: MRML) -> tuple[Any, str | None]:
    return segmentation(scene, {"ball": ball(DRAWN, (0.5, 0.5, 0.5), 4)}, DRAWN, "mask"), "elsewhere"


def _blank(scene: MRML) -> tuple[Any, str | None]:
    return scene.add("Segmentation", "mask"), None


def _empty(scene: MRML) -> tuple[Any, str | None]:
    return scene.add("LabelMapVolume", "mask"), None


def _zero(scene: MRML) -> tuple[Any, str | None]:
    return scene.volume(np.zeros(DRAWN.shape, np.uint8), DRAWN, "mask", "LabelMapVolume"), None


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_away, "marks no voxel of volume 'image'"),
        (_undrawn, r"segment 'to be drawn' marks no voxel"),
        (_gone, "no segment 'elsewhere'"),
        (_blank, "no segments"),
        (_empty, "holds no image"),
        (_zero, "marks no voxel"),
    ],
)
def test_a_mask_of_nothing_is_refused_by_name(scene: MRML, make: Any, reason: str) -> None:
    node, segment_id = make(scene)
    with pytest.raises(ImageError, match=rf"'mask'.*{reason}.*;"):
        mask_array(node, segment_id, image_on(DRAWN))


def test_a_grey_volume_is_no_mask_and_of_labels_all_count(scene: MRML) -> None:
    grey = np.random.default_rng(0).integers(1, 3000, DRAWN.shape).astype(np.int16)
    node = scene.volume(grey, DRAWN, "ct", "ScalarVolume")
    for read in (lambda: placed_mask(node, None), lambda: mask_array(node, None, image_on(DRAWN))):
        with pytest.raises(ImageError, match=r"'ct' has .* as those of a grey image do; give a mask"):
            read()
    labels = np.zeros(DRAWN.shape, np.int16)
    labels[3:6], labels[6:9] = 1, 2
    node = scene.volume(labels, DRAWN, "labels", "LabelMapVolume")
    with pytest.warns(ImageNote, match="the mask 'labels' has several values other than 0, all of which count"):
        placed = placed_mask(node, None)
    assert placed is not None
    np.testing.assert_array_equal(placed[0], labels > 0)
