"""Files of an earlier registration are known by their names alone, and images by what they hold."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dlir.errors import OutputError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume, read_image
from dlir.io.writing import write_image, write_json
from dlir.registration.choices import IMAGE_FORMATS
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.registration.results.former import Former, content_of, read_former
from dlir.registration.results.outputs import output_names
from grids import make_grid

GRID = make_grid((5, 6, 7))


@pytest.mark.parametrize("form", IMAGE_FORMATS)
@pytest.mark.parametrize("layers", [1, 2, 12])
def test_every_file_that_is_written_is_known_again(tmp_path: Path, layers: int, form: str) -> None:
    """An error map once was not, so that it could not be written a second time, and a batch never ended."""
    request = RegistrationRequest(
        "f", "m", Outputs(str(tmp_path), displacement=True, format=form), moving_labels=("l",) * layers,
        backward_labels=("l",) * layers, moving_landmarks="p", error_map=True,
    )  # fmt: skip
    names = output_names(request)
    assert {"error_map", "displacement", "warped"} <= {*names}
    assert all(name.endswith(f".{form}") for key, name in names.items() if key.startswith(("warped", "error_map")))
    write_json(tmp_path / "report.json", {"report_version": 1, "outputs": names | {"figure": "demo.png"}})
    former = read_former(tmp_path)
    assert former is not None
    assert former.names == {*names.values(), "demo.png"}


def test_an_image_is_told_by_voxels_and_grid_and_not_by_its_name() -> None:
    array = np.random.default_rng(0).integers(0, 99, GRID.shape).astype(np.int16)
    volume = Volume(array, GRID, "a.nrrd")
    assert content_of(volume) == content_of(Volume(array.astype(np.float32), GRID, "b.nrrd"))
    other = array.copy()
    other[2, 3, 4] += 1
    turned = Volume(array.reshape(array.shape[::-1]), make_grid(array.shape[::-1]), "a")
    assert len({content_of(one) for one in (volume, replace(volume, array=other), turned)}) == 3


def _former_of(volume: Volume, folder: Path) -> Former:
    """Of a registration of an image to itself."""
    entry = json.loads(json.dumps({"file": "a", "content": content_of(volume), **volume.grid.to_dict()}))
    report = {"report_version": 1, "outputs": {}, "fixed": entry, "moving": entry, "cine": entry}
    return Former(folder, {**report, "model": {"name": "none"}}, frozenset())


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_a_pair_is_the_same_in_any_format(tmp_path: Path, ending: str) -> None:
    """An oblique grid of numbers that single precision does not have, as NIfTI keeps them."""
    matrix = tuple(Rotation.from_rotvec((0.3, -0.5, 3.0)).as_matrix().ravel())
    grid = ImageGrid((5, 6, 7), (0.48828125, 1.1, 3.3), (-187.123456789, 93.3, -311.7), matrix)
    array = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    volume = Volume(array, grid, "a.nrrd")
    write_image(tmp_path / f"a{ending}", array, grid)
    same, former = read_image(tmp_path / f"a{ending}"), _former_of(volume, tmp_path)
    former.require_same(same, same, "none")
    former.require_same_cine(content_of(volume), same.grid, "none")
    moved = replace(same, grid=replace(grid, origin=(grid.origin[0] + 0.01, *grid.origin[1:])))
    for images in ((same, moved), (moved, same)):
        with pytest.raises(OutputError, match="holds another registration"):
            former.require_same(*images, "none")
    with pytest.raises(OutputError, match="holds another registration"):
        former.require_same_cine(content_of(volume), moved.grid, "none")


@pytest.mark.parametrize("key", ["shape", "spacing", "origin", "direction"])
@pytest.mark.parametrize("value", [None, 3, [], ["a", "b", "c"], [1, 1, 0], "gone"])
def test_a_report_whose_place_cannot_be_read_is_of_another_pair(tmp_path: Path, key: str, value: object) -> None:
    volume = Volume(np.zeros(GRID.shape, np.float32), GRID, "a")
    former = _former_of(volume, tmp_path)
    entry: dict[str, Any] = former.report["fixed"]
    entry[key] = value
    if value == "gone":
        del entry[key]
    with pytest.raises(OutputError, match="holds another registration"):
        former.require_same(volume, volume, "none")


def test_a_large_image_is_told_by_voxels_all_over_it() -> None:
    grid = make_grid((130, 128, 128))
    array = np.zeros(grid.shape, np.uint8)
    before = content_of(Volume(array, grid, "a"))
    array[120:, 100:, 100:] = 1
    assert content_of(Volume(array, grid, "a")) != before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system here")
def test_a_pipe_in_place_of_the_report_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.json")
    assert read_former(tmp_path) is None
