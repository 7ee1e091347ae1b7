"""The moving image through a transform on the fixed image's own grid, computed once, with its determinant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dlir.io.reading import Volume
from dlir.registration.progress import Clock
from dlir.transforms.chain import Chain
from dlir.transforms.lattice import Lattice, Samples, exact_dtype, inside
from dlir.transforms.spatial import CompositeTransform

# Parts of the whole of a registration that are done before and after.
_BEFORE, _AFTER = 0.65, 1.0


@dataclass(frozen=True, eq=False)
class Resampled:
    """All (z, y, x) on the fixed grid, see `RegistrationResult`."""

    warped: NDArray[np.float32]
    jacobian: NDArray[np.float32]
    inside: NDArray[np.bool_]


@torch.inference_mode()
def resampled(
    transform: CompositeTransform, fixed: Volume, moving: Volume, device: torch.device, clock: Clock
) -> Resampled:
    """Slab by slab, so that memory stays bounded whatever the size of the images."""
    shape = fixed.grid.shape
    warped, jacobian, within = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, bool)
    array = torch.from_numpy(np.asarray(moving.array, np.float32))
    image = array.to(device, exact_dtype(device))[None, None]
    samples, outside = Samples(image, Lattice(moving.grid.shape)), float(image.min())
    slabs = Chain(transform, device).slabs(fixed.grid, moving.grid, determinants=True)
    done = _BEFORE
    while True:
        with clock.step("compose", done):
            slab = next(slabs, None)
        if slab is None:
            return Resampled(warped, jacobian, within)
        part, done = slice(slab.low, slab.high), _BEFORE + (_AFTER - _BEFORE) * slab.high / shape[0]
        with clock.step("resample", done):
            points = slab.index.T[None]
            valid = inside(samples.lattice, points)
            values = torch.where(valid, samples.at(points)[:, 0], outside)
            warped[part] = values.cpu().numpy().reshape(-1, *shape[1:])
            within[part] = valid.cpu().numpy().reshape(-1, *shape[1:])
        with clock.step("jacobian", done):
            assert slab.determinant is not None
            jacobian[part] = slab.determinant.cpu().numpy().reshape(-1, *shape[1:])
