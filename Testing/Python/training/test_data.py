"""From files to what pairs are drawn from, and what is said of data that cannot be used."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlir.data import pair as pair_module
from dlir.errors import ConfigError, ImageNote
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume, count_phases
from dlir.training import cache as cache_module
from dlir.training import subjects as subjects_module
from dlir.training.cache import Cache, DryCache
from dlir.training.config import TrainingConfig
from dlir.training.config_file import load_config
from dlir.training.data import load_data
from dlir.training.draws import Draw, InterPairs, IntraPairs, ListedPairs, fingerprint
from training_runs import SHAPE, SPACING, make_config, plain_config, write_subjects, write_volume

Load = Callable[..., Sequence[Draw]]


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def load(tmp_path: Path, told: list[tuple[str, str]]) -> Load:
    """load(config, data): what is left out goes to `told`."""

    def load(config: TrainingConfig, data: Path) -> Sequence[Draw]:
        cache = Cache(tmp_path / "cache", config.spec)
        return load_data(config, data, cache, lambda what, why: told.append((what, why)))

    return load


def source(**values: Any) -> dict[str, Any]:
    return {"files": ["*/*_frame??.nii.gz"], **values}


WHOLE = {"augmentation": {"rotate90": False, "flip": False}}


@pytest.mark.data
def test_the_training_of_the_cine_model_opens_the_images_it_names_and_no_other(
    shared_data: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a label, a patient from 081 on, or SC-HF-I-4: neither for its pixels nor for its header."""
    opened: list[str] = []
    rng = np.random.default_rng(0)

    def read_image(spec: str, role: str) -> Volume:
        opened.append(spec)
        return Volume(rng.random((2, 40, 40), np.float32), ImageGrid((2, 40, 40), (1.25, 1.25, 8.0)), spec)

    def read_header(spec: str, role: str) -> int:
        opened.append(spec)
        return count_phases(spec, role)

    monkeypatch.setattr(cache_module, "read_image", read_image)
    monkeypatch.setattr(pair_module, "count_phases", read_header)
    config = load_config(repo_root / "Resources" / "Models" / "cardiac-cine.yaml")
    cache = DryCache(Path(), config.spec)
    told: list[str] = []
    draws = load_data(config, shared_data, cache, lambda what, why: told.append(why))

    assert told == []
    files = {Path(spec.split("#")[0]).relative_to(shared_data).as_posix() for spec in opened}
    acdc = {f"acdc/patient{n:03}" for n in range(1, 81)}
    sunnybrook = {f"sunnybrook/SC-HF-I-{n}/cine.nii.gz" for n in (1, 2, 5)}
    assert {str(Path(f).parent) for f in files if f.startswith("acdc")} == acdc
    assert {f for f in files if not f.startswith("acdc")} == sunnybrook
    assert all(re.fullmatch(r"patient\d{3}_frame\d\d\.nii\.gz", Path(f).name) for f in files - sunnybrook)
    assert len(files) == 2 * 80 + 3
    assert [draw.counts() for draw in draws] == [(76, 4), (3, 0)]
    assert isinstance(draws[0], IntraPairs)
    assert isinstance(draws[1], IntraPairs)
    assert [Path(s.name).name for s in draws[0].validation] == [f"patient{n:03}" for n in range(77, 81)]
    assert Counter(len(s.volumes) for draw in draws for s in draw.training) == {2: 76, 20: 3}  # type: ignore[attr-defined]


@pytest.mark.data
def test_the_training_of_the_hippocampus_model_divides_the_last_forty_by_person(
    shared_data: Path, repo_root: Path
) -> None:
    config = load_config(repo_root / "Resources" / "Models" / "hippocampus.yaml")
    for data in (shared_data / "hippocampus", shared_data / "hippocampus" / "images"):
        with pytest.warns(ImageNote, match="the last 12 of 143 subjects"):
            found = subjects_module.find(config.sources[0], data, lambda *_: None)
        names = list(dict.fromkeys(file.subject for file in found))
        held = subjects_module.held_out(names, config.sources[0], config.seed)
        assert (len(found), len(names), len(held)) == (200, 131, 12)
        assert min(held) > max(set(names) - held)
        assert not any("label" in name for name in names)


# -- subjects ----------------------------------------------------------------------------------------


def test_volumes_of_a_subject_make_intra_pairs(load: Load, told: list[Any], tmp_path: Path) -> None:
    write_subjects(tmp_path, ["held", "one", "two"])
    (draw,) = load(make_config(sources=[source(validation=["held"])]), tmp_path)
    assert isinstance(draw, IntraPairs)
    assert ([s.name for s in draw.training], [s.name for s in draw.validation]) == (["one", "two"], ["held"])
    image = draw.training[0].volumes[0].image()
    assert image.shape == SHAPE
    assert (image.min(), image.max()) == (0, 1)
    assert draw.training[0].volumes[0].grid.spacing == SPACING
    assert told == []


def test_any_two_files_make_inter_pairs(load: Load, tmp_path: Path) -> None:
    write_subjects(tmp_path, ["a", "b"])
    write_volume(tmp_path / "c" / "c_frame01.nii.gz", np.random.default_rng(0).random((5, 30, 40)))
    config = make_config(sources=[source(pairs="inter", validation_last=2)], **WHOLE)
    (draw,) = load(config, tmp_path)
    assert isinstance(draw, InterPairs)
    assert draw.counts() == (3, 2)
    pairs = {
        (drawn.fixed.name, drawn.moving.name) for k in range(60) for drawn in [draw.draw(np.random.default_rng(k))]
    }
    assert len(pairs) == 6  # both roles, and nobody with themselves


def test_listed_pairs_keep_their_roles(load: Load, tmp_path: Path) -> None:
    write_subjects(tmp_path, ["a", "b"])
    frames = [f"{name}/{name}_frame{frame}.nii.gz" for name in "ab" for frame in ("01", "12")]
    rows = [f"{frames[0]},{frames[1]},", f"{frames[3]},{frames[2]},validation"]
    (tmp_path / "pairs.csv").write_text("\n".join(["fixed,moving,split", *rows]))
    (draw,) = load(make_config(sources=[source(pairs="listed")]), tmp_path / "pairs.csv")
    assert isinstance(draw, ListedPairs)
    assert draw.counts() == (1, 1)
    drawn = draw.draw(np.random.default_rng(0))
    assert (drawn.fixed.name, drawn.moving.name) == (str(tmp_path / frames[0]), str(tmp_path / frames[1]))
    assert draw.held_out()[0].fixed.name == str(tmp_path / frames[3])


def test_what_was_listed_before_is_drawn_as_before(load: Load, tmp_path: Path) -> None:
    """A run that was begun with `pairs: listed` finds the same pairs, in training and held out, as one that was not."""
    write_subjects(tmp_path, ["a", "b", "c", "d"])
    rows = [f"{n}/{n}_frame01.nii.gz,./{n}/{n}_frame12.nii.gz" for n in "dbca"]
    (tmp_path / "pairs.csv").write_text("\n".join(["fixed,moving", *rows]))
    shares = {"validation_fraction": 0.5}
    draws = [
        load(make_config(sources=[source(**s, **shares)]), tmp_path / "pairs.csv") for s in ({"pairs": "listed"}, {})
    ]
    assert draws[0] == draws[1]
    (draw,) = draws[0]
    # By the names "a/… to a/…" in their order, of which the seed 0 holds out the third and the first.
    assert [pair.name[0] for pair in draw.held_out()] == ["c", "a"]


@pytest.mark.parametrize("count", [2, 5, 33])
def test_the_extremes_are_the_two_phases_that_differ_most(load: Load, tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(count)
    base, other = rng.random((2, 4, 16, 16))
    # Phase k lies on the way from one image to the other and back; the last phase comes nowhere near.
    shares = np.sin(np.linspace(0, 0.8 * np.pi, count))
    write_volume(tmp_path / "cine.nii.gz", np.stack([(1 - s) * base + s * other for s in shares]))
    config = make_config(sources=[{"files": ["cine.nii.gz"]}])
    for _ in range(2):  # computed, and remembered
        (draw,) = load(config, tmp_path)
        assert isinstance(draw, IntraPairs)
        (subject,) = draw.training
        images = [volume.image() for volume in subject.volumes]
        difference = [[float((a - b).abs().mean()) for b in images] for a in images]
        assert max(map(max, difference)) == pytest.approx(difference[subject.extremes[0]][subject.extremes[1]])
        assert subject.extremes[0] != subject.extremes[1]


def test_volumes_that_are_all_alike_still_make_pairs(load: Load, tmp_path: Path) -> None:
    image = np.random.default_rng(0).random(SHAPE)
    write_volume(tmp_path / "cine.nii.gz", np.stack([image, image]))
    (draw,) = load(make_config(sources=[{"files": ["cine.nii.gz"]}]), tmp_path)
    assert isinstance(draw, IntraPairs)
    assert sorted(draw.training[0].extremes) == [0, 1]


def test_one_set_of_images_is_told_from_another(load: Load, tmp_path: Path) -> None:
    write_subjects(tmp_path, ["one", "two"])
    config = make_config(sources=[source()])
    first, again = (fingerprint(load(config, tmp_path)) for _ in range(2))
    assert first == again
    assert first.startswith("4 images, ")
    write_subjects(tmp_path, ["two"], size=1.0)
    assert fingerprint(load(config, tmp_path)) != first


def test_images_that_were_copied_elsewhere_are_the_same(load: Load, tmp_path: Path) -> None:
    """A run goes on after its data were restored, which changes the files' times, or brought to another disk."""
    write_subjects(tmp_path / "data", ["one", "two"])
    config = make_config(sources=[source()])
    first = fingerprint(load(config, tmp_path / "data"))
    shutil.copytree(tmp_path / "data", tmp_path / "restored", copy_function=shutil.copyfile)
    assert fingerprint(load(config, tmp_path / "restored")) == first


# -- what is left out --------------------------------------------------------------------------------


def test_bad_files_among_good_ones_are_left_out_and_named(
    load: Load, told: list[tuple[str, str]], tmp_path: Path
) -> None:
    """Unreadable, two-dimensional, without variance: each is reported, and the others are used."""
    write_subjects(tmp_path, ["one", "two"])
    good = (tmp_path / "one" / "one_frame01.nii.gz").read_bytes()
    (tmp_path / "one" / "one_frame31.nii.gz").write_bytes(good[: len(good) // 2])
    write_volume(tmp_path / "one" / "one_frame32.nii.gz", np.zeros((1, 32, 32)))
    write_volume(tmp_path / "one" / "one_frame33.nii.gz", np.full(SHAPE, 3.0))
    (draw,) = load(make_config(sources=[source()]), tmp_path)
    assert draw.counts() == (2, 0)
    assert {Path(what).name[9:11]: why.split("' ")[-1][:20] for what, why in told} == {
        "31": "is damaged or incomp",
        "32": "is 2D: it has a sing",
        "33": "has the value 3 in e",
    }


def test_subjects_that_make_no_pair_are_left_out(load: Load, told: list[tuple[str, str]], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_subjects(tmp_path, ["good"])
    write_volume(tmp_path / "lonely" / "p_frame01.nii.gz", rng.random(SHAPE))
    write_volume(tmp_path / "torn" / "p_frame01.nii.gz", rng.random(SHAPE))
    write_volume(tmp_path / "torn" / "p_frame02.nii.gz", rng.random(SHAPE), (1.0, 1.0, 5.0))
    (draw,) = load(make_config(sources=[source()]), tmp_path)
    assert draw.counts() == (1, 0)
    assert [what for what, _ in told] == ["lonely", "torn"]
    assert "has one usable volume" in told[0][1]
    assert "lie on different grids" in told[1][1]


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "changes", "refusal"),
    [
        ([], {"sources": [source()]}, "no file matches"),
        (["one"], {"sources": [source(validation=["*"])]}, "all 1 subjects .* are held out for validation"),
        (["one"], {"sources": [source(pairs="inter", subject="folder")], **WHOLE}, "need two subjects, and 1 of"),
        (
            ["a", "b"],
            {"sources": [source(pairs="inter", subject="folder", validation_last=1)], **WHOLE},
            "leaves 1 and 1",
        ),
        (["a", "b"], {"sources": [source(pairs="inter")]}, "crop needs both images on one grid"),
    ],
)
def test_data_that_make_no_pairs_are_refused(
    load: Load, tmp_path: Path, names: list[str], changes: dict[str, Any], refusal: str
) -> None:
    (tmp_path / "data").mkdir()
    write_subjects(tmp_path / "data", names)
    with pytest.raises(ConfigError, match=refusal) as caught:
        load(make_config(**changes), tmp_path / "data")
    assert "\n" not in str(caught.value)


def test_nothing_usable_is_refused(load: Load, told: list[Any], tmp_path: Path) -> None:
    write_volume(tmp_path / "x" / "x_frame01.nii.gz", np.zeros(SHAPE))
    with pytest.raises(ConfigError, match=r"no usable subjects .*dlir data check"):
        load(make_config(sources=[source()]), tmp_path)
    assert len(told) == 1


def test_a_listed_pair_on_two_grids_cannot_be_cropped(load: Load, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_volume(tmp_path / "a.nii.gz", rng.random(SHAPE))
    write_volume(tmp_path / "b.nii.gz", rng.random((5, 32, 32)))
    (tmp_path / "pairs.csv").write_text("fixed,moving\na.nii.gz,b.nii.gz\n")
    with pytest.raises(ConfigError, match=r"pair 'a\.nii\.gz to b\.nii\.gz' lies on two different grids"):
        load(make_config(sources=[source(pairs="listed")]), tmp_path / "pairs.csv")
    (draw,) = load(make_config(sources=[source(pairs="listed")], **WHOLE), tmp_path / "pairs.csv")
    assert draw.counts() == (1, 0)


def test_listed_pairs_of_one_subject_are_held_out_together(load: Load, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"{subject}{scan}" for subject in "abcd" for scan in range(3)]
    for name in names:
        write_volume(tmp_path / f"{name}.nii.gz", rng.random(SHAPE))
    rows = [f"{s}{i}.nii.gz,{s}{j}.nii.gz,{s}" for s in "abcd" for i, j in ((0, 1), (0, 2), (1, 2))]
    (tmp_path / "pairs.csv").write_text("\n".join(["fixed,moving,subject", *rows]))
    config = make_config(sources=[source(pairs="listed", validation_fraction=0.25)])
    (draw,) = load(config, tmp_path / "pairs.csv")
    assert isinstance(draw, ListedPairs)
    assert draw.counts() == (9, 3)
    held, kept = ({pair.name[0] for pair in pairs} for pairs in (draw.validation, draw.training))
    assert len(held) == 1
    assert not held & kept


def test_turning_voxels_that_are_not_square_is_refused(load: Load, tmp_path: Path) -> None:
    """When the data are checked already, not when the training begins."""
    rng = np.random.default_rng(0)
    for frame in ("01", "12"):
        write_volume(tmp_path / "a" / f"a_frame{frame}.nii.gz", rng.random(SHAPE), (1.0, 1.5, 4.0))
    model = plain_config()["model"]
    model["preprocessing"]["native_axes"] = [False, True, True]
    with pytest.raises(ConfigError, match=r"a_frame01\.nii\.gz'.*1 x 1\.5 mm.*rotate90"):
        load(make_config(sources=[source()], model=model), tmp_path)
    still = {"augmentation": {"crop": [24, 24, 4], "rotate90": False}}
    assert load(make_config(sources=[source()], model=model, **still), tmp_path)[0].counts() == (1, 0)


def test_patience_needs_someone_to_validate_on(load: Load, tmp_path: Path) -> None:
    write_subjects(tmp_path, ["a", "held"])
    with pytest.raises(ConfigError, match="patience 3 needs a validation, and nobody is held out"):
        load(make_config(sources=[source()], patience=3), tmp_path)
    assert load(make_config(sources=[source(validation=["held"])], patience=3), tmp_path)[0].counts() == (1, 1)


def test_a_manifest_is_one_source(load: Load, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image\n")
    with pytest.raises(ConfigError, match="is one source and the configuration has 2"):
        load(make_config(sources=[source(), source()]), tmp_path / "m.csv")
