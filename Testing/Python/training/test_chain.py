"""The differentiable chain: what it computes is what inference computes, it learns, and padding never counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dlir.geometry import ImageGrid, Shape3
from dlir.io.reading import Volume
from dlir.losses.similarity import ncc
from dlir.model.multistage import MultiStageModel
from dlir.model.preprocessing import prepare
from dlir.model.spec import ModelSpec
from dlir.registration.oneshot import Registration
from dlir.training.batch import Batch, TensorPair, collate
from dlir.training.chain import run_chain
from dlir.training.pairs import centred
from dlir.transforms.affine import transform_points
from dlir.transforms.bspline import control_positions, evaluate_lattice, pad_coefficients
from dlir.transforms.spatial import BSplineTransform
from grids import make_grid
from training_runs import SHAPE, Blobs, bent, make_batch, tensor, voxels

CPU = torch.device("cpu")
# Thick slices, as in cine: the control points of the finer stages lie one slice apart.
CINE = (1.25, 1.25, 8.0)
COARSE = {"kind": "bspline", "resolution": (2.5, 2.5, 8.0), "grid_spacing": (40, 40, 16), "channels": (4, 4, 4, 4, 4)}
MIDDLE = {"kind": "bspline", "resolution": (2.5, 2.5, 8.0), "grid_spacing": (20, 20, 8), "channels": (4, 4, 4, 4)}
FINE = {"kind": "bspline", "resolution": CINE, "grid_spacing": (10, 10, 8), "channels": (4, 4, 4, 4)}
AFFINE = {"kind": "affine", "resolution": CINE, "channels": (4, 8)}


def make_model(*stages: dict[str, Any], resolution: Sequence[float] = CINE, seed: int = 0) -> MultiStageModel:
    torch.manual_seed(seed)
    preprocessing = {"resolution": resolution, "percentile": 100}
    return MultiStageModel(ModelSpec.from_dict({"preprocessing": preprocessing, "stages": stages}))


def small_model(*levels: int, seed: int = 0) -> MultiStageModel:
    """Deformable stages of 4 voxels grid spacing at full (1) or half (2) resolution, for images of SHAPE."""
    stages = [
        {
            "kind": "bspline",
            "resolution": (factor, factor, 4.0),
            "grid_spacing": (4 * factor, 4 * factor, 4.0),
            "channels": (8, 8, 16),
        }
        for factor in levels
    ]
    return make_model(*stages, resolution=(1.0, 1.0, 4.0), seed=seed)


def fit(model: MultiStageModel, batch: Batch, iterations: int, rate: float, last: int = -1) -> list[float]:
    """Train the whole model on one batch; the similarity before each iteration."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    history = []
    for _ in range(iterations):
        result = run_chain(model, batch, last % len(model.networks), end_to_end=True)
        optimizer.zero_grad()
        (-result.similarity.mean()).backward()
        optimizer.step()
        history.append(result.similarity.mean().item())
    return history


# -- training sees what inference does ---------------------------------------------------------------


def smooth_coefficients(spec: ModelSpec, shape: Shape3, seed: int) -> list[Tensor]:
    """For each stage, fractions of the grid spacing that vary smoothly over the control points and reach the bound."""
    torch.manual_seed(seed)
    padded = spec.padded_shape(shape)
    found = []
    for stage in range(len(spec.stages)):
        x, y, z = spec.control_spacing(stage)
        noise = torch.randn(1, 3, padded[0] // z + 4, padded[1] // y + 4, padded[2] // x + 4)
        smooth = F.avg_pool3d(F.avg_pool3d(noise, 3, 1), 3, 1)
        found.append(pad_coefficients(0.4 * smooth / smooth.abs().max() * torch.tensor([x, y, z])[:, None, None, None]))
    return found


@pytest.mark.parametrize("shape", [(8, 64, 64), (9, 70, 83)], ids=["whole cells", "padded"])
@pytest.mark.parametrize("stages", [(MIDDLE, FINE), (COARSE, MIDDLE, FINE)], ids=["2 stages", "3 stages"])
def test_the_chain_maps_points_as_inference_does(
    stages: tuple[dict[str, Any], ...], shape: Shape3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ramp as the moving image makes the warped image the mapped coordinate, so that errors come in mm.

    In plane and along the thick slices. Linear interpolation between slices was .27 mm off.
    """
    model, grid = make_model(*stages), ImageGrid(shape, CINE)
    coefficients = smooth_coefficients(model.spec, shape, seed=len(stages))
    monkeypatch.setattr(model, "predict_coefficients", lambda stage, fixed, warped: coefficients[stage])
    fixed = np.random.default_rng(0).random(shape, np.float32)
    for axis, (size, spacing) in enumerate(zip(grid.size, CINE, strict=True)):
        ramp = voxels(shape)[..., axis]
        result = Registration(model, CPU)(Volume(fixed, grid, "f"), Volume(ramp.astype(np.float32), grid, "m"))
        target = grid.to_index(result.transform.apply(grid.voxel_centers().reshape(-1, 3))).reshape(*shape, 3)
        batch = make_batch(tensor(fixed), tensor(ramp), spacing=CINE)
        with torch.no_grad():
            chain = run_chain(model, batch, len(stages) - 1, end_to_end=False)
        trained = chain.warped[0, 0].numpy()[: shape[0], : shape[1], : shape[2]]
        # The border of an image is repeated for half a voxel; corners end a little before.
        within = ((target > -0.2) & (target < np.array(grid.size) - 0.8)).all(-1)
        assert within.mean() > 0.6
        assert spacing * np.abs(target[..., axis] - ramp)[within].max() > 3
        assert spacing * np.abs(trained - target[..., axis].clip(0, size - 1))[within].max() < 0.03
        assert spacing * np.abs(trained - result.warped)[within].max() < 0.03


def wild(model: MultiStageModel) -> MultiStageModel:
    """Untrained networks that move voxels by a fair part of what they may."""
    for network, stage in zip(model.networks, model.spec.stages, strict=True):
        network.output.weight.data.mul_(40 if stage.kind == "bspline" else 120)
    return model


@pytest.mark.parametrize(
    "stages",
    [(MIDDLE, FINE), (COARSE, MIDDLE, FINE), (AFFINE,), (AFFINE, MIDDLE, FINE)],
    ids=["2 stages", "3 stages", "affine", "affine and 2 stages"],
)
def test_networks_see_in_training_what_they_see_in_inference(stages: tuple[dict[str, Any], ...]) -> None:
    """Every stage's output depends on the image as warped so far, and the affine on the centre of the fixed image."""
    shape = (9, 70, 83)
    model, grid = wild(make_model(*stages, seed=len(stages))), ImageGrid(shape, CINE)
    fixed, moving = (Blobs(seed, shape[::-1], 40)(voxels(shape)).astype(np.float32) for seed in (0, 1))
    fixed, moving = ((image - image.min()) / (image.max() - image.min()) for image in (fixed, moving))
    result = Registration(model, CPU)(Volume(fixed, grid, "f"), Volume(moving, grid, "m"))
    with torch.no_grad():
        chain = run_chain(
            model, make_batch(tensor(fixed), tensor(moving), spacing=CINE), len(stages) - 1, end_to_end=False
        )
    trained = chain.warped[0, 0].numpy()[: shape[0], : shape[1], : shape[2]]
    target = grid.to_index(result.transform.apply(grid.voxel_centers().reshape(-1, 3))).reshape(*shape, 3)
    within = ((target > -0.2) & (target < np.array(grid.size) - 0.8)).all(-1)
    assert within.mean() > 0.6
    assert np.abs(target - voxels(shape)).max() > 3
    assert np.abs(trained - result.warped)[within].max() < 2e-3
    fields = [part for part in result.transform.parts if isinstance(part, BSplineTransform)]
    assert len(fields) == len(chain.splines) == sum(stage["kind"] == "bspline" for stage in stages)
    for field, spline in zip(fields, reversed(chain.splines), strict=True):
        in_mm = spline.coefficients[0] * torch.tensor(CINE)[:, None, None, None]
        np.testing.assert_allclose(in_mm, field.coefficients, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "stages",
    [(AFFINE,), (MIDDLE, FINE), (COARSE, MIDDLE, FINE), (AFFINE, MIDDLE, FINE)],
    ids=["affine", "2 stages", "3 stages", "affine and 2 stages"],
)
def test_unequal_oblique_grids_are_seen_in_a_batch_as_in_inference(
    stages: tuple[dict[str, Any], ...],
) -> None:
    """Whatever else is in the batch, and however far it is padded for that: in plane and across the slices."""
    model = wild(make_model(*stages, seed=len(stages)))
    sizes = [((9, 70, 83), (12, 61, 90)), ((13, 90, 64), (8, 90, 64)), ((9, 80, 80), (12, 90, 64))]
    pairs, results = [], []
    for number, shapes in enumerate(sizes):
        volumes, prepared = [], []
        for role, shape in enumerate(shapes):
            angles = (0.05 * (1 + role), -0.1 * role, 0.15 - 0.2 * number)
            grid = make_grid(shape, CINE, (10.0 * role, -50.0, 7.0 * number), angles)
            image = Blobs(2 * number + role, shape[::-1], 40)(voxels(shape)).astype(np.float32)
            volumes.append(Volume((image - image.min()) / (image.max() - image.min()), grid, "image"))
            prepared.append(prepare(volumes[-1].array, grid, model.spec.preprocessing))
        results.append(Registration(model, CPU)(volumes[0], volumes[1], mode="centers"))
        ones = [torch.ones_like(image) for image, _ in prepared]
        channels = [torch.stack([image, one, one]) for (image, _), one in zip(prepared, ones, strict=True)]
        start = torch.from_numpy(centred(prepared[0][1], prepared[1][1])).float()
        pairs.append(TensorPair(channels[0], channels[1], start, torch.tensor(CINE), "pair"))
    with torch.no_grad():
        chain = run_chain(model, collate(pairs), len(stages) - 1, end_to_end=False)
    for number, (result, (shape, _)) in enumerate(zip(results, sizes, strict=True)):
        z, y, x = shape
        trained, counts = (image[number, 0, :z, :y, :x].numpy() for image in (chain.warped, chain.weight))
        assert counts.mean() > 0.4
        assert np.abs(trained - result.warped)[counts & result.inside].max() < 5e-3


def test_a_pairs_bending_energy_does_not_depend_on_its_batch() -> None:
    """Neither its own grid nor the domain that the energy is a mean over grows with the padding."""
    model = wild(small_model(2, 1))
    shapes = ((4, 32, 32), (6, 24, 40), (4, 30, 30))
    alone = [make_batch(*(tensor(Blobs(seed, shape[::-1])(voxels(shape))) for seed in (0, 1))) for shape in shapes]
    pairs = [TensorPair(b.fixed[0], b.moving[0], b.start[0], b.spacing[0], "pair") for b in alone]
    with torch.no_grad():
        together = run_chain(model, collate(pairs), 1, end_to_end=True)
        apart = [run_chain(model, batch, 1, end_to_end=True) for batch in alone]
    for k, result in enumerate(apart):
        for stage in range(2):
            assert together.energies[stage][k].item() == pytest.approx(result.energies[stage].item(), rel=1e-4)
        assert together.similarity[k].item() == pytest.approx(result.similarity.item(), abs=1e-4)


# -- it learns ---------------------------------------------------------------------------------------


def moved_pair(size: float) -> Batch:
    """An image and the same bent by up to `size` voxels: T(x) = bent(x) aligns them."""
    image = Blobs(3, count=30)
    return make_batch(tensor(image(bent(voxels(), size))), tensor(image(voxels())))


@pytest.mark.parametrize("levels", [(1,), (2, 1)], ids=["one stage", "two stages"])
def test_training_aligns_a_pair(levels: tuple[int, ...]) -> None:
    batch = moved_pair(3.0)
    history = fit(small_model(*levels), batch, 50, 3e-3)
    before = ncc(batch.fixed[:, :1], batch.moving[:, :1]).item()
    assert history[0] == pytest.approx(before, abs=0.05)  # it starts from the identity
    assert 1 - history[-1] < (1 - history[0]) / 5


def test_an_affine_stage_learns_a_translation() -> None:
    shift = np.array([3.0, -2.0, 0.5])
    image, model = Blobs(3), make_model({**AFFINE, "resolution": (1.0, 1.0, 4.0)}, resolution=(1.0, 1.0, 4.0))
    batch = make_batch(tensor(image(voxels() + shift)), tensor(image(voxels())))
    history = fit(model, batch, 60, 2e-3)
    assert 1 - history[-1] < (1 - history[0]) / 20
    with torch.no_grad():
        shapes = (torch.tensor([SHAPE]), torch.tensor([SHAPE]))
        matrix = model.predict_affine(0, batch.fixed[:, :1], batch.moving[:, :1], batch.spacing, shapes)
    center = (torch.tensor(SHAPE[::-1]) - 1) / 2
    found = transform_points(matrix, center[None, None])[0, 0] - center
    np.testing.assert_allclose(found, shift, atol=0.5)


# -- gradients ---------------------------------------------------------------------------------------


def gradients(model: MultiStageModel, batch: Batch, last: int, *, end_to_end: bool) -> list[list[float]]:
    """Largest gradient of each parameter of each stage; nan where there is none."""
    model.zero_grad()
    result = run_chain(model, batch, last, end_to_end=end_to_end)
    (sum(result.energies) - result.similarity).mean().backward()
    return [
        [float("nan") if p.grad is None else p.grad.abs().max().item() for p in network.parameters()]
        for network in model.networks
    ]


def test_gradients_reach_the_trained_stage_alone() -> None:
    model, batch = wild(small_model(2, 2, 1)), moved_pair(2.0)
    first, second, third = gradients(model, batch, 1, end_to_end=False)
    assert np.isnan(first + third).all()
    assert np.isfinite(second).all()
    assert min(second) > 0


def test_gradients_reach_all_stages_end_to_end() -> None:
    model, batch = wild(small_model(2, 2, 1)), moved_pair(2.0)
    for stage in gradients(model, batch, 2, end_to_end=True):
        assert np.isfinite(stage).all()
        assert min(stage) > 0


@pytest.mark.parametrize("stage", [0, 1])
def test_gradients_through_the_chain_match_finite_differences(stage: int) -> None:
    """With all voxels counted, because those that leave the image make the similarity jump."""

    def everywhere(fixed: Tensor, warped: Tensor, weight: Tensor) -> Tensor:
        return ncc(fixed, warped)

    model, batch = wild(small_model(2, 1)), moved_pair(2.0)
    bias = model.networks[stage].output.bias

    def similarity(offset: float) -> float:
        with torch.no_grad():
            bias.add_(offset)
            value = run_chain(model, batch, 1, end_to_end=True, measure=everywhere).similarity.item()
            bias.sub_(offset)
        return value

    run_chain(model, batch, 1, end_to_end=True, measure=everywhere).similarity.sum().backward()
    numeric = (similarity(5e-3) - similarity(-5e-3)) / 1e-2
    assert abs(numeric) > 0.005
    assert bias.grad.sum().item() == pytest.approx(numeric, rel=0.01)


def test_without_gradients_nothing_is_recorded() -> None:
    with torch.no_grad():
        result = run_chain(small_model(2, 1), moved_pair(2.0), 1, end_to_end=True)
    assert not any(value.requires_grad for value in (result.similarity, *result.energies, result.warped))


@pytest.mark.parametrize("constant", ["fixed", "moving", "both"])
def test_images_without_contrast_give_no_gradient_and_no_nan(constant: str) -> None:
    batch, flat = moved_pair(2.0), torch.full((1, 1, *SHAPE), 0.5)
    fixed = batch.moving[:, :1] if constant == "moving" else flat
    moving = batch.moving[:, :1] if constant == "fixed" else flat
    model = wild(small_model(1))
    result = run_chain(model, make_batch(fixed, moving), 0, end_to_end=False)
    assert result.similarity.item() == pytest.approx(0, abs=1e-4)
    assert np.isfinite(gradients(model, make_batch(fixed, moving), 0, end_to_end=False)).all()


def test_evaluation_needs_no_switch() -> None:
    """No layer behaves differently in training, such as normalisation over the batch or dropout."""
    model, batch = wild(small_model(2, 1)), moved_pair(2.0)
    with torch.no_grad():
        training, evaluation = (run_chain(m, batch, 1, end_to_end=False) for m in (model.train(), model.eval()))
    assert torch.equal(training.warped, evaluation.warped)
    fixed, moving = batch.fixed[:, :1], batch.moving[:, :1]
    pair = make_batch(fixed.repeat(2, 1, 1, 1, 1), torch.cat([moving, moving.flip(4)]))
    with torch.no_grad():
        together = run_chain(model, pair, 1, end_to_end=False)
    torch.testing.assert_close(together.warped[:1], training.warped, rtol=0, atol=1e-4)


# -- what counts -------------------------------------------------------------------------------------


def shifted(monkeypatch: pytest.MonkeyPatch, shift: Sequence[float]) -> MultiStageModel:
    """A model whose one stage moves every voxel by `shift` voxels (x, y, z)."""
    model = small_model(1)
    coefficients = torch.tensor(shift)[:, None, None, None].expand(3, 16, 20, 20)[None].float()
    monkeypatch.setattr(model, "predict_coefficients", lambda stage, fixed, warped: coefficients)
    return model


def similarity(model: MultiStageModel, batch: Batch) -> float:
    with torch.no_grad():
        return run_chain(model, batch, 0, end_to_end=False).similarity.item()


def test_what_the_mask_leaves_out_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = shifted(monkeypatch, (0, 0, 0)), moved_pair(2.0)
    whole_fixed, whole_moving = batch.fixed[:, :1], batch.moving[:, :1]
    mask = torch.ones_like(whole_fixed)
    mask[..., :16] = 0
    fixed, moving, noise = whole_fixed * mask, whole_moving * mask, torch.rand(mask.shape) * (1 - mask)
    expected = similarity(model, make_batch(fixed, moving, mask))
    assert expected == pytest.approx(ncc(whole_fixed[..., 16:], whole_moving[..., 16:]).item(), abs=1e-5)
    assert abs(expected - similarity(model, batch)) > 1e-3
    assert similarity(model, make_batch(fixed + noise, moving, mask)) == pytest.approx(expected)


@pytest.mark.parametrize("padded", [0, 6])
@pytest.mark.parametrize("shift", [(9.0, 0.0, 0.0), (-9.0, 4.0, 0.0), (0.0, 0.0, 1.0)])
def test_voxels_that_map_outside_do_not_count(monkeypatch: pytest.MonkeyPatch, shift: Any, padded: int) -> None:
    """They hold another image in the fixed volume, and still the similarity is perfect."""
    image, other, target = Blobs(0), Blobs(1), voxels() + np.array(shift)
    mask = np.zeros(SHAPE)
    mask[:, :, : SHAPE[2] - padded] = 1
    within = ((target >= 0) & (target <= np.array(SHAPE[::-1]) - 1 - np.array([padded, 0, 0]))).all(-1)
    fixed = np.where(within, image(target), other(voxels())) * mask
    batch = make_batch(tensor(fixed), tensor(image(voxels()) * mask), tensor(mask))
    assert similarity(shifted(monkeypatch, shift), batch) == pytest.approx(1, abs=1e-4)
    assert similarity(shifted(monkeypatch, (0, 0, 0)), batch) < 0.9


@pytest.mark.parametrize("shift", [(0.4, 0.0, 0.0), (-0.4, 0.0, 0.0), (0.0, 0.0, 0.4), (0.0, 0.0, -0.4)])
def test_padding_does_not_leak_into_what_counts(monkeypatch: pytest.MonkeyPatch, shift: Any) -> None:
    """The image does not change along the shift, so that only padding could make a difference."""
    mask = torch.zeros(1, 1, *SHAPE)
    mask[:, :, 1:-1, :, 5:-5] = 1
    image = mask * (0.2 + torch.rand(1, 1, 1, SHAPE[1], 1))
    assert similarity(shifted(monkeypatch, shift), make_batch(image, image, mask)) == pytest.approx(1, abs=1e-5)


# -- bending energy ----------------------------------------------------------------------------------


def bending(model: MultiStageModel, spacing: Sequence[float], *, end_to_end: bool = False) -> float:
    pair = moved_pair(2.0)
    batch = make_batch(pair.fixed[:, :1], pair.moving[:, :1], spacing=spacing)
    with torch.no_grad():
        energies = run_chain(model, batch, len(model.networks) - 1, end_to_end=end_to_end).energies
    return (sum(energies) if end_to_end else energies[-1]).item()


def test_the_bending_energy_is_in_millimetres() -> None:
    model = wild(small_model(1))
    energy = bending(model, (1.0, 1.0, 4.0))
    assert energy > 0
    assert bending(model, (2.0, 2.0, 8.0)) == pytest.approx(energy / 4)


def test_the_bending_energy_is_the_integral_over_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a sum over ten samples per voxel and axis."""
    model, spacing = small_model(1), torch.tensor([[1.0, 1.0, 4.0]])
    coefficients = smooth_coefficients(model.spec, SHAPE, 0)[0]
    monkeypatch.setattr(model, "predict_coefficients", lambda stage, fixed, warped: coefficients)
    total, control = 0.0, spacing[0] * torch.tensor(model.spec.control_spacing(0))
    positions = [
        control_positions((torch.arange(10 * n, dtype=torch.float64) - 4.5) / 10, s)
        for n, s in zip(SHAPE, model.spec.control_spacing(0)[::-1], strict=True)
    ]
    for first in range(3):
        for second in range(3):
            order = [(first == axis) + (second == axis) for axis in (2, 1, 0)]
            derivative = evaluate_lattice((coefficients * spacing[:, :, None, None, None]).double(), positions, order)
            total += derivative.square().sum(1).mean() / (control[first] * control[second]) ** 2
    assert bending(model, (1.0, 1.0, 4.0)) == pytest.approx(float(total), rel=5e-3)


def test_the_bending_energy_is_that_of_the_trained_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(2, 1)
    coefficients = smooth_coefficients(model.spec, SHAPE, 0)
    energies: list[list[float]] = []
    for on in ((1, 0), (0, 1), (1, 1)):
        found = [factor * values for factor, values in zip(on, coefficients, strict=True)]
        monkeypatch.setattr(model, "predict_coefficients", lambda stage, fixed, warped, found=found: found[stage])
        energies.append([bending(model, (1.0, 1.0, 4.0), end_to_end=all_stages) for all_stages in (False, True)])
    (coarse_alone, coarse), (fine_alone, fine), (both_alone, both) = energies
    assert coarse_alone == 0
    assert coarse > 0
    assert fine_alone == both_alone == fine > 0
    assert both == pytest.approx(coarse + fine)
