"""The data that ship with DLIR, offered in Slicer's Sample Data module. Nothing is downloaded: each URI is a file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from dlir.model.catalogue import resource_folder

CATEGORY = "DLIR"
PAIR = "DLIR cardiac cine"
SEQUENCE = "DLIR cardiac cine sequence"

_ICONS = Path(__file__).resolve().parents[1] / "Resources" / "Icons"


@dataclass(frozen=True)
class SampleFile:
    """A file of Resources/SampleData, how Slicer loads it, and how the node is called."""

    name: str
    file_type: str
    node: str

    @property
    def path(self) -> Path:
        """Where it is, if it came with this copy of DLIR."""
        return resource_folder("SampleData") / self.name

    @property
    def checksum(self) -> str:
        """Lets the Sample Data module notice that its cache holds the file of another version."""
        return f"SHA256:{hashlib.sha256(self.path.read_bytes()).hexdigest()}"


@dataclass(frozen=True)
class Sample:
    """What is loaded by one click. thumbnail: its picture in Resources/Icons."""

    name: str
    thumbnail: str
    files: tuple[SampleFile, ...]


SAMPLES = (
    Sample(
        PAIR,
        "DLIRCardiacCine.png",
        (
            SampleFile("fixed_ed.nrrd", "VolumeFile", "Cine end-diastole"),
            SampleFile("moving_es.nrrd", "VolumeFile", "Cine end-systole"),
            SampleFile("fixed_ed_label.nrrd", "SegmentationFile", "Segmentation end-diastole"),
            SampleFile("moving_es_label.nrrd", "SegmentationFile", "Segmentation end-systole"),
        ),
    ),
    Sample(SEQUENCE, "DLIRCardiacCineSequence.png", (SampleFile("cine.seq.nrrd", "SequenceFile", "Cine"),)),
)


def register_sample_data() -> None:
    """Add the samples to the Sample Data module; to be called when Slicer has started up.

    A sample whose files did not come with this copy of DLIR is left out.
    """
    from SampleData import SampleDataLogic

    if hasattr(SampleDataLogic, "registerCustomSampleDataCategory"):  # Slicer 5.11 and newer
        SampleDataLogic.registerCustomSampleDataCategory(CATEGORY, title=CATEGORY)
    for sample in SAMPLES:
        if not all(file.path.is_file() for file in sample.files):
            continue
        SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=sample.name,
            thumbnailFileName=str(_ICONS / sample.thumbnail),
            uris=[file.path.as_uri() for file in sample.files],
            fileNames=[f"DLIR-{file.name}" for file in sample.files],  # in a cache that all modules share
            nodeNames=[file.node for file in sample.files],
            loadFileTypes=[file.file_type for file in sample.files],
            checksums=[file.checksum for file in sample.files],
        )
