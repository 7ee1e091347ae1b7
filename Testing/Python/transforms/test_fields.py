"""Displacement fields of other programs: each is the transform that its program means, or is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from chains import sitk_apply
from dlir.errors import TransformError
from dlir.io import read_image, write_image
from dlir.io.formats.nifti import read_nifti_header
from dlir.transforms.files import from_sitk, read_transform, write_transform
from dlir.transforms.resample import resample
from dlir.transforms.spatial import AffineTransform, CompositeTransform, DisplacementTransform
from grids import Array, make_grid

GRID = make_grid((5, 6, 7), (1.2, 2.0, 3.5), (5, -8, 30), (0.3, -0.4, 0.9))
VECTORS = np.random.default_rng(0).normal(0, 3, (*GRID.shape, 3)).astype(np.float32)
FIELD = DisplacementTransform(VECTORS, GRID)
POINTS = GRID.to_physical(np.random.default_rng(1).uniform(-1.5, 6.5, (300, 3)))
RAS = np.array([-1, -1, 1], np.float32)
# Byte offsets in a NIfTI header of version 1.
DIM, KIND, INTENT, UNITS, NAME = 40, 56, 68, 123, 328


def image(vectors: Array = VECTORS, scalar: type[np.floating] = np.float32) -> sitk.Image:
    return GRID.to_sitk(vectors.astype(scalar), is_vector=True)


def nifti(path: Path, vectors: Array = VECTORS, *edits: tuple[int, str, object]) -> Path:
    """As ITK writes it, with other words in the header: byte offset, struct's letters, value."""
    sitk.WriteImage(image(vectors), str(path))
    data = bytearray(path.read_bytes())
    for place, letters, value in edits:
        struct.pack_into(f"<{letters}", data, place, *(value if isinstance(value, tuple) else (value,)))
    path.write_bytes(data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(TransformError) as caught:
        read_transform(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.count(str(path)) == 1
    assert "\n" not in message
    return message


def itk_field(vectors: Array = VECTORS) -> sitk.Transform:
    return sitk.DisplacementFieldTransform(image(vectors, np.float64))


# -- read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scalar", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["field.nrrd", "field.mha", "field.nii", "1Warp.nii.gz"])
def test_images_of_itk_and_ants(tmp_path: Path, name: str, scalar: type[np.floating]) -> None:
    path = tmp_path / name
    sitk.WriteImage(image(scalar=scalar), str(path), True)
    found = read_transform(path)
    assert [type(part) for part in found.parts] == [DisplacementTransform]
    np.testing.assert_allclose(found.apply(POINTS), sitk_apply([itk_field()], POINTS), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["field.h5", "field.tfm", "field.txt", "field.mat"])
def test_transform_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sitk.WriteTransform(itk_field(), str(path))
    np.testing.assert_allclose(read_transform(path).apply(POINTS), sitk_apply([itk_field()], POINTS), rtol=0, atol=1e-4)


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_a_composite_with_a_field_in_it(tmp_path: Path, suffix: str) -> None:
    """As antsRegistration writes it with --write-composite-transform: affine first in the list, applied last."""
    affine = sitk.AffineTransform([1, 0.1, 0, 0, 1.2, 0.3, 0.2, 0, 0.9], (4.0, 5.0, 6.0), (10.0, -20.0, 30.0))
    composite = sitk.CompositeTransform([affine, itk_field()])
    path = tmp_path / f"composite{suffix}"
    sitk.WriteTransform(composite, str(path))
    found = read_transform(path)
    assert [type(part) for part in found.parts] == [DisplacementTransform, AffineTransform]
    expected = sitk_apply([composite], POINTS)
    np.testing.assert_allclose(found.apply(POINTS), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(from_sitk(composite).apply(POINTS), expected, rtol=0, atol=1e-4)


def test_a_warp_and_an_affine_of_ants_make_the_image_that_ants_made(repo_root: Path) -> None:
    """The files are those that Benchmarks/ants_transforms.py had ANTs make; SimpleITK makes the same image of them."""
    folder = repo_root / "Testing" / "Data" / "ants"
    warp, affine = folder / "1Warp.nii.gz", folder / "0GenericAffine.mat"
    fixed, moving, expected = (read_image(str(folder / f"{name}.nii.gz")) for name in ("fixed", "moving", "warped"))
    chain = CompositeTransform((*read_transform(warp).parts, *read_transform(affine).parts))
    found = resample(moving.array, moving.grid, chain, fixed.grid)
    np.testing.assert_allclose(found, expected.array, rtol=0, atol=1e-3 * np.ptp(moving.array))
    field = sitk.DisplacementFieldTransform(sitk.ReadImage(str(warp), sitk.sitkVectorFloat64))
    composite = sitk.CompositeTransform([sitk.ReadTransform(str(affine)), field])
    points = fixed.grid.voxel_centers().reshape(-1, 3)
    np.testing.assert_allclose(chain.apply(points), sitk_apply([composite], points), rtol=0, atol=1e-4)
    assert np.linalg.norm(chain.apply(points) - points, axis=1).max() > 5
    alone = resample(moving.array, moving.grid, CompositeTransform(chain.parts[1:]), fixed.grid)
    assert np.abs(alone - expected.array).max() > 0.05 * np.ptp(moving.array)


@pytest.mark.parametrize(
    "edits",
    [[(INTENT, "h", 1006)], [(INTENT, "h", 1007), (NAME, "16s", b"NREG_TRANS"), (KIND, "f", 1.0)]],
    ids=["NIfTI's displacements", "NiftyReg's displacements"],
)
def test_displacements_in_ras(tmp_path: Path, edits: list[tuple[int, str, object]]) -> None:
    path = nifti(tmp_path / "ras.nii", VECTORS * RAS, *edits)
    np.testing.assert_allclose(read_transform(path).apply(POINTS), FIELD.apply(POINTS), rtol=0, atol=1e-4)


def test_a_scaling_holds_unless_it_is_switched_off(tmp_path: Path) -> None:
    path = nifti(tmp_path / "scaled.nii", VECTORS, (112, "2f", (0.5, 1.0)))
    found = read_transform(path).parts[0]
    assert isinstance(found, DisplacementTransform)
    np.testing.assert_allclose(found.field, VECTORS * 0.5 + 1, rtol=0, atol=1e-5)
    path = nifti(tmp_path / "off.nii", VECTORS, (112, "2f", (0.0, 7.0)))
    found = read_transform(path).parts[0]
    assert isinstance(found, DisplacementTransform)
    np.testing.assert_array_equal(found.field, VECTORS)


# -- written -----------------------------------------------------------------------------------------


def test_a_displacement_in_nifti_is_written_as_ants_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "displacement.nii.gz"
    write_image(path, VECTORS, GRID, is_vector=True)
    header = read_nifti_header(path)
    assert header is not None
    assert header.size == (7, 6, 5, 1, 3)
    assert header.intent == (1007, "", 0)
    np.testing.assert_array_equal(header.vectors(), VECTORS)  # as they are, in LPS
    read = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    np.testing.assert_allclose(sitk_apply([read], POINTS), FIELD.apply(POINTS), rtol=0, atol=1e-4)


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_a_chain_with_a_field_is_written_as_itk_reads_it(tmp_path: Path, suffix: str) -> None:
    chain = CompositeTransform((FIELD, AffineTransform.translation((1, 2, 3))))
    path = tmp_path / f"chain{suffix}"
    write_transform(path, chain)
    np.testing.assert_allclose(
        sitk_apply([sitk.ReadTransform(str(path))], POINTS), chain.apply(POINTS), rtol=0, atol=1e-4
    )
    back = read_transform(path)
    assert [type(part) for part in back.parts] == [DisplacementTransform, AffineTransform]
    np.testing.assert_allclose(back.apply(POINTS), chain.apply(POINTS), rtol=0, atol=1e-9)


# -- refused -----------------------------------------------------------------------------------------


def positions(frame: Array) -> Array:
    return ((GRID.voxel_centers() + VECTORS) * frame).astype(np.float32)


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ([(INTENT, "h", 2006)], "a warp field of FSL"),
        ([(INTENT, "h", 2007)], "spline coefficients of FSL"),
        ([(INTENT, "h", 2009)], "spline coefficients of FSL"),
        ([(NAME, "16s", b"Mapping")], "a deformation of SPM"),
        ([(NAME, "16s", b"NREG_TRANS"), (KIND, "f", 0.0)], "a field of NiftyReg that holds no displacements"),
        ([(INTENT, "h", 0)], "does not say what its values mean (intent 0); write 1007"),
        ([(UNITS, "B", 1)], "states its lengths in m; write voxels and vectors in mm"),
        ([(DIM, "8h", (4, 7, 6, 5, 3, 1, 1, 1)), (INTENT, "h", 0)], "vectors along the fourth axis"),
        ([(DIM, "8h", (4, 7, 6, 5, 3, 1, 1, 1)), (INTENT, "h", 2006)], "-convert-warpfield"),
    ],
)
def test_nifti_of_other_meaning(tmp_path: Path, edits: list[tuple[int, str, object]], words: str) -> None:
    assert words in refusal(nifti(tmp_path / "field.nii", VECTORS, *edits))


@pytest.mark.parametrize("frame", [np.ones(3), RAS], ids=["LPS", "RAS"])
@pytest.mark.parametrize("name", ["y_image.nii", "warp.mha"])
def test_fields_of_positions(tmp_path: Path, name: str, frame: Array) -> None:
    sitk.WriteImage(image(positions(frame)), str(tmp_path / name))
    assert "holds where points go, not how far they move" in refusal(tmp_path / name)


def test_a_field_that_shrinks_or_grows_much_is_none_of_positions(tmp_path: Path) -> None:
    for factor in (-0.6, -0.3, 0.3, 0.6):
        sitk.WriteImage(image(factor * GRID.voxel_centers()), str(tmp_path / "field.mha"))
        read_transform(tmp_path / "field.mha")


def write_nrrd(path: Path, *replaced: tuple[str, str]) -> None:
    sitk.WriteImage(image(), str(path), False)
    data = path.read_bytes()
    for old, new in replaced:
        assert old.encode() in data
        data = data.replace(old.encode(), new.encode(), 1)
    path.write_bytes(data)


def test_nrrd_in_another_frame(tmp_path: Path) -> None:
    path = tmp_path / "field.nrrd"
    write_nrrd(path, ("left-posterior-superior", "right-anterior-superior"))
    assert "lies in the space 'right-anterior-superior'" in refusal(path)
    write_nrrd(path, ("encoding: raw", "measurement frame: (0,1,0) (1,0,0) (0,0,1)\nencoding: raw"))
    assert "measurement frame" in refusal(path)
    write_nrrd(path, ("encoding: raw", "measurement frame: (1,0,0) (0,1,0) (0,0,1)\nencoding: raw"))
    assert read_transform(path).parts


def colour(path: Path) -> None:
    sitk.WriteImage(GRID.to_sitk(np.zeros((*GRID.shape, 3), np.uint8), is_vector=True), str(path))


def grey(path: Path) -> None:
    sitk.WriteImage(GRID.to_sitk(VECTORS[..., 0]), str(path))


def pairs(path: Path) -> None:
    sitk.WriteImage(image(VECTORS[..., :2]), str(path))


def with_nan(path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[1, 2, 3, 0] = np.nan
    sitk.WriteImage(image(vectors), str(path))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
@pytest.mark.parametrize(
    ("write", "words"),
    [
        (colour, "holds whole numbers"),
        (grey, "no 3D image with a vector in each voxel"),
        (pairs, "has 2 values per voxel"),
        (with_nan, "has 1 values that are not finite"),
    ],
)
def test_images_that_are_no_fields(tmp_path: Path, name: str, write: Callable[[Path], None], words: str) -> None:
    write(tmp_path / name)
    assert words in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd"])
def test_a_field_that_is_cut(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sitk.WriteImage(image(), str(path))
    path.write_bytes(path.read_bytes()[:-200])
    assert "is damaged or incomplete" in refusal(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd"])
def test_a_file_that_is_no_image(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x00\x01junk\n" * 90)
    assert "cannot be read as an image" in refusal(tmp_path / name)


def test_a_field_with_nan_in_a_transform_file(tmp_path: Path) -> None:
    with_nan(tmp_path / "a.mha")
    field = sitk.Cast(sitk.ReadImage(str(tmp_path / "a.mha")), sitk.sitkVectorFloat64)
    sitk.WriteTransform(sitk.DisplacementFieldTransform(field), str(tmp_path / "a.h5"))
    assert "not finite" in refusal(tmp_path / "a.h5")


def test_a_text_file_with_too_few_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.tfm"
    sitk.WriteTransform(itk_field(), str(path))
    path.write_text(path.read_text().replace("FixedParameters: 7 6 5", "FixedParameters: 7 6 4"))
    assert "is damaged: its DisplacementFieldTransform has 630 Parameters instead of 504" in refusal(path)
