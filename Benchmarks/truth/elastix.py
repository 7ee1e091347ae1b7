"""elastix's own default settings on any pair, which a verdict is measured against."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from dlir.errors import DLIRError
from dlir.evaluation.methods.elastix import ElastixMethod
from dlir.evaluation.methods.elastix_settings import SEED, ParameterMap
from dlir.io.reading import Volume
from dlir.io.source import without_folders
from dlir.model.preprocessing import intensity_range
from dlir.model.spec import Preprocessing
from dlir.registration.initialization import initialize
from dlir.registration.loading import Loaded
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from truth.pair import TruthPair
from truth.records import Baseline
from truth.store import ROOT

# The paper's settings with two stages, of which pair by pair records are kept.
_PAPER, _PAPER_RECORDS = "SE multi", ROOT / "Benchmarks" / "results" / "table2.jsonl"
_HEARTS = ("acdc", "sunnybrook")
# Final spacing of control points in mm.
_GRID, _FINE_GRID = "10", "5"

_STEPS: ParameterMap = {
    "Registration": ["MultiResolutionRegistration"],
    "NumberOfResolutions": ["4"],
    "FixedImagePyramid": ["FixedSmoothingImagePyramid"],
    "MovingImagePyramid": ["MovingSmoothingImagePyramid"],
    "Interpolator": ["LinearInterpolator"],
    "ResampleInterpolator": ["FinalBSplineInterpolator"],
    "Resampler": ["DefaultResampler"],
    "Optimizer": ["AdaptiveStochasticGradientDescent"],
    "AutomaticParameterEstimation": ["true"],
    "AutomaticTransformInitialization": ["false"],
    "MaximumNumberOfIterations": ["256"],
    "ImageSampler": ["RandomCoordinate"],
    "NumberOfSpatialSamples": ["2048"],
    "NumberOfSamplesForExactGradient": ["4096"],
    "NewSamplesEveryIteration": ["true"],
    "CheckNumberOfSamples": ["true"],
    "MaximumNumberOfSamplingAttempts": ["8"],
    "RequiredRatioOfValidSamples": ["0.05"],
    "RandomSeed": [str(SEED)],
    "HowToCombineTransforms": ["Compose"],
    "WriteResultImage": ["false"],
}


def default_maps(pair: TruthPair) -> list[ParameterMap]:
    """elastix's default rigid, affine and B-spline maps, without the bending energy of the last.

    Two images of one modality and organ whose intensities are alike, hearts, are compared by correlation.
    """
    metric = "AdvancedNormalizedCorrelation" if pair.group in _HEARTS else "AdvancedMattesMutualInformation"
    spacing = _FINE_GRID if pair.group == "hippocampus" else _GRID
    linear = {**_STEPS, "Metric": [metric], "AutomaticScalesEstimation": ["true"]}
    return [
        {**linear, "Transform": ["EulerTransform"]},
        {**linear, "Transform": ["AffineTransform"]},
        {
            **_STEPS,
            "Metric": [metric],
            "Transform": ["BSplineTransform"],
            "FinalGridSpacingInPhysicalUnits": [spacing],
            "GridSpacingSchedule": ["2.8284271247461903", "2", "1.4142135623730951", "1"],
        },
    ]


def measured(pair: TruthPair) -> Baseline:
    """The pair where it starts, and after elastix, which is run unless its result is known already."""
    fixed, moving = pair.load()
    shift = AffineTransform.translation(tuple(moving.grid.center - fixed.grid.center))
    starts = {"scanner": CompositeTransform(()), "centers": CompositeTransform((shift,))}
    scores = {name: pair.score(transform) for name, transform in starts.items()}
    found = Baseline(scores[pair.start], None, scores["scanner"], scores["centers"])
    if (kept := _kept(pair)) is not None:
        return replace(found, elastix=kept, method=f"{_PAPER} of {_PAPER_RECORDS.stem}")
    found = replace(found, method="default maps")
    method = ElastixMethod("elastix", (), Preprocessing((1, 1, 1)), maps=default_maps(pair))
    try:
        start = initialize(fixed, moving, None, pair.start)
        done = method.register(Loaded(clipped(fixed), clipped(moving), start.transform))
    except DLIRError as error:
        return replace(found, problem=without_folders(str(error)))
    seconds = None if done.seconds is None else round(done.seconds, 1)
    return replace(found, elastix=pair.score(done.transform), seconds=seconds)


def _kept(pair: TruthPair) -> float | None:
    """elastix's mean Dice in the records of table 2, for a pair that is there as it is."""
    return None if pair.group not in _HEARTS or pair.damage else _paper(_PAPER_RECORDS)[pair.pair.name]


def _paper(file: Path) -> dict[str, float]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {
        row["pair"]: float(np.mean([scores["dice"] for scores in row["labels"].values()]))
        for row in rows
        if row["method"] == _PAPER
    }


def clipped(volume: Volume) -> Volume:
    """Without padding and single bright voxels, by which the bins of a histogram would be spread."""
    low, high = intensity_range(volume.array, Preprocessing((1, 1, 1), percentile=99.9))
    return replace(volume, array=volume.array.clip(low, high))
