"""Arrays on their way between processes: whole or not at all, in slices, read without being copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from disks import small_disk
from dlir.errors import OutputError, WorkerError
from dlir.io import arrays
from dlir.io.arrays import read_array, write_array


def write(path: Path, array: np.ndarray) -> list[float]:
    return list(write_array(path, array))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, ">i2", np.int64, np.float32, np.float64])
@pytest.mark.parametrize("slice_bytes", [7, 1 << 20])
def test_there_and_back(tmp_path: Path, dtype: str, slice_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_SLICE_BYTES", slice_bytes)
    array = np.random.default_rng(0).integers(0, 2, (3, 4, 5)).astype(dtype)
    fractions = write(tmp_path / "a.npy", array)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    found = read_array(tmp_path / "a.npy")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)  # it is what everybody calls .npy


def test_a_view_with_gaps(tmp_path: Path) -> None:
    array = np.arange(4 * 5 * 6).reshape(4, 5, 6).transpose(2, 0, 1)[::2, :, ::-1]
    write(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), array)


def test_it_appears_with_the_last_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_SLICE_BYTES", 16)
    steps = write_array(tmp_path / "a.npy", np.arange(10.0))
    next(steps)
    assert not (tmp_path / "a.npy").exists()
    steps.close()  # the run was cancelled
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "a.npy", np.arange(10.0))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(1000), pytest.raises(OutputError, match=r"a\.npy': the disk is full; free some space"):
        write(tmp_path / "a.npy", np.zeros((10, 20, 30)))
    assert list(tmp_path.iterdir()) == []


def test_what_is_read_may_be_written_to_without_harm(tmp_path: Path) -> None:
    write(tmp_path / "a.npy", np.zeros(5))
    found = read_array(tmp_path / "a.npy")
    assert isinstance(found, np.memmap)
    found[2] = 7
    assert not read_array(tmp_path / "a.npy").any()


@pytest.mark.parametrize("content", [None, b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_what_is_no_array_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(WorkerError, match=r"cannot read array .*a\.npy"):
        read_array(tmp_path / "a.npy")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(WorkerError, match="cannot read"):
        read_array(tmp_path / "a.npy")


def test_an_array_that_is_cut_short(tmp_path: Path) -> None:
    write(tmp_path / "a.npy", np.zeros(100))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-50])
    with pytest.raises(WorkerError, match="cannot read"):
        read_array(tmp_path / "a.npy")
