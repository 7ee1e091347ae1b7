"""ACDC: cardiac cine MR at end-diastole and end-systole with labels (Bernard et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dlir.data.pair import DataFolder, Pair, Scan, ordered_pairs
from dlir.errors import EvaluationError


class Acdc(DataFolder):
    """`patientNNN/patientNNN_frameTT.nii.gz` with `…_gt.nii.gz`; Info.cfg says which frame is ED and which ES.

    The folders may lie at any depth, as in the challenge's training/ and testing/.
    """

    title = "ACDC"
    labels: Mapping[int, str] = {1: "RV", 2: "MYO", 3: "LV"}

    def pairs(self) -> list[Pair]:
        """ED and ES of every patient, both ways."""
        found = sorted(self.folder.rglob("Info.cfg"), key=lambda path: path.parent.name)
        if not found:
            raise EvaluationError(
                f"ACDC folder '{self.folder}' holds no Info.cfg; give the folder that holds patient001, patient002, …"
            )
        return [pair for path in found for pair in ordered_pairs(_scans(path.parent))]


def _scans(folder: Path) -> list[Scan]:
    subject = folder.name
    lines = (folder / "Info.cfg").read_bytes().decode(errors="replace").splitlines()
    info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    scans = []
    for part in ("ED", "ES"):
        if not info.get(part, "").isdecimal():
            problem = f"'{folder / 'Info.cfg'}' does not say which frame is {part}; correct the file"
            scans.append(Scan(subject, part, problem=problem))
            continue
        stem = folder / f"{subject}_frame{int(info[part]):02d}"
        scans.append(Scan(subject, part, f"{stem}.nii.gz", f"{stem}_gt.nii.gz"))
    return scans
