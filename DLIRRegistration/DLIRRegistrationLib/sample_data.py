"""The data that ship with DLIR, offered in Slicer's Sample Data module. Nothing is downloaded: each URI is a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dlir.model.catalogue import resource_folder

CATEGORY = "DLIR"
PAIR = "DLIR cardiac cine"
SEQUENCE = "DLIR cardiac cine sequence"

_ICONS = Path(__file__).resolve().parents[1] / "Resources" / "Icons"


@dataclass(frozen=True)
class SampleFile:
    """A file of Resources/SampleData, how Slicer loads it, and how the node is called.

    sha256: lets the Sample Data module notice that its cache holds the file of another version.
    """

    name: str
    file_type: str
    node: str
    sha256: str


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
            SampleFile(
                "fixed_ed.nrrd",
                "VolumeFile",
                "Cine end-diastole",
                "d9c8e7275ce1e9fee8efbf77c4fe2997f0087e9cd3bd053714ec8b7303562e42",
            ),
            SampleFile(
                "moving_es.nrrd",
                "VolumeFile",
                "Cine end-systole",
                "6db3f811dfe32e35d795e5bdeeb21502544539e4184eeaaab214bbe2a207893e",
            ),
            SampleFile(
                "fixed_ed_label.nrrd",
                "SegmentationFile",
                "Segmentation end-diastole",
                "667c3dd7e93946e571c8332783110ea466efe34c0e20291618fd31be92886a13",
            ),
            SampleFile(
                "moving_es_label.nrrd",
                "SegmentationFile",
                "Segmentation end-systole",
                "33a2b006bbedbdb3f60f55c98f070f47b8103bde9e29d41fc02f706a1b2003d9",
            ),
        ),
    ),
    Sample(
        SEQUENCE,
        "DLIRCardiacCineSequence.png",
        (
            SampleFile(
                "cine.seq.nrrd",
                "SequenceFile",
                "Cine",
                "91909eafdbf1eb06cd53e0da9a6a684316fb58c468657f33419b987f6144aee8",
            ),
        ),
    ),
)


def register_sample_data() -> None:
    """Add the samples to the Sample Data module; to be called when Slicer has started up.

    A sample whose files did not come with this copy of DLIR is left out.
    """
    from SampleData import SampleDataLogic

    if hasattr(SampleDataLogic, "registerCustomSampleDataCategory"):  # Slicer 5.11 and newer
        SampleDataLogic.registerCustomSampleDataCategory(CATEGORY, title=CATEGORY)
    folder = resource_folder("SampleData")
    for sample in SAMPLES:
        paths = [folder / file.name for file in sample.files]
        if not all(path.is_file() for path in paths):
            continue
        SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=sample.name,
            thumbnailFileName=str(_ICONS / sample.thumbnail),
            uris=[path.as_uri() for path in paths],
            fileNames=[f"DLIR-{file.name}" for file in sample.files],  # in a cache that all modules share
            nodeNames=[file.node for file in sample.files],
            loadFileTypes=[file.file_type for file in sample.files],
            checksums=[f"SHA256:{file.sha256}" for file in sample.files],
        )
