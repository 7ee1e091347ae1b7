"""Random geometry for tests: oblique, anisotropic, off-centre grids, and points inside, at the border and outside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from dlir.geometry import ImageGrid

Array = NDArray[np.float64]


def rotation(angles: tuple[float, float, float]) -> Array:
    """(3, 3) rotation by `angles` in radians about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def make_grid(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0),
    mirrored: bool = False,
) -> ImageGrid:
    """A grid turned by `angles`; its x axis runs backwards where `mirrored`, which makes it left-handed."""
    direction = rotation(angles) * np.array([-1 if mirrored else 1, 1, 1])
    return ImageGrid(shape, spacing, origin, tuple(direction.ravel()))


def random_grid(rng: np.random.Generator, shape: tuple[int, int, int] | None = None) -> ImageGrid:
    """An oblique, anisotropic, off-centre grid, of 5 to 12 voxels per axis unless `shape` says more."""
    z, y, x = rng.integers(5, 13, 3) if shape is None else shape
    spacing, origin, angles = rng.uniform(0.5, 4, 3), rng.uniform(-200, 200, 3), rng.uniform(-np.pi, np.pi, 3)
    return make_grid(
        (int(z), int(y), int(x)), tuple(spacing), tuple(origin), tuple(angles), mirrored=bool(rng.integers(2))
    )


def grids(min_size: int = 1, max_size: int = 12) -> st.SearchStrategy[ImageGrid]:
    """Any grid of the kind of `random_grid`."""
    size = st.integers(min_size, max_size)
    spacing, origin, angle = st.floats(0.25, 12), st.floats(-500, 500), st.floats(-np.pi, np.pi)
    return st.builds(
        make_grid,
        st.tuples(size, size, size),
        st.tuples(spacing, spacing, spacing),
        st.tuples(origin, origin, origin),
        st.tuples(angle, angle, angle),
        st.booleans(),
    )


def index_points(rng: np.random.Generator, low: Array, high: Array, count: int) -> Array:
    """(count, 3) continuous indices about the box from `low` to `high`.

    A third lies inside, a third a hair to either side of a face of the box, and a third inside or outside.
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    points = rng.uniform(low, high, (count, 3))
    third = count // 3
    for point in points[:third]:
        axis = rng.integers(3)
        point[axis] = rng.choice([low[axis], high[axis]]) + rng.choice([-1e-5, 1e-5])
    margin = (high - low) / 2
    points[third : 2 * third] = rng.uniform(low - margin, high + margin, (third, 3))
    return points


def central_differences(function: Callable[[Array], Array], points: Array, step: float) -> Array:
    """(N, ..., 3): derivatives of `function`, (N, 3) -> (N, ...), with respect to the three coordinates."""
    columns = [(function(points + offset) - function(points - offset)) / (2 * step) for offset in step * np.eye(3)]
    return np.stack(columns, -1)
