"""`dlir apply` and `dlir.apply`: an image, labels, points or a surface through a transform, in memory or to a file."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dlir.applying.choices import INTERPOLATIONS, Subject
from dlir.applying.images import Image, read_any_image, read_any_label, require_interpolation
from dlir.errors import OptionError
from dlir.geometry import ImageGrid
from dlir.io import Landmarks, OutputFolder, Volume, read_grid, read_landmarks, write_landmarks
from dlir.io.formats.surfaces import SURFACE_SUFFIXES, Surface, SurfaceFrame, read_surface, write_surface
from dlir.io.points import POINT_SUFFIXES
from dlir.io.writing import IMAGE_SUFFIXES
from dlir.transforms.inverse import InverseTransform
from dlir.transforms.resample import Mode, resample_all
from dlir.transforms.spatial import CompositeTransform, Points

# Gets the step, in words, and the fraction done.
Progress = Callable[[str, float], None]

SUFFIXES = {
    Subject.image: IMAGE_SUFFIXES,
    Subject.label: IMAGE_SUFFIXES,
    Subject.points: POINT_SUFFIXES,
    Subject.surface: SURFACE_SUFFIXES,
}


@dataclass(frozen=True, eq=False)
class Application:
    """What goes through a transform, and how.

    transform: from points of the fixed image to points of the moving image, LPS mm. source: a file; a volume; of points
    also `Landmarks`. reference: the grid onto which images are resampled, or on which points in a file are voxel
    indices; a file that has it, or None for points and surfaces. inverse: the other way. interpolation: None is the
    first of INTERPOLATIONS. frame: of a surface that does not state its own.
    Raises OptionError for what contradicts itself.
    """

    subject: Subject
    source: str | Volume | Landmarks
    transform: CompositeTransform
    reference: str | ImageGrid | None = None
    inverse: bool = False
    interpolation: str | None = None
    frame: str | None = None

    def __post_init__(self) -> None:
        name = self.subject.value
        if self.subject not in INTERPOLATIONS:
            if self.interpolation is not None:
                raise OptionError(f"{name} are not interpolated; leave --interpolation out")
        elif self.reference is None:
            raise OptionError(f"--{name} needs --reference, the image onto whose grid it is resampled")
        if self.frame is not None and self.subject is not Subject.surface:
            raise OptionError(f"--frame is that of a surface; leave it out for --{name}")

    @property
    def input_files(self) -> list[str]:
        """The files that are read, the transforms aside."""
        return [name for name in (self.source, self.reference) if isinstance(name, str)]


@dataclass(frozen=True, eq=False)
class Applied:
    """What came of it.

    count: of the reference's voxels, or of points. unsolved: those of them without an inverse, as far as something
    could come there. largest_residual: mm, over all; None without inverse.
    """

    content: Image | Landmarks | Surface
    count: int
    unsolved: int = 0
    largest_residual: float | None = None

    @property
    def warning(self) -> str | None:
        """What its user should know."""
        if not self.unsolved:
            return None
        return (
            f"{self.unsolved} of {self.count} points have no inverse (off by up to {self.largest_residual:.3g} mm): "
            "the transform folds there or does not reach them"
        )


def apply(asked: Application, progress: Progress, target: Path | None = None) -> Applied:
    """In memory, and into a file where there is a target. Raises the errors of what is read and written."""
    if isinstance(asked.source, (str, Volume)) and asked.subject in INTERPOLATIONS:
        return _image(asked, progress, target)
    backward = InverseTransform(asked.transform) if asked.inverse else None
    way = (backward or asked.transform).apply
    progress("reading", 0.1)
    content: Landmarks | Surface
    if asked.subject is Subject.surface:
        surface = read_surface(str(asked.source), cast("SurfaceFrame | None", asked.frame))
        progress("moving", 0.2)
        content = surface.moved(way(surface.points))
        if target is not None:
            write_surface(target, content)
    else:
        content = _moved(asked, way)
        if target is not None:
            write_landmarks(target, content)
    return _told(content, len(content.points), backward)


def apply_to_file(asked: Application, transforms: Sequence[str], output: Path, progress: Progress) -> Applied:
    """Into a file, whole or not at all. transforms: those that were read, which are not replaced, as no input is."""
    with OutputFolder(output.parent, [*transforms, *asked.input_files]) as outputs:
        return apply(asked, progress, outputs.file(output.name))


def _told(content: Image | Landmarks | Surface, count: int, backward: InverseTransform | None) -> Applied:
    if backward is None:
        return Applied(content, count)
    return Applied(content, count, backward.unsolved, backward.largest_residual)


def _moved(asked: Application, way: Callable[[Points], Points]) -> Landmarks:
    """What is not known, NaN in memory, stays so."""
    landmarks = asked.source
    if not isinstance(landmarks, Landmarks):
        grid = read_grid(asked.reference) if isinstance(asked.reference, str) else asked.reference
        landmarks = read_landmarks(str(landmarks), grid, role="points")
    points = landmarks.points.copy()
    known: NDArray[np.bool_] = np.all(np.isfinite(points), axis=1)
    points[known] = way(points[known])
    return Landmarks(points, landmarks.labels)


def _image(asked: Application, progress: Progress, target: Path | None) -> Applied:
    source, reference = cast("str | Volume", asked.source), cast("str | ImageGrid", asked.reference)
    among = [choice.value for choice in INTERPOLATIONS[asked.subject]]
    what = "images" if asked.subject is Subject.image else "labels"
    mode = cast("Mode", require_interpolation(asked.interpolation, among, what))
    progress("reading", 0.05)
    onto = reference if isinstance(reference, ImageGrid) else read_grid(os.fspath(reference))
    image = read_any_image(source) if asked.subject is Subject.image else read_any_label(source)
    if target is not None:
        image.check_name(target)
    backward = InverseTransform(asked.transform) if asked.inverse else None
    arrays = resample_all(
        image.arrays,
        image.grid,
        backward or asked.transform,
        onto,
        mode,
        image.outside,
        lambda done: progress("resampling", 0.1 + 0.8 * done),
    )
    moved = replace(image, arrays=arrays, grid=onto)
    if target is not None:
        progress("writing", 0.9)
        moved.write(target)
    return _told(moved, math.prod(onto.shape), backward)
