"""`dlir.apply` and `dlir.invert`: what the commands do, from files and from memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import dlir
from chains import random_chain
from cli_runs import Pair, make_model, read, succeed, write_pair
from dlir.errors import OptionError, OutputError, notes_to
from dlir.io import Landmarks, read_landmarks, write_landmarks
from dlir.transforms.files import to_sitk, write_transform
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from grids import make_grid


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    return write_pair(folder, make_model(folder / "tiny.safetensors"))


@pytest.fixture(scope="module")
def transforms(pair: Pair) -> list[Path]:
    rng = np.random.default_rng(0)
    names = [pair.folder / "shift.tfm", pair.folder / "turn.h5"]
    for name, offset in zip(names, rng.normal(0, 3, (2, 3)).tolist(), strict=True):
        matrix = np.eye(4) + np.vstack([rng.normal(0, 0.05, (3, 4)), np.zeros(4)])
        write_transform(name, CompositeTransform((AffineTransform(matrix), AffineTransform.translation(offset))))
    return names


@pytest.mark.parametrize("subject", ["image", "label"])
def test_in_memory_it_is_what_the_command_writes(pair: Pair, transforms: list[Path], subject: str) -> None:
    source = pair.moving if subject == "image" else pair.moving_label
    mode, output = "bspline" if subject == "image" else "gaussian-label", pair.folder / "command.nrrd"
    both = [text for name in transforms for text in ("--transform", name)]
    more = ["--reference", pair.fixed, "--interpolation", mode, "--output", output]
    succeed(["apply", *both, f"--{subject}", source, *more])
    places = (pair.fixed, sitk.ReadImage(str(pair.fixed)), dlir.ImageGrid.from_sitk(sitk.ReadImage(str(pair.fixed))))
    for place in places:
        moved = dlir.apply(transforms, **{subject: source}, reference=place, interpolation=mode)  # type: ignore[call-overload]
        np.testing.assert_array_equal(sitk.GetArrayFromImage(moved), read(output))
        assert moved.GetSpacing() == pytest.approx(sitk.ReadImage(str(output)).GetSpacing())
    itself = dlir.apply(
        [sitk.ReadTransform(str(name)) for name in transforms],
        **{subject: sitk.ReadImage(str(source))},
        reference=pair.fixed,
        interpolation=mode,
        output=pair.folder / "python.nrrd",
    )  # type: ignore[call-overload]
    np.testing.assert_allclose(sitk.GetArrayFromImage(itself), read(output), atol=1e-3)
    np.testing.assert_array_equal(read(pair.folder / "python.nrrd"), sitk.GetArrayFromImage(itself))


def test_points_in_every_form(pair: Pair, transforms: list[Path]) -> None:
    saved = sitk.CompositeTransform([sitk.ReadTransform(str(name)) for name in transforms])
    points = np.array([[1.0, 2.0, 3.0], [np.nan] * 3, [4.0, 5.0, 6.0]])
    expected = [saved.TransformPoint(point) for point in points[::2].tolist()]
    file = pair.folder / "points.csv"
    write_landmarks(file, Landmarks(points[::2], ("a", "b")))
    for given in (points, points.tolist()):
        found = dlir.apply(transforms, points=given)
        assert np.isnan(found[1]).all()
        np.testing.assert_allclose(found[::2], expected)
    np.testing.assert_allclose(dlir.apply(transforms, points=file, output=pair.folder / "o.mrk.json"), expected)
    assert read_landmarks(pair.folder / "o.mrk.json").labels == ("a", "b")
    back = dlir.apply(transforms, points=Landmarks(np.array(expected)), inverse=True)
    np.testing.assert_allclose(back, points[::2], atol=1e-5)


def test_a_result_applies_itself_in_the_same_way(pair: Pair) -> None:
    result = dlir.register(pair.fixed, pair.moving, model=pair.model, device="cpu")
    for options in ({}, {"interpolation": "bspline"}):
        own = result.apply(pair.moving, **options)
        same = dlir.apply(result.transform, image=pair.moving, reference=pair.fixed, **options)
        np.testing.assert_allclose(sitk.GetArrayFromImage(own), sitk.GetArrayFromImage(same), atol=1e-3)
    files = result.save(pair.folder / "saved", format="nii.gz", displacement=True)
    assert files["displacement"].name == "displacement.nii.gz"
    with pytest.raises(OutputError, match="is of the registration"):
        dlir.apply(result.transform, image=pair.moving, reference=pair.fixed, output=files["warped"])


def test_an_inverse_is_a_transform_and_a_field(pair: Pair, transforms: list[Path]) -> None:
    found = dlir.invert(transforms, reference=pair.moving, output=pair.folder / "inverse.tfm")
    both = sitk.CompositeTransform([sitk.ReadTransform(str(name)) for name in transforms])
    point = (10.0, -20.0, 30.0)
    for inverse in (found.transform, sitk.ReadTransform(str(pair.folder / "inverse.tfm"))):
        np.testing.assert_allclose(inverse.TransformPoint(both.TransformPoint(point)), point, atol=1e-9)
    assert (found.largest_residual_mm, found.unsolved) == (None, 0)
    assert found.displacement is not None
    assert found.displacement.GetSize() == sitk.ReadImage(str(pair.moving)).GetSize()
    assert dlir.invert(transforms).displacement is None
    chain = random_chain(np.random.default_rng(1), fraction=0.2)
    grid = make_grid((4, 5, 6), (3.0, 3.0, 3.0), tuple(chain.apply(chain.parts[0].grid.center[None])[0]))  # type: ignore[union-attr]
    bent = dlir.invert(to_sitk(chain), reference=grid)
    assert bent.largest_residual_mm is not None
    there = bent.transform.TransformPoint(grid.center.tolist())
    np.testing.assert_allclose(
        chain.apply(np.array([there])), grid.center[None], atol=(bent.between_voxels_mm or 0) + 1e-3
    )
    with pytest.raises(OptionError, match="needs --reference"):
        dlir.invert(to_sitk(chain))


def test_what_cannot_be_asked_for(pair: Pair, transforms: list[Path]) -> None:
    with pytest.raises(OptionError, match="exactly one of image, label, points and surface"):
        dlir.apply(transforms, image=pair.moving, label=pair.moving_label)
    with pytest.raises(OptionError, match="--image needs --reference"):
        dlir.apply(transforms, image=pair.moving)
    with pytest.raises(OutputError, match=r"must end in .csv"):
        dlir.apply(transforms, points=[[1, 2, 3]], output="points.nrrd")
    flat, notes = sitk.AffineTransform([1, 0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0]), list[str]()
    with notes_to(notes.append):
        dlir.apply(flat, points=[[1, 2, 5]], inverse=True)
    assert notes == [
        "1 of 1 points have no inverse (off by up to 5 mm): the transform folds there or does not reach them"
    ]
