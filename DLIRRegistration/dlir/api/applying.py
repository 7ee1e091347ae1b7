"""`dlir.apply` and `dlir.invert`: what the commands of these names do, in memory, and to a file where one is named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, overload

from dlir.api.inputs import (
    ImageLike,
    LabelLike,
    Path,
    PointsLike,
    TransformLike,
    image_source,
    label_source,
    point_source,
)
from dlir.applying.choices import Subject
from dlir.errors import OptionError, note
from dlir.registration.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import SimpleITK as sitk
    from numpy.typing import NDArray

    from dlir.geometry import ImageGrid
    from dlir.io.formats.surfaces import Surface


@dataclass(frozen=True, eq=False)
class Inverse:
    """The inverse of a transform: from points of the moving image to points of the fixed image, LPS mm.

    transform: linear and exact where the transform is linear; else of displacements. displacement: vectors (x, y, z) in
    mm on the reference's grid; None without one. largest_residual_mm, between_voxels_mm: how far displacements are off,
    at most, at voxels and halfway between them; None for a linear one. unsolved: voxels without an inverse.
    """

    transform: sitk.CompositeTransform
    displacement: sitk.Image | None
    largest_residual_mm: float | None
    between_voxels_mm: float | None
    unsolved: int


@overload
def apply(transform: TransformLike | Sequence[TransformLike], *, image: ImageLike, **options: Any) -> sitk.Image: ...


@overload
def apply(transform: TransformLike | Sequence[TransformLike], *, label: LabelLike, **options: Any) -> sitk.Image: ...


@overload
def apply(
    transform: TransformLike | Sequence[TransformLike], *, points: PointsLike, **options: Any
) -> NDArray[np.float64]: ...


@overload
def apply(transform: TransformLike | Sequence[TransformLike], *, surface: Path, **options: Any) -> Surface: ...


def apply(  # type: ignore[misc]  # options are the arguments that are named here
    transform: TransformLike | Sequence[TransformLike],
    *,
    image: ImageLike | None = None,
    label: LabelLike | None = None,
    points: PointsLike | None = None,
    surface: Path | None = None,
    reference: ImageLike | ImageGrid | None = None,
    interpolation: str | None = None,
    inverse: bool = False,
    frame: str | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Any:
    """An image, labels, points or a surface through a transform: a SimpleITK image, (N, 3) points in LPS mm, or a
    `Surface`.

    >>> import dlir
    >>> pair = dlir.sample_pair()
    >>> result = dlir.register(**pair)
    >>> moved = dlir.apply(result.transform, label=pair["moving_label"], reference=pair["fixed"])
    >>> moved.GetSize() == result.warped.GetSize()
    True

    transform: a file or a SimpleITK transform, from points of the fixed image to points of the moving image; of several
    the last one is applied to points first, as in ITK's composite. So images and labels go from moving to fixed, onto
    the grid of the reference, and points and surfaces from fixed to moving; with `inverse` the other way.
    image, label: as for `register`; a file may also be 4D, and an image have several values per voxel. points: a file,
    or (N, 3) in LPS mm; NaN stays NaN. surface: a file; frame: "LPS" or "RAS", where that does not state it.
    interpolation: of images "linear", "bspline" or "nearest", of labels "nearest" or "gaussian-label"; None is the
    first. output: a file to write as well, of the type that its name says. overwrite: whether it may be one of a
    registration. progress: gets the step, in words, and the fraction done.
    What has no inverse is told by a warning. Raises the `dlir.DLIRError`s of the parts.
    """
    from dlir.api.registering import prepare_threads

    given: dict[Subject, Any] = {
        Subject.image: image,
        Subject.label: label,
        Subject.points: points,
        Subject.surface: surface,
    }
    found = [(subject, source) for subject, source in given.items() if source is not None]
    if len(found) != 1:
        raise OptionError("give exactly one of image, label, points and surface")
    ((subject, source),) = found
    prepare_threads(None)
    from dlir.applying.apply import SUFFIXES, Application, apply_to_file
    from dlir.applying.apply import apply as applied_to
    from dlir.applying.chain import chained

    transforms, files = _listed(transform)
    asked = Application(
        subject, _source(subject, source), chained(transforms), _reference(reference), inverse, interpolation, frame
    )
    if output is None:
        done = applied_to(asked, progress)
    else:
        done = apply_to_file(asked, files, _target(output, SUFFIXES[subject], overwrite=overwrite), progress)
    if done.warning:
        note(done.warning)
    content: Any = done.content
    if subject is Subject.points:
        return content.points
    return content if subject is Subject.surface else content.to_sitk()


def invert(
    transform: TransformLike | Sequence[TransformLike],
    *,
    reference: ImageLike | ImageGrid | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Inverse:
    """The inverse of a transform.

    transform: as for `apply`. reference: an image of the moving side, or its grid, on which the inverse of what bends
    is kept; linear transforms need none. output: a file to write as well: a transform, or an image of displacements.
    overwrite, progress: as for `apply`. Voxels without an inverse are told by a warning. Raises OptionError,
    TransformError and OutputError.
    """
    from dlir.api.registering import prepare_threads

    prepare_threads(None)
    from dlir.applying.chain import chained
    from dlir.applying.invert import INVERSE_SUFFIXES, displacements, invert_to_file
    from dlir.applying.invert import invert as inverted_by
    from dlir.io import read_grid
    from dlir.transforms.files import to_sitk

    transforms, files = _listed(transform)
    chain, place = chained(transforms), _reference(reference)
    grid = read_grid(place) if isinstance(place, str) else place
    if output is None:
        found = inverted_by(chain, grid, progress)
    else:
        inputs = [*files, *([place] if isinstance(place, str) else [])]
        found = invert_to_file(chain, grid, _target(output, INVERSE_SUFFIXES, overwrite=overwrite), inputs, progress)
    if found.warning:
        note(found.warning)
    field = None
    if grid is not None:
        field = grid.to_sitk(displacements(found, grid), is_vector=True)
    return Inverse(to_sitk(found.transform), field, found.largest_residual, found.between, found.unsolved)


def _listed(transform: Any) -> tuple[list[Any], list[str]]:
    """Of one or several transforms all, and those that are files."""
    listed = list(transform) if isinstance(transform, (list, tuple)) else [transform]
    return listed, [os.fspath(one) for one in listed if isinstance(one, (str, os.PathLike))]


def _source(subject: Subject, source: Any) -> Any:
    """As an `Application` has it."""
    if subject is Subject.image:
        return image_source(source, "image")
    if subject is Subject.label:
        return label_source(source, "label")
    if subject is Subject.surface:
        return os.fspath(source)
    import numpy as np

    from dlir.io import Landmarks

    if isinstance(source, Landmarks):
        return source
    listed = point_source(source, "points")
    if isinstance(listed, str):
        return listed
    return Landmarks(np.array([point or [np.nan] * 3 for point in listed], float))


def _reference(reference: ImageLike | ImageGrid | None) -> str | ImageGrid | None:
    if reference is None:
        return None
    if isinstance(reference, (str, os.PathLike)):
        return os.fspath(reference)
    from dlir.io.objects import grid_of

    return grid_of(reference, "result")


def _target(output: Path, suffixes: tuple[str, ...], *, overwrite: bool) -> FilePath:
    """Raises as `check_single`."""
    from dlir.registration.results.former import check_single

    check_single(FilePath(output), suffixes, overwrite=overwrite)
    return FilePath(output)
