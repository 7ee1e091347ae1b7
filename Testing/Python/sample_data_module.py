"""Slicer's Sample Data module, as far as other modules and scripts use it."""

from __future__ import annotations

import hashlib
import urllib.request
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

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

    def downloadSamples(self, name: str) -> list[Any]:  # noqa: N802
        """The nodes of a sample, in the scene."""
        import slicer

        (source,) = [s for sources in self.sources.values() for s in sources if s["name"] == name]
        return [self._read(slicer.mrmlScene, *file) for file in source["files"]]

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
