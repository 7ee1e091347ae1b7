"""The name of an image's content: the same for every copy, another for every other image."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from dlir.io.content import content_hash
from dlir.io.reading import read_image
from grids import make_grid

SHAPE = (7, 12, 9)
GRID = make_grid(SHAPE, (1.5625, 1.2, 3.1), (-20.123456789, 5, 300), (0.1, -0.2, 1.7))


@pytest.fixture
def values() -> NDArray[np.float32]:
    return np.random.default_rng(0).integers(-900, 3000, SHAPE).astype(np.float32)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".img", ".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32, np.float64])
def test_a_copy_in_another_file_is_the_same(
    tmp_path: Path, values: NDArray[np.float32], ending: str, kind: type[np.generic]
) -> None:
    sitk.WriteImage(GRID.to_sitk(values.astype(kind)), str(tmp_path / f"other name{ending}"))
    assert content_hash(read_image(tmp_path / f"other name{ending}").array) == content_hash(values)


def test_it_is_sixteen_digits_that_stay(values: NDArray[np.float32]) -> None:
    """Cards of models hold them, so another number here is another CONTENT_VERSION."""
    assert content_hash(values) == "ff56c58687c4d39c"
    assert len({content_hash(values), *(content_hash(values + k) for k in range(1, 50))}) == 50


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_axes_stored_otherwise_make_no_difference(values: NDArray[np.float32], order: tuple[int, ...]) -> None:
    for flips in product((1, -1), repeat=3):
        turned = values.transpose(order)[tuple(slice(None, None, step) for step in flips)]
        assert content_hash(turned) == content_hash(values)


def test_another_header_over_the_same_voxels_is_the_same(tmp_path: Path, values: NDArray[np.float32]) -> None:
    found = set()
    for number, grid in enumerate((GRID, make_grid(SHAPE), make_grid(SHAPE, (0.7, 0.7, 5.0), (1, 2, 3)))):
        path = tmp_path / f"{number}.nii.gz"
        sitk.WriteImage(grid.to_sitk(values), str(path))
        found.add(content_hash(read_image(path).array))
    assert found == {content_hash(values)}


def test_a_negative_zero_is_a_zero(values: NDArray[np.float32]) -> None:
    values[2] = 0
    negative = np.where(values == 0, np.float32(-0.0), values)
    assert content_hash(negative) == content_hash(values)


def test_other_images_are_called_otherwise(values: NDArray[np.float32]) -> None:
    """One voxel, two values exchanged, the image shifted, cut or padded; a small body elsewhere in the dark."""
    one, exchanged = values.copy(), values.copy()
    one[3, 4, 5] += 1
    exchanged[0, 0, 0], exchanged[6, 11, 8] = values[6, 11, 8], values[0, 0, 0]
    bodies = []
    for place in (1, 2, 4):
        body = np.zeros(SHAPE, np.float32)
        body[place, 3:5, 2:4] = 100
        bodies.append(body)
    others = [np.roll(values, 1, axis) for axis in range(3)]
    others += [one, exchanged, values[:-1], np.pad(values, ((0, 0), (0, 1), (0, 0))), *bodies[:2]]
    assert len({content_hash(image) for image in (values, *others)}) == 1 + len(others)
    assert content_hash(bodies[0]) != content_hash(bodies[2])


@pytest.mark.data
def test_the_copies_among_the_real_hearts(shared_data: Path) -> None:
    """ACDC 076 is 074; its neighbour is somebody else."""
    found = [
        [
            content_hash(read_image(path).array)
            for path in sorted((shared_data / "acdc" / name).glob("*_frame??.nii.gz"))
        ]
        for name in ("patient074", "patient075", "patient076")
    ]
    assert found[0] == found[2]
    assert not {*found[0]} & {*found[1]}
