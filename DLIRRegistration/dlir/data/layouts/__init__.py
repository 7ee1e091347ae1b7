"""The data sets that an evaluation reads, by the names under which the command line knows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dlir.data.layouts.acdc import Acdc
from dlir.data.layouts.decathlon import Decathlon
from dlir.data.layouts.dirlab import DirLab
from dlir.data.layouts.folder import ImageFolder
from dlir.data.layouts.learn2reg import Learn2Reg
from dlir.data.layouts.sunnybrook import Sunnybrook
from dlir.data.manifest import Manifest
from dlir.data.pair import DataSet, Pair, Scan
from dlir.errors import OptionError

__all__ = ["DATA_SETS", "TESTED_ON", "DataSet", "Pair", "Scan", "open_data_set"]

DATA_SETS: dict[str, Callable[[Path], DataSet]] = {
    "acdc": Acdc,
    "sunnybrook": Sunnybrook,
    "dirlab": DirLab,
    "learn2reg": Learn2Reg,
    "decathlon": Decathlon,
    "folder": ImageFolder,
    "manifest": Manifest,
}

# On what the tests of each reader run: the data themselves, or files written in the format that is published.
TESTED_ON: dict[str, str] = {
    "acdc": "the real files",
    "sunnybrook": "real images, as DICOM and as NIfTI; contours written in the published format around real labels",
    "dirlab": "files written in the published format, not the data themselves",
    "learn2reg": "files written in NLST's published format, not the data themselves",
    "decathlon": "the real hippocampi",
    "folder": "images of a phantom, as NRRD",
    "manifest": "a table of the real lung CT pair that comes with elastix, and of a phantom",
}


def open_data_set(kind: str, path: Path) -> DataSet:
    """The data set of that kind at `path`. Raises OptionError for an unknown kind, EvaluationError for a wrong path."""
    if kind not in DATA_SETS:
        raise OptionError(f"data set '{kind}' is unknown; choose one of {', '.join(DATA_SETS)}")
    return DATA_SETS[kind](path)
