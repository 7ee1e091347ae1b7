"""What the benchmarks on the hippocampus share: the validation subjects, pairs drawn from them, a row per result.

The Medical Segmentation Decathlon's hippocampus crops: `images/` and `labels/` hold files of the same names, labels
1 anterior and 2 posterior. Sorted by name, the first 180 subjects are for training and the last 40 for validation.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dlir.evaluation.metrics import dice, jacobian_statistics
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume

TRAINING_SUBJECTS = 180
PAIRS = 200
SEED = 2019
LABELS = {1: "anterior", 2: "posterior"}


@dataclass(frozen=True)
class Subject:
    """One validation subject: image and label on one grid."""

    name: str
    image: Volume
    label: NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """One pair registered by one method; dice holds one value per name of LABELS."""

    method: str
    fixed: str
    moving: str
    seconds: float
    dice: dict[str, float]
    folding_percent: float
    jacobian_sd: float


def read_subjects(data: Path) -> dict[str, Subject]:
    """The validation subjects by name, in order."""
    subjects = {}
    for path in sorted((data / "images").glob("*.nii.gz"))[TRAINING_SUBJECTS:]:
        image = sitk.ReadImage(str(path), sitk.sitkFloat32)
        label = sitk.GetArrayFromImage(sitk.ReadImage(str(data / "labels" / path.name), sitk.sitkUInt8))
        name = path.name.removesuffix(".nii.gz")
        volume = Volume(sitk.GetArrayFromImage(image), ImageGrid.from_sitk(image), str(path))
        subjects[name] = Subject(name, volume, label)
    return subjects


def draw_pairs(names: Sequence[str], count: int = PAIRS) -> list[tuple[str, str]]:
    """`count` different ordered pairs (fixed, moving), the same every time; a smaller count gives the first of them."""
    ordered = [(a, b) for a in names for b in names if a != b]
    chosen = np.random.default_rng(SEED).permutation(len(ordered))[:count]
    return [ordered[i] for i in chosen]


def make_row(
    method: str, fixed: Subject, moving: Subject, label: NDArray[Any], determinant: NDArray[Any], seconds: float
) -> Row:
    """Figures of one result: the moving label carried over, and the determinant, on the fixed image's grid."""
    jacobian = jacobian_statistics(determinant)
    scores = {name: dice(fixed.label == value, label == value) for value, name in LABELS.items()}
    return Row(method, fixed.name, moving.name, round(seconds, 3), scores, 100 * jacobian.folding_fraction, jacobian.sd)


def append_row(path: Path, row: Row) -> None:
    """Add one line of JSON."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def read_rows(path: Path) -> list[Row]:
    """All rows of a file; none where it does not exist."""
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def common_pairs(rows: Sequence[Row]) -> list[Row]:
    """The rows of those pairs that every method has."""
    pairs: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        pairs.setdefault(row.method, set()).add((row.fixed, row.moving))
    shared = set.intersection(*pairs.values()) if pairs else set()
    return [row for row in rows if (row.fixed, row.moving) in shared]


def markdown_table(rows: Sequence[Row]) -> str:
    """One line per method, in order of appearance: means over its pairs, the median for seconds."""
    titles = ["method", "pairs", *(f"Dice {name}" for name in LABELS.values())]
    titles += ["folding %", "pairs that fold", "SD Jacobian", "seconds"]
    lines = [titles, ["---"] * len(titles)]
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        lines.append(
            [
                method,
                str(len(own)),
                *(f"{statistics.fmean(row.dice[name] for row in own):.3f}" for name in LABELS.values()),
                f"{statistics.fmean(row.folding_percent for row in own):.4f}",
                str(sum(row.folding_percent > 0 for row in own)),
                f"{statistics.fmean(row.jacobian_sd for row in own):.3f}",
                f"{statistics.median(row.seconds for row in own):.2f}",
            ]
        )
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
