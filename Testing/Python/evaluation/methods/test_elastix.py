"""elastix itself: what it finds, and that its transforms are taken over exactly."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from dlir.errors import EvaluationError, how_to_install
from dlir.evaluation.methods import elastix, elastix_settings
from dlir.evaluation.methods.base import settings_digest
from dlir.evaluation.methods.elastix import ElastixMethod, part_of
from dlir.io.reading import Volume
from dlir.model.spec import Preprocessing
from dlir.networks.spec import StageSpec
from dlir.registration.loading import Loaded
from dlir.transforms.resample import resample
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
from evaluation_runs import GRID, body
from grids import make_grid

STAGES = (
    StageSpec("affine", (4, 4, 4), (1, 1)),
    StageSpec("bspline", (2, 2, 2), (1, 1, 1, 1), (16, 16, 16)),
)
PREPROCESSING = Preprocessing((2.0, 2.0, 2.0))
STILL = CompositeTransform(())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the iterations."""
    pytest.importorskip("itk.itkElastixRegistrationMethodPython", reason="itk-elastix is not installed")
    monkeypatch.setitem(elastix_settings._COMMON, "MaximumNumberOfIterations", ["50"])


def task(start: CompositeTransform = STILL, mask: Volume | None = None) -> Loaded:
    """The body, and the same moved by (3, -2, 2) mm on another oblique grid, which `start` may lie beside."""
    turned = make_grid((12, 24, 22), (2.0, 2.1, 2.8), angles=(0.25, -0.45, 0.85))
    offset = np.zeros(3) if start.linear and not start.parts else start.matrix[:3, 3]
    moving_grid = replace(turned, origin=tuple(GRID.center - turned.center))
    shift = np.array([3.0, -2.0, 2.0])
    moved = replace(moving_grid, origin=tuple(np.array(moving_grid.origin) + offset))
    images = Volume(body(GRID, np.zeros(3)), GRID, "f"), Volume(body(moving_grid, shift), moved, "m")
    return Loaded(*images, start, fixed_mask=mask)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [None, (40.0, -25.0, 60.0)], ids=["in place", "from a start"])
def test_elastix_finds_a_shift_from_wherever_it_starts(quick: None, offset: tuple[float, ...] | None) -> None:
    start = STILL if offset is None else CompositeTransform((AffineTransform.translation(offset),))
    found = ElastixMethod("elastix", STAGES, PREPROCESSING).register(task(start))
    assert found.seconds is not None
    kinds = [type(part) for part in found.transform.parts]
    assert kinds == [AffineTransform, BSplineTransform, *([AffineTransform] if offset else [])]
    points = GRID.center + np.array([[0, 0, 0], [4, 0, 0], [0, -4, 3]])
    expected = points + [3, -2, 2] + (np.zeros(3) if offset is None else np.array(offset))
    np.testing.assert_allclose(found.transform.apply(points), expected, atol=0.7)


@pytest.mark.slow
def test_the_transform_is_the_one_that_elastix_warps_with(quick: None) -> None:
    """Against elastix's own resampling of the moving image, on oblique grids of two kinds."""
    import itk

    pair = task()
    images = [elastix._to_itk(itk, volume.array, volume.grid) for volume in (pair.fixed, pair.moving)]
    parameters = itk.ParameterObject.New()
    for values in elastix_settings.parameter_maps(STAGES, bending=True):
        parameters.AddParameterMap(values)
    warped, found = itk.elastix_registration_method(*images, parameter_object=parameters, log_to_console=False)
    parts = [part_of(found.GetParameterMap(i)) for i in range(found.GetNumberOfParameterMaps())]
    own = resample(pair.moving.array, pair.moving.grid, CompositeTransform(tuple(parts)), GRID)
    reference = itk.array_from_image(warped)
    inner = (slice(2, -2), slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(own[inner], reference[inner], atol=0.05)
    assert np.abs(own - pair.moving.array.mean()).max() > 100


@pytest.mark.slow
def test_a_mask_says_what_is_aligned(quick: None) -> None:
    """Of two blobs that move apart, the one inside the mask is followed."""
    axis = GRID.direction_matrix[:, 0]

    def blobs(apart: float) -> Volume:
        points = GRID.voxel_centers() - GRID.center
        squares = [((points - side * (11 + apart) * axis) ** 2).sum(-1) for side in (-1, 1)]
        return Volume(sum(np.exp(-s / 40) for s in squares).astype(np.float32), GRID, "blobs")

    left = np.zeros(GRID.shape, bool)
    left[:, :, : GRID.size[0] // 2] = True
    pair = Loaded(blobs(0), blobs(2.5), STILL, fixed_mask=Volume(left, GRID, "mask"))
    points = (GRID.center - 11 * axis)[None]
    plain, masked = (
        (ElastixMethod("e", STAGES[:1], PREPROCESSING, masked=wanted).register(pair).transform.apply(points) - points)
        @ axis
        for wanted in (False, True)
    )
    assert masked == pytest.approx(-2.5, abs=0.5)
    assert abs(plain - masked) > 0.1


@pytest.mark.slow
def test_what_elastix_cannot_do_is_one_line(quick: None) -> None:
    pair = task()
    far = replace(pair, moving=replace(pair.moving, grid=replace(pair.moving.grid, origin=(5000.0, 0.0, 0.0))))
    with pytest.raises(EvaluationError, match="elastix failed on 'f' and 'm'") as caught:
        ElastixMethod("elastix", STAGES, PREPROCESSING).register(far)
    assert "\n" not in str(caught.value)


def test_settings_tell_apart_what_differs() -> None:
    methods = [
        ElastixMethod("a", STAGES, PREPROCESSING),
        ElastixMethod("a", STAGES, PREPROCESSING, bending=True),
        ElastixMethod("a", STAGES, PREPROCESSING, masked=True),
        ElastixMethod("a", STAGES[:1], PREPROCESSING),
        ElastixMethod("a", STAGES, Preprocessing((2.0, 2.0, 2.0), window=(-1000, 0))),
        ElastixMethod("a", STAGES, PREPROCESSING, maps=[{"Transform": ["EulerTransform"]}]),
    ]
    assert len({settings_digest(method) for method in methods}) == 6
    assert settings_digest(methods[0]) == settings_digest(ElastixMethod("b", STAGES, PREPROCESSING))


def test_without_elastix_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "itk", None)
    with pytest.raises(EvaluationError, match=re.escape(how_to_install("bench"))):
        ElastixMethod("elastix", STAGES, PREPROCESSING).register(task())


# -- parameters, without elastix ----------------------------------------------------------------------


def test_an_affine_map_is_about_its_centre() -> None:
    matrix = np.array([[1.1, 0.2, 0], [0, 0.9, 0.1], [0.05, 0, 1]])
    values = {
        "Transform": ["AffineTransform"],
        "TransformParameters": [repr(float(v)) for v in (*matrix.ravel(), 5, -6, 7)],
        "CenterOfRotationPoint": ["10.0", "20.0", "-30.0"],
    }
    reference = sitk.AffineTransform(matrix.ravel().tolist(), (5, -6, 7), (10, 20, -30))
    points = np.random.default_rng(0).uniform(-50, 50, (20, 3))
    expected = [reference.TransformPoint(point.tolist()) for point in points]
    np.testing.assert_allclose(part_of(values).apply(points), expected, atol=1e-9)


@pytest.mark.parametrize("zyx", [False, True])
def test_a_rigid_map_is_about_its_centre(zyx: bool) -> None:
    angles, shift, center = (0.4, -0.3, 0.7), (5.0, -6.0, 7.0), (10.0, 20.0, -30.0)
    values = {
        "Transform": ["EulerTransform"],
        "TransformParameters": [repr(v) for v in (*angles, *shift)],
        "CenterOfRotationPoint": [repr(v) for v in center],
        "ComputeZYX": ["true" if zyx else "false"],
    }
    reference = sitk.Euler3DTransform(center, *angles, shift)
    reference.SetComputeZYX(zyx)
    points = np.random.default_rng(0).uniform(-50, 50, (20, 3))
    expected = [reference.TransformPoint(point.tolist()) for point in points]
    np.testing.assert_allclose(part_of(values).apply(points), expected, atol=1e-9)


def test_other_transforms_are_refused() -> None:
    with pytest.raises(EvaluationError, match="SimilarityTransform"):
        part_of({"Transform": ["SimilarityTransform"], "TransformParameters": ["0"] * 7})
