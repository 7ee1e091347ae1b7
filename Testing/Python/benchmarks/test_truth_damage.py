"""Whatever is done to an image, its labels still tell what is where."""

from __future__ import annotations

import numpy as np
import pytest
from truth.damage import DAMAGES, WRONG_PATIENT, WRONG_SIDE, damaged

from dlir.errors import EvaluationError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume

GRID = ImageGrid((10, 60, 50), (1.5, 1.5, 8.0), (-30.0, 12.0, 100.0), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
SEEDS = range(8)
HEADER = ("shifted", "rotated", "wrong spacing")
VOXELS = ("padded with -1000", "padded with 30000", "cropped", "slices missing")
INTENSITIES = ("noise only", "noisy", "inverted", "gamma")

each_seed = pytest.mark.parametrize("seed", SEEDS)


def example() -> tuple[Volume, Volume]:
    """An image with an even intensity of its own in each label, and little noise."""
    label = np.zeros(GRID.shape, np.uint8)
    label[2:9, 20:40, 20:35] = 1
    label[3:8, 26:34, 24:31] = 2
    array = 100 + 200.0 * label + np.random.default_rng(0).normal(0, 5, GRID.shape)
    return Volume(array.astype(np.float32), GRID, "image"), Volume(label, GRID, "label")


def correlation(image: Volume, label: Volume) -> float:
    return float(np.corrcoef(image.array.ravel(), label.array.ravel())[0, 1])


@pytest.mark.parametrize("kind", DAMAGES)
@each_seed
def test_image_and_label_stay_together_and_originals_as_they_are(kind: str, seed: int) -> None:
    image, label = example()
    broken, its_label = damaged(image, label, kind, seed)
    assert broken.array.dtype == np.float32
    assert np.isfinite(broken.array).all()
    assert broken.array.shape == its_label.array.shape == broken.grid.shape
    assert broken.grid.same_as(its_label.grid)
    assert {1, 2} <= set(np.unique(its_label.array))
    again, _ = damaged(image, label, kind, seed)
    assert np.array_equal(again.array, broken.array)
    assert again.grid == broken.grid
    untouched, its_own = example()
    assert np.array_equal(image.array, untouched.array)
    assert np.array_equal(label.array, its_own.array)


@pytest.mark.parametrize("kind", sorted(set(DAMAGES) - {WRONG_PATIENT, WRONG_SIDE}))
def test_every_damage_changes_something_and_chance_decides_what(kind: str) -> None:
    image, label = example()
    found = [damaged(image, label, kind, seed)[0] for seed in SEEDS]
    assert not any(f.grid == image.grid and np.array_equal(f.array, image.array) for f in found)
    assert (len({(f.grid, f.array.tobytes()) for f in found}) > 1) is (kind != "inverted")  # of which there is one


@pytest.mark.parametrize("kind", HEADER)
@each_seed
def test_a_damaged_header_leaves_the_voxels(kind: str, seed: int) -> None:
    image, label = example()
    broken, its_label = damaged(image, label, kind, seed)
    assert np.array_equal(broken.array, image.array)
    assert np.array_equal(its_label.array, label.array)


@each_seed
def test_a_shift_is_of_20_to_60_mm(seed: int) -> None:
    broken, _ = damaged(*example(), "shifted", seed)
    assert 20 <= np.linalg.norm(broken.grid.center - GRID.center) <= 60
    assert broken.grid.direction == GRID.direction
    assert broken.grid.spacing == GRID.spacing


@each_seed
def test_a_rotation_is_of_20_to_90_degrees_about_the_centre(seed: int) -> None:
    broken, _ = damaged(*example(), "rotated", seed)
    np.testing.assert_allclose(broken.grid.center, GRID.center, atol=1e-9)
    turn = broken.grid.direction_matrix @ GRID.direction_matrix.T
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert 20 <= np.rad2deg(np.arccos((np.trace(turn) - 1) / 2)) <= 90


@each_seed
def test_a_flip_turns_image_and_label_alike_under_the_old_header(seed: int) -> None:
    image, label = example()
    broken, its_label = damaged(image, label, "flipped", seed)
    assert broken.grid == GRID
    flips = [np.array_equal(broken.array, np.flip(image.array, axis)) for axis in range(3)]
    assert sum(flips) == 1
    assert np.array_equal(its_label.array, np.flip(label.array, flips.index(True)))


@pytest.mark.parametrize("kind", VOXELS)
@each_seed
def test_voxels_that_stay_do_so_where_they_were(kind: str, seed: int) -> None:
    image, label = example()
    broken, its_label = damaged(image, label, kind, seed)
    x, y, z = np.rint(broken.grid.to_index(GRID.voxel_centers().reshape(-1, 3))).astype(int).T
    there = np.all([(i >= 0) & (i < n) for i, n in zip((x, y, z), broken.grid.size, strict=True)], 0)
    for new, old in ((broken, image), (its_label, label)):
        assert np.array_equal(new.array[z[there], y[there], x[there]], old.array.ravel()[there])
    if kind.startswith("padded"):
        assert there.all()
        assert np.count_nonzero(its_label.array) == np.count_nonzero(label.array)
        added = np.count_nonzero(broken.array == float(kind.split()[-1]))
        assert added == broken.array.size - image.array.size > 0
    else:
        assert broken.array.size < image.array.size


@pytest.mark.parametrize("kind", INTENSITIES)
@each_seed
def test_labels_stay_where_only_intensities_change(kind: str, seed: int) -> None:
    image, label = example()
    broken, its_label = damaged(image, label, kind, seed)
    assert its_label is label
    assert broken.grid == GRID
    found, clean = correlation(broken, label), correlation(image, label)
    if kind == "noise only":
        assert abs(found) < 0.05
    elif kind == "inverted":
        assert found == pytest.approx(-clean, abs=0.02)
    else:
        assert 0.1 < found < clean


def test_an_unknown_damage_is_refused() -> None:
    with pytest.raises(EvaluationError, match="damage 'burnt' is unknown"):
        damaged(*example(), "burnt", 0)
