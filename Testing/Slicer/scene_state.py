"""What must hold in every state of the scene: references lead somewhere, and nothing outlives its use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import slicer
from bench import Bench

MODULE = "DLIRRegistration"
# Of what the module makes besides results; each belongs to a node without which it means nothing.
OWN_DISPLAYS = ("vtkMRMLColorLegendDisplayNode", "vtkMRMLTransformDisplayNode")
CHECKERBOARD, FOLDING = "DLIR.Background", "DLIR.Folding"
LEGEND_ACTOR = "vtkSlicerScalarBarActor"


def nodes(kind: str = "vtkMRMLNode") -> list[Any]:
    return list(slicer.util.getNodesByClass(kind))


def results() -> list[Any]:
    """Nodes that only a registration makes, or its look."""
    kinds = ("vtkMRMLTransformNode", "vtkMRMLTableNode", *OWN_DISPLAYS)
    own = [node for kind in kinds for node in nodes(kind) if not node.IsA("vtkMRMLLinearTransformNode")]
    return [*own, *checkerboards(), *foldings()]


def checkerboards() -> list[Any]:
    return [node for node in nodes("vtkMRMLScalarVolumeNode") if node.GetNodeReferenceID(CHECKERBOARD)]


def foldings() -> list[Any]:
    return [node for node in nodes("vtkMRMLLabelMapVolumeNode") if node.GetHideFromEditors()]


def check_scene(bench: Bench) -> None:
    """Raises AssertionError, naming what is not as it must be."""
    faults = [*_broken_references(), *_orphans(), *_panel_faults(bench)]
    assert not faults, "the scene is whole: " + "; ".join(faults)


def drawn_legends() -> set[str]:
    """Names of the slice views that draw a colour legend."""
    manager = slicer.app.layoutManager()
    return {name for name in shown_views() if _has_legend(manager.sliceWidget(name).sliceView())}


def shown_views() -> list[str]:
    """Names of the slice views of the layout."""
    found = slicer.app.layoutManager().layoutLogic().GetViewNodes()
    every = [found.GetItemAsObject(index) for index in range(found.GetNumberOfItems())]
    return [node.GetLayoutName() for node in every if node.IsA("vtkMRMLSliceNode")]


def layers(view: str) -> tuple[str | None, str | None]:
    """Names of the volumes below and above in a view."""
    composite = slicer.app.layoutManager().sliceWidget(view).sliceLogic().GetSliceCompositeNode()
    found = [composite.GetNodeReference(role) for role in ("backgroundVolume", "foregroundVolume")]
    below, above = (node.GetName() if node is not None else None for node in found)
    return below, above


def references(node: Any) -> dict[str, list[str | None]]:
    """Role: names of the nodes that it leads to, None for one that is not there."""
    roles: list[str] = []
    node.GetNodeReferenceRoles(roles)
    found = {}
    for role in roles:
        targets = [node.GetNthNodeReference(role, index) for index in range(node.GetNumberOfNodeReferences(role))]
        if targets:
            found[role] = [target.GetName() if target is not None else None for target in targets]
    return found


def parameter_nodes() -> list[Any]:
    return [node for node in nodes("vtkMRMLScriptedModuleNode") if node.GetAttribute("ModuleName") == MODULE]


def _has_legend(view: Any) -> bool:
    renderers = view.renderWindow().GetRenderers()
    props = [renderers.GetItemAsObject(index).GetViewProps() for index in range(renderers.GetNumberOfItems())]
    every = [some.GetItemAsObject(index) for some in props for index in range(some.GetNumberOfItems())]
    return any(prop.IsA(LEGEND_ACTOR) and prop.GetVisibility() for prop in every)


def _broken_references() -> Iterator[str]:
    looked_at = [*parameter_nodes(), *nodes("vtkMRMLSliceCompositeNode"), *nodes("vtkMRMLTransformNode")]
    looked_at += nodes("vtkMRMLDisplayableNode")
    for node in looked_at:
        for role, names in references(node).items():
            if None in names:
                yield f"'{role}' of '{node.GetName()}' leads nowhere"


def _orphans() -> Iterator[str]:
    for kind in OWN_DISPLAYS:
        for display in nodes(kind):
            if display.GetDisplayableNode() is None:
                yield f"'{display.GetName()}' shows nothing"
    used = {layer for view in nodes("vtkMRMLSliceCompositeNode") for layer in _ids(view)}
    for board in checkerboards():
        if board.GetID() not in used:
            yield f"'{board.GetName()}' is in no view"
    kept = {node.GetNodeReferenceID(FOLDING) for node in nodes("vtkMRMLScalarVolumeNode")}
    for label in foldings():
        if label.GetID() not in kept:
            yield f"'{label.GetName()}' belongs to no Jacobian"
    if len(parameter_nodes()) > 1:
        yield "there are several parameter nodes"


def _ids(composite: Any) -> tuple[str | None, str | None]:
    return composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()


def _panel_faults(bench: Bench) -> Iterator[str]:
    parameters = bench.parameters
    if parameters is None:
        yield "the panel shows no parameters"
        return
    if [parameters.parameterNode] != parameter_nodes():
        yield "the panel shows other parameters than the scene's"
    for name in parameters.allParameters:
        value = getattr(parameters, name)
        for node in list(value) if hasattr(value, "append") else [value]:
            if hasattr(node, "GetScene") and node.GetScene() is None:
                yield f"parameter '{name}' holds '{node.GetName()}', which is not in the scene"
    screen = bench.window.windowHandle().screen().availableGeometry
    if bench.window.width > screen.width():
        yield f"the window is {bench.window.width} pixels wide, the screen {screen.width()}"
