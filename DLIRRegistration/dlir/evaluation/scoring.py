"""One registered pair, measured (§4)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dlir.data.pair import Pair, Scan
from dlir.errors import EvaluationError
from dlir.evaluation.methods.base import Method, Registered
from dlir.evaluation.results import Key, Row, Topology
from dlir.io.points import Landmarks, mismatch
from dlir.io.reading import Volume
from dlir.metrics.consistency import inverse_consistency
from dlir.metrics.folding import jacobian_statistics, log_jacobian_sd
from dlir.metrics.labels import LabelScores, label_report
from dlir.metrics.landmarks import landmark_distances
from dlir.registration.initialization import initialize
from dlir.registration.loading import Loaded
from dlir.transforms.jacobian import jacobian_map
from dlir.transforms.resample import resample
from dlir.transforms.spatial import CompositeTransform


@dataclass(frozen=True, eq=False)
class LoadedScan:
    """A scan in memory, with what there is to measure by."""

    image: Volume
    label: Volume | None
    mask: Volume | None
    landmarks: Landmarks | None


@dataclass(frozen=True, eq=False)
class LoadedPair:
    """A pair in memory. structures: name by label value of what both label maps have and is to be scored."""

    pair: Pair
    fixed: LoadedScan
    moving: LoadedScan
    start: CompositeTransform
    structures: Mapping[int, str]

    @property
    def task(self) -> Loaded:
        """What a method gets to see: no labels, no landmarks."""
        return Loaded(self.fixed.image, self.moving.image, self.start, fixed_mask=self.fixed.mask)


def load_scan(scan: Scan) -> LoadedScan:
    """Reads all of a scan. Raises the errors of reading."""
    image = scan.read_image()
    return LoadedScan(image, scan.read_label(image), scan.read_mask(image), scan.read_landmarks(image))


def load_pair(pair: Pair, fixed: LoadedScan, moving: LoadedScan, labels: Mapping[int, str], mode: str) -> LoadedPair:
    """Two scans as a pair.

    labels: of the data set. mode: see `initialize`. A structure that one of the two label
    maps lacks is not scored. Raises EvaluationError for a label map that is missing, for two without a structure in
    common or whose names for it do not agree, and for landmarks that do not correspond; GeometryError where the images
    do not overlap.
    """
    structures = _structures(pair, fixed, moving, labels)
    a, b = fixed.landmarks, moving.landmarks
    if a is not None and b is not None and (wrong := mismatch(a, b)):
        raise EvaluationError(f"{pair.name}: {wrong}")
    some_label = fixed.label is not None or moving.label is not None
    if not structures and (labels or (some_label and (a is None or b is None))):
        raise EvaluationError(f"{pair.name}: no structure is in both label maps; correct them or leave the pair out")
    start = initialize(fixed.image, moving.image, None, mode).transform
    return LoadedPair(pair, fixed, moving, start, structures)


def _structures(pair: Pair, fixed: LoadedScan, moving: LoadedScan, labels: Mapping[int, str]) -> dict[int, str]:
    for scan, loaded, role in ((pair.fixed, fixed, "fixed"), (pair.moving, moving, "moving")):
        if labels and loaded.label is None:
            raise EvaluationError(f"{pair.name}: the {role} image '{scan.image}' has no label map; add it")
    if fixed.label is None or moving.label is None:
        return {}
    values = {segment.name: segment.value for segment in moving.label.segments}
    for segment in fixed.label.segments:
        if values.get(segment.name, segment.value) != segment.value:
            raise EvaluationError(
                f"{pair.name}: segment '{segment.name}' has the value {segment.value} in the fixed label map and "
                f"{values[segment.name]} in the moving one; give it one value"
            )
    common = [int(v) for v in np.intersect1d(fixed.label.array, moving.label.array) if v != 0]
    names = labels or {value: f"label {value}" for value in common}
    return {value: name for value, name in names.items() if value in common}


# -- measuring ----------------------------------------------------------------------------------------


def score(loaded: LoadedPair, method: Method, found: Registered, back: CompositeTransform | None, key: Key) -> Row:
    """The row of a registration, still without the file of its transform.

    back: the result of the same method with the roles exchanged, if there is one. key: under which it is recorded.
    """
    fixed, moving, transform = loaded.fixed, loaded.moving, found.transform
    grid = fixed.image.grid
    mask = None if fixed.mask is None else fixed.mask.array
    before, after = _landmarks(loaded, transform)
    return Row(
        data=key[0],
        pair=key[1],
        fixed_subject=loaded.pair.fixed.subject,
        moving_subject=loaded.pair.moving.subject,
        method=method.name,
        settings=key[2],
        seconds=None if found.seconds is None else round(found.seconds, 4),
        device=found.device,
        threads=torch.get_num_threads(),
        size=grid.size,
        masked=mask is not None,
        topology=_topology(jacobian_map(transform, grid), mask),
        labels=label_scores(loaded, transform),
        before=before,
        after=after,
        inverse_consistency=None if back is None else inverse_consistency(transform, back, grid, moving.image.grid),
    )


def _topology(determinant: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> Topology:
    figures = jacobian_statistics(determinant, mask)
    return Topology(
        100 * figures.folding_fraction, figures.sd, log_jacobian_sd(determinant, mask), figures.min, figures.max
    )


def label_scores(loaded: LoadedPair, transform: CompositeTransform) -> dict[str, LabelScores]:
    """Scores of the moving labels by structure, carried to the fixed image by nearest neighbour (§5.1).

    transform: fixed point -> moving point, LPS mm. Empty where there is nothing to score.
    """
    fixed, moving = loaded.fixed.label, loaded.moving.label
    if fixed is None or moving is None or not loaded.structures:
        return {}
    carried = resample(moving.array, moving.grid, transform, fixed.grid, "nearest")
    report = label_report(fixed.array, carried, fixed.grid, list(loaded.structures))
    return {name: report[value] for value, name in loaded.structures.items()}


def _landmarks(loaded: LoadedPair, transform: CompositeTransform) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Errors in mm at the start and registered: T(fixed landmark) against its moving counterpart."""
    fixed, moving = loaded.fixed.landmarks, loaded.moving.landmarks
    if fixed is None or moving is None:
        return (), ()
    before, after = (
        tuple(round(float(d), 4) for d in landmark_distances(by.apply(fixed.points), moving.points))
        for by in (loaded.start, transform)
    )
    if not all(map(math.isfinite, after)):
        raise EvaluationError(f"{loaded.pair.name}: the transform sends a landmark nowhere; look at the method")
    return before, after
