"""Sequence nodes of results, made outside of the scene, and the browser node that plays them together."""

from __future__ import annotations

from typing import Any

import slicer

from dlir.errors import GeometryError
from dlir.io.reading import Volume
from DLIRRegistrationLib.scene.frames import array_shape, array_to_local, grid_of_matrix, matrix_to_world, named
from DLIRRegistrationLib.scene.volumes import image_array, scalar_image


def index_values(sequence: Any) -> list[str]:
    """The index value (time, phase) of each frame."""
    return [sequence.GetNthIndexValue(number) for number in range(sequence.GetNumberOfDataNodes())]


def browser_of(sequence: Any) -> Any | None:
    """The first browser node of the scene that plays a sequence."""
    browsers = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
    return next((browser for browser in browsers if browser.IsSynchronizedSequenceNode(sequence, True)), None)


def frame_volume(sequence: Any, number: int) -> Volume:
    """One frame of a sequence of volumes, placed in the world as the node that shows the sequence is.

    Its array is the frame's own memory. Raises ImageError for a frame that is empty or of several components,
    GeometryError where transforms shear the frames or are not linear.
    """
    frame, browser = sequence.GetNthDataNode(number), browser_of(sequence)
    shown = browser.GetProxyNode(sequence) if browser is not None else None
    image = scalar_image(frame)
    to_world = matrix_to_world(shown if shown is not None else frame)
    name = f"{sequence.GetName()}, frame {number + 1}"
    if to_world is None:
        raise GeometryError(f"{named(shown)} is under a transform that is not linear; harden or remove the transform")
    grid = grid_of_matrix(to_world @ array_to_local(frame, image), array_shape(image), name)
    return Volume(image_array(image), grid, name)


def sequence_like(source: Any) -> Any:
    """An empty sequence node, outside of the scene, that is indexed as `source` is."""
    node = slicer.vtkMRMLSequenceNode()
    _copy_index(node, source)
    return node


def put_frame(sequence: Any, content: Any, value: str) -> None:
    """Adds a frame that shares the content of a node outside of the scene, without copying it."""
    frame = sequence.SetDataNodeAtValue(type(content)(), value)
    frame.CopyContent(content, False)


def take_over(target: Any, source: Any) -> None:
    """Makes sequence node `target` hold the frames of `source`, sharing their content."""
    was = target.StartModify()
    try:
        target.RemoveAllDataNodes()
        _copy_index(target, source)
        for number, value in enumerate(index_values(source)):
            put_frame(target, source.GetNthDataNode(number), value)
    finally:
        target.EndModify(was)


def play_together(browser: Any, sequences: list[Any]) -> None:
    """Adds sequences of results to a browser node; changes that a user makes to what it shows are kept in them."""
    for sequence in sequences:
        browser.AddSynchronizedSequenceNodeID(sequence.GetID())
        browser.SetSaveChanges(sequence, True)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)


def _copy_index(target: Any, source: Any) -> None:
    target.SetIndexName(source.GetIndexName())
    target.SetIndexUnit(source.GetIndexUnit())
    target.SetIndexType(source.GetIndexType())
    target.SetNumericIndexValueTolerance(source.GetNumericIndexValueTolerance())
