"""DICOM registration objects: what is written is what the standard says, and comes back as the same transform."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chains import random_bspline
from cli_runs import refuse, succeed
from dicom_series import write_series
from dlir.errors import TransformError, notes_to
from dlir.geometry import ImageGrid
from dlir.io.dicom.instances import read_series
from dlir.transforms.dicom.writing import write_registration
from dlir.transforms.files import read_transform, write_transform
from dlir.transforms.spatial import AffineTransform, CompositeTransform, DisplacementTransform
from grids import Array, make_grid, rotation

pydicom = pytest.importorskip("pydicom")

FIXED = make_grid((5, 7, 9), (2.0, 1.5, 4.0), (10, -30, 60), (0.2, -0.1, 0.4))
MOVING = make_grid((6, 8, 8), (1.8, 1.8, 3.5), (12, -28, 58))
IDENTITY = [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


def linear(scale: tuple[float, float, float] = (1, 1, 1), shear: float = 0.0) -> AffineTransform:
    """A stretch after a turn after a shear, and a shift, that keeps the fixed image's centre near the moving one's."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(scale) @ rotation((0.1, -0.2, 0.3)) @ (np.eye(3) + np.diag([shear, 0], 1))
    matrix[:3, 3] = MOVING.center - matrix[:3, :3] @ FIXED.center + (1.5, -0.5, 1.25)
    return AffineTransform(matrix)


def bending() -> CompositeTransform:
    controls = make_grid((9, 9, 9), (6.0, 6.0, 6.0), tuple(FIXED.center - 24))
    return CompositeTransform((random_bspline(np.random.default_rng(0), controls, zero_layers=3), linear(shear=0.1)))


@pytest.fixture
def series(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of a fixed and a moving series, in two studies and two frames of reference."""
    rng = np.random.default_rng(0)
    fixed, moving = (rng.integers(0, 900, grid.shape).astype(np.int16) for grid in (FIXED, MOVING))
    write_series(tmp_path / "fixed", fixed, FIXED, "1.2.3.5")
    write_series(tmp_path / "moving", moving, MOVING, "1.2.4.6", study="1.2.4")
    return tmp_path / "fixed", tmp_path / "moving"


def written(path: Path, transform: CompositeTransform, series: tuple[Path, Path]) -> Any:
    fixed, moving = (read_series(str(folder), "image") for folder in series)
    write_registration(path, transform, fixed, moving)
    return pydicom.dcmread(path)


def points(grid: ImageGrid = FIXED) -> Array:
    return grid.voxel_centers().reshape(-1, 3)


# -- linear ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (linear(), "RIGID"),
        (linear((1.1, 0.9, 1.2)), "RIGID_SCALE"),
        (linear((1.1, 0.9, 1.2), 0.2), "AFFINE"),
    ],
    ids=["rigid", "scaled", "affine"],
)
def test_a_matrix_maps_the_moving_frame_to_the_fixed_one(
    tmp_path: Path, series: tuple[Path, Path], part: AffineTransform, kind: str
) -> None:
    path, transform = tmp_path / "reg.dcm", CompositeTransform((part,))
    found = written(path, transform, series)
    assert found.SOPClassUID.name == "Spatial Registration Storage"
    assert found.FrameOfReferenceUID == "1.2.3.5.8"
    still, moved = found.RegistrationSequence
    assert (still.FrameOfReferenceUID, moved.FrameOfReferenceUID) == ("1.2.3.5.8", "1.2.4.6.8")
    (still,), (moved,) = (item.MatrixRegistrationSequence[0].MatrixSequence for item in (still, moved))
    assert still.FrameOfReferenceTransformationMatrix == IDENTITY
    assert still.FrameOfReferenceTransformationMatrixType == "RIGID"
    assert moved.FrameOfReferenceTransformationMatrixType == kind
    matrix = np.reshape(np.array(moved.FrameOfReferenceTransformationMatrix, float), (4, 4))
    sent = transform.apply(points())
    np.testing.assert_allclose(sent @ matrix[:3, :3].T + matrix[:3, 3], points(), rtol=0, atol=1e-6)
    back = read_transform(path)
    assert [type(part) for part in back.parts] == [AffineTransform]
    np.testing.assert_allclose(back.apply(points()), sent, rtol=0, atol=1e-6)


def test_a_mirror_is_no_rigid_motion(tmp_path: Path, series: tuple[Path, Path]) -> None:
    matrix = np.diag([-1.0, 1, 1, 1])
    matrix[:3, 3] = FIXED.center - matrix[:3, :3] @ FIXED.center
    found = written(tmp_path / "reg.dcm", CompositeTransform((AffineTransform(matrix),)), series)
    item = found.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
    assert item.FrameOfReferenceTransformationMatrixType == "AFFINE"


def test_the_identity_is_written_and_read(tmp_path: Path, series: tuple[Path, Path]) -> None:
    written(tmp_path / "reg.dcm", CompositeTransform(()), series)
    np.testing.assert_array_equal(read_transform(tmp_path / "reg.dcm").apply(points()), points())


# -- deformable --------------------------------------------------------------------------------------


def sampled_as_the_standard_says(item: Any) -> Array:
    """(N, 3): where PS3.3 C.20.3.1.1 samples the source for each point of the grid, in the grid's order."""
    (grid,) = item.DeformableRegistrationGridSequence
    across, down = np.reshape(np.array(grid.ImageOrientationPatient, float), (2, 3))
    columns, rows, planes = grid.GridDimensions
    step = np.array(grid.GridResolution)
    k, j, i = np.meshgrid(range(planes), range(rows), range(columns), indexing="ij")
    offsets = np.stack([i, j, k], -1).reshape(-1, 3) * step
    start = offsets @ np.stack([across, down, np.cross(across, down)]) + np.array(grid.ImagePositionPatient, float)
    deformation = np.frombuffer(grid.VectorGridData, "<f4").reshape(-1, 3)
    (post,) = item.PostDeformationMatrixRegistrationSequence
    matrix = np.reshape(np.array(post.FrameOfReferenceTransformationMatrix, float), (4, 4))
    assert "PreDeformationMatrixRegistrationSequence" not in item
    np.testing.assert_allclose(start, points(), rtol=0, atol=1e-5)
    return (start + deformation) @ matrix[:3, :3].T + matrix[:3, 3]


def test_a_deformation_samples_the_moving_image(tmp_path: Path, series: tuple[Path, Path]) -> None:
    path, transform = tmp_path / "reg.dcm", bending()
    found = written(path, transform, series)
    assert found.SOPClassUID.name == "Deformable Spatial Registration Storage"
    assert found.FrameOfReferenceUID == "1.2.3.5.8"
    (item,) = found.DeformableRegistrationSequence
    assert item.SourceFrameOfReferenceUID == "1.2.4.6.8"
    sent = transform.apply(points())
    assert np.linalg.norm(sent - linear(shear=0.1).apply(points()), axis=1).max() > 0.5
    np.testing.assert_allclose(sampled_as_the_standard_says(item), sent, rtol=0, atol=1e-4)
    back = read_transform(path)
    assert [type(part) for part in back.parts] == [DisplacementTransform, AffineTransform]
    np.testing.assert_allclose(back.apply(points()), sent, rtol=0, atol=1e-4)


def test_a_matrix_before_the_deformation_counts(tmp_path: Path, series: tuple[Path, Path]) -> None:
    """As other systems write it: post (pre x + d(x))."""
    path = tmp_path / "reg.dcm"
    found = written(path, bending(), series)
    (item,) = found.DeformableRegistrationSequence
    after = sampled_as_the_standard_says(item)
    before = np.array([[0.9, 0.1, 0, 3], [-0.1, 1.1, 0, -2], [0, 0, 1, 4], [0, 0, 0, 1]])
    pre = pydicom.Dataset()
    pre.FrameOfReferenceTransformationMatrix = before.ravel().tolist()
    pre.FrameOfReferenceTransformationMatrixType = "AFFINE"
    item.PreDeformationMatrixRegistrationSequence = [pre]
    found.save_as(path)
    post = np.reshape(np.array(item.PostDeformationMatrixRegistrationSequence[0][0x300600C6].value, float), (4, 4))
    moved = points() @ before[:3, :3].T + before[:3, 3] - points()
    np.testing.assert_allclose(read_transform(path).apply(points()), after + moved @ post[:3, :3].T, rtol=0, atol=1e-4)


def test_undefined_points_stay_and_are_told(tmp_path: Path, series: tuple[Path, Path]) -> None:
    path = tmp_path / "reg.dcm"
    found = written(path, bending(), series)
    grid = found.DeformableRegistrationSequence[0].DeformableRegistrationGridSequence[0]
    vectors = np.frombuffer(grid.VectorGridData, "<f4").copy()
    vectors[:6] = np.nan
    grid.VectorGridData = vectors.tobytes()
    found.save_as(path)
    told: list[str] = []
    with notes_to(told.append):
        back = read_transform(path)
    assert told == [
        "the registration does not say where 2 of its 315 points go; they are taken not to be deformed",
    ]
    field = back.parts[0]
    assert isinstance(field, DisplacementTransform)
    assert not field.field[0, 0, :2].any()
    np.testing.assert_array_equal(field.field.reshape(-1)[6:], vectors[6:])


# -- whom it belongs to ------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [CompositeTransform((linear(),)), bending()], ids=["spatial", "deformable"])
def test_patient_study_and_images(tmp_path: Path, series: tuple[Path, Path], transform: CompositeTransform) -> None:
    first, second = (written(tmp_path / f"{name}.dcm", transform, series) for name in "ab")
    assert (str(first.PatientName), first.PatientID, first.StudyInstanceUID) == ("Doe^Jane", "P1", "1.2.3")
    assert (first.Modality, first.PatientSex, first.AccessionNumber) == ("REG", "", "")
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    assert len({first.SOPInstanceUID, second.SOPInstanceUID, first.SeriesInstanceUID, second.SeriesInstanceUID}) == 4
    (own,) = first.ReferencedSeriesSequence
    (other,) = first.StudiesContainingOtherReferencedInstancesSequence
    assert other.StudyInstanceUID == "1.2.4"
    (moving,) = other.ReferencedSeriesSequence
    for found, uid, count in ((own, "1.2.3.5", 5), (moving, "1.2.4.6", 6)):
        assert found.SeriesInstanceUID == uid
        assert [image.ReferencedSOPInstanceUID for image in found.ReferencedInstanceSequence] == [
            f"{uid}.7.{n}" for n in range(1, count + 1)
        ]
        assert {image.ReferencedSOPClassUID.name for image in found.ReferencedInstanceSequence} == {"MR Image Storage"}
    items = first.get("RegistrationSequence") or first.DeformableRegistrationSequence
    assert [image.ReferencedSOPInstanceUID for image in items[-1].ReferencedImageSequence] == [
        f"1.2.4.6.7.{n}" for n in range(1, 7)
    ]


def test_time_points_of_one_series(tmp_path: Path) -> None:
    """Two phases of a cine: the object names the images of these two alone, and one series."""
    values = np.random.default_rng(0).integers(0, 900, FIXED.shape).astype(np.int16)
    for phase in range(3):
        tags = {"0020|0100": phase + 1, "0020|0013": phase + 1}
        write_series(
            tmp_path / "cine" / str(phase),
            values,
            FIXED,
            f"1.2.3.{phase}",
            tags={
                **tags,
                "0020|000e": "1.2.3.9",
                "0020|0052": "1.2.3.8",
            },
        )
    found = written(tmp_path / "reg.dcm", CompositeTransform(()), (tmp_path / "cine#0", tmp_path / "cine#2"))
    (own,) = found.ReferencedSeriesSequence
    assert own.SeriesInstanceUID == "1.2.3.9"
    assert [image.ReferencedSOPInstanceUID for image in own.ReferencedInstanceSequence] == [
        f"1.2.3.{phase}.7.{n}" for phase in (0, 2) for n in range(1, 6)
    ]
    assert "StudiesContainingOtherReferencedInstancesSequence" not in found


def test_a_name_in_other_letters(tmp_path: Path, series: tuple[Path, Path]) -> None:
    tags = {"0008|0005": "ISO_IR 100", "0010|0010": "Müller^Zoë"}
    write_series(series[0], np.zeros(FIXED.shape, np.int16), FIXED, "1.2.3.5", tags=tags)
    found = written(tmp_path / "reg.dcm", CompositeTransform((linear(),)), series)
    assert str(found.PatientName) == "Müller^Zoë"


def test_another_patient_is_told(tmp_path: Path, series: tuple[Path, Path]) -> None:
    write_series(
        series[1], np.zeros(MOVING.shape, np.int16), MOVING, "1.2.4.6", study="1.2.4", tags={"0010|0020": "P2"}
    )
    told: list[str] = []
    with notes_to(told.append):
        written(tmp_path / "reg.dcm", CompositeTransform((linear(),)), series)
    assert len(told) == 1
    assert "state different patients" in told[0]
    assert "P1" not in told[0]


# -- the command -------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, series: tuple[Path, Path]) -> list[object]:
    write_transform(tmp_path / "t.h5", bending())
    fixed, moving = series
    return ["dicom", "write", "--transform", tmp_path / "t.h5", "--fixed", fixed, "--moving", moving, "--output"]


def test_written_and_applied_by_commands(tmp_path: Path, series: tuple[Path, Path], command: list[object]) -> None:
    report = json.loads(succeed([*command, tmp_path / "new" / "reg.dcm", "--json"]))
    assert (report["kind"], report["fixed_images"], report["moving_images"]) == ("deformable", 5, 6)
    assert report["fixed"] == "DICOM folder"
    ways = {}
    for name in ("t.h5", "new/reg.dcm"):
        output = tmp_path / f"{Path(name).stem}.csv"
        (tmp_path / "points.csv").write_text("".join(f"{x},{y},{z}\n" for x, y, z in points()))
        succeed(["apply", "--transform", tmp_path / name, "--points", tmp_path / "points.csv", "--output", output])
        ways[name] = output.read_text().splitlines()[1:]
    table = [np.array([[float(value) for value in line.split(",")[:3]] for line in way]) for way in ways.values()]
    np.testing.assert_allclose(table[0], table[1], rtol=0, atol=1e-3)


def test_what_is_no_series_is_refused(tmp_path: Path, series: tuple[Path, Path], command: list[object]) -> None:
    (tmp_path / "image.nii").write_bytes(b"x")
    command[command.index("--fixed") + 1] = tmp_path / "image.nii"
    refuse([*command, tmp_path / "reg.dcm"], tmp_path, "is no DICOM series; give the folder")
    assert not (tmp_path / "reg.dcm").exists()


def test_a_transform_between_other_images_is_refused(tmp_path: Path, command: list[object]) -> None:
    write_transform(tmp_path / "t.h5", CompositeTransform((AffineTransform.translation((500, 0, 0)),)))
    refuse([*command, tmp_path / "reg.dcm"], tmp_path, "sends no part of")


def test_a_series_without_a_frame_of_reference(
    tmp_path: Path, series: tuple[Path, Path], command: list[object]
) -> None:
    values = np.zeros(FIXED.shape, np.int16)
    write_series(series[0], values, FIXED, "1.2.3.5", tags={"0020|0052": None})
    refuse([*command, tmp_path / "reg.dcm"], tmp_path, "states nothing as FrameOfReferenceUID")


def test_pydicom_is_missing(
    tmp_path: Path, command: list[object], series: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "reg.dcm", CompositeTransform(()), series)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    refuse([*command, tmp_path / "new.dcm"], tmp_path, "needs pydicom; install it with: pip install")
    with pytest.raises(TransformError, match="needs pydicom; install it with: pip install"):
        read_transform(tmp_path / "reg.dcm")


# -- objects of others -------------------------------------------------------------------------------


def other_class(dataset: Any) -> None:
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.2"


def no_items(dataset: Any) -> None:
    dataset.RegistrationSequence = []


def three_numbers(dataset: Any) -> None:
    step = dataset.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
    step.FrameOfReferenceTransformationMatrix = [1.0, 2.0, 3.0]


def last_row(dataset: Any) -> None:
    step = dataset.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
    step.FrameOfReferenceTransformationMatrix = [*IDENTITY[:15], 2.0]


def plane(dataset: Any) -> None:
    step = dataset.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
    step.FrameOfReferenceTransformationMatrix = [*IDENTITY[:10], 0.0, *IDENTITY[11:]]


def two_moving(dataset: Any) -> None:
    dataset.RegistrationSequence.append(dataset.RegistrationSequence[1])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_class, "a DICOM object of another kind (Spatial Fiducials Storage)"),
        (no_items, "its sequence of registrations cannot be read"),
        (three_numbers, "its matrix cannot be read"),
        (last_row, "its matrix cannot be read"),
        (plane, "a matrix without inverse"),
        (two_moving, "registers 2 things to its frame of reference"),
    ],
)
def test_what_is_not_read(tmp_path: Path, series: tuple[Path, Path], spoil: Callable[[Any], None], words: str) -> None:
    path = tmp_path / "reg.dcm"
    found = written(path, CompositeTransform((linear(),)), series)
    spoil(found)
    found.save_as(path)
    with pytest.raises(TransformError) as caught:
        read_transform(path)
    message = str(caught.value)
    assert words in message
    assert message.startswith(f"transform '{path}'")
    assert "\n" not in message


@pytest.mark.parametrize("part", [0.2, 0.6, 0.97])
def test_an_object_that_is_cut(tmp_path: Path, series: tuple[Path, Path], part: float) -> None:
    path = tmp_path / "reg.dcm"
    written(path, bending(), series)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(TransformError, match=r"damaged|cannot be read as DICOM"):
        read_transform(path)


def test_several_matrices_are_applied_in_their_order(tmp_path: Path, series: tuple[Path, Path]) -> None:
    path = tmp_path / "reg.dcm"
    found = written(path, CompositeTransform((linear(),)), series)
    steps = found.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence
    shift = pydicom.Dataset()
    shift.FrameOfReferenceTransformationMatrix = [*IDENTITY[:3], 7.0, *IDENTITY[4:]]
    shift.FrameOfReferenceTransformationMatrixType = "RIGID"
    steps.append(shift)
    found.save_as(path)
    expected = linear().apply(points() - (7, 0, 0))
    np.testing.assert_allclose(read_transform(path).apply(points()), expected, rtol=0, atol=1e-6)
