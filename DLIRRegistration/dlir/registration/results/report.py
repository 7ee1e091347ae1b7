"""The record of one registration, for people, pipelines and Slicer alike: plain values, ready for JSON.

What is carried from one image to the other is not in here; `dlir.registration.results.propagation` reports on that.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlir import __version__
from dlir.io.reading import Volume
from dlir.io.source import reported_name
from dlir.metrics.folding import describe, jacobian_statistics
from dlir.metrics.scores import defined
from dlir.model.card import licence_of
from dlir.model.file import ModelHeader, name_of
from dlir.registration.choices import NO_MODEL
from dlir.registration.loading import Loaded
from dlir.registration.results.former import content_of
from dlir.registration.results.result import RegistrationResult
from dlir.transforms.resample import resample
from dlir.transforms.spatial import BSplineTransform, CompositeTransform

REPORT_VERSION = 1

# Voxels in double precision at once.
_BLOCK = 1 << 20


def build_report(
    loaded: Loaded, result: RegistrationResult, model: ModelHeader | None, device: str, full_paths: bool = False
) -> dict[str, Any]:
    """What was done and what came of it.

    device: where it ran in the end (`Outcome.device`). full_paths: whether images are named with the folders above
    them. Figures that are not defined are None.
    """
    keeps_orientation = _keeps_orientation(loaded.start if model is not None else _linear_part(result.transform))
    mask = None if loaded.fixed_mask is None else loaded.fixed_mask.array
    return {
        "report_version": REPORT_VERSION,
        "fixed": _image(loaded.fixed, full_paths),
        "moving": _image(loaded.moving, full_paths),
        "fixed_mask": loaded.fixed_mask and reported_name(loaded.fixed_mask.source, full=full_paths),
        "moving_mask": loaded.moving_mask and reported_name(loaded.moving_mask.source, full=full_paths),
        "model": describe_no_model() if model is None else describe_model(model),
        "refinement": result.optimising and result.optimising.to_dict(),
        "initialization": result.initialization,
        "similarity": _similarity(loaded, result),
        "jacobian": describe(jacobian_statistics(result.jacobian, mask)),
        "fold_free_by_construction": (model is None or model.spec.fold_free) and keeps_orientation,
        "device": device,
        "threads": torch.get_num_threads(),
        "seconds": {name: round(value, 4) for name, value in result.seconds.items()},
        "peak_memory_mb": peak_memory_mb(),
        "versions": versions(),
    }


def _image(volume: Volume, full_paths: bool) -> dict[str, Any]:
    file = reported_name(volume.source, full=full_paths)
    return {"file": file, "content": content_of(volume), **volume.grid.to_dict()}


def describe_model(model: ModelHeader) -> dict[str, Any]:
    """What identifies a model and under which terms it may be used."""
    card = model.card
    return {
        "name": name_of(model),
        "title": card.get("title"),
        "licence": licence_of(card),
        "file": model.path.name,
        "sha256": model.digest,
        "written_by": f"dlir {model.code_version}",
    }


def describe_no_model() -> dict[str, Any]:
    """In the place of a model, where a pair was optimised without one."""
    return {
        "name": NO_MODEL,
        "title": "no network: optimised for this pair",
        "licence": None,
        "file": None,
        "sha256": None,
        "written_by": f"dlir {__version__}",
    }


def _linear_part(transform: CompositeTransform) -> CompositeTransform:
    return CompositeTransform(tuple(part for part in transform.parts if not isinstance(part, BSplineTransform)))


def _keeps_orientation(start: CompositeTransform) -> bool:
    return start.linear and float(np.linalg.det(start.matrix[:3, :3])) > 0


def versions() -> dict[str, str]:
    """Versions of what computes."""
    import SimpleITK as sitk

    return {
        "dlir": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": str(torch.__version__),
        "SimpleITK": sitk.Version.VersionString(),
        "numpy": np.__version__,
    }


def peak_memory_mb() -> float | None:
    """Largest memory that this process has had, in 10^6 bytes; None where the system does not tell (Windows)."""
    try:
        import resource
    except ModuleNotFoundError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


# -- similarity ---------------------------------------------------------------------------------------


def _similarity(loaded: Loaded, result: RegistrationResult) -> dict[str, Any]:
    """NCC over the voxels that have a counterpart, before and after."""
    start, moving = loaded.start, loaded.moving
    before = resample(moving.array, moving.grid, start, loaded.fixed.grid, default=math.nan)
    counts_before = np.isfinite(before) & _counterparts(loaded, start)
    counts_after = result.inside & _counterparts(loaded, result.transform)
    return {
        "measure": "NCC",
        "before": defined(correlation(loaded.fixed.array, before, counts_before)),
        "after": defined(correlation(loaded.fixed.array, result.warped, counts_after)),
        "voxels_before": int(np.count_nonzero(counts_before)),
        "voxels_after": int(np.count_nonzero(counts_after)),
    }


def _counterparts(loaded: Loaded, transform: CompositeTransform) -> NDArray[np.bool_]:
    """The fixed voxels that lie in the fixed mask and map into the moving one, where such masks are given."""
    within = np.ones(loaded.fixed.grid.shape, bool)
    if loaded.fixed_mask is not None:
        within &= loaded.fixed_mask.array.astype(bool)
    if loaded.moving_mask is not None:
        mask = loaded.moving_mask.array.astype(bool)
        within &= resample(mask, loaded.moving_mask.grid, transform, loaded.fixed.grid, "nearest")
    return within


def correlation(a: NDArray[Any], b: NDArray[Any], where: NDArray[np.bool_]) -> float:
    """Global normalised cross-correlation (§2.4) of two images over the voxels of `where`, in double precision.

    `nan` where there are none, or where one of the images is constant in them.
    """
    count = int(np.count_nonzero(where))
    if not count:
        return math.nan
    total, products = np.zeros(2), np.zeros((2, 2))
    for values in _chosen(a, b, where):
        total += values.sum(1)
    for values in _chosen(a, b, where):
        centred = values - total[:, None] / count
        products += centred @ centred.T
    variances = products[0, 0] * products[1, 1]
    return float(products[0, 1] / math.sqrt(variances)) if variances > 0 else math.nan


def _chosen(a: NDArray[Any], b: NDArray[Any], where: NDArray[np.bool_]) -> Iterator[NDArray[np.float64]]:
    """(2, N): the values of both images where they count, some voxels at a time."""
    flat_a, flat_b, chosen = a.reshape(-1), b.reshape(-1), where.reshape(-1)
    for start in range(0, chosen.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        yield np.stack([flat_a[block][chosen[block]], flat_b[block][chosen[block]]]).astype(float)
