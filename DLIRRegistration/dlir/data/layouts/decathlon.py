"""Medical Segmentation Decathlon, nnU-Net: one labelled image per subject, registered between subjects (§7 in kind)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dlir.data.layouts.lists import read_list
from dlir.data.pair import DataFolder, Pair, Scan, existing, ordered_pairs
from dlir.errors import EvaluationError, note
from dlir.io.source import stem

_LIST = "dataset.json"
# How nnU-Net marks the first of the images of a subject, one for each channel.
_CHANNEL, _FIRST = re.compile("_[0-9]{4}$"), "_0000"
# The hippocampi, which Task04 numbers side by side: 2k - 1 and 2k are one person's.
_SIDE = re.compile("hippocampus_([0-9]{3})(_[0-9]{4})?")
# What nnU-Net calls voxels that are not to be scored.
_IGNORED = "ignore"

# An image and, where a list names it, its label.
_Files = tuple[Path, Path | None]


class Decathlon(DataFolder):
    """A task's folder with dataset.json, imagesTr/ and labelsTr/, or simply images/ and labels/ with equal names.

    As the Decathlon or either version of nnU-Net lays it out; of several channels the first. Every ordered pair of
    images of two subjects; choose some subjects, because their number grows with the square. An image is a subject,
    but for the two sides of one person that Task04 has.
    """

    title = "Decathlon"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        content = read_list(folder / _LIST) if (folder / _LIST).is_file() else None
        if content is None:
            files: list[_Files] = [(path, None) for path in (folder / "images").glob("*") if path.is_file()]
        else:
            self.title = str(content.get("name", self.title))
            self.labels = _labels(folder / _LIST, content.get("labels", {}))
            files = list(_listed(folder, content))
            channels = content.get("channel_names", content.get("modality"))
            if isinstance(channels, dict) and len(channels) > 1:
                note(f"'{folder}' has {len(channels)} channels; where they are files of their own, the first is taken")
        self._scans = sorted((_scan(image, label) for image, label in files), key=lambda scan: scan.image)

    def pairs(self) -> list[Pair]:
        """Every image registered to every other subject's; to each other where all are one subject's."""
        if len(self._scans) < 2:
            raise EvaluationError(
                f"folder '{self.folder}' lists no two images; give a task with {_LIST}, or with images/ and labels/"
            )
        pairs = ordered_pairs(self._scans)
        return [pair for pair in pairs if pair.fixed.subject != pair.moving.subject] or pairs


def person_of(name: str) -> str:
    """Whose image it is, as far as the Decathlon's name of it says: "person167", or the name itself."""
    side = _SIDE.fullmatch(name)
    return name if side is None else f"person{(int(side[1]) + 1) // 2:03d}"


def _labels(file: Path, named: Any) -> Mapping[int, str]:
    """Structures by value, from {"1": name} or {name: 1}; without the background.

    Raises EvaluationError for anything else, such as regions of several values.
    """
    try:
        pairs = [(name, value) if isinstance(value, int) else (value, name) for name, value in named.items()]
        labels = {int(value): str(name) for name, value in pairs if name != _IGNORED}
    except (AttributeError, TypeError, ValueError):
        raise EvaluationError(
            f"'{file}' has labels that are not one name and one whole number each; correct them"
        ) from None
    return {value: name for value, name in labels.items() if value != 0}


def _listed(folder: Path, content: Mapping[str, Any]) -> Iterator[_Files]:
    """The files of each subject. Raises EvaluationError for entries of another form."""
    try:
        if "training" in content:
            for entry in content["training"]:
                yield folder / entry["image"], folder / entry["label"] if "label" in entry else None
        elif "dataset" in content:
            for entry in content["dataset"].values():
                yield folder / entry["images"][0], folder / entry["label"]
        else:
            ending = str(content.get("file_ending", ".nii.gz"))
            yield from ((path, None) for path in (folder / "imagesTr").glob(f"*{_FIRST}{ending}"))
    except (AttributeError, IndexError, KeyError, TypeError):
        raise EvaluationError(
            f"'{folder / _LIST}' does not name an image and a label for each subject; correct it"
        ) from None


def _scan(image: Path, label: Path | None) -> Scan:
    """An image, whose file may be named with its channel although the list and the label are not, and its label."""
    name, ending = stem(image), image.name.removeprefix(stem(image))
    if not image.exists() and (first := image.with_name(name + _FIRST + ending)).exists():
        image = first
    beside = image.parent.parent / image.parent.name.replace("images", "labels")
    found = label or beside / (name + ending)
    if label is None and not found.exists():
        name = _CHANNEL.sub("", name)
        found = beside / (name + ending)
    subject = person_of(name)
    return Scan(subject, "" if subject == name else name, str(image), existing(found))
