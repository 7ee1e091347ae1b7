"""The data sets that an evaluation reads, by the names under which the command line knows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dlir.errors import OptionError
from dlir.evaluation.datasets.acdc import Acdc
from dlir.evaluation.datasets.base import DataSet, Pair, Scan
from dlir.evaluation.datasets.decathlon import Decathlon
from dlir.evaluation.datasets.dirlab import DirLab
from dlir.evaluation.datasets.folder import ImageFolder, Manifest
from dlir.evaluation.datasets.learn2reg import Learn2Reg
from dlir.evaluation.datasets.sunnybrook import Sunnybrook

__all__ = ["DATA_SETS", "DataSet", "Pair", "Scan", "open_data_set"]

DATA_SETS: dict[str, Callable[[Path], DataSet]] = {
    "acdc": Acdc,
    "sunnybrook": Sunnybrook,
    "dirlab": DirLab,
    "learn2reg": Learn2Reg,
    "decathlon": Decathlon,
    "folder": ImageFolder,
    "manifest": Manifest,
}


def open_data_set(kind: str, path: Path) -> DataSet:
    """The data set of that kind at `path`. Raises OptionError for an unknown kind, EvaluationError for a wrong path."""
    if kind not in DATA_SETS:
        raise OptionError(f"data set '{kind}' is unknown; choose one of {', '.join(DATA_SETS)}")
    return DATA_SETS[kind](path)
