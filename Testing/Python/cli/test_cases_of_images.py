"""Pairs that once went wrong without a word, through the command that a user types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_runs import succeed

pytestmark = pytest.mark.data

PADDED = ("ed_padded_-1000", "es_padded_-1000")


@pytest.fixture
def cases(shared_data: Path) -> Path:
    folder = shared_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}")
    return folder


def dice_of(folder: Path, fixed: str, moving: str, label: str, output: Path, *options: str) -> tuple[float, float]:
    """Dice of the left ventricle before and after."""
    images = {"fixed": fixed, "moving": moving, "fixed-label": "ed_label", "moving-label": label}
    named = [part for name, file in images.items() for part in (f"--{name}", folder / f"{file}.nrrd")]
    succeed(["register", "--device", "cpu", *named, "--output", output, *options])
    scores = json.loads((output / "report.json").read_text())["labels"]["1"]
    return scores["before"]["dice"], scores["after"]["dice"]


@pytest.mark.parametrize(("fixed", "moving"), [("ed", "es"), PADDED, ("ed", PADDED[1]), ("ed", "es_one_voxel_-32768")])
def test_padding_and_single_voxels_change_nothing(cases: Path, tmp_path: Path, fixed: str, moving: str) -> None:
    folder = cases / "01_low_outlier_or_padding"
    before, after = dice_of(folder, fixed, moving, "es_label", tmp_path / "out")
    assert before == pytest.approx(0.867, abs=0.001)
    assert after == pytest.approx(0.959, abs=0.005)


def test_a_cropped_image_is_not_moved_away(cases: Path, tmp_path: Path) -> None:
    folder = cases / "02_default_start_and_cropped_image"
    before, after = dice_of(folder, "ed", "es_cropped", "es_cropped_label", tmp_path / "auto")
    assert before == pytest.approx(0.868, abs=0.001)
    assert after == pytest.approx(0.932, abs=0.003)
    report = json.loads((tmp_path / "auto" / "report.json").read_text())
    assert report["initialization"]["mode"] == "scanner positions"
    assert "image centers" in report["initialization"]["reason"]
