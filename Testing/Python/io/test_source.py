"""What an image's name says."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlir.io.source import IMAGE_ENDINGS, reported_name, stem


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
