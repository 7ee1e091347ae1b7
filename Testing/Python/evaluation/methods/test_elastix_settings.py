"""elastix's parameters from stage specifications, against those of the paper's experiments written out."""

from __future__ import annotations

import pytest

from dlir.evaluation.methods.elastix_settings import parameter_maps
from dlir.networks.spec import StageSpec


def bspline(resolution: tuple[float, float, float], spacing: tuple[float, float, float]) -> StageSpec:
    levels = max(round(s / r).bit_length() for s, r in zip(spacing, resolution, strict=True))
    return StageSpec("bspline", resolution, (1,) * levels, spacing)


CINE = (bspline((2.5, 2.5, 16), (20, 20, 16)), bspline((1.25, 1.25, 8), (10, 10, 8)))  # Table 1
CHEST = (
    StageSpec("affine", (8, 8, 8), (1, 1, 1)),
    *(bspline((r, r, r), (8 * r, 8 * r, 8 * r)) for r in (8.0, 4.0, 2.0)),
)  # Table 3
BREATHING = (
    bspline((4, 4, 5), (32, 32, 40)),
    bspline((2, 2, 2.5), (16, 16, 20)),
    bspline((1, 1, 2.5), (8, 8, 10)),
)  # Table 5

# As Resources/Presets/hippocampus.yaml: one spacing twice, at two resolutions.
HIPPOCAMPUS = (bspline((2, 2, 2), (8, 8, 8)), bspline((2, 2, 2), (4, 4, 4)), bspline((1, 1, 1), (4, 4, 4)))


@pytest.mark.parametrize(
    ("stages", "spacing", "grid", "pyramid"),
    [
        (CINE[1:], "10.0 10.0 8.0", "1 1 1", "1 1 1"),
        (CINE, "10.0 10.0 8.0", "2 2 2 1 1 1", "2 2 2 1 1 1"),
        (CHEST, "16.0 16.0 16.0", "4 4 4 2 2 2 1 1 1", "4 4 4 2 2 2 1 1 1"),
        (BREATHING, "8.0 8.0 10.0", "4 4 4 2 2 2 1 1 1", "4 4 2 2 2 1 1 1 1"),
        (CHEST[:2], "64.0 64.0 64.0", "1 1 1", "1 1 1"),
        (HIPPOCAMPUS, "4.0 4.0 4.0", "2 2 2 1 1 1 1 1 1", "2 2 2 2 2 2 1 1 1"),
    ],
    ids=["cine, one stage", "cine, two stages", "chest", "4D chest", "chest, first stages", "one spacing twice"],
)
def test_stages_become_resolutions(stages: tuple[StageSpec, ...], spacing: str, grid: str, pyramid: str) -> None:
    values = parameter_maps(stages, bending=False)[-1]
    assert values["Transform"] == ["BSplineTransform"]
    assert " ".join(values["FinalGridSpacingInPhysicalUnits"]) == spacing
    assert " ".join(values["GridSpacingSchedule"]) == grid
    assert " ".join(values["ImagePyramidSchedule"]) == pyramid
    assert values["NumberOfResolutions"] == [str(len(grid.split()) // 3)]


def test_the_optimiser_is_the_papers() -> None:
    for values in parameter_maps(CHEST, bending=True):
        assert values["Optimizer"] == ["AdaptiveStochasticGradientDescent"]
        assert values["MaximumNumberOfIterations"] == ["500"]
        assert values["NumberOfSpatialSamples"] == ["2000"]
        assert values["Metric"][0] == "AdvancedNormalizedCorrelation"


def test_an_affine_stage_comes_first_and_is_the_same_whatever_follows() -> None:
    affine, deformable = parameter_maps(CHEST, bending=True)
    assert affine["Transform"] == ["AffineTransform"]
    assert affine["ImagePyramidSchedule"] == ["1", "1", "1"]
    assert affine["Metric"] == ["AdvancedNormalizedCorrelation"]  # an affine map bends nothing
    assert deformable["Metric"][1] == "TransformBendingEnergyPenalty"
    for count in (1, 2, 3):
        assert parameter_maps(CHEST[:count], bending=True)[0] == affine
    assert len(parameter_maps(CHEST[:1], bending=True)) == 1


def test_bending_energy_is_a_second_metric() -> None:
    plain, bending = (parameter_maps(CINE, bending=wanted)[0] for wanted in (False, True))
    changed = {key for key in plain | bending if plain.get(key) != bending.get(key)}
    assert changed == {"Registration", "Metric", "Metric0Weight", "Metric1Weight"}
    assert bending["Metric1Weight"] == ["0.05"]
