"""The exact parameters of a transform as plain arrays, for a reader that knows numpy only."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform


def parts_of(transform: CompositeTransform) -> dict[str, NDArray[Any]]:
    """The exact parameters of a transform in LPS mm, as plain arrays.

    `bspline_0` (3, gz, gy, gx), with its control points on the grid `grid_0` (JSON), is applied first, then
    `bspline_1`..., then `affine` (4, 4). B-splines after that come under the same names with `initial_` before them,
    and what is after their affine with `initial_initial_`.
    """
    arrays: dict[str, NDArray[Any]] = {"affine": np.eye(4)}
    prefix, number, bent = "", 0, True
    for part in transform.parts:
        if isinstance(part, AffineTransform):
            arrays[f"{prefix}affine"] = part.matrix @ arrays[f"{prefix}affine"]
            bent = False
        elif isinstance(part, BSplineTransform):
            if not bent:
                prefix, number, bent = f"{prefix}initial_", 0, True
                arrays[f"{prefix}affine"] = np.eye(4)
            arrays[f"{prefix}bspline_{number}"] = part.coefficients
            arrays[f"{prefix}grid_{number}"] = np.array(json.dumps(part.grid.to_dict()))
            number += 1
    return arrays


def npz(arrays: dict[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
