"""The page of a result's nodes: the same that the command writes, from what is in the scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlir.registration.results.page import Plane, pair_page, slices
from DLIRRegistrationLib.registration.afterwards.folds import folds
from DLIRRegistrationLib.registration.report import rows_of
from DLIRRegistrationLib.scene.frames import grid_of_volume, points_lps
from DLIRRegistrationLib.scene.volumes import onto_grid, scalar_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dlir.geometry import ImageGrid


def report_page(
    fixed: Any,
    moving: Any,
    warped: Any,
    jacobian: Any | None,
    table: Any,
    level: str,
    reason: str,
    changes: str,
) -> str:
    """The page of a registered pair.

    fixed, moving, warped, jacobian: volume nodes. table: the node of the report. level, reason: the verdict. changes:
    in sentences. Raises GeometryError, and ImageError for a volume without an image.
    """
    found = folds(jacobian) if jacobian is not None else []
    worst = points_lps(np.array([found[0].position]))[0] if found else None
    planes = [
        Plane(
            name,
            _seen(fixed, plane),
            _seen(moving, plane),
            _seen(warped, plane),
            None if jacobian is None else _seen(jacobian, plane, outside=1.0),
        )
        for name, plane in slices(grid_of_volume(fixed), worst).items()
    ]
    return pair_page((moving.GetName(), fixed.GetName()), level, reason, changes.splitlines(), rows_of(table), planes)


def _seen(node: Any, plane: ImageGrid, outside: float | None = None) -> NDArray[Any]:
    """(rows, columns): a volume where it lies in the scene."""
    image = scalar_image(node)
    background = image.GetScalarRange()[0] if outside is None else outside
    return onto_grid(node, image, plane, nearest=False, background=background)[0]
