"""Names of folders: readable, stable, unique on any system, and never outside of the output folder."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlir.cohort.names import folder_names
from dlir.cohort.rows import Source
from dlir.data.pair import Pair, Scan

ROOT = Path("data")
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


def names(*pairs: tuple[str, str]) -> list[str]:
    return folder_names([Pair(Scan(f, "", str(ROOT / f)), Scan(m, "", str(ROOT / m))) for f, m in pairs], ROOT)


def test_a_name_says_which_images_these_are() -> None:
    assert names(("ed.nii.gz", "es.nii.gz"), ("p1/cine.nrrd#0", "p1/cine.nrrd#12"), ("ct.zip", "dicom of mr")) == [
        "es-to-ed",
        "cine_12-to-cine_0",
        "dicom-to-ct",
    ]


def test_subject_and_model_of_a_table_are_named(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(
        "fixed,moving,subject,model\nP-7/ed.nii.gz,P-7/es.nii.gz,P-7,\nP-7/ed.nii.gz,P-7/es.nii.gz,P-7,my/own.safetensors\n"
        "anna_ed.mha,anna_es.mha,anna,none\n"
    )
    assert [row.name for row in Source(table).rows] == [
        "P-7_es-to-P-7_ed",
        "P-7_es-to-P-7_ed_own",
        "anna_es-to-anna_ed_none",
    ]


@pytest.mark.parametrize(
    "bad",
    ["../../x.nii", "/etc/passwd", "..", "C:\\x\\con.nii", "a\0b.nrrd", "a:b|c?.mha", "nul", ".hidden", "   "],
)
def test_no_name_leads_out_of_the_folder(bad: str) -> None:
    (name,) = names((bad, bad))
    assert Path(name).name == name
    assert PureWindowsPath(name).name == name
    assert "." not in name
    assert name.partition(".")[0].casefold() not in RESERVED


@given(st.lists(st.tuples(st.text(max_size=120), st.text(max_size=9)), max_size=3))
def test_whatever_the_table_says(pairs: list[tuple[str, str]]) -> None:
    found = names(*pairs)
    assert len({unicodedata.normalize("NFKC", name).casefold() for name in found}) == len(pairs)
    for name in found:
        assert Path(name).name == name
        assert len(name.encode()) < 200
        assert not set(name) & set('<>:"/\\|?*. ')


def test_of_two_with_one_name_the_first_keeps_it_and_rows_that_are_added_change_nothing() -> None:
    few = names(("a/ed.nii", "a/es.nii"), ("b/ed.nii", "b/es.nii"), ("b/ed.nii", "b/es.nii"), ("c/ED.nii", "c/ES.nii"))
    assert few[0] == "es-to-ed"
    assert few[2] == f"{few[1]}-2"
    assert few[3].startswith("ES-to-ED-")
    assert names(("a/ed.nii", "a/es.nii"), ("b/ed.nii", "b/es.nii")) == few[:2]


def test_a_table_may_be_named_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pairs.csv").write_text("fixed,moving\na/ed.nii,a/es.nii\nb/ed.nii,b/es.nii\n")
    monkeypatch.chdir(tmp_path)
    near, far = Source(Path("pairs.csv")).rows, Source(tmp_path / "pairs.csv").rows
    assert [row.name for row in near] == [row.name for row in far]
