"""What the Sample Data module is given, and what becomes of it in a scene."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk

from dlir.io import read_image
from dlir.model.catalogue import resource_folder
from DLIRRegistrationLib import sample_data
from DLIRRegistrationLib.sample_data import PAIR, SAMPLES, SEQUENCE, register_sample_data
from sample_data_module import SampleDataModule

if TYPE_CHECKING:
    from mrml import MRML


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleDataModule:
    module = SampleDataModule(tmp_path)
    monkeypatch.setitem(sys.modules, "SampleData", module)
    return module


def test_both_samples_are_offered_once(module: SampleDataModule) -> None:
    register_sample_data()
    register_sample_data()  # as when the module is reloaded
    assert [source["name"] for source in module.sources["DLIR"]] == [PAIR, SEQUENCE]
    assert module.titles == {"DLIR": "DLIR"}
    for source in module.sources["DLIR"]:
        assert Path(source["thumbnail"]).is_file()
        assert all(uri.startswith("file://") for uri, *_ in source["files"]), "nothing is downloaded"


def test_an_older_slicer_has_no_categories(module: SampleDataModule) -> None:
    del module.SampleDataLogic.registerCustomSampleDataCategory
    register_sample_data()
    assert len(module.sources["DLIR"]) == len(SAMPLES)


def test_checksums_are_those_of_the_files() -> None:
    folder = resource_folder("SampleData")
    for file in (file for sample in SAMPLES for file in sample.files):
        assert f"SHA256:{hashlib.sha256((folder / file.name).read_bytes()).hexdigest()}" == file.checksum, file.name


@pytest.mark.parametrize("name", ["fixed_ed_label.nrrd", "moving_es_label.nrrd"])
def test_labels_say_where_their_segment_lies(name: str) -> None:
    """Slicer warns of a segment without its extent, and takes it from the whole image."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(resource_folder("SampleData") / name))
    image = reader.Execute()
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(image)
    start, size = np.split(np.array(shape.GetBoundingBox(1)), 2)
    extent = np.array(image.GetMetaData("Segment0_Extent").split(), int).reshape(3, 2)
    np.testing.assert_array_equal(extent, np.stack([start, start + size - 1], 1))


def test_a_copy_without_the_files_offers_nothing(
    module: SampleDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_data, "resource_folder", lambda kind: tmp_path)
    register_sample_data()
    assert module.sources == {}


def test_the_pair_in_a_scene(module: SampleDataModule, scene: MRML) -> None:
    from slicer.util import arrayFromVolume

    register_sample_data()
    fixed, moving, fixed_segments, moving_segments = module.downloadSamples(PAIR)
    folder = resource_folder("SampleData")
    for node, name in ((fixed, "fixed_ed"), (moving, "moving_es")):
        assert (arrayFromVolume(node) == read_image(folder / f"{name}.nrrd").array).all()
    assert fixed.GetName() == "Cine end-diastole"
    for node in (fixed_segments, moving_segments):
        segmentation = node.GetSegmentation()
        assert list(segmentation.GetSegmentIDs()) == ["LeftVentricleCavity"]
        assert segmentation.GetSegment("LeftVentricleCavity").GetName() == "left ventricle cavity"
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        around = [0.0] * 6
        fixed.GetRASBounds(around)
        assert all(around[k] <= bounds[k] and bounds[k + 1] <= around[k + 1] for k in (0, 2, 4))


def test_the_sequence_in_a_scene(module: SampleDataModule, scene: MRML) -> None:
    from slicer.util import arrayFromVolume

    register_sample_data()
    (sequence,) = module.downloadSamples(SEQUENCE)
    assert sequence.GetNumberOfDataNodes() == 6
    assert [sequence.GetNthIndexValue(i) for i in range(6)] == list("012345")
    assert sequence.GetIndexName() == "frame"
    for i, name in ((0, "fixed_ed"), (3, "moving_es")):
        frame = sequence.GetNthDataNode(i)
        assert frame.IsA("vtkMRMLScalarVolumeNode")
        assert (arrayFromVolume(frame) == read_image(resource_folder("SampleData") / f"{name}.nrrd").array).all()
