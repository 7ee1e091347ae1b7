"""ACDC, as it comes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlir.data.layouts.acdc import Acdc
from dlir.errors import EvaluationError
from dlir.io.writing import write_image
from evaluation_runs import GRID, body, label_of

INFO = "ED: 1\nES: 12\nGroup: NOR\nHeight: 170.0\nNbFrame: 30\nWeight: 70.0\n"


def write_patient(folder: Path, info: str = INFO) -> None:
    folder.mkdir(parents=True)
    (folder / "Info.cfg").write_text(info)
    for frame, shift in ((1, 0.0), (12, 3.0)):
        values = body(GRID, np.full(3, shift))
        write_image(folder / f"{folder.name}_frame{frame:02d}.nii.gz", values, GRID)
        write_image(folder / f"{folder.name}_frame{frame:02d}_gt.nii.gz", label_of(values), GRID)


def test_frames_come_from_info_and_pair_both_ways(tmp_path: Path) -> None:
    for name in ("training/patient002", "testing/patient101", "training/patient001"):
        write_patient(tmp_path / name)
    data = Acdc(tmp_path)
    pairs = data.pairs()
    assert [p.name for p in pairs[:2]] == ["patient001 ES-to-ED", "patient001 ED-to-ES"]
    assert [p.fixed.subject for p in pairs[::2]] == ["patient001", "patient002", "patient101"]
    assert pairs[0].moving.image.endswith("patient001_frame12.nii.gz")
    image = pairs[0].moving.read_image()
    label = pairs[0].moving.read_label(image)
    assert label is not None
    assert set(np.unique(label.array)) <= {0, *data.labels}


@pytest.mark.parametrize("info", ["ED: 1\nES:\n", "", "nonsense"])
def test_a_patient_without_frames_is_a_problem_of_that_patient(tmp_path: Path, info: str) -> None:
    write_patient(tmp_path / "patient001")
    write_patient(tmp_path / "patient002", info)
    pairs = Acdc(tmp_path).pairs()
    assert len(pairs) == 4
    pairs[0].fixed.read_image()
    with pytest.raises(EvaluationError, match=r"Info.cfg' does not say which frame is ES"):
        pairs[2].moving.read_image()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="patient001"):
        Acdc(tmp_path).pairs()


@pytest.mark.data
def test_the_real_thing(shared_data: Path) -> None:
    pairs = Acdc(shared_data / "acdc").pairs()
    assert len(pairs) == 200
    pair = next(p for p in pairs if p.name == "patient081 ES-to-ED")
    fixed, moving = pair.fixed.read_image(), pair.moving.read_image()
    labels = [scan.read_label(image) for scan, image in ((pair.fixed, fixed), (pair.moving, moving))]
    assert all(label is not None and set(np.unique(label.array)) == {0, 1, 2, 3} for label in labels)
    sizes = [int((label.array == 3).sum()) for label in labels if label is not None]
    assert sizes[0] > 1.5 * sizes[1]  # the left ventricle is larger at end-diastole
