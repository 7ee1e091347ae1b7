"""What a registration gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlir.transforms.spatial import CompositeTransform

if TYPE_CHECKING:
    from dlir.registration.oneshot import Prediction
    from dlir.registration.optimising import Optimising


@dataclass(frozen=True, eq=False)
class RegistrationResult:
    """One registered pair; every array lies on the fixed image's grid, (z, y, x).

    transform: fixed point -> moving point, LPS mm, exact parameters.
    warped: moving image resampled linearly through it, float32; the moving image's minimum outside of it.
    jacobian: determinant of the transform, float32.
    inside: whether the voxel maps inside the moving image.
    initialization: how the images were brought together before the first stage, for the report.
    seconds: time of each step, in order. prediction: what the networks made of the pair, for the verdict; None
    without any. optimising: what the pair was optimised by; None where it was not. error_map: the error to expect in
    mm; None where that was not asked for.
    """

    transform: CompositeTransform
    warped: NDArray[np.float32]
    jacobian: NDArray[np.float32]
    inside: NDArray[np.bool_]
    initialization: dict[str, Any]
    device: str
    seconds: dict[str, float] = field(default_factory=dict)
    prediction: Prediction | None = None
    optimising: Optimising | None = None
    error_map: NDArray[np.float32] | None = None
