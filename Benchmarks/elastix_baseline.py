"""One registration of ACDC frames by itk-elastix under the paper's settings (§5.2, Table 1), for timing beside DLIR."""

from __future__ import annotations

from dataclasses import dataclass

from acdc import Frame
from designs import CINE, CINE_MULTI

from dlir.evaluation.methods.base import Task
from dlir.evaluation.methods.elastix import ElastixMethod
from dlir.io.reading import Volume
from dlir.transforms.spatial import CompositeTransform


@dataclass(frozen=True)
class Registered:
    """transform: fixed point -> moving point, LPS mm. seconds: of the registration alone."""

    transform: CompositeTransform
    seconds: float


def register(fixed: Frame, moving: Frame, bending_energy: bool) -> Registered:
    """Register with elastix in two resolutions."""
    volumes = [Volume(frame.intensity, frame.grid, role) for frame, role in ((fixed, "fixed"), (moving, "moving"))]
    method = ElastixMethod("elastix", CINE_MULTI, CINE, bending=bending_energy)
    found = method.register(Task(volumes[0], volumes[1], CompositeTransform(())))
    assert found.seconds is not None  # elastix always does something
    return Registered(found.transform, found.seconds)
