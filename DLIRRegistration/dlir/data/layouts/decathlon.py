"""Medical Segmentation Decathlon: one labelled image per subject, registered between subjects (§7 in kind)."""

from __future__ import annotations

from pathlib import Path

from dlir.data.layouts.lists import read_list
from dlir.data.pair import DataFolder, Pair, Scan, existing, ordered_pairs
from dlir.errors import EvaluationError
from dlir.io.source import stem

_LIST = "dataset.json"


class Decathlon(DataFolder):
    """A task's folder with dataset.json, imagesTr/ and labelsTr/, or simply images/ and labels/ with equal names.

    Every ordered pair of subjects; choose some subjects, because their number grows with the square.
    """

    title = "Decathlon"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if (folder / _LIST).is_file():
            content = read_list(folder / _LIST)
            self.title = str(content.get("name", self.title))
            named = content.get("labels", {})
            self.labels = {int(value): str(name) for value, name in named.items() if int(value) != 0}
            files = [folder / str(entry["image"]) for entry in content.get("training", [])]
        else:
            files = [path for path in (folder / "images").glob("*") if path.is_file()]
        self._images = sorted(files)

    def pairs(self) -> list[Pair]:
        """Every subject registered to every other."""
        if len(self._images) < 2:
            raise EvaluationError(
                f"folder '{self.folder}' lists no two images; give a task with {_LIST}, or with images/ and labels/"
            )
        return ordered_pairs([self._scan(image) for image in self._images])

    def _scan(self, image: Path) -> Scan:
        folder = image.parent.parent / image.parent.name.replace("images", "labels")
        return Scan(stem(image), image=str(image), label=existing(folder / image.name))
