"""The paper's experiments, as far as they decide elastix's settings: intensities, resolutions and grid spacings."""

from __future__ import annotations

from dlir.geometry import Vector3
from dlir.model.spec import Preprocessing
from dlir.networks.spec import StageSpec

# Of ACDC, kept from training.
ACDC_SUBJECTS = [f"patient{number:03d}" for number in range(81, 101)]


def bspline(resolution: Vector3, spacing: Vector3) -> StageSpec:
    """A B-spline stage without regard to its network."""
    levels = max(round(s / r).bit_length() for s, r in zip(spacing, resolution, strict=True))
    return StageSpec("bspline", resolution, (1,) * levels, spacing)


# Table 1: cardiac cine MR, with one stage and with two.
CINE_SINGLE = (bspline((1.25, 1.25, 8.0), (10.0, 10.0, 8.0)),)
CINE_MULTI = (bspline((2.5, 2.5, 16.0), (20.0, 20.0, 16.0)), *CINE_SINGLE)
# §6.1: the minimum becomes 0, the 99th percentile 1.
CINE = Preprocessing((1.25, 1.25, 8.0), percentile=99.0)
# Table 5 and §8.1: 4D chest CT.
BREATHING = (
    bspline((4.0, 4.0, 5.0), (32.0, 32.0, 40.0)),
    bspline((2.0, 2.0, 2.5), (16.0, 16.0, 20.0)),
    bspline((1.0, 1.0, 2.5), (8.0, 8.0, 10.0)),
)
LUNG = Preprocessing((1.0, 1.0, 2.5), window=(-1000.0, -200.0))
