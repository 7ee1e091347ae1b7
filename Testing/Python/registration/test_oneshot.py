"""The whole pass on small pairs with random networks: what comes out must be what the transform says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from dlir.errors import GeometryError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.model.multistage import MultiStageModel
from dlir.model.spec import ModelSpec, Preprocessing
from dlir.networks.spec import StageSpec
from dlir.registration import oneshot
from dlir.registration.oneshot import Registration
from dlir.transforms import chain
from dlir.transforms.bspline import PADDING
from dlir.transforms.files import to_sitk
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
from grids import make_grid, rotation

OBLIQUE = (0.3, -0.5, 0.8)
DEFORMABLE = (
    StageSpec("bspline", (4, 4, 8), (4, 4, 4), (16, 16, 8)),
    StageSpec("bspline", (4, 4, 8), (4, 4), (8, 8, 8)),
    StageSpec("bspline", (2, 2, 8), (4, 4, 4), (8, 8, 8)),
)
AFFINE = StageSpec("affine", (4, 4, 8), (4, 4))


def make_model(stages: tuple[StageSpec, ...], orientation: str = "slices", seed: int = 0) -> MultiStageModel:
    """Untrained networks whose outputs are made large, so that stages displace by millimetres."""
    torch.manual_seed(seed)
    preprocessing = Preprocessing((2.0, 2.0, 8.0), (False, False, True), orientation)
    model = MultiStageModel(ModelSpec(preprocessing, stages)).requires_grad_(False)
    for stage, network in zip(stages, model.networks, strict=True):
        network.output.weight.mul_(40.0 if stage.kind == "bspline" else 1.0)
        if stage.kind == "affine":
            network.output.bias.copy_(torch.tensor([0.03, -0.02, 0.02, 0.1, -0.05, 0.08, 0.1, -0.1, 0.05, 0.05, 0, 0]))
    return model


def blob(grid: ImageGrid, shift: float, name: str) -> Volume:
    """A smooth textured body around the grid's centre."""
    points = grid.voxel_centers() - grid.center - shift
    radius = np.linalg.norm(points / 30, axis=-1)
    texture = np.sin(points[..., 0] / 5) * np.cos(points[..., 1] / 6) + np.sin(points[..., 2] / 9)
    return Volume((np.exp(-(radius**2)) * (300 + 80 * texture)).astype(np.float32), grid, name)


@pytest.fixture(scope="module")
def pair() -> tuple[Volume, Volume]:
    """Oblique, anisotropic, off-centre, of unequal size and direction; centres a few millimetres apart."""
    fixed = make_grid((9, 44, 50), (1.7, 1.9, 8.0), (30, -80, 55), OBLIQUE)
    moving = make_grid((11, 52, 47), (2.1, 1.6, 7.0), angles=(0.25, -0.45, 0.85))
    origin = fixed.center + np.array([3.0, -2.0, 4.0]) - moving.center
    return blob(fixed, 0.0, "fixed"), blob(replace(moving, origin=tuple(origin)), 2.0, "moving")


def resampled(volume: Volume, transform: CompositeTransform, onto: ImageGrid) -> tuple[np.ndarray, np.ndarray]:
    """SimpleITK's linear resampling, and where it is defined with certainty."""
    reference = onto.to_sitk(np.zeros(onto.shape, np.uint8))
    image = volume.grid.to_sitk(volume.array)
    moved = sitk.Resample(image, reference, to_sitk(transform), sitk.sitkLinear, float(volume.array.min()))
    ones = sitk.Resample(image * 0 + 1, reference, to_sitk(transform), sitk.sitkLinear, 0.0)
    return sitk.GetArrayFromImage(moved), sitk.GetArrayFromImage(ones) > 0.5


def run(model: MultiStageModel, fixed: Volume, moving: Volume, **options: object) -> oneshot.RegistrationResult:
    return Registration(model, torch.device("cpu"))(fixed, moving, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("orientation", ["slices", "canonical"])
@pytest.mark.parametrize("stages", [DEFORMABLE[:1], DEFORMABLE, (AFFINE, *DEFORMABLE), (AFFINE,)])
def test_arrays_agree_with_the_exact_transform(
    pair: tuple[Volume, Volume], stages: tuple[StageSpec, ...], orientation: str
) -> None:
    fixed, moving = pair
    result = run(make_model(stages, orientation), fixed, moving)
    expected, defined = resampled(moving, result.transform, fixed.grid)
    both = defined & result.inside
    assert both.mean() > 0.3
    assert (defined != result.inside).mean() < 0.01
    # Displacements off by 0.05 mm change these intensities, which vary by up to 60 per mm, by no more than this.
    assert np.abs(result.warped - expected)[both].max() < 3.0
    assert np.abs(result.warped - expected)[both].mean() < 0.2
    assert (result.warped[~result.inside] == moving.array.min()).all()
    exact = result.transform.determinant(fixed.grid.voxel_centers().reshape(-1, 3)).reshape(fixed.grid.shape)
    assert result.jacobian == pytest.approx(exact, rel=0.05, abs=0.02)
    assert np.abs(exact - 1).max() > 0.03


def test_the_networks_really_move_something(pair: tuple[Volume, Volume]) -> None:
    result = run(make_model(DEFORMABLE), *pair)
    centres = pair[0].grid.voxel_centers().reshape(-1, 3)
    start = CompositeTransform(result.transform.parts[len(DEFORMABLE) :])
    moved = np.linalg.norm(result.transform.apply(centres) - start.apply(centres), axis=1)
    assert moved.max() > 2.0


def test_dense_displacement_is_within_the_stated_error(
    pair: tuple[Volume, Volume], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen through a moving image whose intensity is its own position along each axis."""
    fixed, moving = pair
    model = make_model(DEFORMABLE)
    for axis in range(3):
        ramp = Volume(moving.grid.voxel_centers()[..., axis].astype(np.float32), moving.grid, "ramp")
        monkeypatch.setattr(oneshot, "scale", _scale_from(moving, ramp))
        result = run(model, fixed, ramp)
        index = moving.grid.to_index(result.transform.apply(fixed.grid.voxel_centers().reshape(-1, 3)))
        deep = ((index > 0) & (index < np.array(moving.grid.size) - 1)).all(1).reshape(fixed.grid.shape)
        exact = result.transform.apply(fixed.grid.voxel_centers().reshape(-1, 3))[:, axis].reshape(fixed.grid.shape)
        assert np.abs(result.warped - exact)[deep].max() < 0.05


def _scale_from(moving: Volume, ramp: Volume):  # type: ignore[no-untyped-def]
    """Preprocessing that shows the networks `moving` where the ramp is registered."""
    genuine = oneshot.scale

    def scale(array, grid, preprocessing):  # type: ignore[no-untyped-def]
        return genuine(moving.array if array is ramp.array else array, grid, preprocessing)

    return scale


def test_slabs_do_not_show(pair: tuple[Volume, Volume], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(make_model(DEFORMABLE), *pair)
    monkeypatch.setattr(chain, "_AT_ONCE", 2 * 44 * 50)
    pieces = run(make_model(DEFORMABLE), *pair)
    assert pieces.warped == pytest.approx(whole.warped, abs=1e-2)
    assert pieces.jacobian == pytest.approx(whole.jacobian, abs=1e-4)


def test_identity_returns_the_image(pair: tuple[Volume, Volume]) -> None:
    """Networks that say nothing leave a volume on its own grid as it is."""
    model = make_model(DEFORMABLE)
    for network in model.networks:
        network.output.weight.zero_()
    fixed = pair[0]
    other = Volume(fixed.array[::-1].copy(), fixed.grid, "moving")
    result = run(model, fixed, other)
    assert np.abs(result.warped - other.array).max() <= 1e-6 * np.ptp(other.array)
    assert result.jacobian == pytest.approx(1, abs=1e-6)
    assert result.inside.all()


@pytest.mark.parametrize("deformable", [False, True])
def test_an_initial_transform_is_applied_last_and_once(pair: tuple[Volume, Volume], deformable: bool) -> None:
    fixed, moving = pair
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((0.05, 0.1, -0.1)) * 1.05
    matrix[:3, 3] = moving.grid.center - matrix[:3, :3] @ fixed.grid.center
    initial = CompositeTransform((AffineTransform(matrix),))
    if deformable:
        control = make_grid((12, 12, 12), (20, 20, 20), tuple(moving.grid.center - 120))
        bend = BSplineTransform(np.random.default_rng(3).uniform(-4, 4, (3, 12, 12, 12)), control)
        initial = CompositeTransform((AffineTransform(matrix), bend))
    result = run(make_model(DEFORMABLE), fixed, moving, initial=initial)
    assert result.transform.parts[-len(initial.parts) :] == initial.parts
    expected, defined = resampled(moving, result.transform, fixed.grid)
    both = defined & result.inside
    assert both.mean() > 0.3
    assert np.abs(result.warped - expected)[both].max() < 3.0
    exact = result.transform.determinant(fixed.grid.voxel_centers().reshape(-1, 3)).reshape(fixed.grid.shape)
    assert result.jacobian == pytest.approx(exact, rel=0.05, abs=0.02)
    assert result.initialization["mode"] == "given transform"


@pytest.mark.parametrize("start", ["a given transform", "the scanner's positions"])
def test_an_affine_stage_sees_what_is_left_to_do(pair: tuple[Volume, Volume], start: str) -> None:
    """From wherever the moving image starts, as from the image that was resampled there.

    Seen as it is, about its own centre, the network would find again what the start has done already.
    """
    fixed, moving = pair
    working = Preprocessing((2.0, 2.0, 8.0), (False, False, True), "slices").working_grid(fixed.grid)
    matrix = np.eye(4)
    if start == "a given transform":
        matrix[:3, :3] = rotation((0.1, 0.2, -0.3)) @ np.diag([1.1, 0.95, 1.0])
        offset = np.array([5.0, -3.0, 2.0])
        matrix[:3, 3] = moving.grid.center + offset - matrix[:3, :3] @ fixed.grid.center
    initial = CompositeTransform((AffineTransform(matrix),))
    moved, _ = resampled(moving, initial, working)
    model = make_model((AFFINE,))
    model.networks[0].output.weight.mul_(400.0)
    alone = run(model, Volume(fixed.array, fixed.grid, "fixed"), Volume(moved, working, "moved"), mode="scanner")
    chosen = {"initial": initial} if start == "a given transform" else {"mode": "scanner"}
    result = run(model, fixed, moving, **chosen)
    points = fixed.grid.voxel_centers().reshape(-1, 3)
    expected = initial.apply(alone.transform.apply(points))
    assert np.linalg.norm(initial.apply(points) - expected, axis=1).max() > 5
    assert np.linalg.norm(result.transform.apply(points) - expected, axis=1).max() < 0.3


def test_centers_are_aligned_and_reported(pair: tuple[Volume, Volume]) -> None:
    fixed, moving = pair
    far = Volume(moving.array, replace(moving.grid, origin=tuple(np.array(moving.grid.origin) + 500)), "moving")
    result = run(make_model(DEFORMABLE), fixed, far, mode="centers")
    assert result.initialization["mode"] == "image centers"
    assert result.initialization["center_distance_mm"] == pytest.approx(866, abs=10)
    assert result.inside.mean() > 0.3
    with pytest.raises(GeometryError, match=r"do not overlap.*--initialize centers"):
        run(make_model(DEFORMABLE), fixed, far, mode="scanner")


def test_too_small_an_image_is_refused_by_name(pair: tuple[Volume, Volume]) -> None:
    fixed, moving = pair
    small = Volume(moving.array[:, :5, :], make_grid((11, 5, 47), (2.1, 1.6, 7.0)), "moving image 'tiny.nii'")
    with pytest.raises(GeometryError, match=r"tiny\.nii.*less than"):
        run(make_model(DEFORMABLE), fixed, small)


def test_control_points_lie_where_the_design_says(pair: tuple[Volume, Volume]) -> None:
    """Network cell i of a stage covers voxels [i s, (i + 1) s) of the working grid."""
    model = make_model(DEFORMABLE[:1])
    fixed, moving = pair
    result = run(model, fixed, moving)
    part = result.transform.parts[0]
    assert isinstance(part, BSplineTransform)
    working = model.spec.preprocessing.working_grid(fixed.grid)
    first_cell = part.grid.to_physical([PADDING] * 3)
    spacing = np.array(model.spec.control_spacing(0))
    assert working.to_index(first_cell) == pytest.approx((spacing - 1) / 2)
    assert np.array(part.grid.spacing) == pytest.approx(spacing * np.array(working.spacing))


def test_any_bounded_output_is_free_of_folding(pair: tuple[Volume, Volume]) -> None:
    """Even networks that shout: the bound of the stages is the guarantee."""
    model = make_model(DEFORMABLE)
    for network in model.networks:
        network.output.weight.mul_(100.0)
    result = run(model, *pair)
    assert model.spec.fold_free
    assert result.jacobian.min() > 0
    assert result.jacobian.std() > 0.2


@pytest.mark.parametrize("orientation", ["slices", "canonical"])
@pytest.mark.parametrize("way", [(1, 1, -1), (-1, -1, 1), (-1, 1, -1), (-1, -1, -1)])
@pytest.mark.parametrize("across", [(0, 1, 2), (0, 2, 1), (1, 2, 0)])
def test_how_the_moving_image_is_stored_does_not_matter(
    pair: tuple[Volume, Volume], orientation: str, way: tuple[int, int, int], across: tuple[int, int, int]
) -> None:
    fixed, moving = pair
    stored = moving.grid.permuted([2 - a for a in across[::-1]], [step < 0 for step in way[::-1]])
    array = np.ascontiguousarray(moving.array.transpose(across)[tuple(slice(None, None, step) for step in way)])
    model = make_model((AFFINE, *DEFORMABLE), orientation)
    wanted = run(model, fixed, moving).warped
    found = run(model, fixed, Volume(array, stored, "moving")).warped
    assert np.abs(found - wanted).max() < 1e-3 * np.ptp(wanted)
