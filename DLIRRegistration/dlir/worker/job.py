"""One request of the worker: arrays in, files and a report out."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError, ImageError
from dlir.geometry import ImageGrid
from dlir.io.arrays import read_array, write_array
from dlir.io.reading import Volume, check_values
from dlir.io.writing import write_bytes
from dlir.metrics.scores import structure_scores
from dlir.registration.clock import Clock
from dlir.registration.report import Request, build_report
from dlir.registration.result import RegistrationResult
from dlir.registration.session import Session, propagate
from dlir.transforms.backward import Layer, carry_to_moving
from dlir.transforms.files import read_transform, write_transform
from dlir.transforms.resample import resample
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
from dlir.worker.protocol import ArrayFile, Done, RegisterRequest

Progress = Callable[[str, float], None]

_IN_PLACE = CompositeTransform(())


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Everything that a request names, read."""

    request: Request
    labels: list[Volume]
    fixed_labels: list[Volume]
    backward_labels: list[Volume]


def run(asked: RegisterRequest, session: Session, progress: Progress, notify: Callable[[str], None]) -> Done:
    """Do what was asked; the files lie in the request's folder when this returns.

    Raises the DLIRErrors of the parts, each one line for the user.
    """
    start, clock, model = time.perf_counter(), Clock(), Path(asked.model)
    progress("reading", 0.0)
    with clock.step("read"):
        inputs = _read(asked)
    progress("loading model", 0.05)
    with clock.step("load"):
        header = session.load(model)
    outcome = session.register(inputs.request, model, asked.device, _share(progress, 0.1, 0.7), notify)
    with clock.step("labels"):
        arrays, judged = _labels(asked, inputs, outcome.value, progress)
    progress("figures", 0.8)
    with clock.step("figures"):
        report = build_report(inputs.request, outcome.value, header, outcome.device) | judged
    with clock.step("write"):
        files = _write(Path(asked.folder), outcome.value, arrays, _share(progress, 0.9, 1.0))
    report["seconds"] |= clock.seconds
    return Done(asked.id, files, report, round(time.perf_counter() - start, 4))


def _share(progress: Progress, low: float, high: float) -> Progress:
    return lambda step, fraction: progress(step, low + (high - low) * fraction)


# -- reading ------------------------------------------------------------------------------------------


def _read(asked: RegisterRequest) -> _Inputs:
    fixed, moving = _image(asked.fixed, "fixed image"), _image(asked.moving, "moving image")
    masks = (_mask(asked.fixed_mask, fixed), _mask(asked.moving_mask, moving))
    initial = read_transform(Path(asked.initial_transform)) if asked.initial_transform else None
    return _Inputs(
        Request(fixed, moving, initial, asked.initialize, *masks),
        *([_label(file) for file in files] for files in (asked.labels, asked.fixed_labels, asked.backward_labels)),
    )


def _volume(file: ArrayFile) -> Volume:
    array, grid = read_array(file.array), _grid(file.grid, file.name)
    if array.shape != grid.shape:
        raise GeometryError(f"'{file.name}' has {array.shape} voxels, but its grid says {grid.shape}; run again")
    return Volume(array, grid, file.name)


def _grid(values: dict[str, Any], name: str) -> ImageGrid:
    try:
        return ImageGrid(**values)
    except (TypeError, ValueError) as error:
        raise GeometryError(f"the grid of '{name}' cannot be read ({error}); run again") from None


def _image(file: ArrayFile, role: str) -> Volume:
    volume = _volume(file)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which the next check refuses
        array = np.ascontiguousarray(volume.array, np.float32)
    check_values(array, f"{role} '{file.name}'")
    return Volume(array, volume.grid, file.name)


def _mask(file: ArrayFile | None, image: Volume) -> Volume | None:
    """On the voxels of its image, by nearest neighbour."""
    if file is None:
        return None
    volume = _volume(file)
    marked = (volume.array != 0).view(np.uint8)
    if not volume.grid.same_as(image.grid):
        marked = resample(marked, volume.grid, _IN_PLACE, image.grid, "nearest")
    if not marked.any():
        raise ImageError(f"mask '{file.name}' marks no voxel of '{image.source}'; choose another mask or none")
    return Volume(marked, image.grid, file.name)


def _label(file: ArrayFile) -> Volume:
    volume = _volume(file)
    if not np.issubdtype(volume.array.dtype, np.integer):
        raise ImageError(f"'{file.name}' holds {volume.array.dtype} values, no labels; give whole numbers")
    return volume


# -- labels and figures -------------------------------------------------------------------------------


def _labels(
    asked: RegisterRequest, inputs: _Inputs, result: RegistrationResult, progress: Progress
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The layers on the image on the other side, by the names of their files, and what the report says of them."""
    arrays: dict[str, NDArray[Any]] = {}
    report: dict[str, Any] = {}
    if inputs.labels or inputs.backward_labels:
        progress("labels", 0.7)
    before = []
    for number, layer in enumerate(inputs.labels):
        started, arrays[f"label_{number}"] = propagate(layer, inputs.request, result)
        before.append(started)
    if asked.comparisons:
        report["labels"] = _scores(asked, inputs, before, arrays)
    if inputs.backward_labels:
        layers = [Layer(layer.array, layer.grid) for layer in inputs.backward_labels]
        carried = carry_to_moving(layers, result.transform, inputs.request.moving.grid)
        arrays |= {f"backward_label_{number}": array for number, array in enumerate(carried.arrays)}
        report["inverse"] = {
            "largest_residual_mm": carried.largest_residual,
            "unsolved_voxels": carried.unsolved,
        }
    return arrays, report


def _scores(
    asked: RegisterRequest, inputs: _Inputs, before: list[NDArray[Any]], arrays: dict[str, NDArray[Any]]
) -> dict[str, Any]:
    grid = inputs.request.fixed.grid
    fixed = [resample(layer.array, layer.grid, _IN_PLACE, grid, "nearest") for layer in inputs.fixed_labels]
    return {
        pair.name: structure_scores(
            fixed[pair.fixed_layer] == pair.fixed_value,
            before[pair.layer] == pair.value,
            arrays[f"label_{pair.layer}"] == pair.value,
            grid,
        )
        for pair in asked.comparisons
    }


# -- writing ------------------------------------------------------------------------------------------


def _write(
    folder: Path, result: RegistrationResult, labels: dict[str, NDArray[Any]], progress: Progress
) -> dict[str, str]:
    """Paths of the files by their names."""
    progress("writing", 0.0)
    files = {"transform": folder / "transform.h5", "parts": folder / "parts.npz"}
    write_transform(files["transform"], result.transform)
    write_bytes(files["parts"], _npz(parts_of(result.transform)))
    arrays = {"warped": result.warped, "jacobian": result.jacobian, **labels}
    for number, (name, array) in enumerate(arrays.items()):
        files[name] = folder / f"{name}.npy"
        for fraction in write_array(files[name], array):
            progress("writing", (number + fraction) / len(arrays))
    return {name: str(path) for name, path in files.items()}


def parts_of(transform: CompositeTransform) -> dict[str, NDArray[Any]]:
    """The exact parameters of a transform in LPS mm, as plain arrays.

    `bspline_0` (3, gz, gy, gx), with its control points on the grid `grid_0` (JSON), is applied first, then
    `bspline_1`..., then `affine` (4, 4). B-splines after that come under the same names with `initial_` before them,
    and what is after their affine with `initial_initial_`.
    """
    arrays: dict[str, NDArray[Any]] = {"affine": np.eye(4)}
    prefix, number, bent = "", 0, True
    for part in transform.parts:
        if isinstance(part, AffineTransform):
            arrays[f"{prefix}affine"] = part.matrix @ arrays[f"{prefix}affine"]
            bent = False
        elif isinstance(part, BSplineTransform):
            if not bent:
                prefix, number, bent = f"{prefix}initial_", 0, True
                arrays[f"{prefix}affine"] = np.eye(4)
            arrays[f"{prefix}bspline_{number}"] = part.coefficients
            arrays[f"{prefix}grid_{number}"] = np.array(json.dumps(part.grid.to_dict()))
            number += 1
    return arrays


def _npz(arrays: dict[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
