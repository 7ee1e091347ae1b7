"""Several transforms as one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlir.errors import OptionError
from dlir.transforms.files import from_sitk, read_transform
from dlir.transforms.spatial import CompositeTransform


def chained(transforms: Sequence[Any]) -> CompositeTransform:
    """x -> first(second(...last(x))): the last one is applied to points first, as in ITK's composite.

    transforms: files, SimpleITK's, or our own. Raises OptionError for none and for anything else, and TransformError.
    """
    if not transforms:
        raise OptionError("no transform is given; give one or more")
    read = [_transform(transform) for transform in transforms]
    return CompositeTransform(tuple(part for transform in reversed(read) for part in transform.parts))


def _transform(transform: Any) -> CompositeTransform:
    if isinstance(transform, CompositeTransform):
        return transform
    if isinstance(transform, (str, os.PathLike)):
        return read_transform(Path(transform))
    if not hasattr(transform, "TransformPoint"):
        raise OptionError(f"a {type(transform).__name__} is no transform; give a file or a SimpleITK transform")
    return from_sitk(transform, "the transform")
