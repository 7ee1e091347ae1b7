"""What chance makes of pairs: corresponding windows, turns and mirrors; unequal images trimmed, mirrored and moved."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlir.geometry import ImageGrid
from dlir.training.batch import TensorPair, collate
from dlir.training.cache import Original, Prepared
from dlir.training.config import Augmentation, RandomAffine
from dlir.training.draws import InterPairs, IntraPairs, Subject
from dlir.training.loading import Loader
from dlir.training.pairs import HeldOutPairs, PairDataset, apply_affine, centred, random_parameters
from dlir.transforms.affine import affine_matrix
from grids import make_grid
from training_runs import SPACING, voxels

_FRAME = 100_000.0
CODED = (6, 40, 44)


def coded(shape: tuple[int, int, int] = CODED) -> Tensor:
    """An image whose values name their voxel: 1 + x + 100 y + 10000 z. Zero is left for padding."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return torch.from_numpy(1 + x + 100 * y + 10_000 * z).float()


class InMemory(Prepared):
    """A prepared image without files."""

    def __init__(self, values: Tensor, grid: ImageGrid, name: str, mask: Tensor | None = None) -> None:
        super().__init__(Path(name), None, grid, name, name, Original(name, grid.spacing))
        object.__setattr__(self, "values", (values, mask))

    def image(self) -> Tensor:
        return self.values[0]  # type: ignore[attr-defined,no-any-return]

    def mask(self) -> Tensor | None:
        return self.values[1]  # type: ignore[attr-defined,no-any-return]


def coded_subject(
    name: str = "coded", shape: tuple[int, int, int] = CODED, count: int = 3, spacing: Sequence[float] = SPACING
) -> Subject:
    """Volume k holds the code plus k * _FRAME; the extremes are 0 and the last."""
    grid = ImageGrid(shape, tuple(spacing))  # type: ignore[arg-type]
    volumes = tuple(InMemory(coded(shape) + k * _FRAME, grid, f"{name} {k}") for k in range(count))
    return Subject(name, volumes, (0, count - 1))


def coded_pairs(
    seed: int = 0, largest_motion: float = 0.0, subject: Subject | None = None, **settings: Any
) -> PairDataset:
    augmentation = Augmentation(**{"crop": (24, 24, 4), "shift": 5, **settings})
    draw = IntraPairs((subject or coded_subject(),), (), largest_motion)
    return PairDataset([draw], [1.0], augmentation, seed)


def positions(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The original (z, y, x) of every voxel of a coded image."""
    code = image % _FRAME - 1
    return code // 10_000, code % 10_000 // 100, code % 100


# -- which pairs -------------------------------------------------------------------------------------


def test_a_pair_depends_on_the_seed_and_its_number_alone() -> None:
    first = coded_pairs(seed=3)
    straight = [first[i] for i in range(6)]
    np.random.seed(1)  # noqa: NPY002 - what others do to the global state must not matter
    torch.manual_seed(1)
    again = coded_pairs(seed=3)
    for i in (5, 2, 0, 2, 4):
        assert torch.equal(again[i].fixed, straight[i].fixed)
        assert again[i].name == straight[i].name
    other = coded_pairs(seed=4)
    assert all(not torch.equal(other[i].fixed, straight[i].fixed) for i in range(6))
    assert len({pair.fixed.sum().item() for pair in straight}) == 6


def test_any_two_different_volumes_make_a_pair_in_either_role() -> None:
    pairs = coded_pairs()
    frames: Counter[tuple[float, ...]] = Counter()
    for i in range(120):
        fixed, moving = (image[0].amax().item() // _FRAME for image in (pairs[i].fixed, pairs[i].moving))
        frames[fixed, moving] += 1
        assert pairs[i].name == f"coded: {fixed:.0f} to {moving:.0f}"
    assert set(frames) == {(a, b) for a in range(3) for b in range(3) if a != b}
    assert min(frames.values()) > 120 / 6 / 3


def test_the_largest_motion_is_drawn_as_often_as_asked() -> None:
    def drawn(largest_motion: float) -> Counter[str]:
        pairs = coded_pairs(largest_motion=largest_motion, subject=coded_subject(count=8))
        return Counter(pairs[i].name for i in range(100))

    assert set(drawn(1.0)) == {"coded: 0 to 7", "coded: 7 to 0"}
    assert 30 < sum(n for name, n in drawn(0.5).items() if {"0", "7"} <= set(name)) < 70
    assert sum(n for name, n in drawn(0.0).items() if {"0", "7"} <= set(name)) < 15


def test_sources_are_drawn_by_weight_and_subjects_alike() -> None:
    draws = [IntraPairs(tuple(map(coded_subject, "abc")), ()), IntraPairs((coded_subject("d"),), ())]
    pairs = PairDataset(draws, [3, 1], Augmentation(crop=(24, 24, 4)), 0)
    names = Counter(pairs[i].name.split(":")[0] for i in range(200))
    assert all(30 < names[name] < 70 for name in "abcd")


# -- corresponding windows ---------------------------------------------------------------------------


def test_both_images_and_their_masks_are_augmented_alike() -> None:
    subject = coded_subject()
    masked = InMemory(subject.volumes[1].image(), subject.volumes[1].grid, "masked", (coded() % 2).to(torch.uint8))
    pairs = coded_pairs(subject=Subject("coded", (subject.volumes[0], masked), (0, 1)))
    for i in range(40):
        pair = pairs[i]
        first, second = map(int, re.findall(r"\d", pair.name))
        offset = torch.full_like(pair.fixed[0], (second - first) * _FRAME)
        assert torch.equal(pair.moving[0] - pair.fixed[0], offset)
        assert pair.fixed.shape == pair.moving.shape == (3, 4, 24, 24)
        assert torch.equal(pair.start, torch.eye(4))
        for image, number in ((pair.fixed, first), (pair.moving, second)):
            assert (image[1] == 1).all()
            code = image[0] % _FRAME
            assert torch.equal(image[2], code % 2 if number else torch.ones_like(code))


def test_the_crop_wanders_as_far_as_it_may_and_no_further() -> None:
    """In plane by up to `shift` voxels from the image centre; along z over all slices."""
    pairs = coded_pairs(shift=5)
    places = [tuple(float(p.min()) for p in positions(pairs[i].fixed[0])) for i in range(200)]
    z, y, x = zip(*places, strict=True)
    assert (min(z), max(z)) == (0, 2)
    assert (min(y), max(y)) == (8 - 5, 8 + 5)
    assert (min(x), max(x)) == (10 - 5, 10 + 5)
    still = coded_pairs(shift=0)
    assert {float(positions(still[i].fixed[0])[2].min()) for i in range(10)} == {10}


def test_a_crop_may_lie_anywhere() -> None:
    pairs = coded_pairs(shift=None)
    places = [tuple(float(p.min()) for p in positions(pairs[i].fixed[0])) for i in range(300)]
    assert [(min(p), max(p)) for p in zip(*places, strict=True)] == [(0, 2), (0, 16), (0, 20)]


def test_a_phase_may_have_a_crop_of_its_own() -> None:
    pairs = coded_pairs()
    pairs.begin((16, 16, 2), 0.0)
    assert pairs[0].fixed.shape == pairs[0].moving.shape == (3, 2, 16, 16)
    batch = HeldOutPairs([IntraPairs((), (coded_subject(),))], (16, 16, 2))[0]
    assert batch.fixed.shape == (1, 3, 2, 16, 16)


def orientation(image: Tensor) -> tuple[tuple[int, ...], ...]:
    """How the original z, y and x change along each axis of a coded crop."""
    return tuple(
        tuple(int(p[index] - p[0, 0, 0]) for p in positions(image)) for index in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    )


def test_turns_and_mirrors_reach_every_orientation_in_plane() -> None:
    pairs = coded_pairs()
    seen = {orientation(pairs[i].fixed[0]) for i in range(200)}
    assert len(seen) == 2 * 8  # slices up or down, four turns, mirrored or not
    assert all(abs(along_z[0]) == 1 and along_z[1:] == (0, 0) for along_z, _, _ in seen)


def test_what_is_switched_off_does_not_happen() -> None:
    straight = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    plain = coded_pairs(rotate90=False, flip=False)
    assert {orientation(plain[i].fixed[0]) for i in range(20)} == {straight}
    turned = coded_pairs(flip=False)
    assert len({orientation(turned[i].fixed[0]) for i in range(60)}) == 4
    mirrored = coded_pairs(rotate90=False)
    assert len({orientation(mirrored[i].fixed[0]) for i in range(60)}) == 4


@pytest.mark.parametrize("shape", [(2, 40, 44), (6, 20, 44), (6, 40, 15), (1, 3, 5)])
def test_padding_is_zero_and_never_counts(shape: tuple[int, int, int]) -> None:
    pairs = coded_pairs(subject=coded_subject(shape=shape))
    kept = np.prod([min(n, c) for n, c in zip(shape, (4, 24, 24), strict=True)])
    for i in range(10):
        for image, present, counts in (pairs[i].fixed, pairs[i].moving):
            assert image.shape == (4, 24, 24)
            assert set(present.unique().tolist()) == {0, 1}
            assert int(present.sum()) == kept
            assert torch.equal(image > 0, present == 1)
            assert torch.equal(counts, present)


# -- whole images of unequal grids -------------------------------------------------------------------


def known(number: int, shape: tuple[int, int, int], grid: ImageGrid) -> Subject:
    """A subject whose image gives each voxel's position in mm along LPS x, whatever its grid."""
    values = torch.from_numpy(grid.voxel_centers()[..., 0]).float()
    return Subject(f"s{number}", (InMemory(values, grid, f"s{number}"),))


def unequal(seed: int = 0, **settings: Any) -> PairDataset:
    """Two subjects on oblique, anisotropic grids of unequal size."""
    first = make_grid((10, 30, 24), (1.0, 1.5, 2.0), (3, -40, 100), (0.1, 0.2, -0.1))
    second = make_grid((14, 20, 36), (1.0, 1.5, 2.0), (90, 12, -7), (-0.2, 0.1, 0.15), mirrored=True)
    subjects = (known(0, first.shape, first), known(1, second.shape, second))
    augmentation = Augmentation(**{"rotate90": False, "flip": False, **settings})
    return PairDataset([InterPairs(subjects, ())], [1.0], augmentation, seed)


def mapped(pair: TensorPair, points: NDArray[Any]) -> NDArray[Any]:
    """Fixed voxels (N, 3) to moving voxels, by the start of the pair."""
    start = pair.start.double().numpy()
    found: NDArray[Any] = points @ start[:3, :3].T + start[:3, 3]
    return found


@pytest.mark.parametrize("settings", [{}, {"trim": 8.0}, {"flip": True}, {"trim": 8.0, "flip": True}], ids=str)
def test_the_start_brings_the_centres_together_without_a_turn_in_space(settings: dict[str, Any]) -> None:
    """In mm: equal steps in the fixed image are the same steps in the moving one, whatever was cut or mirrored."""
    pairs = unequal(**settings)
    shapes = set()
    for i in range(30):
        pair = pairs[i]
        centers = [(np.array(image.shape[:0:-1]) - 1) / 2 for image in (pair.fixed, pair.moving)]
        np.testing.assert_allclose(mapped(pair, centers[0][None])[0], centers[1], atol=1e-4)
        # The images hold their position along x: one step in the fixed image changes both alike.
        steps = np.eye(3)
        expected = [float(np.gradient(pair.fixed[0].numpy(), axis=2 - a).mean()) for a in range(3)]
        gradient = np.array([float(np.gradient(pair.moving[0].numpy(), axis=2 - a).mean()) for a in range(3)])
        moved = mapped(pair, steps) - mapped(pair, np.zeros((3, 3)))
        np.testing.assert_allclose(moved @ gradient, expected, atol=1e-3)
        shapes.add((pair.fixed.shape, pair.moving.shape))
    assert len(shapes) == 2 if "trim" not in settings else len(shapes) > 20


def test_trimming_cuts_each_image_for_itself_and_not_too_much() -> None:
    pairs = unequal(trim=8.0)
    for i in range(60):
        names = re.findall(r"s(\d)", pairs[i].name)
        for image, name in zip((pairs[i].fixed, pairs[i].moving), names, strict=True):
            cut = np.array([(10, 30, 24), (14, 20, 36)][int(name)]) - np.array(image.shape[1:])
            assert ((cut >= 0) & (cut <= (4, 5, 8))).all()


def test_a_random_affine_map_moves_the_moving_image_as_often_as_asked() -> None:
    affine = {"rotation": 20, "translation": 5, "scale": (0.8, 1.2)}
    pairs = unequal(affine=affine)
    plain = [pairs[i] for i in range(40)]
    pairs.begin(None, 0.5)
    moved = [not torch.equal(pairs[i].moving, plain[i].moving) for i in range(40)]
    assert 8 < sum(moved) < 32
    assert all(torch.equal(pairs[i].fixed, plain[i].fixed) for i in range(40))
    assert all((pairs[i].moving[0][pairs[i].moving[1] == 0] == 0).all() for i in range(40))


def test_an_image_seen_through_an_affine_map_is_the_image_there() -> None:
    def image(index: NDArray[Any]) -> NDArray[Any]:
        """Linear, so that interpolation is exact."""
        ramp: NDArray[Any] = index @ np.array([0.01, 0.02, -0.03])
        return ramp + 1

    grid = ImageGrid((20, 30, 40), (1.0, 1.5, 2.0))
    generator = np.random.default_rng(0)
    parameters = random_parameters(RandomAffine(rotation=20, translation=6, scale=(0.8, 1.2)), generator)
    stack = torch.stack([torch.from_numpy(image(voxels(grid.shape))).float(), torch.ones(grid.shape)])
    found, present = apply_affine(stack, grid, parameters)
    center = torch.from_numpy(grid.center).float()[None]
    matrix = affine_matrix(parameters, center)[0].double().numpy()
    target = (voxels(grid.shape) * grid.spacing) @ matrix[:3, :3].T + matrix[:3, 3]
    index = target / np.array(grid.spacing)
    well_within = ((index > 1) & (index < np.array(grid.size) - 2)).all(-1)
    assert 0.3 < well_within.mean() < 0.95
    assert np.abs(found.numpy() - image(index))[well_within].max() < 1e-4
    assert (present.numpy()[well_within] > 0.999).all()
    outside = ((index < -1) | (index > np.array(grid.size))).any(-1)
    assert outside.any()
    assert (found.numpy()[outside] == 0).all()


def test_random_maps_keep_within_their_bounds() -> None:
    affine = RandomAffine(rotation=20, translation=15, scale=(0.8, 1.25))
    generator = np.random.default_rng(0)
    drawn = torch.cat([random_parameters(affine, generator) for _ in range(300)])
    for part, low, high in ((slice(0, 3), -15, 15), (slice(3, 6), -0.349, 0.3491), (slice(6, 9), 0.8, 1.25)):
        assert low <= drawn[:, part].min() < 0.9 * low + 0.1 * high
        assert 0.1 * low + 0.9 * high < drawn[:, part].max() <= high
    assert (drawn[:, 9:] == 0).all()


# -- batches -----------------------------------------------------------------------------------------


def test_unequal_pairs_are_padded_at_the_far_ends() -> None:
    pairs = unequal(trim=8.0)
    chosen = [pairs[i] for i in range(5)]
    batch = collate(chosen)
    for number, pair in enumerate(chosen):
        for stack, image, shape in (
            (batch.fixed, pair.fixed, batch.fixed_shapes[number]),
            (batch.moving, pair.moving, batch.moving_shapes[number]),
        ):
            z, y, x = shape
            assert image.shape[1:] == shape
            assert torch.equal(stack[number, :, :z, :y, :x], image)
            assert float(stack[number].abs().sum()) == pytest.approx(float(image.abs().sum()), rel=1e-5)
    assert batch.names == tuple(pair.name for pair in chosen)


def loaded(pairs: PairDataset, indices: Sequence[Sequence[int]]) -> list[Any]:
    return list(Loader(pairs, indices, 1))


def test_batches_hold_the_pairs_that_are_asked_for() -> None:
    pairs = coded_pairs()
    batches = loaded(pairs, [[7, 8], [9], [20, 3]])
    assert [len(batch.names) for batch in batches] == [2, 1, 2]
    for batch, numbers in zip(batches, [[7, 8], [9], [20, 3]], strict=True):
        expected = collate([pairs[n] for n in numbers])
        assert torch.equal(batch.fixed, expected.fixed)
        assert torch.equal(batch.moving, expected.moving)
        assert batch.names == expected.names
    assert loaded(pairs, []) == []


def test_the_loader_knows_how_long_it_was_waited_for() -> None:
    loader = Loader(coded_pairs(), [[k] for k in range(4)], 1)
    assert loader.seconds == 0
    next(iter(loader))
    assert loader.seconds > 0


def test_the_loading_process_says_nothing_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its threads end with a traceback when an interrupt comes at a bad moment; its errors come as exceptions."""

    def transforms(pair: Tensor) -> Tensor:
        sys.excepthook(EOFError, EOFError("noise"), None)
        if pair.shape[1] == 2:
            raise ValueError("a real error")
        return pair

    def load(shape: tuple[int, int, int]) -> int:
        pairs = coded_pairs(subject=coded_subject(shape=shape))
        monkeypatch.setattr(pairs, "transforms", transforms)
        monkeypatch.setattr(transforms, "set_random_state", lambda seed: None, raising=False)
        return len(loaded(pairs, [[0], [1]]))

    assert load((6, 40, 44)) == 2
    with pytest.raises(ValueError, match="a real error"):
        load((2, 40, 44))
    assert "noise" not in capfd.readouterr().err


# -- validation --------------------------------------------------------------------------------------


def test_validation_takes_the_largest_motion_both_ways_from_the_middle() -> None:
    subjects = (coded_subject("a", count=4), coded_subject("b", (2, 40, 20)))
    first, second = (HeldOutPairs([IntraPairs((), subjects)], (24, 24, 4)) for _ in range(2))
    names = [["a: 0 to 3"], ["a: 3 to 0"], ["b: 0 to 2"], ["b: 2 to 0"]]
    assert [list(batch.names) for batch in first] == names
    for batch, again, frames in zip(first, second, ((0, 3), (3, 0), (0, 2), (2, 0)), strict=True):
        assert torch.equal(batch.fixed, again.fixed)
        assert torch.equal(batch.moving, again.moving)
        assert tuple(int(image[:, 0].amax() // _FRAME) for image in (batch.fixed, batch.moving)) == frames
    z, y, x = positions(first[0].fixed[0, 0])
    assert (z.min(), y.min(), x.min()) == (1, 8, 10)
    assert torch.equal(first[3].fixed[:, 1] > 0, first[3].fixed[:, 0] > 0)
    assert int(first[3].fixed[0, 2].sum()) == 2 * 24 * 20


def test_validation_between_subjects_takes_each_with_the_next() -> None:
    grids = [make_grid((10 + k, 30, 24), (1.0, 1.5, 2.0), (0, 0, 5.0 * k), (0.1 * k, 0, 0)) for k in range(3)]
    subjects = tuple(known(k, grid.shape, grid) for k, grid in enumerate(grids))
    batches = HeldOutPairs([InterPairs((), subjects)], None)
    assert [batch.names for batch in batches] == [("s0 to s1",), ("s1 to s2",), ("s2 to s0",)]
    for k, batch in enumerate(batches):
        assert batch.fixed_shapes[0] == grids[k].shape
        expected = centred(grids[k], grids[(k + 1) % 3])
        np.testing.assert_allclose(batch.start[0].numpy(), expected, atol=1e-4)
