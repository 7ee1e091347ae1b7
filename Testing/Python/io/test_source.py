"""What an image's name says."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest

from dlir.errors import ImageError
from dlir.io.source import (
    IMAGE_ENDINGS,
    files_matching,
    parse_source,
    reported_name,
    stem,
    with_ending_as_written,
    without_folders,
)


@pytest.mark.parametrize("ending", [*IMAGE_ENDINGS, ".zip", ".nii.gz#7", ".nrrd#12", ""])
def test_a_stem_is_the_name_without_ending_and_time_point(ending: str) -> None:
    assert stem(f"x.nii/patient.01_T00{ending}") == stem(Path(f"patient.01_T00{ending}")) == "patient.01_T00"


def test_a_name_of_another_kind_is_left_whole() -> None:
    assert [stem(name) for name in ("case.img", "T00.5", "a#b.nii", "a#b")] == ["case.img", "T00.5", "a#b", "a#b"]


def test_a_report_names_files_and_neither_folders_nor_patients(tmp_path: Path) -> None:
    folder = tmp_path / "DOE^JOHN"
    folder.mkdir()
    (folder / "cine.nii.gz").touch()
    (folder / "odd#name").touch()
    cases = {
        f"{folder}/cine.nii.gz": "cine.nii.gz",
        f"{folder}/cine.nii.gz#7": "cine.nii.gz#7",
        f"{folder}/odd#name": "odd#name",
        str(folder): "DICOM folder",
        f"{folder}/": "DICOM folder",
        f"{folder}#2": "DICOM folder#2",
        "T1/contrast, a node": "T1/contrast, a node",
    }
    assert {name: reported_name(name) for name in cases} == cases
    assert reported_name(f"{folder}/cine.nii.gz#7", full=True) == f"{folder}/cine.nii.gz#7"
    assert reported_name(f"{folder}/", full=True) == str(folder)


def test_a_full_path_is_one_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nii").touch()
    monkeypatch.chdir(tmp_path)
    assert reported_name("a.nii", full=True) == str(tmp_path / "a.nii")
    assert reported_name("../nowhere/a.nii", full=True) == "../nowhere/a.nii"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("image '/data/SMITH/ed.nii.gz#3' is 3D", "image 'ed.nii.gz#3' is 3D"),
        ("'SMITH JOHN/a b.nrrd' and 'b.nrrd' differ", "'a b.nrrd' and 'b.nrrd' differ"),
        (r"label 'C:\study\SMITH\l.nrrd' is damaged", "label 'l.nrrd' is damaged"),
        ("/data/SMITH/ed.nrrd measures 3 x 4 mm", "ed.nrrd measures 3 x 4 mm"),
        ("folder '/data/SMITH/' holds none", "folder 'SMITH' holds none"),
        ("NCC and/or 1/2 of 0.5 mm/s", "NCC and/or 1/2 of 0.5 mm/s"),
        ("nothing to say", "nothing to say"),
    ],
)
def test_a_message_that_is_passed_on_names_files_and_no_folders(message: str, expected: str) -> None:
    assert without_folders(message) == expected


def test_a_folder_is_not_named_in_a_message_that_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "SMITH").mkdir()
    assert without_folders(f"image '{tmp_path / 'SMITH'}' holds two") == "image 'DICOM folder' holds two"


def test_a_file_that_is_gone_is_named_without_folders_too(tmp_path: Path) -> None:
    assert reported_name(str(tmp_path / "ed.nrrd")) == "ed.nrrd"
    assert reported_name("T1/T2 of a node") == "T1/T2 of a node"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    """Whose reading would wait for ever."""
    os.mkfifo(tmp_path / "pipe.nii.gz")
    with pytest.raises(ImageError, match="is neither a file nor a folder"):
        parse_source(tmp_path / "pipe.nii.gz", "moving image")


@pytest.mark.parametrize("ending", [*IMAGE_ENDINGS, ".zip"])
def test_an_ending_may_be_in_capitals(ending: str) -> None:
    assert stem(f"Patient.NII_T00{ending.upper()}#3") == stem(f"Patient.NII_T00{ending.title()}") == "Patient.NII_T00"


def test_patterns_match_endings_in_capitals_and_nothing_else_so(tmp_path: Path) -> None:
    names = ["A/1.NII.GZ", "A/2.nii.gz", "A/3.Nii.Gz", "A/4.DCM", "A/a_MASK.nii", "A/[5].NRRD"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert files_matching(tmp_path, ["**/*.nii.gz", "*/*.dcm"]) == sorted(names[:4])
    assert files_matching(tmp_path, ["A/*_mask.nii", "a/*", "A/1"]) == []
    assert files_matching(tmp_path, [glob.escape(name) for name in names]) == sorted(names)
    assert files_matching(tmp_path, ["*"]) == ["A"]


def test_the_ending_of_a_file_is_taken_as_it_is_written(tmp_path: Path) -> None:
    for name in ("a.NII.GZ", "b.nii", "b.NII", "c.Nii"):
        (tmp_path / name).touch()
    for asked, there in (("a.nii.gz", "a.NII.GZ"), ("b.nii", "b.nii"), ("none.nii", "none.nii"), ("c.nii", "c.nii")):
        assert with_ending_as_written(tmp_path / asked).name == there
