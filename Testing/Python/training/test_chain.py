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
from dlir.model.spec import ModelSpec
from dlir.registration.oneshot import Registration
from dlir.training.chain import ChainResult, run_chain
from dlir.training.data import Batch
from dlir.transforms.affine import transform_points
from dlir.transforms.bspline import pad_coefficients
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
        network.output.weight.data.mul_(200 if stage.kind == "bspline" else 500)
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
        chain = run_chain(model, make_batch(tensor(fixed), tensor(moving), spacing=CINE), len(stages) - 1, end_to_end=False)
    trained = chain.warped[0, 0].numpy()[: shape[0], : shape[1], : shape[2]]
    target = grid.to_index(result.transform.apply(grid.voxel_centers().reshape(-1, 3))).reshape(*shape, 3)
    within = ((target > -0.2) & (target < np.array(grid.size) - 0.8)).all(-1)
    assert within.mean() > 0.6
    assert np.abs(target - voxels(shape)).max() > 3
    print(stages[0]["kind"], len(stages), np.abs(result.warped - moving).max(), np.abs(target - voxels(shape)).max((0, 1, 2)), np.abs(trained - result.warped)[within].max(), within.mean())
