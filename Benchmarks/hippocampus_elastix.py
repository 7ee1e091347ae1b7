"""Register pairs of validation hippocampi with itk-elastix: affine, then B-splines, in the manner of the paper (§5.2).

    python Benchmarks/hippocampus_elastix.py --data HIPPOCAMPUS --pairs 30 --output FILE.jsonl

The parameters are generated from the stages of the preset: one resolution per deformable stage, its grid spacing and
image resolution, 500 iterations of 2,000 samples each. Rows that the file holds already are not computed again.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

# elastix crashes with several metrics when its own interface sets the thread count, and ITK reads this variable as
# it is imported.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "2")

import itk
import numpy as np
from hippocampus_pairs import SEED, Subject, append_row, draw_pairs, make_row, markdown_table, read_rows, read_subjects
from numpy.typing import NDArray

from dlir.geometry import ImageGrid
from dlir.model.catalogue import resource_folder
from dlir.networks.spec import StageSpec
from dlir.training.config_file import load_config

ITERATIONS = 500
SAMPLES = 2000
PERCENTILE = 99
BENDING_WEIGHT = 0.05


def common_parameters() -> dict[str, list[str]]:
    """What both steps share."""
    return {
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
        "Registration": ["MultiResolutionRegistration"],
        "Metric": ["AdvancedNormalizedCorrelation"],
    }


def affine_parameters(schedule: list[str]) -> dict[str, list[str]]:
    """An affine registration from the image centres; schedule: shrink factors, three for each resolution."""
    return common_parameters() | {
        "Transform": ["AffineTransform"],
        "NumberOfResolutions": [str(len(schedule) // 3)],
        "ImagePyramidSchedule": schedule,
        "AutomaticScalesEstimation": ["true"],
        "AutomaticTransformInitialization": ["true"],
        "AutomaticTransformInitializationMethod": ["GeometricalCenter"],
    }


def bspline_parameters(stages: list[StageSpec], bending_energy: bool) -> dict[str, list[str]]:
    """One resolution for each stage, coarse to fine; all resolutions are multiples of the last stage's."""
    last = stages[-1]
    assert last.grid_spacing is not None
    grid, image = [], []
    for stage in stages:
        assert stage.grid_spacing is not None
        grid += [str(own / final) for own, final in zip(stage.grid_spacing, last.grid_spacing, strict=True)]
        image += [str(own / final) for own, final in zip(stage.resolution, last.resolution, strict=True)]
    parameters = common_parameters() | {
        "Transform": ["BSplineTransform"],
        "BSplineTransformSplineOrder": ["3"],
        "NumberOfResolutions": [str(len(stages))],
        "FinalGridSpacingInPhysicalUnits": [str(s) for s in last.grid_spacing],
        "GridSpacingSchedule": grid,
        "ImagePyramidSchedule": image,
    }
    if bending_energy:
        parameters |= {
            "Registration": ["MultiMetricMultiResolutionRegistration"],
            "Metric": ["AdvancedNormalizedCorrelation", "TransformBendingEnergyPenalty"],
            "Metric0Weight": ["1.0"],
            "Metric1Weight": [str(BENDING_WEIGHT)],
        }
    return parameters


def itk_image(array: NDArray[Any], grid: ImageGrid) -> Any:
    """An ITK image, float, of `array` (z, y, x) on `grid`."""
    image = itk.image_from_array(np.ascontiguousarray(array, np.float32))
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(itk.matrix_from_array(grid.direction_matrix))
    return image


def scaled(subject: Subject) -> Any:
    """The image with its minimum at 0 and the percentile that the networks use at 1."""
    array = subject.image.array
    low, high = array.min(), np.percentile(array, PERCENTILE)
    return itk_image(((array - low) / (high - low)).clip(0, 1), subject.image.grid)


def register(fixed: Subject, moving: Subject, maps: list[dict[str, list[str]]]) -> tuple[Any, Any, float]:
    """The moving label and the determinant on the fixed grid, and the seconds of the registration alone."""
    parameters = itk.ParameterObject.New()
    for parameter_map in maps:
        parameters.AddParameterMap(parameter_map)
    start = time.perf_counter()
    _, transform = itk.elastix_registration_method(
        scaled(fixed), scaled(moving), parameter_object=parameters, log_to_console=False
    )
    seconds = time.perf_counter() - start
    transform.SetParameter("ResampleInterpolator", "FinalNearestNeighborInterpolator")
    transformix = itk.TransformixFilter.New(itk_image(moving.label, moving.image.grid))
    transformix.SetTransformParameterObject(transform)
    transformix.LogToConsoleOff()
    transformix.Update()
    label = np.rint(itk.array_from_image(transformix.GetOutput())).astype(np.uint8)
    return label, itk.array_from_image(transformix.ComputeSpatialJacobianDeterminantImage()), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds images and labels")
    parser.add_argument("--pairs", type=int, default=30, help="the first so many of the benchmark's pairs")
    parser.add_argument("--output", type=Path, required=True, help="JSON-lines file to add rows to")
    options = parser.parse_args()
    stages = load_config(resource_folder("Presets") / "hippocampus.yaml").spec.stages
    affine = affine_parameters(["4", "4", "4", "2", "2", "2", "1", "1", "1"])
    deformable = [stage for stage in stages if stage.kind == "bspline"]
    variants = {
        "elastix affine": [affine],
        "elastix affine + B-spline": [affine, bspline_parameters(deformable, bending_energy=False)],
        "elastix affine + B-spline, bending energy": [affine, bspline_parameters(deformable, bending_energy=True)],
    }
    subjects = read_subjects(options.data)
    done = {(row.method, row.fixed, row.moving) for row in read_rows(options.output)}
    for fixed, moving in draw_pairs(list(subjects), options.pairs):
        for method, maps in variants.items():
            if (method, fixed, moving) not in done:
                label, determinant, seconds = register(subjects[fixed], subjects[moving], maps)
                append_row(
                    options.output, make_row(method, subjects[fixed], subjects[moving], label, determinant, seconds)
                )
                print(f"{method} {fixed} {moving}: {seconds:.1f} s", flush=True)
    print(markdown_table(read_rows(options.output)))


if __name__ == "__main__":
    main()
