"""Images of any layout through a transform: each time point and component as it would go alone."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import SimpleITK as sitk

from dlir.applying.apply import Application, apply
from dlir.applying.choices import Interpolation, Subject
from dlir.applying.images import Image, read_any_image, read_any_label
from dlir.errors import ImageError, OptionError, OutputError, notes_to
from dlir.io import Volume, write_image
from dlir.io.sequence_writing import sequence_writer
from dlir.io.sequences import read_sequence
from dlir.transforms.resample import Mode, resample
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from grids import make_grid

GRID = make_grid((6, 7, 8), (2.0, 1.5, 3.0), (10, -20, 30), (0.2, 0.1, -0.3))
ONTO = make_grid((5, 9, 6), (2.2, 1.4, 3.1), (12, -18, 33), (0.1, 0.1, -0.2))
SHIFT = CompositeTransform((AffineTransform.translation([0.7, -0.4, 0.9]),))


def silent(step: str, fraction: float) -> None: ...


def moved(subject: Subject, source: Path, target: Path | None = None, interpolation: str | None = None) -> Image:
    asked = Application(subject, str(source), SHIFT, ONTO, interpolation=interpolation)
    content = apply(asked, silent, target).content
    assert isinstance(content, Image)
    return content


def cine(path: Path, dtype: str) -> list[np.ndarray]:
    phases = [np.random.default_rng(k).integers(0, 3, GRID.shape).astype(dtype) for k in range(3)]
    phases[0][:] = 0  # before something comes
    for phase in phases:
        phase[:2] = 0
    with sequence_writer(path, 3, GRID, dtype, (0.0, 0.5, 1.0)) as add:
        for phase in phases:
            add(phase)
    return phases


@pytest.mark.parametrize("names", [("in.nii.gz", "out.seq.nrrd"), ("in.seq.nrrd", "out.nii.gz")])
def test_each_time_point_goes_as_it_would_alone(tmp_path: Path, names: tuple[str, str]) -> None:
    source, target = (tmp_path / name for name in names)
    phases = cine(source, "float32")
    found = moved(Subject.image, source, target, "bspline")
    outside = min(float(phase.min()) for phase in phases)
    for array, phase in zip(found.arrays, phases, strict=True):
        np.testing.assert_allclose(array, resample(phase, GRID, SHIFT, ONTO, "bspline", outside), atol=1e-4)
    again = read_sequence(target)
    np.testing.assert_array_equal(np.stack(again.arrays), np.stack(found.arrays))
    assert again.seconds == pytest.approx((0.0, 0.5, 1.0))
    assert again.grid.same_as(ONTO)
    image = found.to_sitk()
    assert (image.GetSize(), image.GetSpacing()[3]) == ((*ONTO.size, 3), 0.5)
    assert read_any_image(f"{source}#1").layout == "volume"
    with pytest.raises(OutputError, match=r"^cannot write 'out.mha': an image of several time points must end"):
        moved(Subject.image, source, tmp_path / "out.mha")


def test_labels_of_each_time_point(tmp_path: Path) -> None:
    phases = cine(tmp_path / "labels.nii.gz", "uint8")
    found = moved(Subject.label, tmp_path / "labels.nii.gz", tmp_path / "o.nii.gz")
    for array, phase in zip(found.arrays, phases, strict=True):
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, resample(phase, GRID, SHIFT, ONTO, "nearest"))
    assert np.stack(found.arrays).any()
    write_image(tmp_path / "grey.nrrd", phases[0] + np.float32(0.5), GRID)
    with pytest.raises(ImageError, match="not whole numbers"):
        read_any_label(str(tmp_path / "grey.nrrd"))


@pytest.mark.parametrize(("name", "dtype"), [("v.nrrd", "float32"), ("v.nii.gz", "float32"), ("v.mha", "uint8")])
def test_each_component_goes_as_it_would_alone(tmp_path: Path, name: str, dtype: str) -> None:
    """Vectors are not turned, which a note says; beyond the image all is 0."""
    vectors = np.random.default_rng(0).uniform(50, 200, (*GRID.shape, 3)).astype(dtype)
    write_image(tmp_path / name, vectors, GRID, is_vector=True)
    notes: list[str] = []
    with notes_to(notes.append):
        found = moved(Subject.image, tmp_path / name, tmp_path / f"out{name}")
    assert any("has 3 values per voxel; each is interpolated by itself" in text for text in notes)
    grid = read_any_image(str(tmp_path / name)).grid  # NIfTI keeps it in single precision
    for axis, array in enumerate(found.arrays):
        np.testing.assert_allclose(array, resample(vectors[..., axis], grid, SHIFT, ONTO), atol=1e-3)
    assert (found.arrays[0] == 0).any()
    written = sitk.ReadImage(str(tmp_path / f"out{name}"))
    assert written.GetNumberOfComponentsPerPixel() == found.to_sitk().GetNumberOfComponentsPerPixel() == 3
    np.testing.assert_allclose(sitk.GetArrayFromImage(written), np.stack(found.arrays, -1), atol=1e-4)
    with pytest.raises(ImageError, match="3 values per voxel"):
        moved(Subject.label, tmp_path / name)


def test_components_that_cannot_be_used(tmp_path: Path) -> None:
    vectors = np.ones((*GRID.shape, 3), np.float32)
    vectors[2, 3, 4, 1] = np.nan
    write_image(tmp_path / "v.mha", vectors, GRID, is_vector=True, compress=False)
    with pytest.raises(ImageError, match="not finite"):
        read_any_image(str(tmp_path / "v.mha"))
    (tmp_path / "cut.mha").write_bytes((tmp_path / "v.mha").read_bytes()[:-100])
    with pytest.raises(ImageError, match="damaged"):
        read_any_image(str(tmp_path / "cut.mha"))


def test_interpolations_are_those_of_resampling_and_fit_what_is_interpolated() -> None:
    assert {choice.value for choice in Interpolation} == set(get_args(Mode))
    volume = Volume(np.random.default_rng(0).integers(0, 3, GRID.shape).astype(np.int16), GRID, "a")
    for subject, wrong in ((Subject.image, "gaussian-label"), (Subject.label, "linear"), (Subject.label, "bspline")):
        with pytest.raises(OptionError, match=f"is '{wrong}'; use "):
            apply(Application(subject, volume, SHIFT, ONTO, interpolation=wrong), silent)
    with pytest.raises(OptionError, match="points are not interpolated"):
        Application(Subject.points, "a.csv", SHIFT, interpolation="linear")
    with pytest.raises(OptionError, match="--image needs --reference"):
        Application(Subject.image, "a.nrrd", SHIFT)
    with pytest.raises(OptionError, match="--frame is that of a surface"):
        Application(Subject.points, "a.csv", SHIFT, frame="RAS")
