"""One pass of a pair through a model (§2.3, Figure 4): the product's main job.

The networks see both images on their working grids; the result is computed once, from the original moving
image, on the fixed image's own grid, in slabs so that memory stays bounded whatever the image size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dlir.errors import GeometryError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.model.memory import require_memory
from dlir.model.multistage import MultiStageModel
from dlir.model.preprocessing import Prepared, scale
from dlir.model.stages import PairBatch, Progressed, run_stages
from dlir.registration.choices import Initialization
from dlir.registration.initialization import Start, initialize
from dlir.registration.progress import Clock, Progress, silent
from dlir.registration.results.resampled import resampled
from dlir.registration.results.result import RegistrationResult
from dlir.transforms.chain import to_millimetres
from dlir.transforms.lattice import Lattice, lookup
from dlir.transforms.spatial import AffineTransform, CompositeTransform, Part

if TYPE_CHECKING:
    from dlir.registration.optimising import Optimising

# Makes a transform better, on a device, in the time of a clock.
Refine: TypeAlias = "Callable[[CompositeTransform, torch.device, Clock], Optimising]"
# A map that stretches by less than this part is rigid.
_RIGID = 1e-3


@dataclass(frozen=True, eq=False)
class SeenPair:
    """A pair as the networks see it, and no more of it: it may be kept beside the result.

    fixed, moving: working grids. images: (1, 1, z, y, x) each, padded, by the factors (x, y, z) that voxels of these
    grids are averaged over. start: the initialization, applied last; where it is not linear, `moving` was brought
    through it and lies on the fixed grid. matrix: (4, 4), what of it is linear, from index to index of the grids.
    """

    fixed: ImageGrid
    moving: ImageGrid
    images: dict[tuple[int, int, int], tuple[Tensor, Tensor]]
    start: CompositeTransform
    matrix: NDArray[np.float64]

    @property
    def rigid(self) -> bool:
        """Whether the start neither stretches nor shears."""
        linear = self.start.matrix[:3, :3] if self.start.linear else np.eye(3)
        return bool(np.abs(linear.T @ linear - np.eye(3)).max() < _RIGID)

    def turned(self) -> SeenPair:
        """The same images with their roles exchanged, from the start's inverse; from where they lie, where the start is
        not linear.
        """
        images = {factors: (moving, fixed) for factors, (fixed, moving) in self.images.items()}
        back = np.asarray(np.linalg.inv(self.start.matrix), float) if self.start.linear else None
        start = CompositeTransform(() if back is None else (AffineTransform(back),))
        return SeenPair(self.moving, self.fixed, images, start, np.asarray(np.linalg.inv(self.matrix), float))


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the networks made of a pair, before anything is resampled.

    pair: as they saw it. progressed: their chain, in voxels of the working grids; transform: the same in LPS mm.
    features: of each stage, see `MultiStageModel.watched`.
    """

    pair: SeenPair
    progressed: Progressed
    transform: CompositeTransform
    features: list[Tensor]


class Registration:
    """A model on a device, ready for any number of pairs."""

    def __init__(self, model: MultiStageModel, device: torch.device) -> None:
        self.device = device
        self.model = model.to(device)
        self.spec = model.spec

    @torch.inference_mode()
    def __call__(
        self,
        fixed: Volume,
        moving: Volume,
        initial: CompositeTransform | Start | None = None,
        mode: str = Initialization.auto.value,
        progress: Progress = silent,
        refine: Refine | None = None,
    ) -> RegistrationResult:
        """Register `moving` to `fixed`; see `initialize` for `initial` and `mode`. refine: makes the result better.

        Raises GeometryError for images that do not overlap, or are too small for the model or too large for memory.
        """
        clock = Clock(progress, partial(torch.cuda.synchronize, self.device) if self.device.type == "cuda" else silent)
        self.check(fixed, moving)
        start = initialize(fixed, moving, initial, mode)
        found = self.predict(fixed, moving, start.transform, clock)
        better = refine and refine(found.transform, self.device, clock)
        transform = better.found.transform if better else found.transform
        new = resampled(transform, fixed, moving, self.device, clock)
        return RegistrationResult(
            transform,
            new.warped,
            new.jacobian,
            new.inside,
            start.description,
            str(self.device),
            clock.seconds,
            found,
            better,
        )

    @torch.inference_mode()
    def predict(
        self, fixed: Volume, moving: Volume, start: CompositeTransform, clock: Clock | None = None
    ) -> Prediction:
        """The networks alone, from a start: most of the time of a registration goes into what this leaves out."""
        clock = clock or Clock()
        with clock.step("preprocess", 0.0):
            pair = self._seen(fixed, moving, start)
        return self._predicted(pair, clock)

    @torch.inference_mode()
    def turned(self, found: Prediction) -> Prediction:
        """What the networks make of the same pair with the roles of the images exchanged, see `SeenPair.turned`."""
        return self._predicted(found.pair.turned(), Clock())

    def _predicted(self, pair: SeenPair, clock: Clock) -> Prediction:
        with self.model.watched() as features:
            progressed = self._run_stages(pair, clock)
        return Prediction(pair, progressed, self._transform(pair, progressed), features)

    # -- preprocessing ---------------------------------------------------------------------------

    def check(self, fixed: Volume, moving: Volume) -> None:
        """Before there is any work. Raises GeometryError for images too small for the model or too large for memory."""
        for volume in (fixed, moving):
            self._check_size(volume)
            require_memory(self.spec, volume.grid, f"'{volume.source}'")

    def _check_size(self, volume: Volume) -> None:
        working = self.spec.preprocessing.working_grid(volume.grid)
        for stage in range(len(self.spec.stages)):
            cell = self.spec.control_spacing(stage)
            if any(n < c for n, c in zip(working.size, cell, strict=True)):
                needed = " x ".join(f"{c * s:.0f}" for c, s in zip(cell, working.spacing, strict=True))
                extent = " x ".join(f"{e:.0f}" for e in working.extent)
                raise GeometryError(
                    f"'{volume.source}' measures {extent} mm, less than the {needed} mm that this model needs; "
                    "correct its voxel size if that is wrong, or use a larger field of view or another model"
                )

    def _seen(self, fixed: Volume, moving: Volume, start: CompositeTransform) -> SeenPair:
        preprocessing = self.spec.preprocessing
        with ThreadPoolExecutor(2) as threads:
            image, other = threads.map(lambda volume: scale(volume.array, volume.grid, preprocessing), (fixed, moving))
        grid, matrix = image.working, np.eye(4)
        if start.linear:
            x, y, z = (start.matrix[:3, :3] @ grid.direction_matrix).tolist()
            along = (tuple(x), tuple(y), tuple(z))
            other = replace(other, working=preprocessing.working_grid(moving.grid, along))
            matrix = other.working.physical_to_index @ start.matrix @ grid.index_to_physical
        else:
            index = other.working.to_index(start.apply(grid.voxel_centers().reshape(-1, 3)))
            points = torch.from_numpy(index).float().reshape(1, *grid.shape, 3)
            moved = lookup(other.seen()[None, None], Lattice(other.working.shape), points)[0, 0]
            other = Prepared(moved, grid, grid)
        return SeenPair(grid, other.working, self._images(image, other), start, matrix)

    def _images(self, fixed: Prepared, moving: Prepared) -> dict[tuple[int, int, int], tuple[Tensor, Tensor]]:
        """Both images at the resolution of each stage: from the finest one's, if whole voxels of these make one, which
        takes far less time than from the images as they are.
        """
        wanted = sorted({self.spec.factors(stage) for stage in range(len(self.spec.stages))}, key=math.prod)
        finest, images = wanted[0], dict[tuple[int, int, int], tuple[Tensor, Tensor]]()
        for factors in wanted:
            if images and all(own % finer == 0 for own, finer in zip(factors, finest, strict=True)):
                x, y, z = (own // finer for own, finer in zip(factors, finest, strict=True))
                a, b = (F.avg_pool3d(image, (z, y, x)) for image in images[finest])
            else:
                a, b = (
                    image.seen(self.spec.padded_shape(image.working.shape), factors).to(self.device)[None, None]
                    for image in (fixed, moving)
                )
            images[factors] = a, b
        return images

    # -- the networks ----------------------------------------------------------------------------

    def _run_stages(self, pair: SeenPair, clock: Clock) -> Progressed:
        def done(stage: int) -> float:
            return 0.05 + 0.6 * stage / len(self.spec.stages)

        def seen(stage: int) -> tuple[Tensor, Tensor]:
            fixed, moving = pair.images[self.spec.factors(stage)]
            return fixed.to(self.device), moving.to(self.device)

        batch = PairBatch(
            seen,
            torch.from_numpy(pair.matrix).float().to(self.device)[None],
            torch.tensor([pair.fixed.spacing], device=self.device),
            (pair.fixed.shape,),
            (pair.moving.shape,),
            pair.rigid,
        )
        last = len(self.spec.stages) - 1
        return run_stages(self.model, batch, last, timed=lambda step, stage: clock.step(step, done(stage)))

    # -- the result ------------------------------------------------------------------------------

    def _transform(self, pair: SeenPair, progressed: Progressed) -> CompositeTransform:
        """The exact parameters of the chain in LPS mm."""
        parts: list[Part] = []
        to_mm = pair.fixed.index_to_physical
        parts += [to_millimetres(spline, pair.fixed) for spline in reversed(progressed.splines)]
        affine = progressed.affine[0].cpu().double().numpy()
        if not np.array_equal(affine, np.eye(4)):
            parts.append(AffineTransform(to_mm @ affine @ pair.fixed.physical_to_index))
        return CompositeTransform((*parts, *pair.start.parts))
