"""Inputs, models and options that cannot be used: one line that names what is wrong and the remedy, and no trace."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cli_runs import Pair, read, refuse
from dlir.geometry import ImageGrid
from dlir.io.writing import write_image
from grids import make_grid

GRID = make_grid((10, 12, 14), (2.0, 2.0, 2.0))


def _values(grid: ImageGrid = GRID) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, grid.shape).astype(np.float32)


def _write(path: Path, image: sitk.Image) -> Path:
    sitk.WriteImage(image, str(path))
    return path


# -- images -------------------------------------------------------------------------------------------


def _missing(folder: Path) -> Path:
    return folder / "nowhere.nii.gz"


def _text(folder: Path) -> Path:
    (folder / "notes.nii.gz").write_text("not an image")
    return folder / "notes.nii.gz"


def _zero_bytes(folder: Path) -> Path:
    (folder / "zero.nrrd").write_bytes(b"")
    return folder / "zero.nrrd"


def _cut(folder: Path) -> Path:
    path = _write(folder / "cut.nii", GRID.to_sitk(_values()))
    path.write_bytes(path.read_bytes()[:-100])
    return path


def _flat(folder: Path) -> Path:
    return _write(folder / "flat.png", sitk.GetImageFromArray(np.arange(100, dtype=np.uint8).reshape(10, 10)))


def _one_slice(folder: Path) -> Path:
    return _write(folder / "slice.nii", ImageGrid((1, 20, 20)).to_sitk(_values(ImageGrid((1, 20, 20)))))


def _cine(folder: Path) -> Path:
    frames = [GRID.to_sitk(_values() + i) for i in range(3)]
    return _write(folder / "cine.nii.gz", sitk.JoinSeries(frames))


def _late_phase(folder: Path) -> str:
    return f"{_cine(folder)}#3"


def _colour(folder: Path) -> Path:
    colours = np.random.default_rng(0).integers(0, 255, (*GRID.shape, 3)).astype(np.uint8)
    return _write(folder / "rgb.nrrd", GRID.to_sitk(colours, is_vector=True))


def _constant(folder: Path) -> Path:
    write_image(folder / "constant.nrrd", np.full(GRID.shape, 7.0), GRID)
    return folder / "constant.nrrd"


def _not_a_number(folder: Path) -> Path:
    array = _values()
    array[1, 2, 3] = np.nan
    write_image(folder / "nan.nrrd", array, GRID)
    return folder / "nan.nrrd"


def _infinite(folder: Path) -> Path:
    array = _values()
    array[1, 2, 3] = np.inf
    write_image(folder / "inf.nrrd", array, GRID)
    return folder / "inf.nrrd"


def _small(folder: Path) -> Path:
    grid = make_grid((10, 12, 6), (2.0, 2.0, 2.0))
    write_image(folder / "small.nrrd", _values(grid), grid)
    return folder / "small.nrrd"


def _singular(folder: Path) -> Path:
    path = _write(folder / "singular.nrrd", ImageGrid((10, 12, 14), (1, 2, 3)).to_sitk(_values()))
    header = path.read_bytes()
    path.write_bytes(header.replace(b"(1,0,0) (0,2,0) (0,0,3)", b"(1,0,0) (2,0,0) (0,0,3)"))
    assert path.read_bytes() != header
    return path


def _empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


IMAGES: list[tuple[Callable[[Path], Path | str], tuple[str, ...]]] = [
    (_missing, ("does not exist", "check the path")),
    (_text, ("cannot be read as an image", "give an undamaged")),
    (_zero_bytes, ("empty file", "copy or export it again")),
    (_cut, ("damaged or incomplete", "copy or export it again")),
    (_flat, ("2D", "give a 3D volume")),
    (_one_slice, ("2D", "give a volume with several slices")),
    (_cine, ("3 time points", "choose one", "cine.nii.gz#0")),
    (_late_phase, ("no time point 3", "#0 to #2")),
    (_colour, ("3 values per voxel", "give an image with one")),
    (_constant, ("value 7 in every voxel", "check")),
    (_not_a_number, ("1 voxel that is not a finite number", "replace them")),
    (_infinite, ("1 voxel that is not a finite number", "replace them")),
    (_small, ("less than the", "correct its voxel size", "use a larger field of view or another model")),
    (_singular, ("direction", "singular", "correct the image header")),
    (_empty_folder, ("no DICOM image", "give a DICOM folder")),
]


@pytest.mark.parametrize("role", ["fixed", "moving"])
@pytest.mark.parametrize(("make", "words"), IMAGES, ids=[make.__name__.strip("_") for make, _ in IMAGES])
def test_image(pair: Pair, role: str, make: Callable[[Path], Path | str], words: tuple[str, ...]) -> None:
    image = make(pair.folder)
    refuse(pair.register(pair.folder / "out", **{role: image}), pair.folder, str(image), *words)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_image_that_cannot_be_opened(pair: Pair) -> None:
    # Permissions do not stop root; this file refuses to be read by anybody.
    arguments = pair.register(pair.folder / "out", moving="/proc/self/mem")
    refuse(arguments, pair.folder, "moving image '/proc/self/mem'", "cannot be opened", "check its permissions")


# -- pairs --------------------------------------------------------------------------------------------


def _far_away(pair: Pair) -> Path:
    image = sitk.ReadImage(str(pair.moving))
    grid = ImageGrid.from_sitk(image)
    far = replace(grid, origin=tuple(np.array(grid.origin) + 1000))
    write_image(pair.folder / "far.nrrd", sitk.GetArrayFromImage(image), far)
    return pair.folder / "far.nrrd"


def test_no_overlap_offers_the_centers(pair: Pair) -> None:
    arguments = pair.register(pair.folder / "out", "--initialize", "scanner", moving=_far_away(pair))
    refuse(arguments, pair.folder, "do not overlap", "far.nrrd", "--initialize centers", "--initial-transform")


def test_no_overlap_is_no_problem_for_the_centers(pair: Pair) -> None:
    from cli_runs import succeed

    report = json.loads(succeed(pair.register(pair.folder / "out", "--json", moving=_far_away(pair))))
    assert report["initialization"]["mode"] in ("image centers", "centers of mass")
    assert report["initialization"]["center_distance_mm"] > 1000


@pytest.mark.parametrize("role", ["moving-label", "fixed-label", "fixed-mask", "moving-mask"])
def test_label_or_mask_on_another_grid(pair: Pair, role: str) -> None:
    own, other = (pair.moving_label, pair.fixed_label) if "moving" in role else (pair.fixed_label, pair.moving_label)
    more = ["--moving-label", pair.moving_label] if role == "fixed-label" else []
    arguments = pair.register(pair.folder / "out", *more, f"--{role}", other)
    refuse(arguments, pair.folder, role.replace("-", " "), str(other), "does not lie on the voxels", "resample")
    assert own.exists()


def test_label_that_is_an_image(pair: Pair) -> None:
    arguments = pair.register(pair.folder / "out", "--moving-label", pair.moving)
    refuse(arguments, pair.folder, "moving label", "not whole numbers", "give a label map")


def test_empty_mask(pair: Pair) -> None:
    grid = ImageGrid.from_sitk(sitk.ReadImage(str(pair.fixed)))
    write_image(pair.folder / "nothing.nrrd", np.zeros(grid.shape, np.uint8), grid)
    arguments = pair.register(pair.folder / "out", "--fixed-mask", pair.folder / "nothing.nrrd")
    refuse(arguments, pair.folder, "fixed mask", "nothing.nrrd", "is empty")


def test_initial_transform_that_is_none(pair: Pair) -> None:
    for content in (b"", b"no transform", read(pair.fixed).tobytes()[:5000]):
        (pair.folder / "start.h5").write_bytes(content)
        arguments = pair.register(pair.folder / "out", "--initial-transform", pair.folder / "start.h5")
        refuse(arguments, pair.folder, "start.h5", "damaged")
    arguments = pair.register(pair.folder / "out", "--initial-transform", pair.folder / "none.h5")
    refuse(arguments, pair.folder, "none.h5", "does not exist")


# -- models -------------------------------------------------------------------------------------------


def _contents(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    with safe_open(str(path), "pt") as file:
        return load_file(str(path)), json.loads(file.metadata()["dlir"])


def _damaged(pair: Pair, path: Path) -> None:
    data = bytearray(pair.model.read_bytes())
    data[-7] ^= 0xFF
    path.write_bytes(data)


def _truncated(pair: Pair, path: Path) -> None:
    path.write_bytes(pair.model.read_bytes()[:-500])


def _cut_header(pair: Pair, path: Path) -> None:
    path.write_bytes(pair.model.read_bytes()[:100])


def _newer(pair: Pair, path: Path) -> None:
    weights, content = _contents(pair.model)
    save_file(weights, str(path), {"dlir": json.dumps({**content, "format": 99})})


def _mismatching(pair: Pair, path: Path) -> None:
    weights, content = _contents(pair.model)
    content["spec"]["stages"][0]["channels"] = [4, 4, 4, 8]  # type: ignore[index]
    text = json.dumps(content)
    save_file(weights, str(path), {"dlir": text, "dlir_sha256": hashlib.sha256(text.encode()).hexdigest()})


def _foreign(pair: Pair, path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, str(path))


def _image_as_model(pair: Pair, path: Path) -> None:
    path.write_bytes(pair.fixed.read_bytes())


def _pickle(pair: Pair, path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


def _lying_length(pair: Pair, path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**62) + pair.model.read_bytes()[8:])


def _nothing(pair: Pair, path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_damaged, ("damaged", "fetch it again")),
        (_truncated, ("damaged", "fetch it again")),
        (_cut_header, ("damaged", "fetch it again")),
        (_lying_length, ("damaged", "fetch it again")),
        (_newer, ("format 99", "newer", "update DLIR")),
        (_mismatching, ("do not match", "fetch it again")),
        (_foreign, ("no DLIR model", "choose another file")),
        (_image_as_model, ("damaged",)),
        (_pickle, ("damaged",)),
        (_nothing, ("cannot read model file", "check the path")),
    ],
)
def test_model_file(pair: Pair, make: Callable[[Pair, Path], None], words: tuple[str, ...]) -> None:
    path = pair.folder / "bad.safetensors"
    make(pair, path)
    refuse(pair.register(pair.folder / "out", model=path), pair.folder, str(path), *words)


def test_unknown_model_name(pair: Pair) -> None:
    refuse(pair.register(pair.folder / "out", model="hart"), pair.folder, "'hart'", "model file")


# -- devices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_device_that_is_not_here(pair: Pair, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    arguments = pair.register(pair.folder / "out", "--device", device)
    refuse(arguments, pair.folder, f"'{device}'", "--device auto")
