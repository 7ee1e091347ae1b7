"""DIR-Lab 4DCT, written as it is published: bare voxels, landmarks counted from 1, spellings that vary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlir.data.layouts import dirlab
from dlir.data.layouts.dirlab import DirLab
from dlir.errors import DLIRError, EvaluationError, ImageError

# Columns, rows, slices and mm in plane, as the group's own page and Table 6's references state them.
STATED = {
    1: (256, 256, 94, 0.97), 2: (256, 256, 112, 1.16), 3: (256, 256, 104, 1.15), 4: (256, 256, 99, 1.13),
    5: (256, 256, 106, 1.10), 6: (512, 512, 128, 0.97), 7: (512, 512, 136, 0.97), 8: (512, 512, 128, 0.97),
    9: (512, 512, 128, 0.97), 10: (512, 512, 120, 0.97),
}  # fmt: skip


def layout(case: int) -> tuple[str, str, str, str]:
    """Folder, subfolder of the landmarks, and names of images and landmarks with a place for the phase."""
    folder = f"Case{case}Deploy" if case == 8 else f"Case{case}Pack"
    suffix = "_s" if case == 1 else "-ssm" if case < 6 else ""
    points = f"Case{case}_300_{{}}_xyz.txt" if case < 6 else f"case{case}_dirLab300_{{}}_xyz.txt"
    return folder, "ExtremePhases" if case < 6 else "extremePhases", f"case{case}_{{}}{suffix}.img", points


def write_case(root: Path, case: int, *, air: int = -2000) -> None:
    """Sparse images of a case with three bright voxels, and landmarks on them that lie one slice deeper in T50."""
    x, y, z, _ = STATED[case]
    folder, below, image, points = layout(case)
    (root / folder / "Images").mkdir(parents=True)
    (root / folder / below).mkdir()
    for phase, deeper in (("T00", 0), ("T50", 1), ("T10", 0)):
        array = np.zeros((z, y, x), "<i2")
        array[0, 0, 0] = air
        marks = np.array([[1, 1, 2 + deeper], [x, y, z - 1 + deeper], [7, 20, 30 + deeper]])
        for i, j, k in marks:
            array[k - 1, j - 1, i - 1] = 1024 + 50
        array.tofile(root / folder / "Images" / image.format(phase))
        if phase != "T10":
            text = "\n".join("\t".join(map(str, row)) for row in marks)
            (root / folder / below / points.format(phase)).write_text(text + "\r\n")


def test_all_ten_cases_have_their_sizes_and_spacings() -> None:
    assert {n: (*shape, mm) for n, (shape, mm) in dirlab._CASES.items()} == STATED


@pytest.mark.parametrize("case", [1, 3, pytest.param(8, marks=pytest.mark.slow)])
def test_a_case_is_found_whatever_its_spelling(tmp_path: Path, case: int) -> None:
    write_case(tmp_path, case)
    (pair,) = DirLab(tmp_path).pairs()
    assert pair.name == f"case {case} T50-to-T00"
    image = pair.moving.read_image()
    x, y, z, mm = STATED[case]
    assert image.grid.size == (x, y, z)
    assert image.grid.spacing == (mm, mm, 2.5)
    assert image.array.dtype == np.float32
    assert image.array.min() == -1000  # what the scanner did not see is air
    assert image.array.max() == 50  # Hounsfield units: the files hold 1024 more
    landmarks = pair.moving.read_landmarks(image)
    assert landmarks is not None
    index = image.grid.to_index(landmarks.points)
    np.testing.assert_allclose(index, [[0, 0, 2], [x - 1, y - 1, z - 1], [6, 19, 30]])
    values = [image.array[tuple(np.rint(i[::-1]).astype(int))] for i in index]
    assert values == [50, 50, 50]
    fixed = pair.fixed.read_landmarks(pair.fixed.read_image())
    assert fixed is not None
    np.testing.assert_allclose(landmarks.points - fixed.points, [[0, 0, 2.5]] * 3, atol=1e-9)


def test_cases_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for case in (10, 2, 1):
        (tmp_path / layout(case)[0]).mkdir()
    assert [pair.fixed.subject for pair in DirLab(tmp_path).pairs()] == ["case 1", "case 2", "case 10"]


def test_a_case_without_its_files_is_a_problem_of_that_case(tmp_path: Path) -> None:
    (tmp_path / "Case4Pack").mkdir()
    (pair,) = DirLab(tmp_path).pairs()
    with pytest.raises(EvaluationError, match="image and landmarks of T00"):
        pair.fixed.read_image()


def test_files_that_were_cut_or_mixed_up_are_refused(tmp_path: Path) -> None:
    write_case(tmp_path, 1)
    (pair,) = DirLab(tmp_path).pairs()
    image = pair.fixed.read_image()
    for text in ("0 5 5\n", "300 5 5\n", "1 2\n", "1 2 x\n", ""):
        Path(pair.fixed.landmarks).write_text(text)
        with pytest.raises(ImageError, match="landmarks"):
            pair.fixed.read_landmarks(image)
    Path(pair.fixed.image).write_bytes(b"\0" * 1000)
    with pytest.raises(ImageError, match="has 500 voxels, case 1 has 6160384"):
        pair.fixed.read_image()
    Path(pair.fixed.image).unlink()
    with pytest.raises(DLIRError, match="cannot be opened"):
        pair.fixed.read_image()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="Case1Pack"):
        DirLab(tmp_path).pairs()
