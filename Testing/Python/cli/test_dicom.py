"""DICOM series with DICOM segmentations on the command line: labels carried and scored by the segments' names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

from cli_runs import Pair, read, refuse, succeed
from dicom_series import write_seg, write_series
from dlir.geometry import ImageGrid

pytest.importorskip("pydicom")
pytest.importorskip("highdicom")


@pytest.fixture
def series(pair: Pair) -> Pair:
    """The small pair as DICOM series, each with a SEG of its two labels, the wall numbered differently."""
    made = {}
    for role, uid, names in (("fixed", "1.2.3.1", ("core", "wall")), ("moving", "1.2.3.2", ("wall", "core"))):
        image = sitk.ReadImage(str(getattr(pair, role)))
        values = np.rint(sitk.GetArrayFromImage(image)).astype(np.int16)
        made[role] = write_series(pair.folder / f"{role}_dicom", values, ImageGrid.from_sitk(image), uid)
        labels = read(getattr(pair, f"{role}_label"))
        masks = {"wall": labels == 1, "core": labels == 2}
        segments = [(name, masks[name]) for name in names]
        made[f"{role}_label"] = write_seg(pair.folder / f"{role}_seg.dcm", made[role], segments)
    return Pair(pair.folder, made["fixed"], made["moving"], made["fixed_label"], made["moving_label"], pair.model)


def test_segments_are_carried_and_scored_by_name(pair: Pair, series: Pair) -> None:
    output = pair.folder / "out"
    labels = ("--moving-label", series.moving_label, "--fixed-label", series.fixed_label)
    report = json.loads(succeed(series.register(output, "--json", *labels)))
    assert report["segments"] == [{"name": "wall", "layer": 0, "value": 1}, {"name": "core", "layer": 0, "value": 2}]
    assert set(report["labels"]) == {"wall", "core"}
    fixed, warped = read(pair.fixed_label), read(output / "warped_label.nrrd")
    for name, value in (("wall", 1), ("core", 2)):
        one, other = fixed == value, warped == value
        dice = 2 * (one & other).sum() / (one.sum() + other.sum())
        assert report["labels"][name]["after"]["dice"] == pytest.approx(dice)
        assert dice > 0.3


def test_a_registration_lies_beside_its_images(series: Pair) -> None:
    """And is passed over when they are read; a SEG goes through it as through any transform."""
    succeed(series.register(series.folder / "run"))
    between = ["--fixed", series.fixed, "--moving", series.moving]
    written = series.fixed / "reg.dcm"
    succeed(["dicom", "write", "--transform", series.folder / "run" / "transform.h5", *between, "--output", written])
    found = []
    for transform in (series.folder / "run" / "transform.h5", written):
        output = series.folder / f"{transform.stem}.nrrd"
        arguments = ["apply", "--transform", transform, "--reference", series.fixed, "--output", output]
        succeed([*arguments, "--label", series.moving_label])
        found.append(read(output))
    assert found[0].any()
    assert np.count_nonzero(found[0] != found[1]) <= 2  # of voxels, where rounding decides


def test_a_segmentation_is_no_image(series: Pair) -> None:
    refuse(series.register(series.folder / "out", fixed=series.fixed_label), series.folder, "is a single DICOM file")
