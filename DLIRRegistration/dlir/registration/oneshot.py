"""One pass of a pair through a model (§2.3, Figure 4): the product's main job.

The networks see both images on their working grids; the result is computed once, from the original moving
image, on the fixed image's own grid, in slabs so that memory stays bounded whatever the image size.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlir import geometry
from dlir.errors import GeometryError
from dlir.geometry import ImageGrid, Shape3
from dlir.io.reading import Volume
from dlir.model.multistage import MultiStageModel
from dlir.model.preprocessing import Prepared, scale
from dlir.registration.initialization import initialize
from dlir.registration.progress import Clock, Progress, silent
from dlir.registration.result import RegistrationResult
from dlir.transforms.affine import joins_centers, transform_points
from dlir.transforms.dense import (
    STAGE_TOLERANCE,
    Region,
    SampledStage,
    StageField,
    sample_stage,
    slabs,
    trace,
    trace_with_determinant,
)
from dlir.transforms.lattice import Lattice, Samples, exact_dtype, inside, lookup
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform, SpatialTransform

# Voxels resampled at once, which bounds the memory of points and fields. Fewer stay in the cache but take more calls.
_SLAB_VOXELS = 1 << 19
# Off-diagonal elements that move no point of an image by this many voxels are rounding.
_NO_TURN = 1e-9
# A map that stretches by less than this part is rigid.
_RIGID = 1e-3


@dataclass
class _Pair:
    """A pair on its way through the stages, in the index space of the fixed image's working grid.

    shape, moving_shape: of the images as the networks see them, padded. matrix: (1, 4, 4) to the moving working grid,
    of the affine parts so far. stages: deformable stages so far, coarse to fine, of which those that a later one
    followed are also in `sampled`. tail: the initialization, applied last; where it is not linear, `moving` has
    already been resampled through it. seen: both images at the resolutions that stages have asked for, (1, 1, z, y, x).
    """

    grid: ImageGrid
    fixed: Prepared
    moving: Prepared
    shape: Shape3
    moving_shape: Shape3
    matrix: Tensor
    affine: Tensor
    tail: CompositeTransform
    stages: list[StageField] = field(default_factory=list)
    sampled: list[SampledStage] = field(default_factory=list)
    seen: dict[tuple[int, int, int], list[Tensor]] = field(default_factory=dict)

    @property
    def unmoved(self) -> bool:
        """Whether nothing was moved yet and the two working grids lie on each other, as those of two cine phases do."""
        return not self.stages and float((self.matrix - torch.eye(4).to(self.matrix)).abs().max()) < _NO_TURN

    @property
    def centered(self) -> bool:
        """Whether the start does no more than bring the images' centres together: an affine stage, which compares them
        about these, then sees both as they are (§2.1).
        """
        linear = self.tail.matrix[:3, :3] if self.tail.linear else np.eye(3)
        rigid = np.abs(linear.T @ linear - np.eye(3)).max() < _RIGID
        sizes = (torch.tensor([grid.size]) for grid in (self.fixed.working, self.moving.working))
        return bool(rigid) and bool(joins_centers(self.matrix.cpu(), *sizes))


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
        initial: CompositeTransform | None = None,
        mode: str = "centers",
        progress: Progress = silent,
    ) -> RegistrationResult:
        """Register `moving` to `fixed`; see `initialize` for `initial` and `mode`.

        Raises GeometryError for images that do not overlap or are too small for the model.
        """
        clock = Clock(progress, partial(torch.cuda.synchronize, self.device) if self.device.type == "cuda" else silent)
        for volume in (fixed, moving):
            self._check_size(volume)
        start, described = initialize(fixed, moving, initial, mode)
        with clock.step("preprocess", 0.0):
            pair = self._prepare(fixed, moving, start)
        for stage in range(len(self.spec.stages)):
            self._run_stage(pair, stage, clock)
        warped, jacobian, within = self._resample(pair, fixed, moving, clock)
        return RegistrationResult(
            self._transform(pair), warped, jacobian, within, described, str(self.device), clock.seconds
        )

    # -- preprocessing ---------------------------------------------------------------------------

    def _check_size(self, volume: Volume) -> None:
        working = self.spec.preprocessing.working_grid(volume.grid)
        for stage in range(len(self.spec.stages)):
            cell = self.spec.control_spacing(stage)
            if any(n < c for n, c in zip(working.size, cell, strict=True)):
                needed = " x ".join(f"{c * s:.0f}" for c, s in zip(cell, working.spacing, strict=True))
                extent = " x ".join(f"{e:.0f}" for e in working.extent)
                raise GeometryError(
                    f"{volume.source} measures {extent} mm, less than the {needed} mm that this model needs; "
                    "use a larger field of view or another model"
                )

    def _prepare(self, fixed: Volume, moving: Volume, start: CompositeTransform) -> _Pair:
        preprocessing = self.spec.preprocessing
        with ThreadPoolExecutor(2) as threads:
            image, other = threads.map(lambda volume: scale(volume.array, volume.grid, preprocessing), (fixed, moving))
        grid, matrix = image.working, np.eye(4)
        if start.linear:
            matrix = other.working.physical_to_index @ start.matrix @ grid.index_to_physical
        else:
            index = other.working.to_index(start.apply(grid.voxel_centers().reshape(-1, 3)))
            points = torch.from_numpy(index).float().reshape(1, *grid.shape, 3)
            moved = lookup(other.seen()[None, None], Lattice(other.working.shape), points)[0, 0]
            other = Prepared(moved, grid, grid)
        shapes = [self.spec.padded_shape(prepared.working.shape) for prepared in (image, other)]
        to_moving = torch.from_numpy(matrix).float().to(self.device)[None]
        affine = torch.eye(4, device=self.device)[None]
        return _Pair(grid, image, other, shapes[0], shapes[1], to_moving, affine, start)

    # -- the networks ----------------------------------------------------------------------------

    def _run_stage(self, pair: _Pair, stage: int, clock: Clock) -> None:
        done = 0.05 + 0.6 * stage / len(self.spec.stages)
        factors = self.spec.factors(stage)
        if factors not in pair.seen:
            with clock.step("preprocess", done):
                seen = (pair.fixed.seen(pair.shape, factors), pair.moving.seen(pair.moving_shape, factors))
                pair.seen[factors] = [image.to(self.device)[None, None] for image in seen]
        images = pair.seen[factors]
        affine = self.spec.stages[stage].kind == "affine"
        as_it_is = affine and pair.centered
        with clock.step("compose", done):
            lattice = self.model.lattice(pair.shape, stage)
            moving_lattice = self.model.lattice(pair.moving_shape, stage)
            if as_it_is or (pair.unmoved and moving_lattice == lattice):
                warped = images[1]
            else:
                points = _mapped(pair.matrix, self._trace(pair, lattice))
                warped = Samples(images[1], moving_lattice, rough=True).at(points)
        with clock.step("networks", done):
            if affine:
                grids = (pair.fixed.working, (pair.moving if as_it_is else pair.fixed).working)
                sizes = [torch.tensor([grid.shape], device=self.device) for grid in grids]
                spacing = torch.tensor([pair.grid.spacing], device=self.device)
                found = self.model.predict_affine(stage, images[0], warped, spacing, (sizes[0], sizes[1]))
                pair.matrix, pair.affine = pair.matrix @ found, found
            else:
                coefficients = self.model.predict_coefficients(stage, images[0], warped)
                pair.stages.append(StageField(coefficients, self.spec.control_spacing(stage)))

    def _coarser(self, pair: _Pair) -> list[SampledStage]:
        """All stages but the last, sampled, finest first."""
        for number, stage in list(enumerate(pair.stages))[len(pair.sampled) : -1]:
            region = self._region(pair, number)
            pair.sampled.append(sample_stage(stage, pair.grid.spacing, STAGE_TOLERANCE, region))
        return pair.sampled[::-1]

    def _region(self, pair: _Pair, number: int) -> Region | None:
        """Where the stages after deformable stage `number` can send a point of the image, if they are bounded."""
        deformable = [k for k, stage in enumerate(self.spec.stages) if stage.kind == "bspline"]
        # More than one followed point beyond the image, which interpolation uses.
        reach = [0.5 * s + 1 for s in self.spec.control_spacing(deformable[number + 1])]
        for k in deformable[number + 1 :]:
            limit = self.spec.stages[k].max_displacement
            if limit is None:
                return None
            reach = [r + limit * s for r, s in zip(reach, self.spec.control_spacing(k), strict=True)]
        return tuple((-0.5 - r, n - 0.5 + r) for r, n in zip(reach, pair.shape[::-1], strict=True))

    def _trace(self, pair: _Pair, lattice: Lattice) -> Tensor:
        """Where lattice points go before the affine parts."""
        if not pair.stages:
            return lattice.points(self.device)[None]
        return trace(lattice, pair.stages[-1], self._coarser(pair))

    # -- the result ------------------------------------------------------------------------------

    def _resample(
        self, pair: _Pair, fixed: Volume, moving: Volume, clock: Clock
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Warped image, determinant and validity on the fixed image's own grid, slab by slab."""
        oriented = self.spec.preprocessing.oriented(fixed.grid)
        to_working = oriented.relative_to(pair.grid)
        start, step = to_working[:3, 3], np.diag(to_working)
        warped = np.empty(oriented.shape, np.float32)
        jacobian = np.empty(oriented.shape, np.float32)
        within = np.empty(oriented.shape, bool)
        dtype = exact_dtype(self.device)
        image = torch.from_numpy(np.asarray(moving.array, np.float32)).to(self.device, dtype)
        samples, outside = Samples(image[None, None], Lattice(moving.grid.shape)), float(image.min())
        for low, high in slabs(oriented.shape, _SLAB_VOXELS):
            lattice = Lattice(
                (high - low, *oriented.shape[1:]),
                (float(start[0]), float(start[1]), float(start[2] + step[2] * low)),
                (float(step[0]), float(step[1]), float(step[2])),
            )
            done = 0.65 + 0.35 * low / oriented.shape[0]
            with clock.step("compose", done):
                if pair.stages:
                    points, determinant = trace_with_determinant(lattice, pair.stages[-1], self._coarser(pair))
                else:
                    points = lattice.points(self.device, dtype)[None]
                    determinant = torch.ones(1, 1, *lattice.shape)
            with clock.step("resample", done):
                index, factor = self._to_moving(pair, moving.grid, points)
                valid = inside(samples.lattice, index)
                values = samples.at(index)[0]
                warped[low:high] = torch.where(valid, values, outside)[0].cpu().numpy()
                within[low:high] = valid[0].cpu().numpy()
            with clock.step("jacobian", done):
                jacobian[low:high] = determinant[0, 0].cpu().numpy() * factor
        back = _axes_back(oriented, fixed.grid)
        return back(warped), back(jacobian), back(within)

    def _to_moving(self, pair: _Pair, grid: ImageGrid, points: Tensor) -> tuple[Tensor, Any]:
        """Working-grid points to continuous indices of the moving image, and the determinant of that part in mm."""
        affine = pair.affine[0].cpu().double().numpy()
        linear = float(np.linalg.det(affine[:3, :3]))
        to_physical = pair.grid.index_to_physical @ affine
        if pair.tail.linear:
            matrix = torch.from_numpy(grid.physical_to_index @ pair.tail.matrix @ to_physical)
            index = _mapped(matrix.to(points)[None], points)
            return index, linear * float(np.linalg.det(pair.tail.matrix[:3, :3]))
        flat = geometry.transform_points(to_physical, points.cpu().double().numpy().reshape(-1, 3))
        index = torch.from_numpy(grid.to_index(pair.tail.apply(flat))).reshape(points.shape)
        return index.to(points), linear * pair.tail.determinant(flat).reshape(points.shape[1:4]).astype(np.float32)

    def _transform(self, pair: _Pair) -> CompositeTransform:
        """The exact parameters of the chain in LPS mm."""
        parts: list[SpatialTransform] = []
        to_mm = pair.grid.index_to_physical
        for stage in reversed(pair.stages):
            coefficients = stage.coefficients[0].cpu().double().numpy()
            in_mm = np.einsum("ij,jzyx->izyx", to_mm[:3, :3], coefficients)
            control = stage.control_lattice((1, 1, 1))
            grid = pair.grid.lattice(control.start, control.step, control.shape[::-1])
            parts.append(BSplineTransform(in_mm, grid))
        affine = pair.affine[0].cpu().double().numpy()
        if not np.array_equal(affine, np.eye(4)):
            parts.append(AffineTransform(to_mm @ affine @ pair.grid.physical_to_index))
        return CompositeTransform((*parts, *pair.tail.parts))


def _mapped(matrix: Tensor, points: Tensor) -> Tensor:
    """`matrix` (1, 4, 4) applied to points (1, ..., 3); cheaper where it only scales, as it mostly does."""
    linear = matrix[0, :3, :3]
    scale = linear.diagonal()
    if float((linear - scale.diag()).abs().max()) * max(points.shape[1:-1]) > _NO_TURN:
        return transform_points(matrix, points)
    return torch.addcmul(matrix[0, :3, 3], points, scale)


def _axes_back(oriented: ImageGrid, original: ImageGrid) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """A function that turns arrays on `oriented` into arrays on `original`, whose axes it permuted and flipped."""
    matrix = np.rint(original.relative_to(oriented)[:3, :3]).astype(int)
    source = [int(np.argmax(np.abs(matrix[:, a]))) for a in range(3)]

    def back(array: NDArray[Any]) -> NDArray[Any]:
        turned = array.transpose([2 - source[2 - d] for d in range(3)])
        flips = tuple(d for d in range(3) if matrix[source[2 - d], 2 - d] < 0)
        return np.ascontiguousarray(np.flip(turned, flips))

    return back
