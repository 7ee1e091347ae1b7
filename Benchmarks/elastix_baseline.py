"""Register ED and ES of ACDC patients with itk-elastix under the paper's settings (§5.2, §6).

    python Benchmarks/elastix_baseline.py --data ACDC --patients 081 085 --variants multi multi_be --output FILE.jsonl

appends one row per registration to FILE.jsonl, in the schema of `Benchmarks/tables.py`; rows that the file
holds already are not computed again. Needs the bench extra (itk-elastix) and the `dlir` package.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# elastix crashes with several metrics when its own interface sets the thread count, and ITK reads this
# variable as it is imported.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "2")

import itk
import numpy as np
import SimpleITK as sitk
from acdc import DIRECTIONS, Frame, Registered, make_row, read_frames, resized, scaled
from numpy.typing import NDArray
from tables import Row, append_row, read_rows, row_key

from dlir.geometry import ImageGrid

GRID_SPACING_MM = (10.0, 10.0, 8.0)
RESOLUTIONS = 2
ITERATIONS = 500
SAMPLES = 2000
BENDING_WEIGHT = 0.05
SEED = 2019
LARGE_REPETITIONS = 3
VARIANTS = ("identity", "multi", "multi_be", "multi_256x256x12")


def parameter_map(bending_energy: bool) -> dict[str, list[str]]:
    """elastix's parameters for the paper's multi-resolution B-spline registration of cine MR."""
    metric = {
        "Registration": ["MultiResolutionRegistration"],
        "Metric": ["AdvancedNormalizedCorrelation"],
    }
    if bending_energy:
        metric = {
            "Registration": ["MultiMetricMultiResolutionRegistration"],
            "Metric": ["AdvancedNormalizedCorrelation", "TransformBendingEnergyPenalty"],
            "Metric0Weight": ["1.0"],
            "Metric1Weight": [str(BENDING_WEIGHT)],
        }
    # Each resolution halves both the grid spacing and the voxels of the one before it.
    schedule = [str(2**level) for level in reversed(range(RESOLUTIONS)) for _axis in range(3)]
    return metric | {
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
        "Transform": ["BSplineTransform"],
        "BSplineTransformSplineOrder": ["3"],
        "NumberOfResolutions": [str(RESOLUTIONS)],
        "FinalGridSpacingInPhysicalUnits": [str(s) for s in GRID_SPACING_MM],
        "GridSpacingSchedule": schedule,
        "ImagePyramidSchedule": schedule,
    }


def register(fixed: Frame, moving: Frame, bending_energy: bool) -> Registered:
    """Register with elastix, and carry the moving label over to the fixed grid with nearest neighbour."""
    fixed_image, moving_image = (_itk_image(scaled(f.intensity), f.grid) for f in (fixed, moving))
    parameters = itk.ParameterObject.New()
    parameters.AddParameterMap(parameter_map(bending_energy))
    start = time.perf_counter()
    _warped, transform = itk.elastix_registration_method(
        fixed_image, moving_image, parameter_object=parameters, log_to_console=False
    )
    seconds = time.perf_counter() - start
    transform.SetParameter("ResampleInterpolator", "FinalNearestNeighborInterpolator")
    # A filter of one type only is wrapped: labels up to 255 are exact as float.
    transformix = itk.TransformixFilter.New(_itk_image(moving.label.astype(np.float32), moving.grid))
    transformix.SetTransformParameterObject(transform)
    transformix.LogToConsoleOff()
    transformix.Update()
    label = np.rint(itk.array_from_image(transformix.GetOutput())).astype(np.uint8)
    determinant = itk.array_from_image(transformix.ComputeSpatialJacobianDeterminantImage())
    return Registered(label, determinant, seconds)


def evaluate(variant: str, fixed: Frame, moving: Frame) -> Registered:
    """The outcome of one variant; "identity" does nothing but look the moving label up on the fixed grid."""
    if variant != "identity":
        return register(fixed, moving, bending_energy=variant == "multi_be")
    reference = fixed.grid.to_sitk(fixed.label)
    label = sitk.Resample(moving.grid.to_sitk(moving.label), reference, sitk.Transform(), sitk.sitkNearestNeighbor)
    return Registered(sitk.GetArrayFromImage(label), np.ones(fixed.grid.shape, np.float32), 0.0)


def rows(data: Path, patients: list[str], variants: list[str], done: set[tuple[str, str, str, int]]) -> Iterator[Row]:
    """The rows of every patient, direction and variant that is not in `done`, as they are finished."""
    for patient in patients:
        frames = read_frames(data, patient)
        for variant in variants:
            large = variant == "multi_256x256x12"
            for direction in DIRECTIONS[:1] if large else DIRECTIONS:
                moving, fixed = (frames[phase] for phase in direction.split("-to-"))
                if large:
                    moving, fixed = resized(moving), resized(fixed)
                for run in range(LARGE_REPETITIONS if large else 1):
                    method = variant if variant == "identity" else f"elastix {variant}"
                    if (method, patient, direction, run) in done:
                        continue
                    yield make_row(method, patient, direction, run, fixed, evaluate(variant, fixed, moving))


def _itk_image(array: NDArray[Any], grid: ImageGrid) -> Any:
    """An ITK image, float, of `array` (z, y, x) on `grid`."""
    image = itk.image_from_array(np.ascontiguousarray(array))
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(itk.matrix_from_array(grid.direction_matrix))
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds patient001, patient002, …")
    parser.add_argument("--patients", nargs="+", required=True, help="numbers of three digits, such as 081")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["multi", "multi_be"])
    parser.add_argument("--output", type=Path, required=True, help="JSON-lines file to add rows to")
    options = parser.parse_args()
    done = {row_key(row) for row in read_rows(options.output)} if options.output.exists() else set()
    for row in rows(options.data, options.patients, options.variants, done):
        append_row(options.output, row)
        print(f"{row.method} {row.patient} {row.direction} run {row.run}: {row.seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
