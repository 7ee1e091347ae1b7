"""The summary: a row for each row, the worst first on the page, and nothing in it that may not be passed on."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from browser import take_screenshot
from dlir.cohort.figures import Figures, figures_of
from dlir.cohort.folder import BatchFolder, Line
from dlir.cohort.picture import PICTURE
from dlir.cohort.rows import Options, Row
from dlir.cohort.summary import counts, records, write_page, write_table
from dlir.data.pair import Pair, Scan
from fake_rows import report_of


def row(number: int, tmp_path: Path) -> Row:
    image = str(tmp_path / "Anna Smith" / f"i{number}.nii.gz")
    return Row(number, f"m-to-f{number}", Pair(Scan("f", image=image), Scan("m", image=image), group="a,b"))


@pytest.fixture
def lines(tmp_path: Path) -> list[Line]:
    def figures(number: int, level: str, dice: float) -> Figures:
        return figures_of(report_of(row(number, tmp_path), level, dice))

    return [
        Line(row(1, tmp_path), figures(1, "good", 0.7)),
        Line(row(2, tmp_path), error=f"moving image '{tmp_path}/Anna Smith/i2.nii.gz' is <b>damaged</b>\nand so on"),
        Line(row(3, tmp_path), figures(3, "failed", 0.9)),
        Line(row(4, tmp_path), figures(4, "good", 0.6)),
        Line(row(5, tmp_path)),
    ]


def test_the_table_has_every_row_in_order(lines: list[Line], tmp_path: Path) -> None:
    file = tmp_path / "summary.csv"
    write_table(file, lines, full_paths=False)
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [found["row"] for found in rows] == ["1", "2", "3", "4", "5"]
    assert [found["state"] for found in rows] == ["done", "error", "done", "done", "waiting"]
    assert [found["dice_after"] for found in rows] == ["0.7", "", "0.9", "0.6", ""]
    assert rows[0]["dice_before_1"] == "0.35"
    assert rows[0]["group"] == "a,b"
    assert rows[1]["error"] == r"moving image 'i2.nii.gz' is <b>damaged</b>\nand so on"
    assert "Anna" not in file.read_text()
    write_table(file, lines, full_paths=True)
    assert "Anna Smith" in file.read_text()
    assert counts(lines) == {"good": 2, "check": 0, "failed": 1, "error": 1, "waiting": 1}
    assert "verdict" not in records(lines, full_paths=False)[1]


def test_a_spreadsheet_takes_no_cell_for_a_formula_and_negative_numbers_stay_numbers(tmp_path: Path) -> None:
    pair = Pair(Scan("-7", image="=1+1.nii"), Scan("-7", image="+a.nii"), "-7", "@x")
    named = replace(row(1, tmp_path), pair=pair)
    found = figures_of(report_of(named, "good", 0.7) | {"notes": ["-2+3+cmd|' /C calc'!A0"]})
    found = replace(found, ncc=(-0.25, 0.5), labels={"1": (0.1, 0.2)}, fixed="=1+1.nii", moving="+a.nii")
    file = tmp_path / "summary.csv"
    write_table(file, [Line(named, found)], full_paths=False)
    with file.open(newline="", encoding="utf-8") as stream:
        (cells,) = csv.DictReader(stream)
    assert (cells["fixed"], cells["moving"], cells["group"]) == ("'=1+1.nii", "'+a.nii", "'@x")
    assert cells["notes"] == "'-2+3+cmd|' /C calc'!A0"
    assert (cells["ncc_before"], cells["subject"]) == ("-0.25", "-7")
    (record,) = records([Line(named, found)], full_paths=False)
    assert (record["fixed"], record["group"]) == ("=1+1.nii", "@x")  # for programs, as it is


def page_of(lines: list[Line], tmp_path: Path) -> Path:
    folder = BatchFolder(tmp_path, Options(model="none"))
    picture = sitk.GetImageFromArray(np.zeros((20, 80, 3), np.uint8), isVector=True)
    for line in lines:
        if line.figures:
            folder.of(line.row).mkdir()
            sitk.WriteImage(picture, str(folder.of(line.row) / PICTURE))
    write_page(tmp_path / "summary.html", "Registrations of a.csv", lines, folder, full_paths=False)
    return tmp_path / "summary.html"


def test_the_page_shows_the_worst_first(lines: list[Line], tmp_path: Path) -> None:
    page = page_of(lines, tmp_path).read_text(encoding="utf-8")
    assert [page.index(f"<td>m-to-f{number}</td>") for number in (2, 5, 3, 4, 1)] == sorted(
        page.index(f"<td>m-to-f{number}</td>") for number in range(1, 6)
    )
    assert page.count("data:image/jpeg;base64,") == 3
    assert page.index("Row 3,") < page.index("Row 4,") < page.index("Row 1,")
    assert "5 rows: 2 good, 1 failed, 1 error, 1 waiting." in page
    assert "&lt;b&gt;damaged" in page
    assert "Anna" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_browser_shows_the_page(lines: list[Line], tmp_path: Path) -> None:
    take_screenshot(page_of(lines, tmp_path), tmp_path / "page.png", tmp_path / "profile", (1240, 1000))
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "page.png"))).std() > 10
