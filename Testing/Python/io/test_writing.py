"""Files appear whole or not at all: interrupts, full disks and former results."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from disks import small_disk
from dlir.errors import GeometryError, OutputError
from dlir.geometry import ImageGrid
from dlir.io import writing
from dlir.io.reading import read_image, read_label
from dlir.io.writing import OutputFolder, replacing, settle, write_bytes, write_image, write_json, write_text

SUFFIXES = ["nii", "nii.gz", "nrrd", "mha"]


def _values(grid: ImageGrid) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)


def _tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones included, and empty folders."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


def _disk_full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# -- one file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compress", [True, False])
def test_an_image_comes_back(tmp_path: Path, grid: ImageGrid, suffix: str, compress: bool) -> None:
    array = _values(grid)
    write_image(tmp_path / f"a.{suffix}", array, grid, compress=compress)
    volume = read_image(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(volume.array, array)
    assert volume.grid.same_as(grid)
    assert [p.name for p in tmp_path.iterdir()] == [f"a.{suffix}"]


def test_compression_makes_files_smaller(tmp_path: Path) -> None:
    grid = ImageGrid((20, 30, 40))
    for compress in (True, False):
        write_image(tmp_path / f"{compress}.nrrd", np.zeros(grid.shape, np.float32), grid, compress=compress)
    assert (tmp_path / "True.nrrd").stat().st_size < (tmp_path / "False.nrrd").stat().st_size / 10


def test_masks_and_vectors(tmp_path: Path, grid: ImageGrid) -> None:
    mask = _values(grid) > 0
    write_image(tmp_path / "mask.nii.gz", mask, grid)
    labels = read_label(tmp_path / "mask.nii.gz", grid)
    assert labels.array.dtype == np.uint8
    np.testing.assert_array_equal(labels.array, mask)
    field = np.random.default_rng(1).normal(size=(*grid.shape, 3)).astype(np.float32)
    write_image(tmp_path / "field.nii.gz", field, grid, is_vector=True)
    image = sitk.ReadImage(str(tmp_path / "field.nii.gz"))
    assert image.GetNumberOfComponentsPerPixel() == 3
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), field)
    assert ImageGrid.from_sitk(image).same_as(grid)


def test_text_bytes_and_json(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Dice ≥ 0.9\n")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "Dice ≥ 0.9\n"
    write_bytes(tmp_path / "a.bin", b"\x00\x01")
    assert (tmp_path / "a.bin").read_bytes() == b"\x00\x01"
    write_json(tmp_path / "a.json", {"fixed": "a#3", "dice": [0.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"fixed": "a#3", "dice": [0.5]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert sorted(_tree(tmp_path)) == ["a.bin", "a.json", "a.txt"]


def test_names_and_arrays_that_do_not_fit(tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object]) -> None:
    for name in ("a.mhd", "a.jpg", "a", "a.NII.GZ"):
        with refusal(OutputError, name, "must end in .nii.gz, .nii, .nrrd, .mha"):
            write_image(tmp_path / name, _values(grid), grid)
    with pytest.raises(GeometryError):
        write_image(tmp_path / "a.nrrd", _values(grid)[1:], grid)
    with refusal(OutputError, "missing/a.nrrd", "create the folder"):
        write_image(tmp_path / "missing" / "a.nrrd", _values(grid), grid)
    (tmp_path / "folder.nrrd").mkdir()
    with refusal(OutputError, "folder.nrrd", "choose another"):
        write_image(tmp_path / "folder.nrrd", _values(grid), grid)
    assert _tree(tmp_path) == {"folder.nrrd": b""}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, RuntimeError])
def test_an_interrupted_file_leaves_the_former_one(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a.txt").write_text("former")
    with pytest.raises(error), replacing(tmp_path / "a.txt") as temporary:  # noqa: PT012
        temporary.write_text("half")
        assert temporary.name.endswith(".txt")
        raise error
    assert _tree(tmp_path) == {"a.txt": b"former"}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("size", [100, 20_000])
def test_image_on_a_full_disk(
    tmp_path: Path,
    refusal: Callable[..., object],
    capfd: pytest.CaptureFixture[str],
    suffix: str,
    compress: bool,
    size: int,
) -> None:
    """ITK itself writes half a NIfTI file without an error."""
    grid = ImageGrid((20, 30, 40))
    (tmp_path / f"a.{suffix}").write_text("former")
    with (
        refusal(OutputError, f"a.{suffix}", "not written completely", "disk is full", "free some space"),
        small_disk(size),
    ):
        write_image(tmp_path / f"a.{suffix}", _values(grid), grid, compress=compress)
    assert _tree(tmp_path) == {f"a.{suffix}": b"former"}
    assert capfd.readouterr() == ("", "")


def test_text_on_a_full_disk(tmp_path: Path, refusal: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    with refusal(OutputError, "a.txt", "disk is full", "free some space"), small_disk(1000):
        write_text(tmp_path / "a.txt", "x" * 5000)
    monkeypatch.setattr(os, "fsync", _disk_full)  # as a network drive reports it
    with refusal(OutputError, "a.txt", "disk is full", "free some space"):
        write_text(tmp_path / "a.txt", "x")
    assert not _tree(tmp_path)


def test_simpleitk_errors_inside_replacing(tmp_path: Path, refusal: Callable[..., object]) -> None:
    with refusal(OutputError, "t.unknown", "not written completely"), replacing(tmp_path / "t.unknown") as temporary:
        sitk.WriteTransform(sitk.AffineTransform(3), str(temporary))
    assert not _tree(tmp_path)


# -- a run's folder -------------------------------------------------------------------------------


def test_files_appear_together_at_the_end(tmp_path: Path, grid: ImageGrid) -> None:
    folder = tmp_path / "new" / "result"
    with OutputFolder(folder, inputs=["a.nii.gz#3"]) as outputs:
        write_text(outputs.file("a.txt"), "text")
        write_image(outputs.file("b.nii.gz"), _values(grid), grid)
        assert [p.name for p in folder.iterdir() if not p.name.startswith(".")] == []
    assert sorted(_tree(folder)) == ["a.txt", "b.nii.gz"]


def test_former_results_are_replaced_only_at_the_end(tmp_path: Path) -> None:
    before = {"a.txt": b"former", "other.txt": b"kept"}
    for name, data in before.items():
        (tmp_path / name).write_bytes(data)
    with OutputFolder(tmp_path) as outputs:
        write_text(outputs.file("a.txt"), "new")
        assert (tmp_path / "a.txt").read_bytes() == b"former"
    assert _tree(tmp_path) == before | {"a.txt": b"new"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
@pytest.mark.parametrize("existed", [True, False])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, error: type[BaseException], existed: bool) -> None:
    folder = tmp_path / "deep" / "result"
    if existed:
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text("former")
    before = _tree(tmp_path)
    with pytest.raises(error), OutputFolder(folder) as outputs:  # noqa: PT012
        write_text(outputs.file("a.txt"), "new")
        write_text(outputs.file("b.txt"), "new")
        raise error
    assert _tree(tmp_path) == before


def _fails_once(calls: list[Path], failing: int, *, after: bool, error: BaseException) -> Callable[[Path, Path], None]:
    """`os.replace` that keeps its targets in `calls` and raises at one of them, before or just after the renaming."""
    replace = os.replace

    def failing_replace(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == failing + 1:
            if after:
                replace(source, target)
            raise error
        replace(source, target)

    return failing_replace


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("failing", range(5))
def test_moving_into_place_is_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, after: bool, error: BaseException
) -> None:
    """The interrupt comes before or just after any of the five renamings of two former and one new file."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("former")
    before = _tree(tmp_path)
    calls: list[Path] = []

    with pytest.raises((OutputError, KeyboardInterrupt)), OutputFolder(tmp_path) as outputs:  # noqa: PT012
        for name in ("a.txt", "b.txt", "c.txt"):
            outputs.file(name).write_text("new")
        monkeypatch.setattr(writing.os, "replace", _fails_once(calls, failing, after=after, error=error))
    assert len(calls) > failing
    assert _tree(tmp_path) == before


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("failing", range(4))
def test_taking_the_earlier_files_away_is_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, after: bool, error: BaseException
) -> None:
    """Before or just after any of four renamings: an earlier file that goes, one that is replaced, and two new ones."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("former")
    before = _tree(tmp_path)
    calls: list[Path] = []

    with pytest.raises((OutputError, KeyboardInterrupt)), OutputFolder(tmp_path) as outputs:  # noqa: PT012
        outputs.replaces(["a.txt", "b.txt", "not there"])
        for name in ("b.txt", "c.txt"):
            outputs.file(name).write_text("new")
        monkeypatch.setattr(writing.os, "replace", _fails_once(calls, failing, after=after, error=error))
    assert len(calls) > failing
    assert _tree(tmp_path) == before


def test_earlier_files_go_when_the_new_ones_come(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "other.txt"):
        (tmp_path / name).write_text("former")
    (tmp_path / "folder").mkdir()
    with OutputFolder(tmp_path) as outputs:
        outputs.replaces(["a.txt", "b.txt", "folder"])
        write_text(outputs.file("b.txt"), "new")
        assert (tmp_path / "a.txt").exists()
    assert _tree(tmp_path) == {"b.txt": b"new", "other.txt": b"former", "folder": b""}
    (tmp_path.parent / "above.txt").write_text("former")
    with pytest.raises(ValueError, match="plain file name"), OutputFolder(tmp_path) as outputs:
        outputs.replaces(["../above.txt"])


def test_disk_full_in_a_run_names_the_file_where_it_was_to_be(tmp_path: Path, refusal: Callable[..., object]) -> None:
    folder, grid = tmp_path / "result", ImageGrid((20, 30, 40))
    with refusal(OutputError, f"'{folder / 'warped.nii.gz'}'", "disk is full"), OutputFolder(folder) as outputs:
        write_text(outputs.file("report.json"), "{}")
        with small_disk(20_000):
            write_image(outputs.file("warped.nii.gz"), _values(grid), grid)
    assert not _tree(tmp_path)


def test_disk_full_before_a_run(
    tmp_path: Path, refusal: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", _disk_full)
    with refusal(OutputError, "result", "disk is full"), OutputFolder(tmp_path / "result"):
        pytest.fail("entered")
    assert not _tree(tmp_path)


@pytest.mark.parametrize("spec", ["{}", "{}#3", "link.nii.gz", "hard.nii.gz", "./sub/../{}"])
def test_inputs_are_not_overwritten(
    tmp_path: Path, refusal: Callable[..., object], monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"patient")
    (tmp_path / "link.nii.gz").symlink_to(scan)
    os.link(scan, tmp_path / "hard.nii.gz")
    before, typed = _tree(tmp_path), spec.format("scan.nii.gz")
    with (
        refusal(OutputError, "scan.nii.gz'", f"input '{typed}'", "choose another"),
        OutputFolder(".", [typed]) as outputs,
    ):
        outputs.file("scan.nii.gz")
    # Also where the file came to be an input's place only while the run was going on.
    with refusal(OutputError, "scan.nii.gz'", f"input '{typed}'"), OutputFolder(tmp_path, [typed]) as outputs:
        (outputs.file("other.txt").parent / "scan.nii.gz").write_text("new")
    assert _tree(tmp_path) == before


def test_dicom_slices_of_an_input_folder_are_not_overwritten(tmp_path: Path, refusal: Callable[..., object]) -> None:
    (tmp_path / "1.dcm").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "report.json").write_text("{}")
    with refusal(OutputError, "1.dcm", "replace the input"), OutputFolder(tmp_path, [f"{tmp_path}#2"]) as outputs:
        outputs.file("1.dcm")
    with OutputFolder(tmp_path, [tmp_path]) as outputs:  # a former result beside the slices is no input
        write_text(outputs.file("report.json"), "[]")
    assert (tmp_path / "report.json").read_text() == "[]"


def test_folders_that_cannot_be_used(
    tmp_path: Path, refusal: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    with refusal(OutputError, "output folder", "is a file", "another name"), OutputFolder(tmp_path / "file"):
        pytest.fail("entered")
    with refusal(OutputError, "file", "choose another"), OutputFolder(tmp_path / "file" / "sub"):
        pytest.fail("entered")
    (tmp_path / "a.txt").mkdir()
    with refusal(OutputError, "a.txt", "is a folder", "choose another"), OutputFolder(tmp_path) as outputs:
        outputs.file("a.txt")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", denied)
    with refusal(OutputError, "made", "no permission", "choose another"), OutputFolder(tmp_path / "made" / "up"):
        pytest.fail("entered")
    assert _tree(tmp_path) == {"file": b"x", "a.txt": b""}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the super-user may write everywhere")
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_folder_without_permission(tmp_path: Path, refusal: Callable[..., object], mode: int) -> None:
    tmp_path.chmod(mode)
    try:
        with refusal(OutputError, "no permission", "choose another"), OutputFolder(tmp_path):
            pytest.fail("entered")
        with refusal(OutputError, "a.txt", "no permission", "choose another"):
            write_text(tmp_path / "a.txt", "x")
    finally:
        tmp_path.chmod(0o700)


def test_only_plain_names_of_an_open_folder(tmp_path: Path) -> None:
    outputs = OutputFolder(tmp_path)
    with pytest.raises(ValueError, match="not open"):
        outputs.file("a.txt")
    with outputs, pytest.raises(ValueError, match="plain file name"):
        outputs.file("../a.txt")


# -- killed ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of this process")
@pytest.mark.parametrize("former", [True, False])
def test_what_a_killed_process_left_is_settled_either_way(tmp_path: Path, former: bool) -> None:
    """Killed at each of its moves in turn: all new files are there, the last one last, or all former ones."""
    old = {"a": b"old a", "gone": b"old", "last": b"old last"} if former else {}
    new = {"z": b"new z", "a": b"new a", "last": b"new last"}
    seen = set()
    for moves in range(12):
        folder = tmp_path / f"{moves}"
        folder.mkdir()
        for name, content in old.items():
            (folder / name).write_bytes(content)
        if (pid := os.fork()) == 0:
            _write_and_die(folder, new, old, moves)
        killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
        if (folder / "last").exists() and (folder / "last").read_bytes() == new["last"]:
            assert {name: (folder / name).read_bytes() for name in new} == new
        settle(folder)
        seen.add(found := tuple(sorted(_tree(folder).items())))
        assert found in (tuple(sorted(old.items())), tuple(sorted(new.items())))
        if not killed:
            break
    else:
        pytest.fail("it was killed before each of its moves; there are more than were looked at")
    assert len(seen) == 2


def _write_and_die(folder: Path, new: dict[str, bytes], old: dict[str, bytes], moves: int) -> None:
    """Writes `new` in the place of `old` and ends before the move of that number, or with exit code 0."""
    left = moves

    def counted(move: Callable[..., object]) -> Callable[..., object]:
        def moved(*args: object) -> object:
            nonlocal left
            if writing_all and left == 0:
                os.kill(os.getpid(), 9)
            left -= writing_all
            return move(*args)

        return moved

    writing_all = 0
    try:
        os.replace, Path.rename = counted(os.replace), counted(Path.rename)  # type: ignore[method-assign, assignment]
        with OutputFolder(folder) as outputs:
            for name, content in new.items():
                write_bytes(outputs.file(name), content)
            outputs.replaces(old)
            writing_all = 1
        os._exit(0)
    finally:
        os._exit(1)
