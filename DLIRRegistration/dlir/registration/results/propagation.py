"""Labels and landmarks carried from one image of a registered pair to the other, and how well they fit there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.io import Landmarks
from dlir.metrics.landmarks import error_statistics, landmark_distances
from dlir.metrics.scores import defined, structure_scores
from dlir.registration.loading import Loaded, in_place
from dlir.registration.request import Comparison
from dlir.registration.results.result import RegistrationResult
from dlir.transforms.inverse import InverseTransform
from dlir.transforms.resample import carry_to_moving, resample
from dlir.transforms.spatial import CompositeTransform


@dataclass(frozen=True, eq=False)
class Propagated:
    """What was carried, layer by layer as it was given, and what the report says of it.

    before, after: moving labels on the fixed grid, moved by the start alone and by the whole transform. backward:
    fixed labels on the moving grid. landmarks: of the moving image, on the fixed one, LPS mm.
    """

    before: list[NDArray[Any]]
    after: list[NDArray[Any]]
    backward: list[NDArray[Any]]
    landmarks: Landmarks | None
    report: dict[str, Any]


def propagate(
    loaded: Loaded, result: RegistrationResult, comparisons: Sequence[Comparison] | None = None
) -> Propagated:
    """Carry all labels and landmarks of a pair, and score them.

    comparisons: see `RegistrationRequest`. The report has "labels" where there are fixed labels to compare with,
    "inverse" where labels went backward, "moving_landmarks" where there are some, their "points" None where no fixed
    point maps to them, and "landmarks" where both images have them. What maps outside is 0, and labels keep their type.
    """
    report: dict[str, Any] = {}
    before, after = (
        [resample(layer.array, layer.grid, way, loaded.fixed.grid, "nearest") for layer in loaded.moving_labels]
        for way in (loaded.start, result.transform)
    )
    if loaded.fixed_labels and comparisons != ():
        report["labels"] = _label_scores(loaded, before, after, comparisons)
    backward: list[NDArray[Any]] = []
    if loaded.backward_labels:
        carried = carry_to_moving(loaded.backward_labels, result.transform, loaded.moving.grid)
        backward = carried.arrays
        report["inverse"] = {"largest_residual_mm": carried.largest_residual, "unsolved_voxels": carried.unsolved}
    landmarks = None
    if loaded.moving_landmarks is not None:
        landmarks, report["moving_landmarks"] = _carried(loaded.moving_landmarks, result.transform)
        if loaded.fixed_landmarks is not None:
            report["landmarks"] = _landmark_scores(loaded, result, loaded.fixed_landmarks, loaded.moving_landmarks)
    return Propagated(before, after, backward, landmarks, report)


def _label_scores(
    loaded: Loaded,
    before: Sequence[NDArray[Any]],
    after: Sequence[NDArray[Any]],
    comparisons: Sequence[Comparison] | None,
) -> dict[str, Any]:
    grid = loaded.fixed.grid
    fixed = [in_place(layer, grid) for layer in loaded.fixed_labels]
    if comparisons is None:
        present = sorted({int(value) for array in (*fixed, *before, *after) for value in np.unique(array)} - {0})
        comparisons = [Comparison(str(value), 0, value, 0, value) for value in present]
    return {
        pair.name: structure_scores(
            fixed[pair.fixed_layer] == pair.fixed_value,
            before[pair.layer] == pair.value,
            after[pair.layer] == pair.value,
            grid,
        )
        for pair in comparisons
    }


def _carried(landmarks: Landmarks, transform: CompositeTransform) -> tuple[Landmarks, dict[str, Any]]:
    inverse, points = InverseTransform(transform), landmarks.points.copy()
    found: NDArray[np.bool_] = np.all(np.isfinite(points), axis=1)
    points[found], found[found] = inverse.solve(points[found])
    return Landmarks(points, landmarks.labels), {
        "points": [place if known else None for place, known in zip(points.tolist(), found, strict=True)],
        "largest_residual_mm": defined(inverse.largest_residual),
        "unsolved": inverse.unsolved,
    }


def _landmark_scores(loaded: Loaded, result: RegistrationResult, fixed: Landmarks, moving: Landmarks) -> dict[str, Any]:
    """Target registration errors: T(fixed landmark) against its moving counterpart, where both are known."""
    known = np.isfinite(fixed.points).all(1) & np.isfinite(moving.points).all(1)
    report: dict[str, Any] = {"count": int(known.sum())}
    for when, way in (("before", loaded.start), ("after", result.transform)):
        errors = error_statistics(landmark_distances(way.apply(fixed.points[known]), moving.points[known]))
        figures = {"mean_mm": errors.mean, "sd_mm": errors.sd, "median_mm": errors.median, "max_mm": errors.max}
        report[when] = {name: defined(value) for name, value in figures.items()}
    return report
