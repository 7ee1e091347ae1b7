"""Displacement fields in image files, as ITK, ANTs and others write them, and the frame in which their vectors are.

ITK and what stands on it, as ANTs, write vectors in LPS mm, in NIfTI with the intent 1007, "vector". NIfTI itself means
displacements by the intent 1006, in its own frame, RAS. A header that says neither leaves the frame open.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlir.errors import shown
from dlir.geometry import ImageGrid
from dlir.io.formats.files import Vectors, read_vectors
from dlir.io.formats.lengths import nrrd_fields
from dlir.io.formats.nifti import NiftiHeader, read_nifti_header
from dlir.io.frames import RAS_TO_LPS
from dlir.io.source import parse_source
from dlir.transforms.itk_records import FormatError
from dlir.transforms.spatial import DisplacementTransform

_ROLE = "transform"
_DISPLACEMENTS, _VECTORS = 1006, 1007
_FSL = {
    **dict.fromkeys((2006, 2018), "a warp field"),
    **dict.fromkeys((2007, 2008, 2009, 2016, 2017), "spline coefficients"),
}
# What NiftyReg calls its fields, and the kind of field that holds displacements; in RAS.
_NIFTYREG, _NIFTYREG_DISPLACEMENTS = "NREG_TRANS", 1
_SPM = "Mapping"
_TO_ITK = "convert it, with both images at hand, for example by 'wb_command -convert-warpfield -from-fnirt … -to-itk …'"
_LPS = ("", "left-posterior-superior", "lps")
# Fields whose linear part is nearer to the identity than this hold where points go, not how far.
_POSITIONS = 0.35
_FITTED = 4096


def read_field(path: Path) -> DisplacementTransform:
    """The displacement field of an image file: NIfTI, NRRD or MetaImage with three real numbers per voxel.

    Raises FormatError, which lacks the file's name, for a field whose header leaves open what it means, and for one of
    another program that means something else; ImageError and GeometryError for a file that is damaged or no field.
    """
    source = parse_source(path, _ROLE)
    header = read_nifti_header(path)
    if header is not None:
        _require_known(header)
    found = read_vectors(source)
    if found.array.shape[3] != 3:
        raise FormatError(f"has {found.array.shape[3]} values per voxel; give a 3D displacement field, with 3")
    if wrong := found.array.size - int(np.isfinite(found.array).sum()):
        raise FormatError(f"has {wrong} values that are not finite numbers; give a field without NaN and infinity")
    if found.nifti is None:
        _require_lps(path)
    field = _in_lps(found)
    if _holds_positions(field, found.grid):
        raise FormatError(
            "holds where points go, not how far they move, as deformation fields of SPM and MRtrix do; convert it to "
            "displacements in mm, for example by 'warpconvert … deformation2displacement …'"
        )
    return DisplacementTransform(field, found.grid)


def _require_known(header: NiftiHeader) -> None:
    """Raises FormatError unless a NIfTI header says that the voxels are displacements, and in which frame."""
    code, name, kind = header.intent
    if code in _FSL:
        raise FormatError(
            f"is {_FSL[code]} of FSL, in coordinates of both images' voxels, which the file does not state; {_TO_ITK}"
        )
    if name == _SPM:
        raise FormatError("is a deformation of SPM, which holds where points go; export it as displacements for ITK")
    if name == _NIFTYREG and kind != _NIFTYREG_DISPLACEMENTS:
        raise FormatError("is a field of NiftyReg that holds no displacements; make them by 'reg_transform -disp'")
    if len(header.size) == 4 and header.size[3] == 3:
        raise FormatError(
            "has its vectors along the fourth axis, as fields of FSL and MRtrix, and does not state their frame; "
            f"{_TO_ITK}"
        )
    if len(header.size) > 4 and code not in (_DISPLACEMENTS, _VECTORS):
        raise FormatError(
            f"does not say what its values mean (intent {code}); write {_VECTORS} for vectors in LPS, as ITK and ANTs "
            f"do, or {_DISPLACEMENTS} for displacements in RAS"
        )
    if header.unit[1] != 1.0:
        raise FormatError(f"states its lengths in {header.unit[0]}; write voxels and vectors in mm")


def _require_lps(path: Path) -> None:
    """Raises FormatError for an NRRD file whose vectors are not in LPS, or nobody knows."""
    if not path.name.lower().endswith((".nrrd", ".nhdr")):
        return
    fields = nrrd_fields(path)
    space, frame = fields.get("space", ""), fields.get("measurementframe", "")
    if space.lower() not in _LPS:
        raise FormatError(f"lies in the space '{shown(space)}', which its vectors may be in or not; write it in LPS")
    numbers = [float(number) for number in frame.replace("(", " ").replace(")", " ").replace(",", " ").split()]
    if frame and not np.allclose(np.reshape(numbers, -1), np.eye(3).ravel()):
        raise FormatError("has vectors in a measurement frame of their own; write them along the axes of LPS")


def _in_lps(vectors: Vectors) -> NDArray[np.float32]:
    """(z, y, x, 3) in LPS mm."""
    if vectors.nifti is None:
        return vectors.array
    code, name, _ = vectors.nifti.intent
    if code == _DISPLACEMENTS or name == _NIFTYREG:
        vectors.array[...] *= RAS_TO_LPS.astype(np.float32)
    return vectors.array


def _holds_positions(field: NDArray[np.float32], grid: ImageGrid) -> bool:
    """Whether a field grows with the place as much as the place does: it holds points, in LPS or in RAS."""
    count = field[..., 0].size
    chosen = np.unravel_index(np.arange(0, count, max(1, count // _FITTED)), grid.shape)
    places, values = grid.to_physical(np.stack(chosen[::-1], -1)), field[chosen].astype(float)
    slope, _, rank, _ = np.linalg.lstsq(places - places.mean(0), values - values.mean(0), rcond=None)
    signs = (np.ones(3), RAS_TO_LPS)
    return bool(rank == 3 and any(np.abs(slope - np.diag(sign)).max() < _POSITIONS for sign in signs))
