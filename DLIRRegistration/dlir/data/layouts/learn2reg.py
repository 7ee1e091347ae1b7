"""Learn2Reg's layout, in which NLST comes (§7 in kind): a JSON list of pairs, images, labels, masks and keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlir.data.layouts.lists import read_list
from dlir.data.pair import DataFolder, Pair, Scan, existing
from dlir.errors import EvaluationError
from dlir.io.source import stem

# Pairs that a challenge scores; those to train on only where there are no others.
_PAIR_LISTS = ("registration_val", "registration_test", "training_paired_images")


class Learn2Reg(DataFolder):
    """NLST_dataset.json, or any *_dataset.json, beside imagesTr/, labelsTr/, masksTr/, keypointsTr/ or landmarksTr/.

    Pairs as the list names them, each in the direction it gives. Images are called TASK_CASE_PHASE: a case is a
    subject. Keypoints are CSV files of voxel indices (x, y, z) from 0, line by line corresponding.
    """

    title = "Learn2Reg"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        lists = sorted(folder.glob("*_dataset.json"))
        if len(lists) != 1:
            raise EvaluationError(f"folder '{folder}' holds {len(lists)} files *_dataset.json; give one with just one")
        self._content = read_list(lists[0])
        self.title = str(self._content.get("name", self.title))

    def pairs(self) -> list[Pair]:
        """The pairs of the first list that names any."""
        listed: Sequence[dict[str, Any]] = next((p for p in map(self._content.get, _PAIR_LISTS) if p), [])
        if not listed:
            raise EvaluationError(
                f"the list in '{self.folder}' names no pairs under {', '.join(_PAIR_LISTS)}; fetch it again"
            )
        return [Pair(self._scan(str(entry["fixed"])), self._scan(str(entry["moving"]))) for entry in listed]

    def _scan(self, name: str) -> Scan:
        image = self.folder / name
        subject, _, part = stem(image).rpartition("_")
        points = [self._beside(image, kind, ".csv") for kind in ("landmarks", "keypoints")]
        return Scan(
            subject or part,
            part if subject else "",
            str(image),
            self._beside(image, "labels"),
            self._beside(image, "masks"),
            next(filter(None, points), ""),
            indices=True,
        )

    def _beside(self, image: Path, kind: str, ending: str = "") -> str:
        """The file of another kind that belongs to an image."""
        folder = image.parent.parent / image.parent.name.replace("images", kind)
        return existing(folder / (stem(image) + ending if ending else image.name))
