"""A registration of two DICOM series as an object: Spatial Registration, or Deformable where the transform bends.

The object is filed in the study of the fixed series, whose frame of reference is the registered one; for what its
matrices and its deformation map, see `dlir.transforms.dicom.reading`. The attributes are those of PS3.3 A.39.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir import __version__
from dlir.errors import GeometryError, TransformError, note
from dlir.io.dicom.instances import Series, import_for
from dlir.io.writing import replacing
from dlir.transforms.dicom.reading import DEFORMABLE, SPATIAL
from dlir.transforms.spatial import AffineTransform, CompositeTransform

# Copied from the fixed series where they are there; those that have to be there are empty otherwise.
_COPIED = (
    *("SpecificCharacterSet", "IssuerOfPatientID", "PatientBirthTime", "OtherPatientIDs", "PatientComments"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("StudyInstanceUID", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight", "BodyPartExamined"),
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID"),
    *("ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
)
_COPIED_OR_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("PositionReferenceIndicator", "Laterality"),
)
# A matrix counts as rigid, or as without shear, where it is to this.
_ROUNDING = 1e-6
_SAMPLES = 12
_LARGEST = (1 << 32) - 2


def write_registration(path: Path, transform: CompositeTransform, fixed: Series, moving: Series) -> dict[str, Any]:
    """Write `transform`, from points of `fixed` to points of `moving`; returns what was written, in plain values.

    A linear transform is a Spatial Registration with the inverse of its matrix. Of another, what comes before its last
    linear part is sampled at the voxel centres of the fixed image, and the linear part follows as a matrix.
    Raises GeometryError where the transform sends no part of one image into the other, TransformError for one that has
    no inverse, ImageError for series that say too little of themselves, and OutputError.
    """
    pydicom = import_for("pydicom", fixed.name)
    _require_meeting(transform, fixed, moving)
    # Identifiers are copied as they are; pydicom warns of those that some programs make, against the standard.
    with pydicom.config.disable_value_validation():
        object_ = _Object(pydicom, fixed, moving)
        if transform.linear:
            object_.add_matrix(transform.matrix)
        else:
            object_.add_deformation(transform)
        with replacing(path) as temporary:
            pydicom.dcmwrite(temporary, object_.dataset, enforce_file_format=True)
    return {
        "kind": "spatial" if transform.linear else "deformable",
        "sop_instance_uid": str(object_.dataset.SOPInstanceUID),
        "fixed_images": len(fixed.headers),
        "moving_images": len(moving.headers),
    }


def _require_meeting(transform: CompositeTransform, fixed: Series, moving: Series) -> None:
    """Also for a transform the wrong way round, or of two other series."""
    axes = [np.linspace(0, n - 1, min(n, _SAMPLES)) for n in fixed.grid.size]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    if not moving.grid.contains(transform.apply(fixed.grid.to_physical(index))).any():
        raise GeometryError(
            f"the transform sends no part of {fixed.name} into {moving.name}; check which is fixed and which moving"
        )


class _Object:
    """A dataset of pydicom that fills up: first with all that both kinds of object have."""

    def __init__(self, pydicom: Any, fixed: Series, moving: Series) -> None:
        self._pydicom, self._fixed, self._moving = pydicom, fixed, moving
        self.dataset = pydicom.Dataset()
        self._frames = [series.one("FrameOfReferenceUID") for series in (fixed, moving)]
        self._copy(fixed.headers[0])
        if len({str(series.headers[0].get("PatientID", "")) for series in (fixed, moving)}) > 1:
            note(f"{fixed.name} and {moving.name} state different patients; the object is filed under the fixed one's")
        self._identify()
        self._refer()

    def _copy(self, header: Any) -> None:
        for keyword in _COPIED:
            if keyword in header:
                self.dataset[keyword] = header[keyword]
        for keyword in _COPIED_OR_EMPTY:
            setattr(self.dataset, keyword, header.get(keyword, None))

    def _identify(self) -> None:
        """Series, frame of reference, equipment, and the object itself."""
        dataset, uid, now = self.dataset, self._pydicom.uid.generate_uid, datetime.now()
        self._fixed.one("StudyInstanceUID")
        dataset.SOPInstanceUID, dataset.SeriesInstanceUID = uid(), uid()
        dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "REG", None, 1
        dataset.SeriesDescription = "Registration by DLIR"
        dataset.FrameOfReferenceUID = self._frames[0]
        dataset.Manufacturer = dataset.ManufacturerModelName = "DLIR"
        dataset.DeviceSerialNumber, dataset.SoftwareVersions = "none", __version__
        dataset.ContentDate = dataset.InstanceCreationDate = now.strftime("%Y%m%d")
        dataset.ContentTime = dataset.InstanceCreationTime = now.strftime("%H%M%S")
        dataset.ContentLabel, dataset.ContentDescription = "REGISTRATION", "Moving images to fixed images"
        dataset.ContentCreatorName = None
        dataset.file_meta = self._pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = self._pydicom.uid.ExplicitVRLittleEndian

    def _refer(self) -> None:
        """All images by study and series: those of the object's own study, and the others."""
        headers = {str(header.SOPInstanceUID): header for s in (self._fixed, self._moving) for header in s.headers}
        studies = _by(list(headers.values()), "StudyInstanceUID")
        own = str(self.dataset.StudyInstanceUID)
        self.dataset.ReferencedSeriesSequence = self._series(studies.pop(own))
        if studies:
            self.dataset.StudiesContainingOtherReferencedInstancesSequence = self._sequence(
                *(
                    self._item(StudyInstanceUID=study, ReferencedSeriesSequence=self._series(members))
                    for study, members in studies.items()
                )
            )

    def _series(self, headers: Sequence[Any]) -> Any:
        return self._sequence(
            *(
                self._item(SeriesInstanceUID=series, ReferencedInstanceSequence=self._images(members))
                for series, members in _by(headers, "SeriesInstanceUID").items()
            )
        )

    def _images(self, headers: Sequence[Any]) -> Any:
        return self._sequence(
            *(
                self._item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)
                for header in headers
            )
        )

    def _sequence(self, *items: Any) -> Any:
        return self._pydicom.Sequence(items)

    def _item(self, **values: Any) -> Any:
        item = self._pydicom.Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        return item

    # -- what maps -----------------------------------------------------------------------------------

    def add_matrix(self, matrix: NDArray[np.float64]) -> None:
        """Of a linear transform, fixed to moving."""
        if np.linalg.matrix_rank(matrix[:3, :3]) < 3:
            raise TransformError("the transform sends all points into a plane, so that DICOM cannot state its inverse")
        self._be(SPATIAL)
        back = np.asarray(np.linalg.inv(matrix), float)
        mapped = ((self._frames[0], self._fixed, np.eye(4)), (self._frames[1], self._moving, back))
        self.dataset.RegistrationSequence = self._sequence(*(self._registered(*one) for one in mapped))

    def _registered(self, frame: str, series: Series, matrix: NDArray[np.float64]) -> Any:
        """An item of C.20.2: what the images of a frame are registered by."""
        registration = self._item(
            RegistrationTypeCodeSequence=self._sequence(), MatrixSequence=self._sequence(self._matrix(matrix))
        )
        return self._item(
            FrameOfReferenceUID=frame,
            ReferencedImageSequence=self._images(series.headers),
            MatrixRegistrationSequence=self._sequence(registration),
        )

    def add_deformation(self, transform: CompositeTransform) -> None:
        """Of a transform that bends."""
        from dlir.transforms.resample import displacement_field

        bends = [not isinstance(part, AffineTransform) for part in transform.parts]
        last = len(bends) - bends[::-1].index(True)
        bending, linear = CompositeTransform(transform.parts[:last]), CompositeTransform(transform.parts[last:])
        grid = self._fixed.grid
        vectors = np.ascontiguousarray(displacement_field(bending, grid), "<f4").tobytes()
        if len(vectors) > _LARGEST:
            raise GeometryError(f"{self._fixed.name} has more voxels than DICOM can state vectors for; crop it")
        self._be(DEFORMABLE)
        across, down, _ = grid.direction_matrix.T
        deformed = self._item(
            ImagePositionPatient=self._decimal(grid.origin),
            ImageOrientationPatient=self._decimal([*across, *down]),
            GridDimensions=list(grid.size),
            GridResolution=list(grid.spacing),
            VectorGridData=vectors,
        )
        item = self._item(
            SourceFrameOfReferenceUID=self._frames[1],
            ReferencedImageSequence=self._images(self._moving.headers),
            RegistrationTypeCodeSequence=self._sequence(),
            DeformableRegistrationGridSequence=self._sequence(deformed),
        )
        if linear.parts:
            item.PostDeformationMatrixRegistrationSequence = self._sequence(self._matrix(linear.matrix))
        self.dataset.DeformableRegistrationSequence = self._sequence(item)

    def _be(self, kind: str) -> None:
        self.dataset.SOPClassUID = self.dataset.file_meta.MediaStorageSOPClassUID = kind
        self.dataset.file_meta.MediaStorageSOPInstanceUID = self.dataset.SOPInstanceUID

    def _matrix(self, matrix: NDArray[np.float64]) -> Any:
        return self._item(
            FrameOfReferenceTransformationMatrix=self._decimal(matrix.ravel()),
            FrameOfReferenceTransformationMatrixType=_matrix_type(matrix),
        )

    def _decimal(self, values: Any) -> list[Any]:
        """As decimal strings, of 16 characters at most."""
        return [self._pydicom.valuerep.DSfloat(float(value), auto_format=True) for value in values]


def _by(headers: Sequence[Any], keyword: str) -> dict[str, list[Any]]:
    """By what they state, in the order in which that first comes."""

    def stated(header: Any) -> str:
        return str(header.get(keyword, ""))

    order = list(dict.fromkeys(map(stated, headers)))
    groups = groupby(sorted(headers, key=lambda header: order.index(stated(header))), stated)
    return {value: list(members) for value, members in groups}


def _matrix_type(matrix: NDArray[np.float64]) -> str:
    """RIGID, RIGID_SCALE (a rotation after scaling along the axes, no mirror) or AFFINE, by C.20.2.1.2."""
    products = matrix[:3, :3].T @ matrix[:3, :3]
    scales = np.sqrt(np.diag(products))
    if np.linalg.det(matrix[:3, :3]) < 0 or np.abs(products - np.diag(scales**2)).max() > _ROUNDING:
        return "AFFINE"
    return "RIGID" if np.abs(scales - 1).max() <= _ROUNDING else "RIGID_SCALE"
