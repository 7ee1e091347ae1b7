"""Transform nodes that hold a chain of dlir's, as a registration's result does."""

from __future__ import annotations

from typing import Any

from dlir.geometry import ImageGrid
from dlir.transforms.spatial import CompositeTransform
from DLIRRegistrationLib.scene.sampling import padded
from DLIRRegistrationLib.scene.transforms import grid_transform_steps, sampled_transform, set_transform, vtk_transform
from stepping import exhausted


def set_native_transform(node: Any, chain: CompositeTransform) -> None:
    """Gives a transform node the exact transform; takes it from its parent."""
    set_transform(node, vtk_transform(chain))


def set_grid_transform(
    node: Any, chain: CompositeTransform, reference: ImageGrid, spacing_mm: float | None = None
) -> None:
    """Gives a transform node a displacement grid that covers `reference`; takes it from its parent.

    spacing_mm: between grid points; by default fine enough to stay within 0.05 mm of the exact transform.
    """
    if spacing_mm is None:
        steps = grid_transform_steps(chain, reference)
    else:
        steps = sampled_transform(vtk_transform(chain), padded(reference.with_spacing((spacing_mm,) * 3)))
    set_transform(node, exhausted(steps)[0])
