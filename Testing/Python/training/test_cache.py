"""Prepared images on disk: what training sees is what inference would make of the same file."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from disks import small_disk
from dlir.errors import GeometryError, ImageError, OutputError
from dlir.io.reading import read_image
from dlir.model.preprocessing import prepare
from dlir.model.spec import ModelSpec
from dlir.training.cache import Cache, DryCache
from grids import make_grid

SHAPE = (9, 14, 12)
GRID = make_grid(SHAPE, (1.5, 1.2, 3.0), (-20, 5, 300), (0.1, -0.2, 1.7))


def make_spec(percentile: float = 99.0, window: tuple[float, float] | None = None) -> ModelSpec:
    preprocessing = {"resolution": (2.0, 2.0, 2.0), "percentile": percentile, "window": window}
    stage = {"kind": "bspline", "resolution": (2, 2, 2), "grid_spacing": (8, 8, 8), "channels": (4, 4, 8)}
    return ModelSpec.from_dict({"preprocessing": preprocessing, "stages": [stage]})


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.nrrd"
    sitk.WriteImage(GRID.to_sitk(np.random.default_rng(0).random(SHAPE, np.float32) * 900), str(path))
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """The half of the image with low x."""
    array = np.zeros(SHAPE, np.uint8)
    array[:, :, :6] = 7
    path = tmp_path / "mask.nrrd"
    sitk.WriteImage(GRID.to_sitk(array), str(path))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", make_spec())


def test_an_entry_is_the_image_as_networks_see_it(cache: Cache, image: Path) -> None:
    volume = read_image(image)
    expected, grid = prepare(volume.array, volume.grid, cache.preprocessing)
    for _ in range(2):  # made, and found again
        entry = cache.prepared(str(image))
        assert torch.equal(entry.image(), expected)
        assert entry.mask() is None
        assert entry.grid.same_as(grid)
        assert entry.name == str(image)


def test_a_mask_lies_on_the_working_grid(cache: Cache, image: Path, mask: Path) -> None:
    entry = cache.prepared(str(image), str(mask))
    found = entry.mask()
    assert found is not None
    assert found.dtype == torch.uint8
    index = GRID.to_index(entry.grid.voxel_centers().reshape(-1, 3))[:, 0].reshape(found.shape)
    assert (found.numpy()[index < 5] == 1).all()
    assert (found.numpy()[index > 6] == 0).all()
    assert 0 < found.float().mean() < 1


def test_an_entry_is_read_through_a_memory_map(cache: Cache, image: Path) -> None:
    entry = cache.prepared(str(image))
    stored = np.load(entry.image_file, mmap_mode="r")
    first, again = entry.image(), entry.image()
    first[0, 0, 0] = 5  # whatever somebody does to a tensor stays with them
    assert stored[0, 0, 0] != 5
    assert again[0, 0, 0] != 5


def test_a_change_of_file_mask_or_preprocessing_makes_another_entry(
    cache: Cache, image: Path, mask: Path, tmp_path: Path
) -> None:
    first = cache.prepared(str(image)).image_file
    assert cache.prepared(str(image), str(mask)).image_file != first
    others = [Cache(cache.folder, spec).prepared(str(image)).image_file for spec in (make_spec(90.0), make_spec())]
    assert others[0] != first == others[1]
    sitk.WriteImage(GRID.to_sitk(np.random.default_rng(1).random(SHAPE, np.float32)), str(image))
    changed = cache.prepared(str(image))
    assert changed.image_file != first
    assert changed.image().max() <= 1


def test_a_file_beside_another_of_its_kind_is_told_apart(cache: Cache, image: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / image.name
    copy.parent.mkdir()
    copy.write_bytes(image.read_bytes())
    os.utime(copy, ns=(image.stat().st_atime_ns, image.stat().st_mtime_ns))
    assert cache.prepared(str(copy)).image_file != cache.prepared(str(image)).image_file


@pytest.mark.parametrize("damage", ["cut", "gone", "record cut", "record gone"])
def test_an_entry_that_was_interrupted_is_made_again(cache: Cache, image: Path, damage: str) -> None:
    entry = cache.prepared(str(image))
    expected = entry.image().clone()
    victim = entry.image_file.with_suffix(".json") if "record" in damage else entry.image_file
    if "cut" in damage:
        victim.write_bytes(victim.read_bytes()[:50])
    else:
        victim.unlink()
    assert torch.equal(cache.prepared(str(image)).image(), expected)


def _prepare(folder: Path, image: str) -> float:
    return float(Cache(folder, make_spec()).prepared(image).image().sum())


@pytest.mark.slow
def test_jobs_may_share_a_folder(tmp_path: Path, image: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        sums = pool.starmap(_prepare, [(tmp_path / "shared", str(image))] * 12)
    assert len(set(sums)) == 1
    assert sorted(path.suffix for path in (tmp_path / "shared").iterdir()) == [".json", ".npy"]


def test_a_small_result_is_computed_once(cache: Cache, image: Path) -> None:
    parts = [cache.prepared(str(image)).image_file]
    calls: list[int] = []

    def compute() -> list[int]:
        calls.append(1)
        return [3, 1]

    assert [cache.remembered("what", parts, compute) for _ in range(3)] == [[3, 1]] * 3
    assert len(calls) == 1
    cache.remembered("else", parts, compute)
    assert len(calls) == 2


# -- what cannot be used -----------------------------------------------------------------------------


@pytest.mark.parametrize("values", [2, 7, 16])
def test_a_map_of_labels_among_the_images_is_refused(tmp_path: Path, values: int) -> None:
    """Patterns that fit every file of a folder fit its labels and masks, too."""
    path = tmp_path / "label.nrrd"
    labels = np.random.default_rng(0).permutation(np.arange(np.prod(SHAPE)) % values).reshape(SHAPE)
    sitk.WriteImage(GRID.to_sitk(labels.astype(np.uint8)), str(path))
    with pytest.raises(ImageError, match=r"label\.nrrd' holds no more than 16 different whole numbers"):
        Cache(tmp_path / "cache", make_spec()).prepared(str(path))


@pytest.mark.parametrize("values", [np.arange(17), np.linspace(0, 1, 9)], ids=["17 whole numbers", "9 fractions"])
def test_an_image_of_few_values_is_no_map_of_labels(tmp_path: Path, values: np.ndarray) -> None:
    path = tmp_path / "image.nrrd"
    array = np.random.default_rng(0).permutation(np.resize(values, np.prod(SHAPE))).reshape(SHAPE)
    sitk.WriteImage(GRID.to_sitk(array.astype(np.float32)), str(path))
    assert Cache(tmp_path / "cache", make_spec()).prepared(str(path)).name == str(path)


def test_an_image_that_is_flat_within_the_window_is_refused(tmp_path: Path, image: Path) -> None:
    cache = Cache(tmp_path / "cache", make_spec(window=(5000.0, 6000.0)))
    with pytest.raises(ImageError, match="one value everywhere within the intensity window"):
        cache.prepared(str(image))
    assert not cache.folder.exists()


def test_an_image_that_is_too_small_for_the_model_is_refused(tmp_path: Path, cache: Cache) -> None:
    path = tmp_path / "small.nrrd"
    sitk.WriteImage(make_grid((9, 3, 12)).to_sitk(np.random.default_rng(0).random((9, 3, 12), np.float32)), str(path))
    with pytest.raises(GeometryError, match=r"small\.nrrd' measures 12 x 4 x 10 mm, and the model needs 8 x 8 x 8 mm"):
        cache.prepared(str(path))


def test_a_mask_of_another_grid_is_refused(tmp_path: Path, cache: Cache, image: Path) -> None:
    path = tmp_path / "mask.nrrd"
    sitk.WriteImage(make_grid(SHAPE).to_sitk(np.ones(SHAPE, np.uint8)), str(path))
    with pytest.raises(GeometryError, match="training mask"):
        cache.prepared(str(image), str(path))


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, image: Path) -> None:
    with small_disk(1000), pytest.raises(OutputError, match="the disk is full"):
        Cache(tmp_path / "cache", make_spec()).prepared(str(image))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_dry_cache_keeps_nothing_and_refuses_the_same(tmp_path: Path, image: Path) -> None:
    dry = DryCache(tmp_path / "cache", make_spec())
    assert dry.prepared(str(image)).grid.same_as(Cache(tmp_path / "real", make_spec()).prepared(str(image)).grid)
    image.write_bytes(b"no image")
    with pytest.raises(ImageError):
        dry.prepared(str(image))
    assert not (tmp_path / "cache").exists()
