"""What an image's name says."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlir.io.source import IMAGE_ENDINGS, stem


@pytest.mark.parametrize("ending", [*IMAGE_ENDINGS, ".zip", ".nii.gz#7", ".nrrd#12", ""])
def test_a_stem_is_the_name_without_ending_and_time_point(ending: str) -> None:
    assert stem(f"x.nii/patient.01_T00{ending}") == stem(Path(f"patient.01_T00{ending}")) == "patient.01_T00"


def test_a_name_of_another_kind_is_left_whole() -> None:
    assert [stem(name) for name in ("case.img", "T00.5", "a#b.nii", "a#b")] == ["case.img", "T00.5", "a#b", "a#b"]
