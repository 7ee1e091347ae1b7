"""A configuration planned from images: what is found in them, what follows, and that it is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from numpy.typing import NDArray

from cli_runs import refuse, succeed
from dlir.errors import ConfigError
from dlir.losses.choices import Similarity
from dlir.training.config import TrainingConfig
from dlir.training.config_file import load_config, parse_config
from dlir.training.plan import plan_text
from dlir.training.plan.look import Look, look
from dlir.training.plan.rules import planned
from training_runs import Blobs, voxels, write_volume

Array = NDArray[np.generic]
SIZE = (16, 24, 24)


def grey(seed: int, shape: Sequence[int] = SIZE, scale: float = 500) -> Array:
    """Strewn as an image is."""
    x, y, z = shape[::-1]
    noise = np.random.default_rng(seed).normal(0, 10, shape)
    return scale * Blobs(seed, (x, y, z))(voxels(shape)) + noise  # type: ignore[no-any-return]


def labels(count: int, shape: Sequence[int] = SIZE) -> Array:
    """So many structures side by side along y, in blocks."""
    z, y, _ = shape
    return np.broadcast_to((np.arange(z)[:, None] * y + np.arange(y))[..., None] // 2 % count, shape) * 1.0


def plan(data: Path, **named: str) -> tuple[TrainingConfig, Look, list[str]]:
    told: list[str] = []
    text, found = plan_text(data, lambda what, why: told.append(why), **named)  # type: ignore[arg-type]
    return parse_config(yaml.safe_load(text), "plan"), found, told


def persons(root: Path, count: int, make: Callable[[int], Array] = grey, name: str = "{}.nii.gz") -> Path:
    for k in range(count):
        write_volume(root / name.format(f"{k:02}"), make(k), (2.0, 2.0, 2.0))
    return root


# -- whose images they are ----------------------------------------------------------------------------


def test_one_file_a_person(tmp_path: Path) -> None:
    config, found, _ = plan(persons(tmp_path, 6))
    assert (found.pairs, found.images, found.subjects) == ("inter", 6, 6)
    assert config.sources[0].files == ["[0-9][0-9].nii.gz"]
    assert config.sources[0].validation_fraction == 0.2
    assert [stage.kind for stage in config.spec.stages] == ["affine", "bspline"]
    assert config.augmentation.crop is None


def test_one_folder_a_person(tmp_path: Path) -> None:
    for k in range(3):
        for name in ("before", "after"):
            write_volume(tmp_path / f"person {k}" / f"{name}.nii.gz", grey(k), (2, 2, 2))
    config, found, _ = plan(tmp_path)
    assert (found.pairs, found.subjects) == ("intra", 3)
    assert sorted(config.sources[0].files) == ["*/after.nii.gz", "*/before.nii.gz"]
    assert {stage.kind for stage in config.spec.stages} == {"bspline"}
    assert config.sources[0].validation_fraction == 0  # three can spare nobody
    assert {stage.similarity for stage in config.training} == {Similarity.ncc}


def test_what_the_user_says_overrules_the_guess(tmp_path: Path) -> None:
    config, found, _ = plan(persons(tmp_path, 3), pairs="intra")
    assert (found.pairs, config.sources[0].pairs) == ("intra", "intra")
    assert {stage.kind for stage in config.spec.stages} == {"bspline"}


def test_a_folder_of_images_on_different_grids_is_nobodys_pair(tmp_path: Path) -> None:
    for k in range(3):
        write_volume(tmp_path / f"{k}" / "ct.nii.gz", grey(k), (2, 2, 2))
        write_volume(tmp_path / f"{k}" / "mr.nii.gz", grey(k), (3, 3, 3))
    config, found, _ = plan(tmp_path)
    assert (found.pairs, found.subjects) == ("inter", 3)
    assert config.sources[0].subject == "folder"
    assert "different grids" in found.why


def test_4d_files_are_a_person_each_and_alone(tmp_path: Path) -> None:
    for k in range(2):
        write_volume(tmp_path / f"cine{k}.nii.gz", np.stack([grey(k), grey(k)]), (2, 2, 2))
    write_volume(tmp_path / "scout.nii.gz", grey(9), (2, 2, 2))
    config, found, told = plan(tmp_path)
    assert (found.pairs, found.subjects) == ("intra", 2)
    assert config.sources[0].files == ["cine[0-9].nii.gz"]
    assert any("scout.nii.gz" in why for why in told)


def test_folders_that_say_what_files_are_not_whose(tmp_path: Path) -> None:
    persons(tmp_path / "images", 5)
    persons(tmp_path / "labels", 5, lambda k: labels(3))
    config, found, told = plan(tmp_path)
    assert config.sources[0].files == ["images/[0-9][0-9].nii.gz"]
    assert (found.pairs, found.images) == ("inter", 5)
    assert len(told) == 1


@pytest.mark.parametrize("count", [2, 30, 150])
def test_label_maps_are_told_by_what_they_hold(tmp_path: Path, count: int) -> None:
    """Of any number of structures, though training refuses those of few alone."""
    persons(tmp_path, 4, name="{}_t.nii.gz")
    persons(tmp_path, 4, lambda k: labels(count), "{}_regions.nii.gz")
    config, found, told = plan(tmp_path)
    assert config.sources[0].files == ["[0-9][0-9]_t.nii.gz"]
    assert found.images == 4
    assert "label maps" in told[0]


def test_a_ct_with_padding_and_an_image_of_eight_bits_are_no_label_maps(tmp_path: Path) -> None:
    def ct(seed: int) -> Array:
        image = np.round(grey(seed)) - 1000
        image[:8] = -1024
        return image

    persons(tmp_path, 3, ct, "{}_ct.nii.gz")
    persons(tmp_path, 3, lambda k: np.clip(np.round(grey(k) / 2), 0, 255), "{}_mr.nii.gz")
    assert plan(tmp_path)[1].images == 6


def test_names_that_have_nothing_in_common_are_taken_by_their_ending(tmp_path: Path) -> None:
    for name in ["adam", "bea", "carl", "dora", "emil", "fritz", "gerd"]:
        write_volume(tmp_path / f"{name}.nii.gz", grey(1), (2, 2, 2))
    assert plan(tmp_path)[0].sources[0].files == ["*.nii.gz"]


def test_a_manifest_names_subjects_or_pairs(tmp_path: Path) -> None:
    persons(tmp_path, 4)
    images = tmp_path / "images.csv"
    images.write_text("image,subject\n00.nii.gz,a\n01.nii.gz,a\n02.nii.gz,b\n03.nii.gz,b\n")
    assert plan(images)[1].pairs == "intra"
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("fixed,moving\n00.nii.gz,01.nii.gz\n02.nii.gz,03.nii.gz\n")
    config, found, _ = plan(pairs)
    assert found.pairs == "listed"
    assert config.spec.stages[0].kind == "affine"  # they may lie anywhere


def test_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no image lies below"):
        plan(tmp_path)
    persons(tmp_path, 2, lambda k: labels(3))
    with pytest.raises(ConfigError, match="are label maps"):
        plan(tmp_path)


# -- what they are ------------------------------------------------------------------------------------


def test_ct_has_a_window_in_hounsfield_numbers(tmp_path: Path) -> None:
    def ct(seed: int) -> Array:
        return np.where(grey(seed) > 300, 100.0, -1000) + np.random.default_rng(seed).normal(0, 15, SIZE)

    config, found, _ = plan(persons(tmp_path, 3, ct))
    assert found.ct == found.read == 3
    assert config.spec.preprocessing.window == (-1000, 200)
    assert config.card.modality == "CT"


def test_thick_slices_are_not_interpolated(tmp_path: Path) -> None:
    for k in range(2):
        for phase in (0, 1):
            write_volume(
                tmp_path / f"{k}" / f"{phase}.nii.gz", np.random.default_rng(k).random((10, 128, 128)), (1.25, 1.25, 8)
            )
    config, found, _ = plan(tmp_path)
    assert found.thick
    assert config.spec.preprocessing.orientation == "slices"
    assert config.spec.preprocessing.native_axes == (False, False, True)
    spacings = [stage.grid_spacing for stage in config.spec.stages]
    assert spacings == [(38.4, 38.4, 16), (19.2, 19.2, 16), (9.6, 9.6, 8)]  # about those of cardiac-cine
    assert config.augmentation.crop == (128, 128, 10)


def test_contrast_that_changes_within_a_person_takes_local_correlation(tmp_path: Path) -> None:
    for k in range(2):
        for phase in (0, 1):
            write_volume(tmp_path / f"{k}" / f"{phase}.nii.gz", grey(k, scale=500 + 300 * phase), (2, 2, 2))
    config, found, _ = plan(tmp_path)
    assert found.changing
    assert {stage.similarity for stage in config.training} == {Similarity.local_ncc}


def test_two_modalities_take_what_they_can_share(tmp_path: Path) -> None:
    persons(tmp_path, 3, name="{}_mr.nii.gz")
    persons(tmp_path, 3, lambda k: np.where(grey(k) > 300, 100.0, -1000) + grey(k) / 10, "{}_ct.nii.gz")
    config, _, _ = plan(tmp_path)
    assert [stage.similarity.value for stage in config.training] == ["mutual_information", "mind_ssc"]
    assert config.spec.preprocessing.window is None


@pytest.mark.parametrize("pairs", ["intra", "inter"])
@pytest.mark.parametrize("thick", [False, True])
@pytest.mark.parametrize("edge", [12, 35, 90, 256, 700])
def test_any_size_makes_stages_that_the_constructors_accept(pairs: str, thick: bool, edge: float) -> None:
    """From a few voxels to a whole body; what does not hold together is refused when the specification is built."""
    extent = np.array([[edge, 1.3 * edge, 80.0 if thick else edge]] * 2)
    spacing = np.array([[1.0, 1.0, 8.0 if thick else 1.0]] * 2)
    found = Look("x", ("*",), 2, 2, pairs, "", False, extent, spacing, thick, 0, 2, 0.0, False)  # type: ignore[arg-type]
    plan = planned(found)
    grids = [stage.grid_spacing for stage in plan.stages if stage.grid_spacing]
    assert grids == sorted(grids, reverse=True)
    smallest = np.array(grids[0])
    assert (smallest <= extent[0]).all()  # else no image would be large enough
    if plan.crop is not None:
        cells = smallest / np.array(plan.resolution)
        assert np.allclose(np.array(plan.crop) / cells, np.round(np.array(plan.crop) / cells))
    voxels_each = np.prod(extent[0] / np.array(plan.resolution))
    assert voxels_each < 3e6
    assert all(1 <= micro <= batch for micro, batch in zip(plan.micro_batches, plan.batches, strict=True))


# -- the command --------------------------------------------------------------------------------------


def test_what_is_printed_is_a_configuration_and_messages_are_none_of_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = persons(tmp_path / "data", 3)
    text = succeed(["train", "--init-config", data])
    assert text == succeed(["presets", "plan", data])
    assert text.startswith("# Planned by DLIR")
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    assert load_config(path).card.licence is None
    other = succeed(["presets", "plan", data, "--pairs", "intra"])
    assert "pairs: intra" in other
    refuse(["train", "--init-config", tmp_path / "none"], tmp_path, "no image lies below")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "pairs", "kinds", "similarity"),
    [
        ("hippocampus", "inter", "ABB", "local_ncc"),
        ("headneck_ct", "inter", "ABB", "local_ncc"),
        ("brain_t1", "inter", "ABB", "local_ncc"),
        ("lung_mr", "inter", "ABB", "local_ncc"),
        ("spine_mr", "inter", "ABB", "local_ncc"),
        ("breast_dce", "intra", "BB", "local_ncc"),
        ("prostate_dynamic_mr", "intra", "BB", "local_ncc"),
    ],
)
def test_groups_of_real_images(shared_data: Path, group: str, pairs: str, kinds: str, similarity: str) -> None:
    if not (shared_data / group).is_dir():
        pytest.skip(f"no {group}")
    config, found, _ = plan(shared_data / group)
    assert found.pairs == pairs
    assert "".join(stage.kind[0].upper() for stage in config.spec.stages) == kinds
    assert config.training[-1].similarity.value == similarity
    assert (config.spec.preprocessing.window is not None) == (group == "headneck_ct")
    labelled = ("label", "lobes", "gt")
    assert not any(word in pattern for pattern in config.sources[0].files for word in labelled)


def test_directions_are_turned_before_sizes_are_compared(tmp_path: Path) -> None:
    for k in range(2):
        image = sitk.GetImageFromArray(grey(k, (20, 40, 30)).astype(np.float32))
        image.SetSpacing((1.0, 1.0, 2.0))
        image.SetDirection((1, 0, 0, 0, 0, 1, 0, 1, 0))
        sitk.WriteImage(image, str(tmp_path / f"{k}.nii.gz"))
    found = look(tmp_path, lambda what, why: None)
    assert found.spacings[0].tolist() == [1, 2, 1]
    assert found.extents[0].tolist() == pytest.approx([30, 40, 40])


def test_endings_in_capitals_are_of_one_kind_with_others(tmp_path: Path) -> None:
    persons(tmp_path, 6)
    for k in (1, 3):
        (tmp_path / f"0{k}.nii.gz").rename(tmp_path / f"0{k}.NII.GZ")
    config, found, _ = plan(tmp_path)
    assert (found.pairs, found.images, found.subjects) == ("inter", 6, 6)
    assert config.sources[0].files == ["[0-9][0-9].nii.gz"]
