"""One pair of ACDC at the size for which time and memory are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from dlir.data.layouts.acdc import Acdc
from dlir.data.pair import select
from dlir.evaluation.scoring import LoadedPair, LoadedScan, load_pair, load_scan
from dlir.io.reading import Volume

PATIENT = "patient100"
LARGE_SIZE = (256, 256, 12)


def large_pair(data: Path) -> LoadedPair:
    """End-systole to end-diastole of a patient kept from training, each at `LARGE_SIZE`, with labels."""
    acdc = Acdc(data)
    pair = select(acdc.pairs(), [PATIENT])[0]
    fixed, moving = (_enlarged(load_scan(scan)) for scan in (pair.fixed, pair.moving))
    return load_pair(pair, fixed, moving, acdc.labels, "centers")


def _enlarged(scan: LoadedScan) -> LoadedScan:
    return replace(scan, image=_resized(scan.image), label=scan.label and _resized(scan.label))


def _resized(volume: Volume) -> Volume:
    """Cut or padded with 0, about its center, to `LARGE_SIZE` voxels of its own spacing."""
    start = [round((have - want) / 2) for have, want in zip(volume.grid.size, LARGE_SIZE, strict=True)]
    grid = volume.grid.lattice(start, (1, 1, 1), LARGE_SIZE)
    reference = grid.to_sitk(np.zeros(grid.shape, np.uint8))
    image = volume.grid.to_sitk(volume.array)
    found = sitk.Resample(image, reference, sitk.Transform(), sitk.sitkNearestNeighbor)
    return Volume(sitk.GetArrayFromImage(found), grid, volume.source)
