"""Segmentations of Slicer on the command line: layers, names, and an extent that is cropped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from cli_runs import Pair, read, refuse, succeed
from dlir.geometry import ImageGrid
from segment_files import save_segmentation

NAMES = (("core", 0, 1), ("all of it", 1, 1))


@pytest.fixture
def overlapping(pair: Pair) -> Path:
    labels, grid = read(pair.moving_label), ImageGrid.from_sitk(sitk.ReadImage(str(pair.moving_label)))
    return save_segmentation(pair.folder / "overlapping.seg.nrrd", np.stack([labels == 2, labels > 0]), grid, NAMES)


def test_every_layer_is_propagated_and_scored_by_name(pair: Pair, overlapping: Path) -> None:
    fixed, grid = read(pair.fixed_label), ImageGrid.from_sitk(sitk.ReadImage(str(pair.fixed_label)))
    turned = [("all of it", 0, 1), ("core", 1, 1)]
    other = save_segmentation(pair.folder / "fixed.seg.nrrd", np.stack([fixed > 0, fixed == 2]), grid, turned)
    succeed(pair.register(pair.folder / "one", "--moving-label", pair.moving_label))
    labels = ("--moving-label", overlapping, "--fixed-label", other)
    report = json.loads(succeed(pair.register(pair.folder / "out", "--json", *labels)))
    warped = read(pair.folder / "one" / "warped_label.nrrd")
    np.testing.assert_array_equal(read(pair.folder / "out" / "warped_label_1.nrrd"), warped == 2)
    np.testing.assert_array_equal(read(pair.folder / "out" / "warped_label_2.nrrd"), warped > 0)
    assert report["segments"] == [{"name": name, "layer": layer, "value": value} for name, layer, value in NAMES]
    core, both = report["labels"]["core"]["after"]["dice"], report["labels"]["all of it"]["after"]["dice"]
    assert core == pytest.approx(2 * ((warped == 2) & (fixed == 2)).sum() / ((warped == 2).sum() + (fixed == 2).sum()))
    assert both == pytest.approx(2 * ((warped > 0) & (fixed > 0)).sum() / ((warped > 0).sum() + (fixed > 0).sum()))
    printed = succeed(pair.register(pair.folder / "out", *labels))
    assert "segment   all of it: value 1 of warped_label_2.nrrd" in printed


def test_other_uses_ask_for_a_layer(pair: Pair, overlapping: Path) -> None:
    refuse(
        pair.register(pair.folder / "out", "--moving-mask", overlapping), pair.folder, "overlapping segments", "core"
    )
    succeed(pair.register(pair.folder / "run", "--moving-mask", f"{overlapping}#1"))
    arguments = ["apply", "--transform", pair.folder / "run" / "transform.h5", "--reference", pair.fixed]
    output = pair.folder / "label.nrrd"
    refuse([*arguments, "--label", overlapping, "--output", output], pair.folder, "2 layers", "#1: all of it")
    succeed([*arguments, "--label", f"{overlapping}#1", "--output", output])


@pytest.mark.parametrize("slices", [slice(3, 11), slice(7, 8)])
def test_register_and_apply_take_a_cropped_extent_alike(pair: Pair, slices: slice) -> None:
    image = sitk.ReadImage(str(pair.moving_label))
    labels, grid = read(pair.moving_label), ImageGrid.from_sitk(image)
    kept = np.zeros_like(labels)
    kept[slices, 2:-2, 3:-3] = labels[slices, 2:-2, 3:-3]
    part = kept[slices, 2:-2, 3:-3]
    small = grid.lattice((3, 2, slices.start), (1, 1, 1), part.shape[::-1])
    cropped = save_segmentation(pair.folder / "cropped.seg.nrrd", part[None], small, [("a", 0, 1), ("b", 0, 2)])
    whole = save_segmentation(pair.folder / "whole.seg.nrrd", kept[None], grid, [("a", 0, 1), ("b", 0, 2)])
    found = []
    for name, file in (("cropped", cropped), ("whole", whole)):
        succeed(pair.register(pair.folder / name, "--moving-label", file))
        transform = pair.folder / name / "transform.h5"
        output = pair.folder / f"{name}.nrrd"
        succeed(["apply", "--transform", transform, "--label", file, "--reference", pair.fixed, "--output", output])
        found += [read(pair.folder / name / "warped_label.nrrd"), read(output)]
    assert found[0].any()
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.data
def test_the_case(pair: Pair, shared_cases: Path) -> None:
    folder = shared_cases / "17_seg_nrrd_layers_and_extent"
    images = {"fixed": folder / "ed.nrrd", "moving": folder / "es.nrrd"}
    for name, layers in (("overlapping", 2), ("cropped", 1)):
        file = folder / f"{name}.seg.nrrd"
        report = json.loads(succeed(pair.register(pair.folder / name, "--json", "--moving-label", file, **images)))
        assert [segment["layer"] for segment in report["segments"]] == list(range(layers))
        warped = [path for key, path in report["outputs"].items() if key.startswith("warped_label")]
        assert len(warped) == layers
        assert all(read(pair.folder / name / path).any() for path in warped)
