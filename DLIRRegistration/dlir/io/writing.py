"""Outputs that appear whole or not at all: one file at a time, or all files of a run together."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import DiskFullError, OutputError, note, shown
from dlir.geometry import ImageGrid
from dlir.io.formats.integrity import is_damaged
from dlir.io.names import require_utf8
from dlir.io.quiet import quiet
from dlir.io.source import split_spec
from dlir.io.staging import HIDDEN, NEW, OLD, READY, Stage, tidy

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary file name beside `path`, of the same suffixes; what was written there becomes `path` at the end.

    On any exception the temporary file is removed and `path` stays as it was. OSError and SimpleITK's errors
    are raised as OutputError, so any writer can be used inside. durable: wait until the file lies on the disk.
    """
    if not path.parent.is_dir():
        raise OutputError(f"cannot write '{_shown(path)}': its folder does not exist; create the folder first")
    temporary = path.with_name(f"{HIDDEN}{secrets.token_hex(4)}{''.join(path.name.partition('.')[1:])}")
    try:
        yield temporary
        if durable:
            _reach_disk(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise _explained(path, error) from error
    except RuntimeError as error:
        if not str(error).startswith("Exception thrown in SimpleITK"):
            raise
        raise _incomplete(path) from error
    finally:
        with contextlib.suppress(OSError):  # a folder that refuses this refused the writing, which is being reported
            temporary.unlink(missing_ok=True)


def write_image(
    path: Path, array: NDArray[Any], grid: ImageGrid, *, is_vector: bool = False, compress: bool = True
) -> None:
    """Writes an array (z, y, x), or (z, y, x, component) with `is_vector`, that lies on `grid`; bool becomes uint8.

    Raises OutputError for a name that does not end in one of IMAGE_SUFFIXES and where the file cannot be
    written whole; GeometryError for an array that does not fit the grid.
    """
    import SimpleITK as sitk

    if not path.name.endswith(IMAGE_SUFFIXES):
        raise OutputError(f"cannot write '{_shown(path)}': an image's name must end in {', '.join(IMAGE_SUFFIXES)}")
    image = grid.to_sitk(array.astype(np.uint8) if array.dtype == bool else array, is_vector=is_vector)
    with replacing(path) as temporary, quiet:
        sitk.WriteImage(image, writable(temporary), compress)
        if is_damaged(temporary):  # ITK does not report every write that failed
            raise _incomplete(path)


def writable(path: Path) -> str:
    """A path as the libraries that write take it. Raises OutputError for one that is not UTF-8."""
    return require_utf8(path, f"the output '{_shown(path)}'", OutputError, "choose another name")


def write_json(path: Path, value: object) -> None:
    """Writes `value` as indented JSON. Raises OutputError; ValueError for NaN, which JSON does not know."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes text as UTF-8; of a name in other bytes, what JSON reads as the same again. Raises OutputError."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes bytes. Raises OutputError."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


class OutputFolder:
    """The files of one run, which appear in a folder together when the run has succeeded.

        with OutputFolder("result", inputs=["fixed.nii.gz", "cine.nii.gz#3"]) as outputs:
            write_image(outputs.file("warped.nii.gz"), array, grid)

    Files are collected in a hidden subfolder and moved at the end, in the order in which they were first asked for: the
    last one tells that all are there. On any exception, an interrupt included, nothing new stays, files of a former run
    are as they were, and a folder that was created is removed. What a process that was killed had left here is brought
    in order first, see `settle`, which a note tells.

    path: the folder; created where missing. "" is refused, which would be the current one. inputs: image specifications
    and files that no output may replace. claimed: names of files there that whoever writes knows to be of a run of its
    own, whatever they hold now.
    Raises OutputError, on entry for a folder that cannot be used, at the end where files cannot be moved.
    """

    def __init__(self, path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
        if not os.fspath(path):
            raise OutputError("the output folder has no name; give one, or . for the current folder")
        self.path = Path(path)
        self._inputs = [os.fspath(item) for item in inputs]
        self._created: list[Path] = []
        self._stage: Stage | None = None
        self._asked: dict[str, None] = {}
        self._going: frozenset[str] = frozenset()
        self.claimed: frozenset[str] = frozenset()

    def __enter__(self) -> OutputFolder:
        writable(self.path)
        if os.path.isfile(self.path):
            raise OutputError(f"output folder '{self.path}' is a file; choose another name")
        try:
            self._create()
        except BaseException as error:
            self._clean(keep_folder=False)
            if isinstance(error, OSError):
                raise _explained(self.path, error) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        done = False
        try:
            if kind is None:
                self._publish()
                done = True
        finally:
            self._clean(keep_folder=done)

    def file(self, name: str) -> Path:
        """Where to write the output `name` until the run ends.

        Raises OutputError where it would replace an input or a folder; ask early to learn that before the work.
        """
        if self._stage is None or Path(name).name != name:
            raise ValueError(f"'{name}' is not a plain file name, or the output folder is not open")
        writable(self.path / name)
        self._check_target(self.path / name)
        self._asked[name] = None
        return self._stage.path / NEW / name

    def replaces(self, names: Iterable[str]) -> None:
        """Files of an earlier run in this folder, which go when this one's appear, whether it has such files or not.

        Raises OutputError where one of them is an input. Folders, and what is not there, are left alone.
        """
        self._going = frozenset(name for name in names if os.path.lexists(self.path / name))
        for name in self._going:
            if Path(name).name != name:
                raise ValueError(f"'{name}' is not a plain file name")
            if (self.path / name).is_dir():
                self._going -= {name}
            else:
                self._check_target(self.path / name)

    def _create(self) -> None:
        self._created = [p for p in (self.path, *self.path.parents) if not p.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        if settle(self.path):
            note(f"what a run that was killed had left in '{shown(self.path)}' is tidied up")
        # Inside the folder itself, so that moving the files is a renaming on one disk.
        self._stage = Stage(self.path)
        self._stage.begin()

    def _check_target(self, target: Path) -> None:
        if target.is_dir():
            raise OutputError(f"cannot write '{target}': it is a folder; choose another output folder")
        if not target.exists():
            return
        for spec in self._inputs:
            path, _ = split_spec(spec)
            same = os.path.exists(path) and os.path.samefile(path, target)
            if same or (os.path.isdir(path) and _is_inside(target, path) and _is_dicom(target)):
                raise OutputError(
                    f"cannot write '{target}': it would replace the input '{spec}'; choose another output folder"
                )

    def _publish(self) -> None:
        assert self._stage is not None  # entered
        taken: list[str] = []
        placed: list[str] = []
        ready, old = self._stage.path / READY, self._stage.path / OLD
        try:
            for name in sorted(self._going):
                taken.append(name)
                os.replace(self.path / name, old / name)
            order = {name: number for number, name in enumerate(self._asked)}
            written = (file.name for file in (self._stage.path / NEW).iterdir())
            names = sorted(written, key=lambda name: order.get(name, -1))
            self._stage.keep_order(names)
            (self._stage.path / NEW).rename(ready)
            for name in names:
                target = self.path / name
                self._check_target(target)
                placed.append(name)
                if os.path.lexists(target):
                    os.replace(target, old / name)
                os.replace(ready / name, target)
        except BaseException as error:
            self._take_back(taken, placed)
            if isinstance(error, OSError):
                raise _explained(self.path.joinpath(*(placed or taken)[-1:]), error) from error
            raise

    def _take_back(self, taken: list[str], placed: list[str]) -> None:
        """Undoes the moves. Goes by what lies where, so it does not matter between which two an interrupt came."""
        assert self._stage is not None  # entered
        for name in dict.fromkeys((*taken, *placed)):
            former = self._stage.path / OLD / name
            if os.path.lexists(former):
                os.replace(former, self.path / name)
            elif name in placed and not (self._stage.path / READY / name).exists():
                (self.path / name).unlink(missing_ok=True)

    def _clean(self, *, keep_folder: bool) -> None:
        if self._stage is not None:
            self._stage.end()
            self._stage = None
        if not keep_folder:
            for folder in self._created:
                with contextlib.suppress(OSError):  # never made, or no longer empty because someone else uses it
                    folder.rmdir()


def settle(folder: Path, *, alone: bool = False) -> bool:
    """Ends what runs that were killed had begun in `folder`, and tells whether there was anything.

    Where all files of an `OutputFolder` were written they are put in their places, in the order of that run; else those
    of the former run are put back, and what was half written goes. Runs that go on are left alone, and so is what may
    be one's, see `Stage.is_left`. alone: the caller knows that nobody else writes there, so that all of it is settled.

    Raises OutputError where files cannot be moved.
    """
    try:
        return tidy(folder, alone=alone)
    except OSError as error:
        raise _explained(folder, error) from error


def _reach_disk(path: Path) -> None:
    """Waits until the file lies on the disk; network drives report a full disk only then."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _is_inside(path: Path, folder: str) -> bool:
    return Path(folder).resolve() in path.resolve().parents


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _shown(path: Path) -> str:
    """The place where a file will be in the end, for a file that an OutputFolder holds back."""
    stage = path.parent.parent
    return shown(stage.parent / path.name if stage.name.startswith(HIDDEN) else path)


def _incomplete(path: Path) -> OutputError:
    return DiskFullError(
        f"cannot write '{_shown(path)}': the file was not written completely, most likely because the disk is full; "
        "free some space or choose another output folder"
    )


def _explained(path: Path, error: OSError) -> OutputError:
    if error.errno in _DISK_FULL:
        return DiskFullError(
            f"cannot write '{_shown(path)}': the disk is full; free some space or choose another output folder"
        )
    if error.errno in _NOT_ALLOWED:
        reason = "no permission to write there; choose another output folder"
    else:
        reason = f"{error.strerror or error}; choose another output folder"
    return OutputError(f"cannot write '{_shown(path)}': {reason}")
