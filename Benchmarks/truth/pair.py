"""One pair with truth: what is registered, and how a transform of it is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from dlir.data.pair import Pair, Scan
from dlir.errors import EvaluationError
from dlir.io.reading import Volume
from dlir.metrics.folding import jacobian_statistics, log_jacobian_sd
from dlir.transforms.jacobian import jacobian_map
from dlir.transforms.resample import resample
from dlir.transforms.spatial import CompositeTransform
from truth.damage import damaged
from truth.measures import (
    LabelMeasure,
    LandmarkMeasure,
    Measure,
    MotionMeasure,
    inner_points,
    known_motion,
    slight_motion,
    with_values,
)

Kind = Literal["own", "foreign", "damaged"]
Split = Literal["tune", "report"]
# labels: mean Dice. landmarks: their mean error. motion: of a moving image that was moved in a known way, the mean
# error. slight: of one that was moved by a voxel or so, the median one. still: of images that do not move against each
# other, the mean displacement.
Truth = Literal["labels", "landmarks", "motion", "slight", "still"]
Unit = Literal["dice", "mm"]

# The models that every pair is tried with.
MODELS = ("cardiac-cine", "hippocampus")
# Darker than this, in HU, is not body.
_AIR = -300.0


@dataclass(frozen=True, eq=False)
class TruthPair:
    """A pair and what is known of it.

    name: unique. group: of one organ, modality and source. split: thresholds are chosen on "tune", figures told of
    "report"; no subject is in both. pair: scans by files relative to `data`. start: where a registration of the pair
    begins, see `Initialization`. own: the model for such images, where there is one. damage: see `DAMAGES`; empty for
    none. undamaged: name of the pair that was damaged. seed: of damage and known motion. labels: value in the fixed
    label map by value in the moving one, where some are left out or the two maps have different values.
    """

    name: str
    group: str
    split: Split
    pair: Pair
    truth: Truth
    start: str
    own: str = ""
    damage: str = ""
    undamaged: str = ""
    seed: int = 0
    labels: Mapping[int, int] = field(default_factory=dict)
    data: Path = Path()

    @property
    def subjects(self) -> frozenset[str]:
        """Whose images they are, unique among all groups."""
        return frozenset(f"{self.group}/{scan.subject}" for scan in (self.pair.fixed, self.pair.moving))

    @property
    def unit(self) -> Unit:
        """Of the score: of Dice more is better, of mm less."""
        return "dice" if self.truth == "labels" else "mm"

    @property
    def models(self) -> tuple[str, ...]:
        """By name, to register the pair with; its own first. A damaged pair is for its own alone."""
        if self.damage:
            return (self.own,)
        return tuple(sorted(MODELS, key=lambda model: model != self.own))

    def kind(self, model: str) -> Kind:
        """What the pair is to a model."""
        if self.damage:
            return "damaged"
        return "own" if model == self.own else "foreign"

    def load(self) -> tuple[Volume, Volume]:
        """The fixed and the moving image, float32. Raises the errors of reading."""
        content = content_of(self)
        return content.fixed, content.moving

    def score(self, transform: CompositeTransform) -> float:
        """Of a transform, fixed point -> moving point in LPS mm, in the pair's unit."""
        return content_of(self).measure.score(transform)

    def measured(self, transform: CompositeTransform) -> dict[str, float]:
        """The score, and over the voxels of the fixed image the share in per cent that folds, the least determinant and
        the spread of its logarithm.
        """
        determinant = jacobian_map(transform, content_of(self).fixed.grid)
        found = jacobian_statistics(determinant)
        return {
            "score": self.score(transform),
            "folding": 100 * found.folding_fraction,
            "smallest": found.min,
            "spread": log_jacobian_sd(determinant),
        }


@dataclass(frozen=True, eq=False)
class Content:
    fixed: Volume
    moving: Volume
    measure: Measure


@lru_cache(maxsize=2)
def content_of(of: TruthPair) -> Content:
    fixed_scan, moving_scan = (_placed(scan, of.data) for scan in (of.pair.fixed, of.pair.moving))
    fixed, moving = fixed_scan.read_image(), moving_scan.read_image()
    if of.truth == "labels":
        fixed_label, moving_label = _label(fixed_scan, fixed), _label(moving_scan, moving)
        if of.damage:
            moving, moving_label = damaged(moving, moving_label, of.damage, of.seed)
        if of.labels:
            fixed_label = with_values(fixed_label, {value: value for value in of.labels.values()})
            moving_label = with_values(moving_label, of.labels)
        return Content(fixed, moving, LabelMeasure(fixed_label, moving_label))
    if of.truth == "landmarks":
        points = [scan.read_landmarks(image) for scan, image in ((fixed_scan, fixed), (moving_scan, moving))]
        if points[0] is None or points[1] is None:
            raise EvaluationError(f"{of.name}: both scans need landmarks")
        return Content(fixed, moving, LandmarkMeasure(points[0].points, points[1].points))
    if of.truth == "still":
        still = CompositeTransform(())
        tissue = inner_points(fixed, moving.grid, still, float(fixed.array.mean()))
        return Content(fixed, moving, MotionMeasure(tissue, still))
    slight = of.truth == "slight"
    motion = (slight_motion if slight else known_motion)(moving.grid, of.seed)
    array = resample(moving.array, moving.grid, motion, moving.grid)
    moving = Volume(array, moving.grid, f"{moving.source}, moved")
    above = float(fixed.array.mean()) if slight else _AIR
    points = inner_points(fixed, moving.grid, motion, above)
    return Content(fixed, moving, MotionMeasure(points, motion, median=slight))


def _label(scan: Scan, image: Volume) -> Volume:
    label = scan.read_label(image)
    if label is None:
        raise EvaluationError(f"'{scan.image}' needs a label map")
    return label


def _placed(scan: Scan, data: Path) -> Scan:
    """With names of files that can be opened from anywhere."""
    image, label, landmarks = (str(data / own) if own else "" for own in (scan.image, scan.label, scan.landmarks))
    return replace(scan, image=image, label=label, landmarks=landmarks)
