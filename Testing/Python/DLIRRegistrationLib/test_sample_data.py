"""What the Sample Data module is given, and what becomes of it in a scene."""

from __future__ import annotations

import hashlib
import sys
import urllib.request
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from dlir.io import read_image
from dlir.model.catalogue import resource_folder
from DLIRRegistrationLib import sample_data
from DLIRRegistrationLib.sample_data import PAIR, SAMPLES, SEQUENCE, register_sample_data

if TYPE_CHECKING:
    from mrml import MRML

_STORAGE = {
    "VolumeFile": ("vtkMRMLScalarVolumeNode", "vtkMRMLVolumeArchetypeStorageNode"),
    "SegmentationFile": ("vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode"),
    "SequenceFile": ("vtkMRMLSequenceNode", "vtkMRMLVolumeSequenceStorageNode"),
}


class SampleDataModule(ModuleType):
    """Slicer's Sample Data module as far as other modules register with it and users load from it.

    It fetches each address into a cache, compares the checksum, and reads the file by its type.
    """

    def __init__(self, cache: Path) -> None:
        super().__init__("SampleData")
        self.sources: dict[str, list[dict[str, Any]]] = {}
        self.titles: dict[str, str] = {}
        self._cache = cache
        self.SampleDataLogic = SimpleNamespace(
            registerCustomSampleDataCategory=self._register_category,
            registerCustomSampleDataSource=self._register_source,
        )

    def _register_category(self, category: str, title: str) -> None:
        self.titles[category] = title

    def _register_source(
        self,
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: Any = None,
        loadFileType: Any = None,
    ) -> None:
        assert len(uris) == len(fileNames) == len(nodeNames) == len(loadFileTypes) == len(checksums)
        assert customDownloader is None, "it is passed over where a script asks for a sample by its name"
        source = {
            "name": sampleName,
            "thumbnail": thumbnailFileName,
            "files": list(zip(uris, fileNames, nodeNames, loadFileTypes, checksums, strict=True)),
        }
        known = self.sources.setdefault(category, [])
        if source not in known:
            known.append(source)

    def load(self, name: str, scene: Any) -> list[Any]:
        """The nodes of a sample."""
        (source,) = [s for sources in self.sources.values() for s in sources if s["name"] == name]
        return [self._read(scene, *file) for file in source["files"]]

    def _read(self, scene: Any, uri: str, file_name: str, node_name: str, file_type: str, checksum: str) -> Any:
        path = self._cache / file_name
        urllib.request.urlretrieve(uri, path)
        algorithm, digest = checksum.split(":")
        assert hashlib.new(algorithm.lower(), path.read_bytes()).hexdigest() == digest
        node_class, storage_class = _STORAGE[file_type]
        node, storage = scene.AddNewNodeByClass(node_class, node_name), scene.AddNewNodeByClass(storage_class)
        storage.SetFileName(str(path))
        assert storage.ReadData(node) == 1
        return node


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
        assert hashlib.sha256((folder / file.name).read_bytes()).hexdigest() == file.sha256, file.name


def test_a_copy_without_the_files_offers_nothing(
    module: SampleDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_data, "resource_folder", lambda kind: tmp_path)
    register_sample_data()
    assert module.sources == {}


def test_the_pair_in_a_scene(module: SampleDataModule, scene: MRML) -> None:
    from slicer.util import arrayFromVolume

    register_sample_data()
    fixed, moving, fixed_segments, moving_segments = module.load(PAIR, scene.scene)
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
    (sequence,) = module.load(SEQUENCE, scene.scene)
    assert sequence.GetNumberOfDataNodes() == 6
    assert [sequence.GetNthIndexValue(i) for i in range(6)] == list("012345")
    assert sequence.GetIndexName() == "frame"
    for i, name in ((0, "fixed_ed"), (3, "moving_es")):
        frame = sequence.GetNthDataNode(i)
        assert frame.IsA("vtkMRMLScalarVolumeNode")
        assert (arrayFromVolume(frame) == read_image(resource_folder("SampleData") / f"{name}.nrrd").array).all()
