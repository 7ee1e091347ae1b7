"""What Python gives for an image, a label map, points or a transform, as a request has it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from dlir.errors import ImageError, OptionError
from dlir.registration.choices import AUTO_SIMILARITY, DEFAULT_FORMAT, DEFAULT_MODEL, Kind
from dlir.registration.request import Outputs, RegistrationRequest

if TYPE_CHECKING:
    import SimpleITK as sitk
    from numpy.typing import ArrayLike

    from dlir.api.registering import Model
    from dlir.geometry import ImageGrid
    from dlir.io import Landmarks, Volume
    from dlir.registration.request import ImageSource, PointSource, TransformSource
    from dlir.transforms.spatial import CompositeTransform

Path: TypeAlias = "str | os.PathLike[str]"
# A file or a DICOM folder, '#7' behind it for a time point; a SimpleITK image; a nibabel image; an array of numpy or
# torch (z, y, x) and where it lies: its grid, or an image that lies there; a volume. nibabel and torch have no types
# here, because they need not be installed, or imported.
ImageLike: TypeAlias = "Path | sitk.Image | Volume | tuple[Any, ImageGrid | ImageLike] | Any"
# The same, in whole numbers.
LabelLike: TypeAlias = ImageLike
# A file; (N, 3) in LPS mm, (x, y, z), NaN for a point that is not known.
PointsLike: TypeAlias = "Path | Landmarks | ArrayLike"
# A file, a SimpleITK transform, or one of ours, from points of the fixed image to points of the moving image.
TransformLike: TypeAlias = "Path | sitk.Transform | CompositeTransform"


def request_of(
    fixed: ImageLike,
    moving: ImageLike,
    *,
    model: Path | Model = DEFAULT_MODEL,
    moving_label: LabelLike | None = None,
    fixed_label: LabelLike | None = None,
    fixed_mask: LabelLike | None = None,
    moving_mask: LabelLike | None = None,
    moving_landmarks: PointsLike | None = None,
    fixed_landmarks: PointsLike | None = None,
    initial_transform: TransformLike | None = None,
    initialize: str | None = None,
    refine: str | None = None,
    kind: str = Kind.deformable.value,
    similarity: str = AUTO_SIMILARITY,
    landmark_weight: float = 0.0,
    device: str = "auto",
    output: Path | None = None,
    displacement: bool = False,
    html: bool = False,
    error_map: bool = False,
    format: str = DEFAULT_FORMAT,
    prefix: str = "",
    full_paths: bool = False,
    overwrite: bool = False,
) -> RegistrationRequest:
    """The request that `register` with the same arguments makes. Raises OptionError, ImageError, GeometryError and
    TransformError for what cannot be one.
    """
    if output is None and (displacement or html or full_paths or overwrite or prefix or format != DEFAULT_FORMAT):
        raise OptionError(
            "displacement, html, format, prefix, full_paths and overwrite are about files; give output, the folder for "
            "them"
        )
    if not isinstance(refine, (str, type(None))):
        raise OptionError(f"refine is {refine!r}; give a text such as '10s', '50it', 'converged' or 'off'")
    outputs = None
    if output is not None:
        outputs = Outputs(
            os.fspath(output),
            displacement=displacement,
            html=html,
            full_paths=full_paths,
            overwrite=overwrite,
            format=format,
            prefix=prefix,
        )
    return RegistrationRequest(
        image_source(fixed, "fixed image"),
        image_source(moving, "moving image"),
        outputs,
        model=model_name(model),
        device=device,
        refine=refine,
        kind=kind,
        similarity=similarity,
        landmark_weight=landmark_weight,
        initialize=initialize,
        initial_transform=_transform(initial_transform),
        fixed_mask=None if fixed_mask is None else label_source(fixed_mask, "fixed mask"),
        moving_mask=None if moving_mask is None else label_source(moving_mask, "moving mask"),
        moving_labels=() if moving_label is None else (label_source(moving_label, "moving label"),),
        fixed_labels=() if fixed_label is None else (label_source(fixed_label, "fixed label"),),
        fixed_landmarks=None if fixed_landmarks is None else point_source(fixed_landmarks, "fixed landmarks"),
        moving_landmarks=None if moving_landmarks is None else point_source(moving_landmarks, "moving landmarks"),
        error_map=error_map,
    )


def image_source(image: ImageLike, role: str) -> ImageSource:
    """As a request has it. role: how messages call it. Raises the errors of `volume_of`."""
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    from dlir.io.objects import volume_of

    return volume_of(image, role)


def label_source(label: LabelLike, role: str) -> ImageSource:
    """The same for a label map or a mask. Raises the errors of `labels_of`."""
    if isinstance(label, (str, os.PathLike)):
        return os.fspath(label)
    from dlir.io.objects import labels_of

    return labels_of(label, role)


def model_name(model: Path | Model) -> str:
    """As a request has it. Raises OptionError for what is no model."""
    path = model if isinstance(model, (str, os.PathLike)) else getattr(model, "path", None)
    if not isinstance(path, (str, os.PathLike)):
        kind = type(model).__name__
        raise OptionError(f"the model is a {kind}; give a name, a file, 'auto', 'none', or what load_model gave")
    return os.fspath(path)


def point_source(points: PointsLike, role: str) -> PointSource:
    """As a request has them. Raises ImageError for what are no points, and where none is known."""
    if isinstance(points, str):
        return points
    if isinstance(points, os.PathLike):
        return os.fspath(points)
    import numpy as np

    try:
        found = np.asarray(getattr(points, "points", points), float)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.ndim != 2 or found.shape[1] != 3:
        raise ImageError(f"{role} are no points; give a file, or an array (N, 3) in LPS mm")
    if not np.isfinite(found).all(1).any():
        raise ImageError(f"{role} have no point that is known; give at least one, or leave them out")
    rows: Sequence[Sequence[float]] = found.tolist()
    return tuple((x, y, z) if np.isfinite((x, y, z)).all() else None for x, y, z in rows)


def _transform(transform: TransformLike | None) -> TransformSource | None:
    if transform is None or isinstance(transform, str):
        return transform
    if isinstance(transform, os.PathLike):
        return os.fspath(transform)
    from dlir.transforms.files import from_sitk
    from dlir.transforms.spatial import CompositeTransform

    if isinstance(transform, CompositeTransform):
        return transform
    if not hasattr(transform, "TransformPoint"):
        raise OptionError(
            f"the initial transform is a {type(transform).__name__}; give a file or a SimpleITK transform"
        )
    return from_sitk(transform, "the initial transform")
