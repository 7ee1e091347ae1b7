"""How well the current stage does on pairs that are not trained with. Images alone: labels are never opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from dlir.model.multistage import MultiStageModel
from dlir.training.batch import Batch
from dlir.training.chain import run_chain
from dlir.training.engine import summed


@dataclass(frozen=True)
class Pictures:
    """The middle slice of one pair: fixed image, warped image and Jacobian determinant, each (y, x)."""

    fixed: NDArray[np.float32]
    warped: NDArray[np.float32]
    jacobian: NDArray[np.float32]


@dataclass(frozen=True)
class Validation:
    """Means over the held-out pairs, by the names that the history has for them; empty where there are none.

    pictures: of the first pair, in the first process.
    """

    figures: dict[str, float]
    pictures: Pictures | None


@torch.no_grad()
def validate(model: MultiStageModel, batches: Sequence[Batch], stage: int, fabric: Fabric) -> Validation:
    """The similarity is the global one whatever is trained for, so that phases can be compared.

    batches: of one pair each, dealt out to the processes.
    """
    if not batches:
        return Validation({}, None)
    totals, pictures = [0.0] * 4, None
    for k in range(fabric.global_rank, len(batches), fabric.world_size):
        result = run_chain(model, batches[k].to(fabric.device), stage, end_to_end=False)
        determinant = result.determinant()
        counts = result.weight
        folded = ((determinant <= 0) & counts).sum() / counts.sum().clamp(min=1)
        found = [result.similarity.mean(), result.energies[-1].mean(), 100 * folded, torch.ones(())]
        totals = [total + float(value) for total, value in zip(totals, found, strict=True)]
        if k == 0:
            pictures = Pictures(*(_middle(image) for image in (result.fixed, result.warped, determinant)))
    similarity, bending, folding, count = summed(fabric, totals)
    names = ("validation_similarity", "validation_bending", "validation_folding_percent")
    return Validation(
        dict(zip(names, (value / count for value in (similarity, bending, folding)), strict=True)), pictures
    )


def _middle(image: Tensor) -> NDArray[np.float32]:
    slices: NDArray[np.float32] = image[0, 0, image.shape[2] // 2].float().cpu().numpy()
    return slices
