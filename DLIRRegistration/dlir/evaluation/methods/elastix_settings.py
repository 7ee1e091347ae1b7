"""elastix's parameters from the same stage specifications as a model's: the paper's comparison (§5.2)."""

from __future__ import annotations

from collections.abc import Sequence

from dlir.geometry import Vector3
from dlir.networks.spec import StageSpec

ITERATIONS = 500
SAMPLES = 2000
BENDING_WEIGHT = 0.05
SEED = 2019

ParameterMap = dict[str, list[str]]

_COMMON: ParameterMap = {
    "FixedInternalImagePixelType": ["float"],
    "MovingInternalImagePixelType": ["float"],
    "FixedImageDimension": ["3"],
    "MovingImageDimension": ["3"],
    "UseDirectionCosines": ["true"],
    "FixedImagePyramid": ["FixedSmoothingImagePyramid"],
    "MovingImagePyramid": ["MovingSmoothingImagePyramid"],
    "Interpolator": ["LinearInterpolator"],
    "ResampleInterpolator": ["FinalBSplineInterpolator"],
    "FinalBSplineInterpolationOrder": ["1"],
    "Resampler": ["DefaultResampler"],
    "Optimizer": ["AdaptiveStochasticGradientDescent"],
    "AutomaticParameterEstimation": ["true"],
    "ASGDParameterEstimationMethod": ["Original"],
    "UseAdaptiveStepSizes": ["true"],
    "MaximumNumberOfIterations": [str(ITERATIONS)],
    "ImageSampler": ["RandomCoordinate"],
    "NumberOfSpatialSamples": [str(SAMPLES)],
    "NewSamplesEveryIteration": ["true"],
    "UseRandomSampleRegion": ["false"],
    "CheckNumberOfSamples": ["true"],
    "MaximumNumberOfSamplingAttempts": ["8"],
    "RequiredRatioOfValidSamples": ["0.05"],
    "RandomSeed": [str(SEED)],
    "ErodeMask": ["false"],
    "HowToCombineTransforms": ["Compose"],
    "WriteResultImage": ["true"],
    "ResultImagePixelType": ["float"],
    "DefaultPixelValue": ["0"],
}
_PLAIN: ParameterMap = {"Registration": ["MultiResolutionRegistration"], "Metric": ["AdvancedNormalizedCorrelation"]}
_WITH_BENDING: ParameterMap = {
    "Registration": ["MultiMetricMultiResolutionRegistration"],
    "Metric": ["AdvancedNormalizedCorrelation", "TransformBendingEnergyPenalty"],
    "Metric0Weight": ["1.0"],
    "Metric1Weight": [str(BENDING_WEIGHT)],
}


def parameter_maps(stages: Sequence[StageSpec], *, bending: bool) -> list[ParameterMap]:
    """One map for the affine stage, if there is one, and one for all B-spline stages, coarse to fine.

    A B-spline stage becomes a resolution with its own grid spacing and smoothing; the finest one's image is used
    as it is, each coarser one's smoothed by the ratio of their resolutions. The affine map is found on the image as it
    is: neither smoothing nor several resolutions bring hippocampi of two persons closer. bending: with the bending
    energy as a second metric, of which elastix's definition is per mm and not the paper's.
    """
    maps = [_affine() for stage in stages if stage.kind == "affine"]
    deformable = [stage for stage in stages if stage.kind == "bspline"]
    return [*maps, *([_bspline(deformable, bending)] if deformable else [])]


def _affine() -> ParameterMap:
    return {
        **_PLAIN,
        **_COMMON,
        "Transform": ["AffineTransform"],
        "NumberOfResolutions": ["1"],
        "ImagePyramidSchedule": ["1", "1", "1"],
        "AutomaticScalesEstimation": ["true"],
        # Every method starts from the same place, so elastix must not choose another.
        "AutomaticTransformInitialization": ["false"],
    }


def _bspline(stages: Sequence[StageSpec], bending: bool) -> ParameterMap:
    spacings = [stage.grid_spacing for stage in stages if stage.grid_spacing is not None]
    return {
        **(_WITH_BENDING if bending else _PLAIN),
        **_COMMON,
        "Transform": ["BSplineTransform"],
        "BSplineTransformSplineOrder": ["3"],
        "NumberOfResolutions": [str(len(stages))],
        "FinalGridSpacingInPhysicalUnits": [str(float(s)) for s in spacings[-1]],
        "GridSpacingSchedule": [f"{a / b:g}" for own in spacings for a, b in zip(own, spacings[-1], strict=True)],
        "ImagePyramidSchedule": [f for stage in stages for f in _factors(stage.resolution, stages[-1].resolution)],
    }


def _factors(coarse: Vector3, fine: Vector3) -> list[str]:
    """Whole numbers, as elastix's pyramids need."""
    return [str(max(1, round(c / f))) for c, f in zip(coarse, fine, strict=True)]
