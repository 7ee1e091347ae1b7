"""The files of a registration: what they are called, and their writing. All appear together or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlir.io import OutputFolder, write_image, write_landmarks
from dlir.io.arrays import write_array
from dlir.registration.choices import OutputForm
from dlir.registration.progress import Progress
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.registration.results.page import PAGE, Plane, report_page, slices, worst_fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dlir.geometry import ImageGrid
    from dlir.registration.loading import Loaded
    from dlir.registration.results.propagation import Propagated
    from dlir.registration.results.result import RegistrationResult


def outputs_of(request: RegistrationRequest) -> Outputs:
    """The outputs of a request that has files. Raises ValueError for one that has none."""
    if request.outputs is None:
        raise ValueError("the request has no outputs")
    return request.outputs


def output_names(request: RegistrationRequest) -> dict[str, str]:
    """File names of the outputs, by what they are.

    Either form has "warped" and "jacobian" (float32, fixed grid), "transform" (ITK .h5) and, where asked for,
    "displacement" and "error_map" (float32, mm, fixed grid). Files, images as the format says: "warped_label" and
    "backward_label", numbered from 1 where there are several layers, in the type they came in, "moving_landmarks",
    "page" and "report"; all begin with the prefix. Arrays: "label_0"... and "backward_label_0"... in their place, and
    neither points, page nor report, which the worker tells itself.
    """
    outputs = outputs_of(request)
    arrays = outputs.form == OutputForm.arrays
    layers = [*_layer_keys(request, "label"), *_layer_keys(request, "backward_label")]
    extras = {"displacement": outputs.displacement, "error_map": request.error_map}
    images = ["warped", "jacobian", *layers, *(key for key, wanted in extras.items() if wanted)]
    names = {key: f"{key}.{'npy' if arrays else outputs.format}" for key in images} | {"transform": "transform.h5"}
    if arrays:
        return names
    if request.moving_landmarks is not None:
        names["moving_landmarks"] = "moving_landmarks.csv"
    names |= ({"page": PAGE} if outputs.html else {}) | {"report": "report.json"}
    return {key: f"{outputs.prefix}{name}" for key, name in names.items()}


def _layer_keys(request: RegistrationRequest, kind: str) -> list[str]:
    count = len(request.moving_labels if kind == "label" else request.backward_labels)
    if outputs_of(request).form == OutputForm.arrays:
        return [f"{kind}_{number}" for number in range(count)]
    name = "warped_label" if kind == "label" else kind
    return [name] if count == 1 else [f"{name}_{number}" for number in range(1, count + 1)]


def write_outputs(
    outputs: OutputFolder,
    request: RegistrationRequest,
    loaded: Loaded,
    result: RegistrationResult,
    propagated: Propagated,
    progress: Progress,
) -> None:
    """Everything but the report, into a folder that is open. Raises OutputError where something cannot be written."""
    from dlir.transforms.files import write_transform

    names = output_names(request)
    progress("writing", 0.0)
    write_transform(outputs.file(names["transform"]), result.transform)
    if "moving_landmarks" in names and propagated.landmarks is not None:
        write_landmarks(outputs.file(names["moving_landmarks"]), propagated.landmarks)
    volumes = _volumes(request, loaded, result, propagated)
    for number, (key, (array, grid)) in enumerate(volumes.items()):
        for fraction in _writing(outputs.file(names[key]), array, grid):
            progress("writing", (number + fraction) / len(volumes))


def write_page(path: Path, report: Mapping[str, Any], loaded: Loaded, result: RegistrationResult) -> None:
    """The report as a page of HTML with pictures. Raises OutputError."""
    from dlir.io.writing import write_text
    from dlir.transforms.resample import resample
    from dlir.transforms.spatial import CompositeTransform

    here, fixed, moving = CompositeTransform(()), loaded.fixed, loaded.moving
    planes = []
    for name, plane in slices(fixed.grid, worst_fold(result.jacobian, fixed.grid)).items():
        shown = [
            resample(array, grid, transform, plane, "linear", float(array.min()))[0]
            for array, grid, transform in (
                (fixed.array, fixed.grid, here),
                (moving.array, moving.grid, loaded.start),
                (moving.array, moving.grid, result.transform),
                (result.jacobian, fixed.grid, here),
            )
        ]
        planes.append(Plane(name, *shown))
    write_text(path, report_page(report, planes))


def _volumes(
    request: RegistrationRequest, loaded: Loaded, result: RegistrationResult, propagated: Propagated
) -> dict[str, tuple[NDArray[Any], ImageGrid]]:
    """What lies on a grid, by the names of `output_names`."""
    fixed, moving = loaded.fixed.grid, loaded.moving.grid
    volumes = {"warped": (result.warped, fixed), "jacobian": (result.jacobian, fixed)}
    for kind, layers, grid in (("label", propagated.after, fixed), ("backward_label", propagated.backward, moving)):
        volumes |= {key: (layer, grid) for key, layer in zip(_layer_keys(request, kind), layers, strict=True)}
    if outputs_of(request).displacement:
        from dlir.transforms.resample import displacement_field

        volumes["displacement"] = displacement_field(result.transform, fixed), fixed
    if result.error_map is not None:
        volumes["error_map"] = result.error_map, fixed
    return volumes


def _writing(path: Path, array: NDArray[Any], grid: ImageGrid) -> Iterator[float]:
    """Writes as the name says; gives the fraction written. The last axis of a displacement is its components."""
    if path.suffix == ".npy":
        yield from write_array(path, array)
    else:
        write_image(path, array, grid, is_vector=array.ndim > 3)
        yield 1.0
