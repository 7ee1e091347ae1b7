"""A folder that holds results already: which of its files are an earlier registration's, and whether they may go.

A report says which files its registration wrote. It may come from anyone, so that it is believed in names alone which a
registration gives its files: nothing else in the folder, and nothing outside of it, is ever taken for one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlir.errors import DLIRError, OutputError, shown
from dlir.geometry import ImageGrid
from dlir.registration.choices import IMAGE_FORMATS

if TYPE_CHECKING:
    from dlir.io import OutputFolder, Volume

REPORT = "report.json"
# Whatever a registration, the demo or a batch calls a file, now or in an earlier version.
_OWN = re.compile(
    r"(warped|jacobian|displacement|error_map|(warped|backward)_label(_[0-9]+)?)"
    rf"\.({'|'.join(map(re.escape, IMAGE_FORMATS))})"
    r"|transform\.h5|moving_landmarks\.csv|demo\.png|preview\.jpg|report\.(json|html)"
)
# Voxels by which an image is told from others, spread over it.
_SAMPLES = 1 << 20
# The same of a cine.
_OF_CINE = re.compile(
    r"(warped|jacobian|labels(_[0-9]+)?)\.(nii\.gz|seq\.nrrd)|transform_[0-9]+\.h5|(volumes|ejection)\.csv|volumes\.png"
)


@dataclass(frozen=True)
class Former:
    """An earlier registration in a folder. names: of its files, its report's included, be they there or not."""

    folder: Path
    report: Mapping[str, Any]
    names: frozenset[str]

    def require_same(self, fixed: Volume, moving: Volume, *models: str) -> None:
        """Raises OutputError where it was of another pair, or by none of the models of these names."""
        if not (self._was_of("fixed", fixed) and self._was_of("moving", moving) and self._was_by(*models)):
            raise self._other()

    def require_same_cine(self, content: str, grid: ImageGrid, model: str | None) -> None:
        """The same for a cine. content: of all its phases. model: None where it is not chosen yet."""
        was = self.report.get("cine")
        same = isinstance(was, dict) and was.get("content") == content and _lay_on(was, grid)
        if not (same and (model is None or self._was_by(model))):
            raise self._other()

    def _was_by(self, *models: str) -> bool:
        return self._named("model", "name") in models

    def _other(self) -> OutputError:
        images = " to ".join(self._named(role, "file") for role in ("moving", "fixed"))
        was = f"{self._named('cine', 'file') if 'cine' in self.report else images} by {self._named('model', 'name')}"
        return OutputError(
            f"'{shown(self.folder)}' holds another registration, {shown(was)}; choose another output folder, or give "
            "--overwrite to have its files replaced"
        )

    def _named(self, section: str, key: str) -> str:
        found = self.report.get(section)
        return os.path.basename(str(found.get(key))) if isinstance(found, dict) else "unknown"

    def _was_of(self, role: str, volume: Volume) -> bool:
        """Whether the image was the same: by what it holds and where it lies, or by name and place where an older
        report says no more.
        """
        from dlir.io.source import reported_name

        was = self.report.get(role)
        if not isinstance(was, dict):
            return False
        if "content" in was:
            alike = bool(was["content"] == content_of(volume))
        else:
            alike = self._named(role, "file") == reported_name(volume.source)
        return alike and _lay_on(was, volume.grid)


def _lay_on(was: Mapping[str, Any], grid: ImageGrid) -> bool:
    """Whether what a report says of an image places the same voxels in the same places, as near as formats keep it:
    NIfTI keeps it in single precision.
    """
    try:
        return grid.same_as(ImageGrid(**{field.name: tuple(was[field.name]) for field in fields(ImageGrid)}))
    except (KeyError, TypeError, ValueError, DLIRError):
        return False


def content_of(volume: Volume) -> str:
    """Tells an image from others, whatever it is called and wherever it lies: a digest of its shape and of voxels all
    over it.
    """
    values = volume.array.reshape(-1)
    some = np.ascontiguousarray(values[:: values.size // _SAMPLES | 1], np.float32)
    return hashlib.sha256(json.dumps(volume.array.shape).encode() + some.tobytes()).hexdigest()[:32]


def read_former(folder: Path, prefix: str = "") -> Former | None:
    """The registration whose report lies in the folder; None where there is none, or no such report.

    prefix: with which the names of its files begin.
    """
    path = folder / f"{prefix}{REPORT}"
    if not path.is_file():  # reading a pipe would wait for ever
        return None
    try:
        report = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    outputs = report.get("outputs") if isinstance(report, dict) and "report_version" in report else None
    if not isinstance(outputs, dict):
        return None
    return Former(folder, report, own_names(outputs.values(), prefix) | {path.name})


def own_names(told: Iterable[object], prefix: str = "") -> frozenset[str]:
    """Of what is told to be files of a registration, the names that one gives its files."""
    names = (name for name in told if isinstance(name, str) and name.startswith(prefix))
    return frozenset(name for name in names if any(own.fullmatch(name[len(prefix) :]) for own in (_OWN, _OF_CINE)))


def take_over(outputs: OutputFolder, names: Iterable[str], *, overwrite: bool, prefix: str = "") -> Former | None:
    """Have the files of an earlier registration go when those called `names` come, and return that registration.

    prefix: with which these names begin; registrations of another one stay. Files that the folder has as `claimed` go
    as well. Raises OutputError where a file would be replaced that is neither theirs nor claimed, unless told to
    `overwrite`, and where one of its files is an input now.
    """
    former = read_former(outputs.path, prefix)
    claimed = outputs.claimed | (former.names if former else frozenset())
    for name in names:
        path = outputs.path / name
        if not overwrite and name not in claimed and os.path.lexists(path):
            raise OutputError(
                f"'{shown(path)}' is there already, and no {prefix}{REPORT} beside it says that it is of an earlier "
                "registration; choose another output folder, or give --overwrite to have it replaced"
            )
    outputs.replaces(claimed)
    return former


def check_single(path: Path, suffixes: Sequence[str], *, overwrite: bool) -> None:
    """Before any work. Raises OutputError for the name of a single file of a type that cannot be written, and of one
    that is part of a registration's results, unless told to `overwrite`.
    """
    if not path.name.endswith(tuple(suffixes)):
        raise OutputError(
            f"cannot write '{path}': the name of this output must end in {', '.join(suffixes)}; rename it"
        )
    if overwrite or not os.path.lexists(path):
        return
    for report in path.parent.glob(f"*{REPORT}"):
        former = read_former(path.parent, report.name[: -len(REPORT)])
        if former and path.name in former.names:
            raise OutputError(
                f"'{shown(path)}' is of the registration that the {shown(report.name)} beside it tells of; choose "
                "another name, or give --overwrite to have it replaced all the same"
            )
