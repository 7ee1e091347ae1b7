"""What applying a transform lets one choose from: the one list of each, for command line, Python and docs.

Standard library only.
"""

from __future__ import annotations

from enum import Enum


class Subject(str, Enum):
    """What goes through a transform."""

    image = "image"
    label = "label"
    points = "points"
    surface = "surface"


class Interpolation(str, Enum):
    """What lies between voxels: see `dlir.transforms.resample.Mode`."""

    linear = "linear"
    bspline = "bspline"
    nearest = "nearest"
    gaussian_label = "gaussian-label"


class Frame(str, Enum):
    """Of a surface that does not state it: x to the left and y to the back, or to the right and to the front."""

    lps = "LPS"
    ras = "RAS"


# Of each subject, the default first.
INTERPOLATIONS = {
    Subject.image: (Interpolation.linear, Interpolation.bspline, Interpolation.nearest),
    Subject.label: (Interpolation.nearest, Interpolation.gaussian_label),
}
