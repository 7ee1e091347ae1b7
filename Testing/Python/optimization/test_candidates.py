"""Where an affine registration may begin: one of the starts is near, wherever the moving image lies."""

from __future__ import annotations

import numpy as np
import pytest

from blobs import CENTER, FIXED, MOVING, apart, pair_by, placed
from chains import random_chain
from dlir.errors import TransformError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.optimization.candidates import candidates
from dlir.optimization.levels import Pyramid
from dlir.transforms.spatial import AffineTransform, CompositeTransform


def _starts(pair: tuple[Volume, Volume]) -> dict[str, list[CompositeTransform]]:
    found = candidates(*map(Pyramid, pair))
    named: dict[str, list[CompositeTransform]] = {}
    for name, matrix in zip(found.names, found.matrices.numpy(), strict=True):
        named.setdefault(name, []).append(CompositeTransform((AffineTransform(matrix),)))
    return named


def test_the_simple_ones_are_among_them() -> None:
    starts = _starts(pair_by(placed((8, 0, 0))))
    (scanner,), (centers,) = starts["scanner positions"], starts["image centers"]
    np.testing.assert_array_equal(scanner.matrix, np.eye(4))
    np.testing.assert_allclose(centers.apply(FIXED.center[None])[0], MOVING.center)
    assert len(starts["centers of mass"]) == 1
    assert len(starts["search"]) > 10


@pytest.mark.parametrize("shift", [(0, 0, 0), (30, -4, 6), (-25, 12, 20)])
@pytest.mark.parametrize("inverted", [False, True])
def test_the_search_finds_shifts(shift: tuple[float, float, float], inverted: bool) -> None:
    known = placed(shift)
    starts = _starts(pair_by(known, contrast=(lambda values: 2 - values) if inverted else lambda values: values))
    assert min(apart(start, known) for start in starts["search"]) < 6.0


def test_they_move_without_stretching() -> None:
    for starts in _starts(pair_by(placed((10, 5, 0)))).values():
        for start in starts:
            linear = start.matrix[:3, :3]
            np.testing.assert_allclose(linear.T @ linear, np.eye(3), atol=1e-9)
            assert np.linalg.det(linear) == pytest.approx(1)


def test_what_is_not_linear_is_refused() -> None:
    bent = random_chain(np.random.default_rng(0))
    with pytest.raises(TransformError, match="no matrix"):
        candidates(*map(Pyramid, pair_by(placed())), bent)


@pytest.mark.parametrize("shape", [(1, 24, 30), (2, 24, 30), (40, 1, 24)])
def test_thin_images_have_starts(shape: tuple[int, int, int]) -> None:
    thin = ImageGrid(shape, (3.0, 2.5, 2.0), tuple(CENTER - 30))
    fixed, moving = pair_by(placed(), fixed=thin)
    for pair in ((fixed, moving), (moving, fixed), (fixed, fixed)):
        assert np.isfinite(candidates(*map(Pyramid, pair)).matrices.numpy()).all()


def test_an_image_may_be_larger_by_far() -> None:
    rng = np.random.default_rng(0)
    small, large = (
        Volume(rng.random((20, 20, 20), dtype=np.float32), ImageGrid((20, 20, 20), (mm, mm, mm)), name)
        for mm, name in ((1.0, "small"), (500.0, "large"))
    )
    for pair in ((small, large), (large, small)):  # in samples of the small one the large one has 10^12
        assert np.isfinite(candidates(*map(Pyramid, pair)).matrices.numpy()).all()


def test_blank_images_have_the_simple_ones() -> None:
    blank = Volume(np.zeros(FIXED.shape, np.float32), FIXED, "blank")
    starts = _starts((blank, blank))
    assert {"scanner positions", "image centers", "centers of mass"} <= starts.keys()
    assert all(np.isfinite(start.matrix).all() for several in starts.values() for start in several)


def test_the_search_may_be_cut_short() -> None:
    """Without turns it has begun, or it has not; the simple starts are there in any case."""
    pair = list(map(Pyramid, pair_by(placed((8, 0, 0)))))
    asked: list[None] = []

    def proceed() -> bool:
        asked.append(None)
        return len(asked) <= 1

    whole, short, none = (candidates(pair[0], pair[1], proceed=ask) for ask in (lambda: True, proceed, lambda: False))
    assert len(none.names) == 3
    assert 3 < len(short.names) <= 7
    assert whole.names[: len(short.names)] == short.names
    np.testing.assert_array_equal(whole.matrices[: len(short.names)], short.matrices)
