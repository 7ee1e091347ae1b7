"""Reading and writing transforms as ITK files (.h5, .tfm, .txt), which SimpleITK, elastix and Slicer understand.

Displacement fields are read from images too, and registrations from DICOM objects.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from dlir.errors import GeometryError, ImageError, TransformError, note, notes_to, shown
from dlir.geometry import ImageGrid
from dlir.io.dicom.instances import is_dicom_object
from dlir.io.names import require_utf8
from dlir.io.quiet import quiet
from dlir.io.source import IMAGE_ENDINGS
from dlir.io.text import decode
from dlir.io.writing import replacing, writable
from dlir.transforms.itk_records import (
    COMPOSITE,
    HEADER,
    NO_TRANSFORM,
    FormatError,
    Record,
    matlab_as_text,
    parse,
    unknown,
)
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform, DisplacementTransform, Part

_TEXT_START = b"#Insight Transform File"
_TEXT_TAIL_BYTES = 1 << 16
_TEXT_SUFFIXES = (".txt", ".tfm")
_START_BYTES = 1 << 12
_RESERVE = 1 << 16
_NAMELESS = "cannot be used: it holds a transform of a type that SimpleITK does not name; write it as an affine one"
_EXACT, _DENSE = ".h5", ".npz"


def to_sitk(transform: CompositeTransform) -> Any:
    """The SimpleITK CompositeTransform that maps every point to the same place."""
    import SimpleITK as sitk

    composite = sitk.CompositeTransform(3)
    # ITK applies the transform that was added last first. Without any, a text file would look cut short.
    for part in reversed(transform.parts or (AffineTransform(np.eye(4)),)):
        composite.AddTransform(_part_to_sitk(part))
    return composite


def _part_to_sitk(part: Part) -> Any:
    import SimpleITK as sitk

    if isinstance(part, AffineTransform):
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(part.matrix[:3, :3].ravel().tolist())
        affine.SetTranslation(part.matrix[:3, 3].tolist())
        return affine
    if isinstance(part, BSplineTransform):
        images = [part.grid.to_sitk(np.ascontiguousarray(component)) for component in part.coefficients]
        return sitk.BSplineTransform(images, 3)
    if isinstance(part, DisplacementTransform):
        return sitk.DisplacementFieldTransform(part.grid.to_sitk(part.field.astype(np.float64), is_vector=True))
    raise TransformError(f"a {type(part).__name__} cannot be written as an ITK transform")


def from_sitk(transform: Any, name: str = "transform") -> CompositeTransform:
    """The transform that a SimpleITK one of three dimensions is; composites within composites are taken apart.

    Raises TransformError, calling it `name`, for a kind that `read_transform` does not read either.
    """
    import SimpleITK as sitk

    try:
        if transform.GetDimension() != 3:
            raise FormatError("is not three-dimensional; give a 3D transform")
        if isinstance(transform, sitk.CompositeTransform):
            transform = sitk.CompositeTransform(transform)
            transform.FlattenTransform()
        return CompositeTransform(tuple(_flatten(transform)))
    except FormatError as error:
        raise TransformError(f"{name} {error}") from None
    except (GeometryError, TransformError) as error:
        raise TransformError(f"{name} cannot be used: {error}") from None


def write_transform(path: Path, transform: CompositeTransform) -> None:
    """Write `transform`, whole or not at all. Raises OutputError."""
    import SimpleITK as sitk

    composite = to_sitk(transform)
    with replacing(path) as temporary, quiet:
        _reserve(temporary, transform)
        sitk.WriteTransform(composite, writable(temporary))
        if _lacks_end(temporary):  # ITK does not report a text file that it could not write whole
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _lacks_end(path: Path) -> bool:
    """Whether a text file that ITK wrote ends before the fixed parameters of its last transform do."""
    with path.open("rb") as file:
        if file.read(len(_TEXT_START)) != _TEXT_START:
            return path.stat().st_size == 0
        file.seek(max(0, path.stat().st_size - _TEXT_TAIL_BYTES))
        tail = file.read()
    lines = tail.splitlines() or [b""]
    return not (tail.endswith(b"\n") and lines[-1].startswith(b"FixedParameters:"))


def _reserve(path: Path, transform: CompositeTransform) -> None:
    """Fill `path` with as many zeros as the file will need, so that a full disk is found out here, by an OSError.

    The HDF5 library, left with a file that it could not write, crashes the process when that ends.
    """
    size = _RESERVE
    for part in transform.parts:
        if isinstance(part, BSplineTransform):
            size += part.coefficients.nbytes
        elif isinstance(part, DisplacementTransform):
            size += part.field.size * np.dtype(float).itemsize
    with path.open("wb") as file:
        for start in range(0, size, _RESERVE):
            file.write(bytes(min(_RESERVE, size - start)))


def read_transform(path: Path) -> CompositeTransform:
    """Read an ITK transform (linear ones, cubic B-splines, displacement fields, composites of them), an image that is a
    displacement field, see `read_field`, or a DICOM registration object, see `read_registration`.

    Several linear transforms in a text file that names no composite are applied as if it did: the last one first.
    Raises TransformError naming the file where it is missing, damaged, or holds anything else.
    """
    name = f"transform '{shown(path)}'"
    if not path.is_file():
        raise TransformError(f"{name} does not exist; check the path")
    require_utf8(path, name, TransformError)
    if path.name.lower().endswith(IMAGE_ENDINGS) or is_dicom_object(path):
        return _from_other(path, name)
    try:
        if path.name.lower().endswith(".xfm"):
            raise FormatError("is a file of MINC, whose axes SimpleITK does not turn into LPS; convert it to .tfm")
        text = _text(path)
        if text is None:
            return CompositeTransform(tuple(_flatten(_read_binary(path))))
        records, remark = parse(text)
        parts = tuple(part for record in reversed(records) for part in _flatten(_read_record(record)))
    except OSError as error:
        raise TransformError(f"{name} cannot be opened ({error.strerror}); check its permissions") from None
    except FormatError as error:
        raise TransformError(f"{name} {error}") from None
    except (GeometryError, TransformError) as error:
        raise TransformError(f"{name} cannot be used: {error}") from None
    if remark:
        note(f"{name} {remark}")
    return CompositeTransform(parts)


def _from_other(path: Path, name: str) -> CompositeTransform:
    """What is no file of an ITK transform: an image, or a DICOM object."""
    from dlir.transforms.dicom.reading import read_registration
    from dlir.transforms.fields import read_field

    try:
        if is_dicom_object(path):
            return read_registration(path)
        return CompositeTransform((read_field(path),))
    except FormatError as error:
        raise TransformError(f"{name} {error}") from None
    except (ImageError, GeometryError) as error:  # which name it themselves
        raise TransformError(str(error)) from None


def _text(path: Path) -> str | None:
    """A file as ITK's text format; None for HDF5. Raises FormatError for what is no text though its name says so."""
    ending = path.suffix.lower()
    with path.open("rb") as file:
        data = file.read(_START_BYTES)
        try:
            decode(data)
        except ValueError:
            if ending in _TEXT_SUFFIXES:
                raise FormatError(NO_TRANSFORM) from None
            return matlab_as_text(data + file.read()) if ending == ".mat" else None
        try:
            return decode(data + file.read())
        except ValueError:
            raise FormatError(NO_TRANSFORM) from None


def _read_record(record: Record) -> Any:
    """The SimpleITK transform of a record, in a composite, which also SimpleITK's nameless types can be used in."""
    composite = Record(f"{COMPOSITE}_double_3_3", {"Parameters": "", "FixedParameters": ""})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "transform.tfm"
        path.write_text(HEADER + composite.text() + record.text(), encoding="utf-8")
        return _read_binary(path)


def _read_binary(path: Path) -> Any:
    """The SimpleITK transform of a file. Raises FormatError where ITK finds none, or more than one."""
    import SimpleITK as sitk

    heard: list[str] = []
    try:
        with notes_to(heard.append), quiet:
            transform = sitk.ReadTransform(str(path))
    except (KeyError, TypeError):  # from its Downcast, as the next
        raise FormatError(_NAMELESS) from None
    except RuntimeError as error:
        raise FormatError(_NAMELESS if "is not of type" in str(error) else NO_TRANSFORM) from None
    for warning in heard:
        if "more than one transform" in warning:
            raise FormatError("holds several transforms, of which SimpleITK reads one; write them as one composite")
        note(warning)
    if transform.GetDimension() != 3:
        raise FormatError("is not three-dimensional; give a 3D transform")
    return transform


def _flatten(transform: Any) -> list[Part]:
    """The parts in the order in which they are applied. ITK's files hold no composite within a composite."""
    import SimpleITK as sitk

    parts = [transform]
    if isinstance(transform, sitk.CompositeTransform):
        try:
            parts = [transform.GetNthTransform(i) for i in reversed(range(transform.GetNumberOfTransforms()))]
        except (KeyError, TypeError, RuntimeError):  # a type without a name, which only the whole can be asked about
            parts = [transform]
    return [_part_from_sitk(part) for part in parts]


def _part_from_sitk(transform: Any) -> Part:
    import SimpleITK as sitk

    if transform.IsLinear():
        return _linear_from_sitk(transform)
    if isinstance(transform, sitk.BSplineTransform):
        return _bspline_from_sitk(transform)
    if isinstance(transform, sitk.DisplacementFieldTransform):
        return _field_from_sitk(transform)
    if isinstance(transform, sitk.CompositeTransform):  # SimpleITK's form of a type that it does not name
        raise FormatError(_NAMELESS)
    raise FormatError(unknown(transform.GetName()))


def _linear_from_sitk(transform: Any) -> AffineTransform:
    corners = np.vstack([np.zeros(3), np.eye(3)])
    images = np.array([transform.TransformPoint(corner.tolist()) for corner in corners])
    matrix = np.eye(4)
    matrix[:3, 3] = images[0]
    matrix[:3, :3] = (images[1:] - images[0]).T
    return AffineTransform(matrix)


def _bspline_from_sitk(transform: Any) -> BSplineTransform:
    import SimpleITK as sitk

    if transform.GetOrder() != 3:
        raise TransformError(f"it holds a B-spline of order {transform.GetOrder()}; only cubic ones are supported")
    images = transform.GetCoefficientImages()
    return BSplineTransform(
        np.stack([sitk.GetArrayFromImage(image) for image in images]), ImageGrid.from_sitk(images[0])
    )


def _field_from_sitk(transform: Any) -> DisplacementTransform:
    import SimpleITK as sitk

    image = transform.GetDisplacementField()
    field = sitk.GetArrayFromImage(image)
    if not np.isfinite(field).all():
        raise FormatError("holds a displacement field with values that are not finite numbers; give one without")
    return DisplacementTransform(field.astype(np.float32), ImageGrid.from_sitk(image))


# -- whatever a method gives --------------------------------------------------------------------------


def save_transform(folder: Path, name: str, transform: CompositeTransform) -> str:
    """Writes `transform` and returns its file name: NAME.h5 for ITK, or NAME.npz with a displacement field.

    Raises OutputError, and TransformError for a chain in which a displacement field does not come first.
    """
    first, *rest = transform.parts or (AffineTransform(np.eye(4)),)
    if not isinstance(first, DisplacementTransform):
        write_transform(folder / (name + _EXACT), transform)
        return name + _EXACT
    matrix = CompositeTransform(tuple(rest)).matrix
    grid = first.grid
    with replacing(folder / (name + _DENSE)) as temporary:
        np.savez_compressed(
            temporary,
            field=first.field,
            matrix=matrix,
            spacing=grid.spacing,
            origin=grid.origin,
            direction=grid.direction,
        )
    return name + _DENSE


def load_transform(path: Path) -> CompositeTransform:
    """What `save_transform` wrote. Raises TransformError for a file that is missing or damaged."""
    if path.suffix == _EXACT:
        return read_transform(path)
    try:
        with np.load(path) as file:
            field, matrix = file["field"], file["matrix"]
            grid = ImageGrid(field.shape[:3], tuple(file["spacing"]), tuple(file["origin"]), tuple(file["direction"]))
    except (OSError, ValueError, KeyError) as error:
        raise TransformError(f"transform '{path}' cannot be read ({error}); evaluate the pair again") from None
    return CompositeTransform((DisplacementTransform(field, grid), AffineTransform(matrix)))
