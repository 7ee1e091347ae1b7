"""Headers whose lengths are not in mm, and headers that state none."""

from __future__ import annotations

import locale
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from dlir.errors import GeometryError, ImageError, ImageNote
from dlir.io.reading import read_grid, read_image

Refusal = Callable[..., Any]
VALUES = np.arange(4 * 9 * 10, dtype="<i2").reshape(4, 9, 10)


def nrrd(path: Path, *lines: str) -> Path:
    header = ["NRRD0004", "type: short", "dimension: 3", "sizes: 10 9 4", "encoding: raw", "endian: little", *lines]
    path.write_bytes("\n".join([*header, "", ""]).encode() + VALUES.tobytes())
    return path


def meta(path: Path, *lines: str) -> Path:
    header = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False"]
    header += ["DimSize = 10 9 4", *lines, "ElementType = MET_SHORT", "ElementDataFile = LOCAL", ""]
    path.write_bytes("\n".join(header).encode() + VALUES.tobytes())
    return path


PLACED = ("space: left-posterior-superior", "space directions: (1300,0,0) (0,1300,0) (0,0,8000)")


@pytest.mark.parametrize("unit", ["um", "µm", "microns", "micrometres", "Micrometer"])
def test_micrometres_are_taken_as_such_and_told(tmp_path: Path, unit: str) -> None:
    path = nrrd(tmp_path / "a.nrrd", *PLACED, "space units: " + 3 * f'"{unit}" ', "space origin: (1000,2000,-3000)")
    with pytest.warns(ImageNote, match=r"a\.nrrd' states its lengths in .*; its voxels measure 1\.3 x 1\.3 x 8 mm"):
        image = read_image(path)
    np.testing.assert_allclose(image.grid.spacing, (1.3, 1.3, 8))
    np.testing.assert_allclose(image.grid.origin, (1, 2, -3))
    np.testing.assert_array_equal(image.array, VALUES)


@pytest.mark.parametrize(
    ("lines", "spacing"),
    [
        (("spacings: 1 2 3", 'units: "cm" "cm" "cm"'), (10, 20, 30)),
        (("spacings: 1 2 3", 'units: "mm" "mm" "mm"'), (1, 2, 3)),
        (("spacings: 1 2 3", 'units: "" "" ""'), (1, 2, 3)),
        (("spacings: 1 2 3",), (1, 2, 3)),
        (PLACED, (1300, 1300, 8000)),
    ],
)
def test_other_units_of_nrrd(tmp_path: Path, lines: tuple[str, ...], spacing: tuple[float, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageNote)
        np.testing.assert_allclose(read_grid(nrrd(tmp_path / "a.nrrd", *lines)).spacing, spacing)


def test_units_of_metaimage(tmp_path: Path) -> None:
    path = meta(tmp_path / "a.mha", "ElementSpacing = 1300 1300 8000", "DistanceUnits = um")
    with pytest.warns(ImageNote, match="lengths in um"):
        np.testing.assert_allclose(read_grid(path).spacing, (1.3, 1.3, 8))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("spacings: 1 2 3", 'units: "pixel" "pixel" "pixel"'), "its lengths are in 'pixel'; state them in mm"),
        (("spacings: 1 2 3", 'units: "mm" "mm" "um"'), "its lengths are in 'mm and um'; state them in mm"),
        ((), "the header states no voxel size; write it there, in mm"),
        (("spacings: nan nan nan",), "the header states no voxel size"),
    ],
)
def test_nrrd_without_lengths_to_rely_on(tmp_path: Path, refusal: Refusal, lines: tuple[str, ...], words: str) -> None:
    path = nrrd(tmp_path / "a.nrrd", *lines)
    for read in (read_image, read_grid):
        with refusal(GeometryError, "a.nrrd", words):
            read(path)


def test_metaimage_without_a_voxel_size(tmp_path: Path, refusal: Refusal) -> None:
    with refusal(GeometryError, "a.mha", "states no voxel size"):
        read_image(meta(tmp_path / "a.mha"))
    assert read_grid(meta(tmp_path / "b.mha", "ElementSize = 1 2 3")).spacing == (1, 2, 3)


def test_formats_without_a_voxel_size(tmp_path: Path, refusal: Refusal) -> None:
    image = sitk.GetImageFromArray(VALUES)
    image.SetSpacing((1.3, 1.3, 8))
    sitk.WriteImage(image, str(tmp_path / "a.tif"))
    sitk.WriteImage(image, str(tmp_path / "a.mrc"))  # in ångström, by the format
    for name, kind in (("a.tif", "TIFF"), ("a.mrc", "MRC")):
        with refusal(ImageError, name, kind, "no voxel size in mm", "convert it"):
            read_image(tmp_path / name)
    for suffix in ("gipl", "vtk", "h5"):
        sitk.WriteImage(image, str(tmp_path / f"a.{suffix}"))
        np.testing.assert_allclose(read_image(tmp_path / f"a.{suffix}").grid.spacing, (1.3, 1.3, 8), rtol=1e-6)


def test_the_locale_of_the_process_stays(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(VALUES), str(tmp_path / "a.vtk"))
    before = locale.setlocale(locale.LC_ALL)
    read_image(tmp_path / "a.vtk")
    assert locale.setlocale(locale.LC_ALL) == before
