"""Random transforms for tests, and SimpleITK's own built from the same parameters without help from dlir."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from dlir.geometry import ImageGrid
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform, SpatialTransform
from grids import Array, index_points, make_grid, rotation


def random_affine(rng: np.random.Generator) -> AffineTransform:
    """Turns, stretches and shears a little, and shifts by up to 30 mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(tuple(rng.uniform(-0.4, 0.4, 3))) @ (np.eye(3) + np.triu(rng.uniform(-0.2, 0.2, (3, 3))))
    matrix[:3, 3] = rng.uniform(-30, 30, 3)
    return AffineTransform(matrix)


def random_bspline(
    rng: np.random.Generator, grid: ImageGrid, *, fraction: float = 0.4, zero_layers: int = 0
) -> BSplineTransform:
    """Control points on `grid`, displaced by at most `fraction` of its spacing along each of its axes.

    zero_layers: outer control points that stay where they are; with 3 the displacement is smooth everywhere.
    """
    inner = [n - 2 * zero_layers for n in grid.shape]
    fractions = np.pad(rng.uniform(-fraction, fraction, (3, *inner)), [(0, 0), *[(zero_layers, zero_layers)] * 3])
    along_axes = fractions * np.array(grid.spacing)[:, None, None, None]
    return BSplineTransform(np.einsum("ij,jzyx->izyx", grid.direction_matrix, along_axes), grid)


def chain_grids(rng: np.random.Generator) -> tuple[ImageGrid, ImageGrid]:
    """A coarse and a fine control grid: oblique, anisotropic, off-centre, about one place but not alike."""
    origin, angles = rng.uniform(-100, 100, 3), rng.uniform(-np.pi, np.pi, 3)
    coarse = make_grid((11, 12, 13), (16.0, 12.0, 20.0), tuple(origin), tuple(angles), mirrored=bool(rng.integers(2)))
    turned = make_grid((12, 15, 13), (6.0, 7.0, 9.0), angles=tuple(angles + rng.uniform(-0.3, 0.3, 3)))
    fine_origin = coarse.center - (turned.center - np.array(turned.origin))
    return coarse, ImageGrid(turned.shape, turned.spacing, tuple(fine_origin), turned.direction)


def random_chain(rng: np.random.Generator, *, fraction: float = 0.4, zero_layers: int = 3) -> CompositeTransform:
    """Three stages as a registration gives them: fine B-spline, coarse B-spline, affine. Free of folds by default."""
    coarse, fine = (random_bspline(rng, g, fraction=fraction, zero_layers=zero_layers) for g in chain_grids(rng))
    return CompositeTransform((fine, coarse, random_affine(rng)))


def any_chain(rng: np.random.Generator) -> tuple[CompositeTransform, ImageGrid]:
    """A chain of any kind, and a small image grid about it.

    One to three B-splines, each bounded or not, still at its ends or not, along the axes of the image, along others of
    its axes, or turned; affine parts between and after them, or none.
    """
    center, angles = rng.uniform(-100, 100, 3), rng.uniform(-np.pi, np.pi, 3)
    image = make_grid(_shape(rng, 8, 12), _spacing(rng, 0.8, 4), angles=tuple(angles), mirrored=bool(rng.integers(2)))
    extent, parts = np.array(image.extent), []
    for _ in range(rng.integers(1, 4)):
        axes = rng.permutation(3) if rng.random() < 0.3 else np.arange(3)
        direction = image.direction_matrix[:, axes] * rng.choice([-1, 1], 3, p=[0.2, 0.8])
        if rng.random() < 0.4:
            direction = rotation(tuple(rng.uniform(-0.6, 0.6, 3))) @ direction
        shape, layers = _shape(rng, 4, 9), 0
        if rng.random() < 0.5:
            shape, layers = tuple(n + 3 for n in shape), 3
        # The valid domain is about as large as the image, or somewhat smaller or larger.
        spacing = extent[axes] / (np.array(shape[::-1]) - 3) * rng.uniform(0.6, 1.5, 3)
        control = ImageGrid(shape, tuple(spacing), (0.0, 0.0, 0.0), tuple(direction.ravel()))
        control = ImageGrid(shape, control.spacing, tuple(center - control.center), control.direction)
        parts.append(random_bspline(rng, control, fraction=float(rng.choice([0.4, 0.8, 2.0])), zero_layers=layers))
        if rng.random() < 0.3:
            parts.append(_about(random_affine(rng), center))
    image = ImageGrid(image.shape, image.spacing, tuple(center - image.center + rng.normal(0, 2, 3)), image.direction)
    if rng.random() < 0.5:
        parts.append(random_affine(rng))
    return CompositeTransform(tuple(parts)), image


def _shape(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    z, y, x = (int(n) for n in rng.integers(low, high + 1, 3))
    return z, y, x


def _spacing(rng: np.random.Generator, low: float, high: float) -> tuple[float, float, float]:
    x, y, z = (float(s) for s in rng.uniform(low, high, 3))
    return x, y, z


def _about(transform: AffineTransform, center: Array) -> AffineTransform:
    """The same turn and stretch, with `center` kept where it is."""
    matrix = transform.matrix.copy()
    matrix[:3, 3] = center - matrix[:3, :3] @ center
    return AffineTransform(matrix)


def points_around(rng: np.random.Generator, grid: ImageGrid, count: int) -> Array:
    """(count, 3) mm: inside, at the border and outside of the valid domain of a control grid."""
    return grid.to_physical(index_points(rng, np.ones(3), np.array(grid.size) - 2.0, count))


# -- SimpleITK ---------------------------------------------------------------------------------------


def sitk_affine(transform: AffineTransform) -> sitk.Transform:
    """The same map as a sitk.AffineTransform, here about a centre of its own."""
    center = np.array([11.0, -22.0, 33.0])
    linear, offset = transform.matrix[:3, :3], transform.matrix[:3, 3]
    return sitk.AffineTransform(linear.ravel().tolist(), (linear @ center + offset - center).tolist(), center.tolist())


def sitk_bspline(transform: BSplineTransform) -> sitk.Transform:
    """The same map as a sitk.BSplineTransform, set up by its domain and its flat parameters."""
    size = np.array(transform.grid.size)
    result = sitk.BSplineTransform(3, 3)
    result.SetTransformDomainMeshSize((size - 3).tolist())
    result.SetTransformDomainOrigin(transform.grid.to_physical([1, 1, 1]).tolist())
    result.SetTransformDomainDirection(transform.grid.direction)
    result.SetTransformDomainPhysicalDimensions(((size - 3) * transform.grid.spacing).tolist())
    result.SetParameters(transform.coefficients.ravel().tolist())
    return result


def sitk_apply(transforms: Sequence[sitk.Transform], points: Array) -> Array:
    """Points through several transforms, the first one first."""
    moved = []
    for point in points.tolist():
        for transform in transforms:
            point = transform.TransformPoint(point)
        moved.append(point)
    return np.array(moved)


def sitk_parts(chain: CompositeTransform) -> list[sitk.Transform]:
    """One SimpleITK transform for each part."""

    def convert(part: SpatialTransform) -> sitk.Transform:
        if isinstance(part, AffineTransform):
            return sitk_affine(part)
        assert isinstance(part, BSplineTransform)
        return sitk_bspline(part)

    return [convert(part) for part in chain.parts]
