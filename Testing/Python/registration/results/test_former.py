"""Files of an earlier registration are known by their names alone, and images by what they hold."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlir.io.reading import Volume
from dlir.io.writing import write_json
from dlir.registration.choices import IMAGE_FORMATS
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.registration.results.former import content_of, read_former
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
    moved = replace(GRID, origin=(GRID.origin[0] + 1, *GRID.origin[1:]))
    found = {content_of(one) for one in (volume, replace(volume, array=other), replace(volume, grid=moved))}
    assert len(found) == 3


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
