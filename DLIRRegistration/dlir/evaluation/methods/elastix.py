"""Iterative registration by itk-elastix, which the paper compares with (§5.2)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import EvaluationError, how_to_install
from dlir.evaluation.methods.base import Registered, as_many_threads_as_torch, before_shift
from dlir.evaluation.methods.elastix_settings import ParameterMap, parameter_maps
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.model.preprocessing import intensity_range
from dlir.model.spec import Preprocessing
from dlir.networks.spec import StageSpec
from dlir.registration.loading import Loaded
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform, Part


class ElastixMethod:
    """elastix with the settings that a model's stages imply.

    stages: see `parameter_maps`; those up to the stage that it is compared with. preprocessing: its intensity range
    is used; the image's voxels are not changed. bending: with bending energy. masked: inside the fixed mask, where
    a pair has one. maps: elastix's parameters, instead of those of stages.
    """

    def __init__(
        self,
        name: str,
        stages: Sequence[StageSpec],
        preprocessing: Preprocessing,
        *,
        bending: bool = False,
        masked: bool = False,
        maps: Sequence[ParameterMap] | None = None,
    ) -> None:
        self.name, self._preprocessing, self._masked = name, preprocessing, masked
        self._maps = parameter_maps(stages, bending=bending) if maps is None else list(maps)
        self.settings: Mapping[str, Any] = {
            "method": "elastix",
            "parameters": self._maps,
            "window": preprocessing.window,
            "percentile": preprocessing.percentile,
            "masked": masked,
        }

    def register(self, pair: Loaded) -> Registered:
        itk = _import_itk()
        moving, shift = before_shift(pair)
        images = [self._image(itk, volume) for volume in (pair.fixed, moving)]
        parameters = itk.ParameterObject.New()
        for values in self._maps:
            parameters.AddParameterMap(values)
        masks = {}
        if self._masked and pair.fixed_mask is not None:
            masks["fixed_mask"] = _to_itk(itk, pair.fixed_mask.array.astype(np.uint8), pair.fixed.grid)
        start = time.perf_counter()
        try:
            _, found = itk.elastix_registration_method(
                *images, parameter_object=parameters, log_to_console=False, **masks
            )
        except RuntimeError as error:
            raise EvaluationError(
                f"elastix failed on '{pair.fixed.source}' and '{pair.moving.source}': {_last_words(error)}"
            ) from error
        seconds = time.perf_counter() - start
        parts = [part_of(found.GetParameterMap(i)) for i in range(found.GetNumberOfParameterMaps())]
        return Registered(CompositeTransform((*parts, *shift.parts)), seconds)

    def _image(self, itk: Any, volume: Volume) -> Any:
        """Intensities as the networks see them, on the image's own voxels."""
        low, high = intensity_range(volume.array, self._preprocessing)
        scaled = (volume.array - low) / max(high - low, 1e-12)
        if self._preprocessing.window is not None:
            scaled = scaled.clip(0, 1)
        return _to_itk(itk, scaled.astype(np.float32), volume.grid)


def part_of(parameters: Mapping[str, Sequence[str]]) -> Part:
    """One of elastix's transforms, from the parameters with which it is written, exactly.

    Raises EvaluationError for a kind that the settings here do not lead to.
    """
    kind = parameters["Transform"][0]
    values = np.array(parameters["TransformParameters"], float)
    if kind in ("AffineTransform", "EulerTransform"):
        center = np.array(parameters["CenterOfRotationPoint"], float)
        matrix = np.eye(4)
        matrix[:3, :3] = values[:9].reshape(3, 3) if kind == "AffineTransform" else _rotation(parameters)
        matrix[:3, 3] = values[-3:] + center - matrix[:3, :3] @ center
        return AffineTransform(matrix)
    if kind == "BSplineTransform":
        x, y, z = (int(n) for n in parameters["GridSize"])
        spacing, origin = (tuple(map(float, parameters[f"Grid{name}"])) for name in ("Spacing", "Origin"))
        # Written axis by axis: its rows are the columns of the matrix.
        direction = np.array(parameters["GridDirection"], float).reshape(3, 3).T
        grid = ImageGrid((z, y, x), spacing, origin, tuple(direction.ravel()))  # type: ignore[arg-type]
        return BSplineTransform(values.reshape(3, z, y, x), grid)
    raise EvaluationError(f"elastix gave a {kind}, which cannot be evaluated; use the settings of a model's stages")


def _rotation(parameters: Mapping[str, Sequence[str]]) -> NDArray[np.float64]:
    """(3, 3) of an Euler transform, whose first parameters are the angles about x, y and z in radians."""
    x, y, z = (float(angle) for angle in parameters["TransformParameters"][:3])
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    zyx = parameters["ComputeZYX"][0] == "true"
    rotation: NDArray[np.float64] = about_z @ about_y @ about_x if zyx else about_z @ about_x @ about_y
    return rotation


def _import_itk() -> Any:
    count = as_many_threads_as_torch()
    try:
        import itk

        itk.ParameterObject  # noqa: B018  loads elastix, which plain ITK lacks
    except (ImportError, AttributeError):
        raise EvaluationError(f"elastix is not installed; install it with: {how_to_install('bench')}") from None
    # elastix crashes with several metrics when its own interface sets the number of threads.
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(count)
    return itk


def _to_itk(itk: Any, array: NDArray[Any], grid: ImageGrid) -> Any:
    image = itk.image_from_array(np.ascontiguousarray(array))
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(itk.matrix_from_array(grid.direction_matrix))
    return image


def _last_words(error: RuntimeError) -> str:
    """The line of ITK's long report that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"
