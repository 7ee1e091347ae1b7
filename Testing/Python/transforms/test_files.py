"""Transform files: what DLIR writes SimpleITK maps alike, and what SimpleITK writes DLIR reads or refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from chains import chain_grids, points_around, random_affine, random_bspline, random_chain, sitk_apply
from disks import small_disk
from dlir.errors import OutputError, TransformError
from dlir.transforms.files import read_transform, to_sitk, write_transform
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
from grids import Array

TOLERANCE = 1e-4  # mm
SUFFIXES = (".h5", ".tfm", ".txt")


@pytest.fixture
def chain() -> CompositeTransform:
    return random_chain(np.random.default_rng(0), fraction=1.0, zero_layers=0)


@pytest.fixture
def points(chain: CompositeTransform) -> Array:
    assert isinstance(chain.parts[0], BSplineTransform)
    return points_around(np.random.default_rng(1), chain.parts[0].grid, 1000)


def refused(path: Path, *words: str) -> None:
    """`path` is refused in one line that names it and has all the words."""
    with pytest.raises(TransformError) as caught:
        read_transform(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


# -- writing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sitk_maps_a_written_chain_alike(tmp_path: Path, chain: CompositeTransform, points: Array, suffix: str) -> None:
    path = tmp_path / f"transform{suffix}"
    write_transform(path, chain)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    found = sitk_apply([sitk.ReadTransform(str(path))], points)
    np.testing.assert_allclose(found, chain.apply(points), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_written_chain_is_read_back(tmp_path: Path, chain: CompositeTransform, points: Array, suffix: str) -> None:
    path = tmp_path / f"transform{suffix}"
    write_transform(path, chain)
    back = read_transform(path)
    assert [type(part) for part in back.parts] == [BSplineTransform, BSplineTransform, AffineTransform]
    np.testing.assert_allclose(back.apply(points), chain.apply(points), rtol=0, atol=1e-9)
    np.testing.assert_allclose(back.determinant(points), chain.determinant(points), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_identity_is_written_and_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"identity{suffix}"
    write_transform(path, CompositeTransform(()))
    np.testing.assert_array_equal(read_transform(path).matrix, np.eye(4))


def test_a_name_that_itk_does_not_know_is_refused(tmp_path: Path, chain: CompositeTransform) -> None:
    with pytest.raises(OutputError, match=r"transform\.nrrd"):
        write_transform(tmp_path / "transform.nrrd", chain)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_a_full_disk_leaves_the_former_file(tmp_path: Path, chain: CompositeTransform, suffix: str, size: int) -> None:
    path = tmp_path / f"transform{suffix}"
    path.write_bytes(b"former")
    with small_disk(size), pytest.raises(OutputError, match="disk is full"):
        write_transform(path, chain)
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


# -- reading what others wrote -----------------------------------------------------------------------


def linear_transforms() -> list[sitk.Transform]:
    axis, center = (0.1, -0.2, 0.3), (10.0, -20.0, 30.0)
    transforms: list[sitk.Transform] = [
        sitk.Transform(3, sitk.sitkIdentity),
        sitk.TranslationTransform(3, (1.0, -2.0, 3.0)),
        sitk.ScaleTransform(3, (0.5, 2.0, 1.5)),
        sitk.Euler3DTransform(center, 0.1, 0.2, 0.3, (4.0, 5.0, 6.0)),
        sitk.VersorTransform(axis, 0.4, center),
        sitk.VersorRigid3DTransform(axis, 0.4, (7.0, 8.0, 9.0), center),
        sitk.Similarity3DTransform(1.3, axis, 0.4, (7.0, 8.0, 9.0), center),
        sitk.AffineTransform([1, 0.1, 0, 0, 1.2, 0.3, 0.2, 0, 0.9], (4.0, 5.0, 6.0), center),
    ]
    return transforms


@pytest.mark.parametrize("transform", linear_transforms(), ids=lambda t: t.GetName())
def test_linear_transforms_of_every_kind(tmp_path: Path, transform: sitk.Transform) -> None:
    path = tmp_path / "linear.tfm"
    sitk.WriteTransform(transform, str(path))
    points = np.random.default_rng(2).uniform(-200, 200, (50, 3))
    np.testing.assert_allclose(read_transform(path).apply(points), sitk_apply([transform], points), rtol=0, atol=1e-9)


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_a_nested_composite(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(3)
    inner = CompositeTransform((random_bspline(rng, chain_grids(rng)[0]), random_affine(rng)))
    outer = sitk.CompositeTransform([sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, 0.2, 0.3), to_sitk(inner)])
    outer.AddTransform(sitk.TranslationTransform(3, (5.0, 6.0, 7.0)))
    outer.FlattenTransform()  # ITK writes flat composites only
    path = tmp_path / f"nested{suffix}"
    sitk.WriteTransform(outer, str(path))
    points = rng.uniform(-150, 150, (200, 3))
    np.testing.assert_allclose(read_transform(path).apply(points), sitk_apply([outer], points), rtol=0, atol=TOLERANCE)


# -- refusals ----------------------------------------------------------------------------------------


def test_a_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.h5", "does not exist", "check the path")
    refused(tmp_path, "does not exist")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut(
    tmp_path: Path, chain: CompositeTransform, suffix: str, part: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"cut{suffix}"
    write_transform(path, chain)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    refused(path, "is damaged")
    assert capfd.readouterr() == ("", "")  # HDF5 would tell its whole story


@pytest.mark.parametrize("name", ["junk.h5", "junk.tfm", "junk.txt", "junk"])
def test_a_file_that_is_none(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x00\x01junk\n" * 50)
    refused(path, "no ITK transform", "give an .h5")


def test_an_affine_of_numbers_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "nan.tfm"
    write_transform(path, CompositeTransform((AffineTransform(np.diag([1.25, 1, 1, 1])),)))
    path.write_text(path.read_text().replace("1.25", "nan"))
    refused(path)


def test_a_bspline_of_numbers_that_are_none(tmp_path: Path) -> None:
    bspline = sitk.BSplineTransform(3, 3)
    bspline.SetParameters([float("nan")] * len(bspline.GetParameters()))
    path = tmp_path / "nan.h5"
    sitk.WriteTransform(bspline, str(path))
    refused(path, "not finite")


def two_dimensional() -> sitk.Transform:
    return sitk.AffineTransform(2)


def quadratic() -> sitk.Transform:
    return sitk.BSplineTransform(3, 2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (two_dimensional, ("not three-dimensional",)),
        (quadratic, ("order 2", "only cubic")),
    ],
)
def test_transforms_that_dlir_does_not_know(
    tmp_path: Path, make: Callable[[], sitk.Transform], words: tuple[str, ...]
) -> None:
    path = tmp_path / "unknown.h5"
    sitk.WriteTransform(make(), str(path))
    refused(path, *words)


def test_a_foreign_part_is_not_written() -> None:
    with pytest.raises(TransformError, match="a CompositeTransform cannot be written"):
        to_sitk(CompositeTransform((CompositeTransform(()),)))
