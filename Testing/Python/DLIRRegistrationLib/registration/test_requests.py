"""What Apply needs: one sentence per thing that is missing, checked on real nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from grids import make_grid

pytest.importorskip("slicer", reason="needs slicer-core")

from DLIRRegistrationLib.registration.requests import MaskInput, OutputSelection, RegistrationInputs

if TYPE_CHECKING:
    from mrml import MRML

GRID = make_grid((4, 5, 6))


@pytest.fixture
def pair(scene: MRML) -> tuple[Any, Any]:
    image = np.ones(GRID.shape, np.int16)
    return scene.volume(image, GRID, "fixed"), scene.volume(image, GRID, "moving")


def test_two_volumes_are_enough(pair: tuple[Any, Any]) -> None:
    assert RegistrationInputs(*pair).problem() is None


def test_each_missing_volume_is_asked_for(pair: tuple[Any, Any]) -> None:
    fixed, moving = pair
    assert RegistrationInputs(None, moving).problem() == "Choose a fixed volume."
    assert RegistrationInputs(fixed, None).problem() == "Choose a moving volume."


def test_one_volume_is_not_two(pair: tuple[Any, Any]) -> None:
    assert "same volume" in str(RegistrationInputs(pair[0], pair[0]).problem())


def test_a_volume_without_voxels_is_named(scene: MRML, pair: tuple[Any, Any]) -> None:
    empty = scene.add("ScalarVolume", "hollow")
    assert "'hollow' holds no image" in str(RegistrationInputs(pair[0], empty).problem())


def test_colour_images_are_refused(scene: MRML, pair: tuple[Any, Any]) -> None:
    colour = scene.add("VectorVolume", "photo")
    colour.SetAndObserveImageData(_image(3))
    assert "'photo' is a colour or vector image" in str(RegistrationInputs(pair[0], colour).problem())


def test_a_volume_that_left_the_scene_is_not_used(scene: MRML, pair: tuple[Any, Any]) -> None:
    fixed, moving = pair
    scene.scene.RemoveNode(moving)
    assert "'moving' has been deleted" in str(RegistrationInputs(fixed, moving).problem())


def test_a_model_is_needed(pair: tuple[Any, Any]) -> None:
    assert RegistrationInputs(*pair, model="").problem() == "Choose a model."
    missing = RegistrationInputs(*pair, model="hipocampus").problem()
    assert missing is not None
    assert missing.startswith("There is no model 'hipocampus'; choose one of hippocampus")
    assert RegistrationInputs(*pair, model="hippocampus").problem() is None


@pytest.mark.parametrize(
    ("model", "refine", "kind", "words"),
    [
        ("auto", None, "rigid", ""),
        ("none", "converged", "affine", ""),
        ("hippocampus", "5s", "deformable", ""),
        ("hippocampus", None, "rigid", "--kind rigid is found without a model"),
        ("none", "off", "deformable", "Without a model the pair is optimised"),
        ("auto", "soon", "deformable", "'soon' is no budget"),
    ],
)
def test_model_refinement_and_kind_go_together_or_not(
    pair: tuple[Any, Any], model: str, refine: str | None, kind: str, words: str
) -> None:
    problem = RegistrationInputs(*pair, model=model, refine=refine, kind=kind).problem()
    assert (problem is None) == (not words)
    assert words in str(problem)


def test_what_is_continued_may_be_overwritten(scene: MRML, pair: tuple[Any, Any]) -> None:
    start = scene.add("Transform", "found")
    begun, continued = (RegistrationInputs(*pair, initial_transform=start, continues=own) for own in (False, True))
    assert "'found' is also an input" in str(OutputSelection(transform=start).problem(begun))
    assert OutputSelection(transform=start).problem(continued) is None
    assert continued.problem() is None
    scene.scene.RemoveNode(start)
    assert "no transform to go on from" in str(continued.problem())


def test_a_mask_needs_its_segment(scene: MRML, pair: tuple[Any, Any]) -> None:
    node = scene.add("Segmentation", "heart")
    assert "'heart' has no segment" in str(RegistrationInputs(*pair, fixed_mask=MaskInput(node)).problem())
    segment = node.GetSegmentation().AddEmptySegment("wall")
    for mask in (MaskInput(node), MaskInput(node, segment)):
        assert RegistrationInputs(*pair, moving_mask=mask).problem() is None
    node.GetSegmentation().RemoveSegment(segment)
    node.GetSegmentation().AddEmptySegment("other")
    assert "lost its segment" in str(RegistrationInputs(*pair, moving_mask=MaskInput(node, segment)).problem())


def test_a_labelmap_is_a_mask(scene: MRML, pair: tuple[Any, Any]) -> None:
    labels = scene.volume(np.ones(GRID.shape, np.uint8), GRID, "labels", "LabelMapVolume")
    assert RegistrationInputs(*pair, fixed_mask=MaskInput(labels)).problem() is None


def test_an_output_may_not_be_an_input(pair: tuple[Any, Any]) -> None:
    fixed, moving = pair
    inputs = RegistrationInputs(fixed, moving)
    assert OutputSelection().problem(inputs) is None
    assert "'moving' is also an input" in str(OutputSelection(warped=moving).problem(inputs))
    assert "'fixed' is also an input" in str(OutputSelection(jacobian=fixed).problem(inputs))


def test_two_results_need_two_nodes(scene: MRML, pair: tuple[Any, Any]) -> None:
    node = scene.add("ScalarVolume", "result")
    assert "'result' is chosen for two results" in str(
        OutputSelection(warped=node, jacobian=node).problem(RegistrationInputs(*pair))
    )


@pytest.mark.parametrize("kind", ["LinearTransform", "BSplineTransform", "GridTransform"])
def test_a_transform_of_one_kind_cannot_take_a_composite(scene: MRML, pair: tuple[Any, Any], kind: str) -> None:
    node = scene.add(kind, "old")
    found = OutputSelection(transform=node).problem(RegistrationInputs(*pair))
    assert (found is None) == (kind != "LinearTransform")


def _image(components: int) -> Any:
    import vtk

    image = vtk.vtkImageData()
    image.SetDimensions(2, 3, 4)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, components)
    return image
