"""Chains of every kind against a reference in plain numpy, and through files that SimpleITK reads."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import brute_force
from chains import any_chain, sitk_apply
from dlir.geometry import ImageGrid
from dlir.transforms import chain as module
from dlir.transforms.chain import Chain
from dlir.transforms.files import read_transform, write_transform
from dlir.transforms.jacobian import jacobian_map
from dlir.transforms.spatial import BSplineTransform, CompositeTransform
from grids import Array

# 200 chains.
each_ten = pytest.mark.parametrize("first", range(0, 200, 10))
# A determinant nearer to 0 than this has no sign.
NO_SIGN = 1e-6


@lru_cache(maxsize=200)
def scene(seed: int) -> tuple[CompositeTransform, ImageGrid, brute_force.Followed]:
    """A chain, an image grid, and what becomes of its voxels."""
    chain, grid = any_chain(np.random.default_rng(seed))
    return chain, grid, brute_force.follow(chain, brute_force.voxels_in_mm(grid))


def fast_determinants(chain: CompositeTransform, grid: ImageGrid) -> Array:
    """(N,): as a registration computes them, in single precision."""
    slabs = list(Chain(chain).slabs(grid, grid, exact=False, determinants=True))
    found: Array = torch.cat([slab.determinant for slab in slabs if slab.determinant is not None]).double().numpy()
    return found


@each_ten
def test_no_fold_is_missed_and_none_made_up(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On whole grids in double precision, as maps are made, and in single precision, as a registration's result is."""
    folds = 0
    for seed in range(first, first + 10):
        monkeypatch.setattr(module, "_AT_ONCE", 300 if seed % 2 else 1 << 18)
        chain, grid, truth = scene(seed)
        expected = np.linalg.det(truth.jacobian)
        sure = truth.clear & (np.abs(expected) > NO_SIGN)
        assert sure.mean() > 0.99
        folds += np.count_nonzero(expected[sure] < 0)

        exact = jacobian_map(chain, grid).ravel()
        np.testing.assert_array_equal(np.sign(exact)[sure], np.sign(expected)[sure])
        np.testing.assert_allclose(exact[sure], expected[sure], rtol=1e-6, atol=1e-9)

        fast = fast_determinants(chain, grid)
        np.testing.assert_array_equal(np.sign(fast)[sure], np.sign(expected)[sure])
        np.testing.assert_allclose(fast[sure], expected[sure], rtol=0, atol=2e-5 * np.abs(expected).max())
    assert folds > 20


def test_a_determinant_a_hair_from_zero_has_its_sign() -> None:
    """The last B-spline of a chain is made as strong as it takes for one voxel almost to fold, and to fold barely.

    It multiplies the determinant by det(1 + s A), s being its strength: 0 where -1 / s is an eigenvalue of A.
    """
    tried = 0
    for seed in range(20):
        chain, grid, _ = scene(seed)
        last = max(k for k, part in enumerate(chain.parts) if isinstance(part, BSplineTransform))
        before, spline, after = chain.parts[:last], chain.parts[last], chain.parts[last + 1 :]
        assert isinstance(spline, BSplineTransform)
        points = brute_force.follow(CompositeTransform(before), brute_force.voxels_in_mm(grid)).points
        slopes = brute_force.follow(CompositeTransform((spline,)), points).jacobian - np.eye(3)
        values = np.linalg.eigvals(slopes)
        real = np.where(np.abs(values.imag) < 1e-12, values.real, 0)
        voxel, which = np.unravel_index(np.argmin(real), real.shape)
        if real[voxel, which] > -0.05:
            continue
        for away in (-3e-5, -1e-5, 1e-5, 3e-5):
            strength = -(1 + away) / real[voxel, which]
            strong = BSplineTransform(strength * spline.coefficients, spline.grid)
            scaled = CompositeTransform((*before, strong, *after))
            truth = brute_force.follow(scaled, brute_force.voxels_in_mm(grid))
            expected = np.linalg.det(truth.jacobian[voxel])
            if not truth.clear[voxel] or abs(expected) < NO_SIGN:
                continue
            assert abs(expected) < 0.01
            tried += 1
            assert np.sign(jacobian_map(scaled, grid).ravel()[voxel]) == np.sign(expected)
            assert np.sign(fast_determinants(scaled, grid)[voxel]) == np.sign(expected)
    assert tried > 30


@each_ten
def test_points_and_derivatives_are_those_of_the_sums(first: int) -> None:
    for seed in range(first, first + 10):
        chain, grid, truth = scene(seed)
        moved, jacobian = Chain(chain).apply_with_jacobian(brute_force.voxels_in_mm(grid))
        np.testing.assert_allclose(moved[truth.clear], truth.points[truth.clear], rtol=0, atol=1e-9)
        np.testing.assert_allclose(jacobian[truth.clear], truth.jacobian[truth.clear], rtol=0, atol=1e-9)
        for exactly, tolerance in ((True, 1e-9), (False, 1e-4)):
            slabs = Chain(chain).slabs(grid, grid, exact=exactly)
            index = torch.cat([slab.index for slab in slabs], 1).T.double().numpy()
            expected = grid.to_index(truth.points)
            scale = max(1.0, float(np.abs(expected).max()) / 50)
            np.testing.assert_allclose(index[truth.clear], expected[truth.clear], rtol=0, atol=tolerance * scale)


@each_ten
def test_simpleitk_reads_what_was_written(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 10):
        rng = np.random.default_rng(seed)
        chain, grid, _ = scene(seed)
        points = grid.to_physical(rng.uniform(-2, np.array(grid.size) + 1, (60, 3)))
        clear = brute_force.follow(chain, points).clear
        moved = chain.apply(points)
        for suffix in (".h5", ".tfm") if seed % 5 == 0 else (".h5",):
            path = tmp_path / f"{seed}{suffix}"
            write_transform(path, chain)
            by_itk = sitk_apply([sitk.ReadTransform(str(path))], points)
            np.testing.assert_allclose(by_itk[clear], moved[clear], rtol=0, atol=1e-6)
            np.testing.assert_allclose(read_transform(path).apply(points)[clear], moved[clear], rtol=0, atol=1e-6)
