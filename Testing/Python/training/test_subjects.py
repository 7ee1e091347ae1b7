"""Which files are opened, whose they are, and who is held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dlir.data.pair import Pair, Scan
from dlir.errors import ConfigError, ImageNote
from dlir.training.config import Source
from dlir.training.config_file import load_config
from dlir.training.subjects import find, find_images, held_out
from training_runs import SHAPE, write_subjects, write_volume


def deaf(what: str, why: str) -> None:
    raise AssertionError(f"nothing should be left out, but {what} was: {why}")


def by_subject(files: Sequence[Pair | Scan]) -> dict[str, int]:
    names = [file.subject for file in files]
    return {name: names.count(name) for name in names}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# -- folders -----------------------------------------------------------------------------------------


def test_files_of_a_folder_are_a_subject_and_so_is_a_4d_file(tmp_path: Path, rng: np.random.Generator) -> None:
    for name in ("a", "b"):
        write_volume(tmp_path / "cine" / f"{name}.nii.gz", rng.random((3, *SHAPE)))
        for frame in ("1", "2"):
            write_volume(tmp_path / "pairs" / name / f"{frame}.nii.gz", rng.random(SHAPE))
            write_volume(tmp_path / "more" / name / f"{frame}.mha", rng.random(SHAPE))
    files = find_images(Source(files=["**/*.nii.gz", "**/*.mha"]), tmp_path, deaf)
    assert by_subject(files) == {
        "cine/a.nii.gz": 3,
        "cine/b.nii.gz": 3,
        "pairs/a": 2,
        "pairs/b": 2,
        "more/a": 2,
        "more/b": 2,
    }


def test_between_subjects_every_file_is_one(tmp_path: Path, rng: np.random.Generator) -> None:
    for name in ("a.nii.gz", "b.nrrd", "c.mha"):
        write_volume(tmp_path / name, rng.random(SHAPE))
    write_volume(tmp_path / "d.nii.gz", rng.random((2, *SHAPE)))
    inter = Source(files=["*"], pairs="inter")
    assert by_subject(find_images(inter, tmp_path, deaf)) == {"a.nii.gz": 1, "b.nrrd": 1, "c.mha": 1, "d.nii.gz": 2}
    grouped = Source(files=["*"], pairs="inter", subject="folder")
    assert by_subject(find_images(grouped, tmp_path, deaf)) == {".": 3, "d.nii.gz": 2}


def test_the_two_sides_of_a_person_are_one_subject(tmp_path: Path, rng: np.random.Generator) -> None:
    """Of the Decathlon's hippocampi; any other file is its own."""
    for number in ("001", "003", "004", "335"):
        write_volume(tmp_path / "images" / f"hippocampus_{number}.nii.gz", rng.random(SHAPE))
    write_volume(tmp_path / "images" / "other_004.nii.gz", rng.random(SHAPE))
    source = Source(files=["images/*.nii.gz"], pairs="inter", subject="decathlon")
    expected = {"images/person001": 1, "images/person002": 2, "images/person168": 1, "images/other_004.nii.gz": 1}
    assert by_subject(find_images(source, tmp_path, deaf)) == expected


def test_the_last_are_kept_for_testing_and_never_opened(tmp_path: Path, rng: np.random.Generator) -> None:
    for name in ("a", "b", "c"):
        write_volume(tmp_path / f"{name}.nii.gz", rng.random(SHAPE))
    with pytest.warns(ImageNote, match=r"kept for testing, so not opened: the last 2 of 3 subjects"):
        found = find(Source(files=["*"], pairs="inter", test_last=2), tmp_path, deaf)
    assert by_subject(found) == {"a.nii.gz": 1}
    with pytest.raises(ConfigError, match="test_last 3 keeps all 3 subjects"):
        find(Source(files=["*"], pairs="inter", test_last=3), tmp_path, deaf)
    table = tmp_path / "table.csv"
    table.write_text("image,split\na.nii.gz,test\nb.nii.gz,train\nc.nii.gz,validation\n")
    found = find(Source(files=["*"], pairs="inter", test_last=1), table, deaf)
    assert by_subject(found) == {"b.nii.gz": 1, "c.nii.gz": 1}  # the table has its own


@pytest.mark.data
def test_the_models_training_divides_the_real_hippocampi_by_person(shared_data: Path, repo_root: Path) -> None:
    (source,) = load_config(repo_root / "Resources" / "Models" / "hippocampus.yaml").sources
    with pytest.warns(ImageNote, match="the last 12 of"):
        found = find(source, shared_data / "hippocampus", deaf)
    people = list(by_subject(found))
    aside = held_out(sorted(people), source, 0)
    files = {Path(scan.image).name: scan.subject in aside for scan in found if isinstance(scan, Scan)}
    assert len(files) == 200
    assert [name for name, kept in files.items() if kept] == sorted(files)[180:]
    assert sorted(files)[-1] == "hippocampus_310.nii.gz"


@pytest.mark.data
def test_a_dicom_archive_is_one_file_of_many_phases(shared_data: Path) -> None:
    found = find_images(Source(files=["SC-HF-I-4_dicom.zip"]), shared_data / "sunnybrook", deaf)
    assert by_subject(found) == {"SC-HF-I-4_dicom.zip": 20}


def test_a_data_folder_may_have_any_name(tmp_path: Path) -> None:
    root = tmp_path / "data [2024] *"
    write_subjects(root, ["one"])
    assert by_subject(find_images(Source(files=["*/*_frame??.nii.gz"]), root, deaf)) == {"one": 2}


def test_masks_lie_where_the_pattern_says(tmp_path: Path, rng: np.random.Generator) -> None:
    for name in ("a", "b"):
        write_volume(tmp_path / "images" / f"{name}.nii.gz", rng.random(SHAPE))
    write_volume(tmp_path / "masks" / "a_lung.nrrd", np.ones(SHAPE))
    source = Source(files=["images/*"], pairs="inter", mask="masks/{stem}_lung.nrrd")
    masks = [file.mask for file in find_images(source, tmp_path, deaf)]
    assert masks == [str(tmp_path / "masks" / "a_lung.nrrd"), ""]


def test_a_mask_is_no_image(tmp_path: Path, rng: np.random.Generator) -> None:
    """Though it lies beside its image and the patterns match it."""
    for name in ("a", "b"):
        write_volume(tmp_path / f"{name}.nii.gz", rng.random(SHAPE))
        write_volume(tmp_path / f"{name}_mask.nii.gz", np.ones(SHAPE))
    source = Source(files=["**/*.nii.gz"], pairs="inter", mask="{folder}/{stem}_mask.nii.gz")
    files = find_images(source, tmp_path, deaf)
    assert by_subject(files) == {"a.nii.gz": 1, "b.nii.gz": 1}
    assert [file.mask and Path(file.mask).name for file in files] == ["a_mask.nii.gz", "b_mask.nii.gz"]


@pytest.mark.parametrize("pattern", ["**/*.dcm", "*/*"])
def test_a_folder_of_slices_is_one_image(tmp_path: Path, pattern: str) -> None:
    for case in ("p", "q"):
        for phase in ("T00", "T50"):
            write_series(tmp_path / case / phase)
    files = find_images(Source(files=[pattern]), tmp_path, deaf)
    assert by_subject(files) == {"p": 2, "q": 2}
    assert [Path(file.image) for file in files] == [tmp_path / c / t for c in "pq" for t in ("T00", "T50")]
    inter = find_images(Source(files=[pattern], pairs="inter"), tmp_path, deaf)
    assert by_subject(inter) == {"p/T00": 1, "p/T50": 1, "q/T00": 1, "q/T50": 1}


def write_series(folder: Path) -> None:
    """Three slices of one DICOM series."""
    folder.mkdir(parents=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in range(3):
        image = sitk.GetImageFromArray(np.full((1, 4, 5), number, np.int16))
        tags = {
            "0008|0018": f"1.2.3.{number}",
            "0008|0060": "CT",
            "0020|000d": "1.2",
            "0020|000e": "1.2.3",
            "0020|0032": f"0\\0\\{2 * number}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{number}.dcm"))
        writer.Execute(image)


def test_what_is_no_image_is_left_out_and_named(tmp_path: Path) -> None:
    write_subjects(tmp_path, ["one"])
    told: list[tuple[str, str]] = []
    files = find_images(Source(files=["*/*.nii.gz"]), tmp_path, lambda what, why: told.append((what, why)))
    assert by_subject(files) == {"one": 2}
    assert [Path(what).name for what, _ in told] == ["one_frame01_gt.nii.gz", "one_frame12_gt.nii.gz"]
    assert all("cannot be read as an image" in why for _, why in told)


def test_patterns_without_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file matches \['\*\.nrrd'\] under '.*check"):
        find(Source(files=["*.nrrd"]), tmp_path, deaf)


# -- manifests ---------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A folder of images a to d, and of a 4D file, beside which manifests can be written."""
    for name in "abcd":
        write_volume(tmp_path / f"{name}.nii.gz", rng.random(SHAPE))
    write_volume(tmp_path / "cine.nii.gz", rng.random((3, *SHAPE)))
    write_volume(tmp_path / "mask.nii.gz", np.ones(SHAPE))
    return tmp_path / "manifest.csv"


def test_a_manifest_names_images_subjects_masks_and_the_split(table: Path) -> None:
    rows = ["image,subject,mask,split", "a.nii.gz,x,mask.nii.gz,train", "b.nii.gz,x,,train", "cine.nii.gz,,,Validation"]
    table.write_text("\n".join(rows))
    files = find(Source(files=["*"]), table, deaf)
    assert by_subject(files) == {"x": 2, "cine.nii.gz": 3}
    assert [file.split for file in files] == ["train", "train", "validation", "validation", "validation"]
    files = [file for file in files if isinstance(file, Scan)]
    assert [Path(file.mask).name for file in files] == ["mask.nii.gz", "", "", "", ""]
    assert all(Path(file.image.split("#")[0]).is_file() for file in files)


def test_a_manifest_lists_pairs(table: Path) -> None:
    table.write_text("fixed,moving,fixed_mask\na.nii.gz,b.nii.gz,mask.nii.gz\ncine.nii.gz#0,cine.nii.gz#2,\n")
    first, second = find(Source(files=["*"], pairs="listed"), table, deaf)
    assert isinstance(first, Pair)
    assert isinstance(second, Pair)
    assert (first.subject, second.subject) == ("a.nii.gz to b.nii.gz", "cine.nii.gz#0 to cine.nii.gz#2")
    assert first.fixed.mask == str(table.parent / "mask.nii.gz")
    assert second.moving.image == str(table.parent / "cine.nii.gz#2")


@pytest.mark.parametrize(
    ("pairs", "content", "named"),
    [
        ("intra", "picture,subject\na.nii.gz,x\n", "line 1: column 'picture' is unknown"),
        ("listed", "fixed,label\na.nii.gz,b.nii.gz\n", "'label'"),
        ("listed", "fixed\na.nii.gz\n", "lacks a column: listed pairs need fixed and moving"),
        ("inter", "image,split\na.nii.gz,tests\n", "line 2: split 'tests' is neither train nor validation"),
        ("listed", "fixed,moving\na.nii.gz,\n", "line 2: 'moving' is empty"),
        ("inter", "", "lacks a column"),
        ("inter", "image\na.nii.gz\nb.nii.gz,x\n", "line 3: it has more entries than the first line names columns"),
        (
            "intra",
            "image,subject,split\na.nii.gz,x,train\nb.nii.gz,x,validation\n",
            "subject 'x' is in train and in validation; choose one",
        ),
        (
            "listed",
            "fixed,moving,subject,split\na.nii.gz,b.nii.gz,x,train\nb.nii.gz,c.nii.gz,x,validation\n",
            "subject 'x' is in train and in validation; choose one",
        ),
    ],
)
def test_a_manifest_that_is_wrong_is_refused(table: Path, pairs: str, content: str, named: str) -> None:
    table.write_text(content)
    with pytest.raises(ConfigError) as caught:
        find(Source.model_validate({"files": ["*"], "pairs": pairs}), table, deaf)
    assert named in str(caught.value)
    assert str(table) in str(caught.value)


def test_a_manifest_that_is_no_text_is_refused(table: Path) -> None:
    table.write_bytes(b"image\n\xff\xfe\x00")
    with pytest.raises(ConfigError, match="give a CSV file in UTF-8"):
        find(Source(files=["*"]), table, deaf)


def test_listed_pairs_need_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no manifest.*\.csv"):
        find(Source(files=["*"], pairs="listed"), tmp_path, deaf)


# -- who is held out ---------------------------------------------------------------------------------

NAMES = ["a/held", "a/other", "b/p1.nii.gz", "b/p2.nii.gz", "c"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("held", {"a/held"}),
        ("he*", {"a/held"}),
        ("a/held", {"a/held"}),
        ("b", {"b/p1.nii.gz", "b/p2.nii.gz"}),
        ("p1", {"b/p1.nii.gz"}),
        ("p2.nii.gz", {"b/p2.nii.gz"}),
        ("d", set()),
    ],
)
def test_validation_subjects_are_named_by_their_files_or_folders(pattern: str, expected: set[str]) -> None:
    assert held_out(NAMES, Source(files=["*"], validation=[pattern]), 0) == expected


def test_the_last_can_be_held_out() -> None:
    assert held_out(NAMES, Source(files=["*"], validation_last=2), 0) == {"b/p2.nii.gz", "c"}


def test_a_part_can_be_held_out_by_the_seed() -> None:
    names = [f"{i:03}" for i in range(100)]
    source = Source(files=["*"], validation_fraction=0.2)
    first, again, other = (held_out(names, source, seed) for seed in (1, 1, 2))
    assert len(first) == 20
    assert first == again != other
    assert len(held_out(names[:2], source, 0)) == 1


def test_images_in_capitals_are_found_with_their_masks(tmp_path: Path, rng: np.random.Generator) -> None:
    for name in ("a", "b"):
        for kind in ("", "_mask"):
            write_volume(tmp_path / f"{name}{kind}.nii.gz", rng.random(SHAPE))
            (tmp_path / f"{name}{kind}.nii.gz").rename(tmp_path / f"{name}{kind}.NII.GZ")
    for source in (Source(pairs="inter"), Source(files=["*.nii.gz"], pairs="inter")):
        assert len(find_images(source, tmp_path, deaf)) == 4
    masked = Source(files=["*.nii.gz"], pairs="inter", mask="{folder}/{stem}_mask.nii.gz")
    assert by_subject(found := find_images(masked, tmp_path, deaf)) == {"a.NII.GZ": 1, "b.NII.GZ": 1}
    assert [Path(scan.mask).name for scan in found] == ["a_mask.NII.GZ", "b_mask.NII.GZ"]
