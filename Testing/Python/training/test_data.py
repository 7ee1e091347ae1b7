"""Which images are opened, which pairs they make, and what augmentation does to them."""

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
from torch import Tensor

from dlir.errors import ConfigError, ImageError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume, count_phases
from dlir.model.spec import Preprocessing
from dlir.training import data
from dlir.training.config import Augmentation, Source, load_config
from dlir.training.data import PairDataset, Subject, collate, find_subjects, load_batches, load_source
from dlir.training.data import validation_batches as fixed_batches
from training_runs import SHAPE, SPACING, write_subjects, write_volume

NATIVE = Preprocessing((1.0, 1.0, 4.0), (False, False, True))
_FRAME = 100_000.0


def coded(shape: tuple[int, int, int] = (6, 40, 44)) -> Tensor:
    """An image whose values name their voxel: 1 + x + 100 y + 10000 z. Zero is left for padding."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return torch.from_numpy(1 + x + 100 * y + 10_000 * z).float()


def coded_subject(
    name: str = "coded", shape: tuple[int, int, int] = (6, 40, 44), count: int = 3, spacing: Sequence[float] = SPACING
) -> Subject:
    """Volume k holds the code plus k * _FRAME; the extremes are 0 and the last."""
    volumes = torch.stack([coded(shape) + k * _FRAME for k in range(count)])
    return Subject(name, volumes, ImageGrid(shape, tuple(spacing)), (0, count - 1))  # type: ignore[arg-type]


def coded_pairs(
    seed: int = 0, largest_motion: float = 0.0, subject: Subject | None = None, **settings: Any
) -> PairDataset:
    augmentation = Augmentation(**{"crop": (24, 24, 4), "shift": 5, **settings})
    source = Source(files=["any"], largest_motion=largest_motion)
    return PairDataset([(source, [subject or coded_subject()])], augmentation, seed)


def positions(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The original (z, y, x) of every voxel of a coded image."""
    code = image % _FRAME - 1
    return code // 10_000, code % 10_000 // 100, code % 100


# -- which files -------------------------------------------------------------------------------------


@pytest.mark.data
def test_the_preset_opens_the_images_it_names_and_no_other(
    shared_data: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a label, a patient from 081 on, or SC-HF-I-4: neither for its pixels nor for its header."""
    opened: list[str] = []
    rng = np.random.default_rng(0)

    def read_image(spec: str, role: str) -> Volume:
        opened.append(spec)
        return Volume(rng.random((2, 4, 4), np.float32), ImageGrid((2, 4, 4), (1.25, 1.25, 8.0)), spec)

    def read_header(spec: str, role: str) -> int:
        opened.append(spec)
        return count_phases(spec, role)

    monkeypatch.setattr(data, "read_image", read_image)
    monkeypatch.setattr(data, "count_phases", read_header)
    config = load_config(repo_root / "Resources" / "Presets" / "cardiac-cine.yaml")
    loaded = [load_source(source, shared_data, config.spec.preprocessing) for source in config.sources]

    files = {Path(spec.split("#")[0]).relative_to(shared_data).as_posix() for spec in opened}
    acdc = {f"acdc/patient{n:03}" for n in range(1, 81)}
    sunnybrook = {f"sunnybrook/SC-HF-I-{n}/cine.nii.gz" for n in (1, 2, 5)}
    assert {str(Path(f).parent) for f in files if f.startswith("acdc")} == acdc
    assert {f for f in files if not f.startswith("acdc")} == sunnybrook
    assert all(re.fullmatch(r"patient\d{3}_frame\d\d\.nii\.gz", Path(f).name) for f in files - sunnybrook)
    assert len(files) == 2 * 80 + 3
    training, validation = ([s.name for group in loaded for s in group[part]] for part in (0, 1))
    assert len(training) == 76 + 3
    assert [Path(name).name for name in validation] == [f"patient{n:03}" for n in range(77, 81)]
    assert Counter(len(s.volumes) for group in loaded for s in group[0]) == {2: 76, 20: 3}


def test_files_of_a_folder_are_a_subject_and_so_is_a_4d_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        write_volume(tmp_path / "cine" / f"{name}.nii.gz", rng.random((3, *SHAPE)))
        for frame in ("1", "2"):
            write_volume(tmp_path / "pairs" / name / f"{frame}.nii.gz", rng.random(SHAPE))
            write_volume(tmp_path / "more" / name / f"{frame}.nii.gz", rng.random(SHAPE))
    found = find_subjects(Source(files=["**/*.nii.gz"]), tmp_path)
    assert {name: len(specs) for name, specs in found.items()} == {
        "cine/a.nii.gz": 3,
        "cine/b.nii.gz": 3,
        "pairs/a": 2,
        "pairs/b": 2,
        "more/a": 2,
        "more/b": 2,
    }


@pytest.mark.parametrize("pattern", ["held", "he*", "a/held"])
def test_validation_subjects_are_named_by_their_folder(tmp_path: Path, pattern: str) -> None:
    write_subjects(tmp_path / "a", ["held", "other"])
    source = Source(files=["**/*_frame??.nii.gz"], validation=[pattern])
    training, validation = load_source(source, tmp_path, NATIVE)
    assert ([s.name for s in training], [s.name for s in validation]) == (["a/other"], ["a/held"])


def test_a_data_folder_may_have_any_name(tmp_path: Path) -> None:
    root = tmp_path / "data [2024] *"
    write_subjects(root, ["one"])
    assert list(find_subjects(Source(files=["*/*_frame??.nii.gz"]), root)) == ["one"]


def test_a_subject_holds_scaled_volumes_on_the_working_grid(tmp_path: Path) -> None:
    write_subjects(tmp_path, ["one"])
    (subject,), _ = load_source(Source(files=["*/*_frame??.nii.gz"]), tmp_path, NATIVE)
    assert subject.volumes.shape == (2, *SHAPE)
    assert subject.volumes.dtype == torch.float32
    assert subject.grid.spacing == SPACING
    assert (subject.volumes.amin((1, 2, 3)) == 0).all()
    assert (subject.volumes.amax((1, 2, 3)) == 1).all()


@pytest.mark.parametrize("count", [2, 5, 33])
def test_the_extremes_are_the_two_phases_that_differ_most(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(count)
    base, other = rng.random((2, 2, 8, 8))
    # Phase k lies on the way from one image to the other and back; the last phase comes nowhere near.
    shares = np.sin(np.linspace(0, 0.8 * np.pi, count))
    write_volume(tmp_path / "cine.nii.gz", np.stack([(1 - s) * base + s * other for s in shares]))
    (subject,), _ = load_source(Source(files=["cine.nii.gz"]), tmp_path, Preprocessing((1, 1, 4), percentile=100))
    difference = [[float((a - b).abs().mean()) for b in subject.volumes] for a in subject.volumes]
    assert max(map(max, difference)) == pytest.approx(difference[subject.extremes[0]][subject.extremes[1]])
    assert subject.extremes[0] != subject.extremes[1]


def test_volumes_that_are_all_alike_still_make_pairs(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random(SHAPE)
    write_volume(tmp_path / "cine.nii.gz", np.stack([image, image]))
    (subject,), _ = load_source(Source(files=["cine.nii.gz"]), tmp_path, NATIVE)
    assert sorted(subject.extremes) == [0, 1]


# -- refusals ----------------------------------------------------------------------------------------


def test_patterns_without_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file matches \['\*\.nrrd'\] under '.*check"):
        find_subjects(Source(files=["*.nrrd"]), tmp_path)


def test_a_subject_of_one_volume_is_refused(tmp_path: Path) -> None:
    write_volume(tmp_path / "lonely" / "one.nii.gz", np.random.default_rng(0).random(SHAPE))
    with pytest.raises(ConfigError, match="'lonely' has one volume"):
        load_source(Source(files=["*/*.nii.gz"]), tmp_path, NATIVE)


def test_nothing_left_for_training_is_refused(tmp_path: Path) -> None:
    write_subjects(tmp_path, ["one", "two"])
    with pytest.raises(ConfigError, match="held out for validation"):
        load_source(Source(files=["*/*_frame??.nii.gz"], validation=["*"]), tmp_path, NATIVE)


@pytest.mark.parametrize(("shape", "spacing"), [((4, 32, 30), SPACING), (SHAPE, (1.0, 1.0, 5.0))])
def test_volumes_on_different_grids_are_refused(
    tmp_path: Path, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(0)
    write_volume(tmp_path / "p" / "1.nii.gz", rng.random(SHAPE))
    write_volume(tmp_path / "p" / "2.nii.gz", rng.random(shape), spacing)
    with pytest.raises(ConfigError, match=r"'p' lie on different grids: '.*2\.nii\.gz'"):
        load_source(Source(files=["p/*.nii.gz"]), tmp_path, NATIVE)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    write_subjects(tmp_path, ["one"])
    with pytest.raises(ImageError, match=r"training image .*frame01_gt\.nii\.gz"):
        load_source(Source(files=["*/*.nii.gz"]), tmp_path, NATIVE)


def test_turning_voxels_that_are_not_square_is_refused() -> None:
    oblong = coded_subject("oblong", spacing=(1.0, 1.5, 4.0))
    with pytest.raises(ConfigError, match=r"'oblong'.*1 x 1\.5 mm.*rotate90"):
        coded_pairs(subject=oblong)
    assert coded_pairs(subject=oblong, rotate90=False)[0][1].tolist() == [1.0, 1.5, 4.0]


# -- which pairs -------------------------------------------------------------------------------------


def test_a_pair_depends_on_the_seed_and_its_number_alone() -> None:
    first = coded_pairs(seed=3)
    straight = [first[i] for i in range(6)]
    np.random.seed(1)  # noqa: NPY002 - what others do to the global state must not matter
    torch.manual_seed(1)
    again = coded_pairs(seed=3)
    for i in (5, 2, 0, 2, 4):
        torch.testing.assert_close(again[i][0], straight[i][0], rtol=0, atol=0)
        assert again[i][2] == straight[i][2]
    other = coded_pairs(seed=4)
    assert all(not torch.equal(other[i][0], straight[i][0]) for i in range(6))
    assert len({image.sum().item() for image, _, _ in straight}) == 6


def test_any_two_different_volumes_make_a_pair_in_either_role() -> None:
    pairs = coded_pairs()
    frames: Counter[tuple[float, ...]] = Counter()
    for i in range(120):
        image, _, name = pairs[i]
        fixed, moving = (image[c].amax() // _FRAME for c in (0, 1))
        frames[fixed.item(), moving.item()] += 1
        assert name == f"coded: {fixed:.0f} to {moving:.0f}"
    assert set(frames) == {(a, b) for a in range(3) for b in range(3) if a != b}
    assert min(frames.values()) > 120 / 6 / 3


def test_the_largest_motion_is_drawn_as_often_as_asked() -> None:
    def drawn(largest_motion: float) -> Counter[str]:
        pairs = coded_pairs(largest_motion=largest_motion, subject=coded_subject(count=8))
        return Counter(pairs[i][2] for i in range(100))

    assert set(drawn(1.0)) == {"coded: 0 to 7", "coded: 7 to 0"}
    assert 30 < sum(n for name, n in drawn(0.5).items() if {"0", "7"} <= set(name)) < 70
    assert sum(n for name, n in drawn(0.0).items() if {"0", "7"} <= set(name)) < 15


def test_sources_are_drawn_by_weight_and_subjects_alike() -> None:
    groups = [
        (Source(files=["any"], weight=3), [coded_subject("a"), coded_subject("b"), coded_subject("c")]),
        (Source(files=["any"], weight=1), [coded_subject("d")]),
    ]
    pairs = PairDataset(groups, Augmentation(crop=(24, 24, 4)), 0)
    names = Counter(pairs[i][2].split(":")[0] for i in range(200))
    assert all(30 < names[name] < 70 for name in "abcd")


# -- augmentation ------------------------------------------------------------------------------------


def test_both_images_and_the_mask_are_augmented_alike() -> None:
    for i in range(40):
        image, _, name = coded_pairs()[i]
        first, second = map(int, re.findall(r"\d", name))
        assert torch.equal(image[1] - image[0], torch.full_like(image[0], (second - first) * _FRAME))
        assert (image[2] == 1).all()
        assert image.shape == (3, 4, 24, 24)


def test_the_crop_wanders_as_far_as_it_may_and_no_further() -> None:
    """In plane by up to `shift` voxels from the image centre; along z over all slices."""
    pairs = coded_pairs(shift=5)
    places = [tuple(float(p.min()) for p in positions(pairs[i][0][0])) for i in range(200)]
    z, y, x = zip(*places, strict=True)
    assert (min(z), max(z)) == (0, 2)
    assert (min(y), max(y)) == (8 - 5, 8 + 5)
    assert (min(x), max(x)) == (10 - 5, 10 + 5)
    still = coded_pairs(shift=0)
    assert {float(positions(still[i][0][0])[2].min()) for i in range(10)} == {10}


def orientation(image: Tensor) -> tuple[tuple[int, ...], ...]:
    """How the original z, y and x change along each axis of a coded crop."""
    return tuple(
        tuple(int(p[index] - p[0, 0, 0]) for p in positions(image)) for index in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    )


def test_turns_and_mirrors_reach_every_orientation_in_plane() -> None:
    pairs = coded_pairs()
    seen = {orientation(pairs[i][0][0]) for i in range(200)}
    assert len(seen) == 2 * 8  # slices up or down, four turns, mirrored or not
    assert all(abs(along_z[0]) == 1 and along_z[1:] == (0, 0) for along_z, _, _ in seen)


def test_what_is_switched_off_does_not_happen() -> None:
    straight = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    plain = coded_pairs(rotate90=False, flip=False)
    assert {orientation(plain[i][0][0]) for i in range(20)} == {straight}
    turned = coded_pairs(flip=False)
    assert len({orientation(turned[i][0][0]) for i in range(60)}) == 4
    mirrored = coded_pairs(rotate90=False)
    assert len({orientation(mirrored[i][0][0]) for i in range(60)}) == 4


@pytest.mark.parametrize("shape", [(2, 40, 44), (6, 20, 44), (6, 40, 15), (1, 3, 5)])
def test_padding_is_zero_and_masked(shape: tuple[int, int, int]) -> None:
    pairs = coded_pairs(subject=coded_subject(shape=shape))
    kept = np.prod([min(n, c) for n, c in zip(shape, (4, 24, 24), strict=True)])
    for i in range(10):
        image, _, _ = pairs[i]
        assert image.shape == (3, 4, 24, 24)
        assert set(image[2].unique().tolist()) == {0, 1}
        assert int(image[2].sum()) == kept
        assert torch.equal(image[:2] > 0, (image[2] == 1).expand(2, -1, -1, -1))


# -- batches -----------------------------------------------------------------------------------------


def test_batches_hold_the_pairs_from_a_number_on() -> None:
    pairs = coded_pairs()
    batches = list(load_batches(pairs, 2, 7, 3))
    assert len(batches) == 3
    for k, batch in enumerate(batches):
        expected = collate([pairs[7 + 2 * k], pairs[8 + 2 * k]])
        assert torch.equal(batch.fixed, expected.fixed)
        assert torch.equal(batch.moving, expected.moving)
        assert torch.equal(batch.mask, expected.mask)
        assert batch.names == expected.names
        torch.testing.assert_close(batch.spacing, torch.tensor([SPACING, SPACING]))
    assert batches[0].fixed.shape == (2, 1, 4, 24, 24)
    assert list(load_batches(pairs, 2, 7, 0)) == []


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
        return len(list(load_batches(pairs, 1, 0, 2)))

    assert load((6, 40, 44)) == 2
    with pytest.raises(ValueError, match="a real error"):
        load((2, 40, 44))
    assert "noise" not in capfd.readouterr().err


def test_validation_takes_the_largest_motion_both_ways_from_the_middle() -> None:
    subjects = [coded_subject("a", count=4), coded_subject("b", (2, 40, 20))]
    augmentation = Augmentation(crop=(24, 24, 4), shift=5)
    first, second = fixed_batches(subjects, augmentation), fixed_batches(subjects, augmentation)
    assert [batch.names for batch in first] == [("a", "a"), ("b", "b")]
    for batch, again, frames in zip(first, second, ((0, 3), (0, 2)), strict=True):
        for name in ("fixed", "moving", "mask", "spacing"):
            assert torch.equal(getattr(batch, name), getattr(again, name))
        assert (batch.fixed.amax((1, 2, 3, 4)) // _FRAME).tolist() == list(frames)
        assert torch.equal(batch.fixed.flip(0), batch.moving)
    z, y, x = positions(first[0].fixed[0, 0])
    assert (z.min(), y.min(), x.min()) == (1, 8, 10)
    assert torch.equal(first[1].mask > 0, first[1].fixed > 0)
    assert int(first[1].mask[0].sum()) == 2 * 24 * 20
