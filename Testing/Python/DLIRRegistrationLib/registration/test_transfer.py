"""Arrays on their way between the scene and the worker's files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

from disks import small_disk
from dlir.errors import OutputError
from DLIRRegistrationLib.registration import parcel, transfer
from DLIRRegistrationLib.registration.parcel import Parcel
from DLIRRegistrationLib.registration.task import RunError
from DLIRRegistrationLib.scene.volumes import image_array
from grids import make_grid
from stepping import exhausted

if TYPE_CHECKING:
    from mrml import MRML

SHAPE = (7, 5, 3)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_an_image_is_read_as_it_was_written(tmp_path: Path, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).integers(0, 100, SHAPE).astype(kind)
    np.save(tmp_path / "a.npy", array)
    monkeypatch.setattr(transfer, "_SLAB_BYTES", 2 * array[0].nbytes)
    image, steps = exhausted(transfer.read_image(tmp_path / "a.npy"))
    assert steps == 5
    assert not (tmp_path / "a.npy").exists()
    assert image.GetDimensions() == SHAPE[::-1]
    assert image_array(image).dtype == kind
    assert np.array_equal(image_array(image), array)


@pytest.mark.parametrize("part", [0, 5, 40, 100, 130])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, part: int) -> None:
    np.save(tmp_path / "a.npy", np.ones(SHAPE, np.uint8))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:part])
    with pytest.raises(RunError, match=r"'a\.npy'"):
        exhausted(transfer.read_image(tmp_path / "a.npy"))


@pytest.mark.parametrize("array", [np.zeros((2, 3)), np.zeros(SHAPE, "U3"), np.asfortranarray(np.ones(SHAPE))])
def test_what_is_no_volume_is_refused(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(RunError, match=r"'a\.npy'"):
        exhausted(transfer.read_image(tmp_path / "a.npy"))


def test_an_image_of_floats_is_made_in_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_SLAB_BYTES", 4 * 5 * 3 * 2)
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    image, steps = exhausted(transfer.float_image(array))
    assert steps == 4
    assert image_array(image).dtype == np.float32
    assert np.array_equal(image_array(image), array)
    constant, _ = exhausted(transfer.float_image(np.broadcast_to(np.float32(1), SHAPE)))
    assert np.array_equal(image_array(constant), np.ones(SHAPE))


def test_what_is_small_is_as_it_was_when_it_was_added(tmp_path: Path) -> None:
    array, grid = np.ones(SHAPE, np.int16), make_grid(SHAPE)
    box = Parcel(tmp_path)
    file = box.add(array, grid, "image")
    array[...] = 5
    exhausted(box.write(lambda step, fraction: None))
    assert (file.name, file.grid) == ("image", grid.to_dict())
    assert np.array_equal(np.load(file.array), np.ones(SHAPE))
    exhausted(box.delete())
    assert list(tmp_path.iterdir()) == []


def test_what_is_large_must_not_change_before_it_is_written(
    scene: MRML, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcel, "_COPIED_BYTES", 0)
    grid = make_grid(SHAPE)
    node = scene.volume(np.ones(SHAPE, np.int16), grid, "large")
    image = node.GetImageData()
    for changed in (False, True):
        box = Parcel(tmp_path)
        file = box.add(image_array(image), grid, "large", image)
        if changed:
            image.Modified()
            with pytest.raises(RunError, match="'large' was changed while it was being read; run again"):
                exhausted(box.write(lambda step, fraction: None))
        else:
            exhausted(box.write(lambda step, fraction: None))
            assert np.array_equal(np.load(file.array), np.ones(SHAPE))


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    box = Parcel(tmp_path)
    box.add(np.zeros((4, 100, 100)), make_grid((4, 100, 100)), "image")
    with small_disk(50_000), pytest.raises(OutputError, match="the disk is full"):
        exhausted(box.write(lambda step, fraction: None))
