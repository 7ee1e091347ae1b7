"""ANTs' symmetric normalisation, the other usual baseline, by antspyx."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from dlir.errors import EvaluationError, how_to_install
from dlir.evaluation.methods.base import Registered, as_many_threads_as_torch, before_shift
from dlir.io.reading import Volume
from dlir.registration.loading import Loaded
from dlir.transforms.spatial import CompositeTransform, DisplacementTransform


class SynMethod:
    """SyN with ANTs' default settings.

    affine: with the affine registration that ANTs puts before it, as between persons; within one, without.
    """

    def __init__(self, *, affine: bool = False, name: str = "SyN") -> None:
        self.name = name
        self._kind = "SyN" if affine else "SyNOnly"
        self.settings: Mapping[str, Any] = {"method": "antspyx", "type_of_transform": self._kind}

    def register(self, pair: Loaded) -> Registered:
        ants = _import_ants()
        moving, shift = before_shift(pair)
        images = [_to_ants(ants, volume) for volume in (pair.fixed, moving)]
        # ANTs leaves its transforms where they are written, fields of tens of megabytes each.
        with TemporaryDirectory() as folder:
            start = time.perf_counter()
            try:
                found = ants.registration(
                    *images, type_of_transform=self._kind, random_seed=1, outprefix=str(Path(folder) / "syn")
                )
            except (RuntimeError, ValueError) as error:
                raise EvaluationError(
                    f"ANTs failed on '{pair.fixed.source}' and '{pair.moving.source}': {' '.join(str(error).split())}"
                ) from error
            seconds = time.perf_counter() - start
            field = _sampled(ants, found["fwdtransforms"], pair.fixed)
        return Registered(CompositeTransform((field, *shift.parts)), seconds)


def _sampled(ants: Any, transforms: Any, fixed: Volume) -> DisplacementTransform:
    """ANTs' transform as it moves the centres of the fixed voxels: points travel from fixed to moving by it."""
    centers = fixed.grid.voxel_centers().reshape(-1, 3)
    table = pd.DataFrame(centers, columns=["x", "y", "z"])
    sent = ants.apply_transforms_to_points(3, table, transforms)[["x", "y", "z"]].to_numpy()
    return DisplacementTransform((sent - centers).reshape(*fixed.grid.shape, 3).astype(np.float32), fixed.grid)


def _to_ants(ants: Any, volume: Volume) -> Any:
    array = np.ascontiguousarray(volume.array.astype(np.float32).transpose(2, 1, 0))
    grid = volume.grid
    return ants.from_numpy(array, list(grid.origin), list(grid.spacing), grid.direction_matrix)


def _import_ants() -> Any:
    as_many_threads_as_torch()
    try:
        return import_module("ants")
    except ImportError:
        raise EvaluationError(f"ANTs is not installed; install it with: {how_to_install('bench')}") from None
