"""One-shot affine and B-spline registration with trained networks: the module as Slicer loads it.

Slicer asks this file for four classes: the module, its panel, its Logic and its test. The latter two live in
DLIRRegistrationLib, and so does all the work; it is read when it is needed, for numpy and SimpleITK take their time.
"""

# ruff: noqa: N802, N815

from __future__ import annotations

import sys
from typing import Annotated, Any, cast

import slicer
import vtk
from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLModelNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLSequenceNode,
    vtkMRMLTableNode,
    vtkMRMLTransformNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from DLIRRegistrationLib.panel.choices import DEFAULT_MODEL, Device, Kind, Refinement, Start, TransformKind


def __getattr__(name: str) -> Any:
    """The Logic and the test, when they are asked for."""
    if name == "DLIRRegistrationLogic":
        from DLIRRegistrationLib.logic import DLIRRegistrationLogic as found
    elif name == "DLIRRegistrationTest":
        from DLIRRegistrationLib.selftest import DLIRRegistrationTest as found
    else:
        raise AttributeError(name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), "DLIRRegistrationLogic", "DLIRRegistrationTest"})


class DLIRRegistration(ScriptedLoadableModule):
    """What Slicer's list of modules says of this one."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = _("DLIR Registration")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.dependencies = ["Colors", "Markups", "Segmentations", "Sequences", "Transforms", "Volumes"]
        parent.contributors = ["The DLIR developers"]
        parent.helpText = _(
            "Aligns two volumes, in one shot with a network trained on such images, or by optimisation: affine first, "
            "then coarse-to-fine B-splines that do not fold. Choose a fixed and a moving volume and press Apply; "
            "the result is shown at once, with whether it can be relied on, and with what one does next."
        )
        parent.acknowledgementText = _(
            "Method: B. D. de Vos et al., A deep learning framework for unsupervised affine and deformable image "
            "registration, Medical Image Analysis 52 (2019) 128-143."
        )
        # The Sample Data module may come after this one, and a scene be opened before this one is.
        slicer.app.connect("startupCompleted()", registerSampleData)
        slicer.app.connect("startupCompleted()", registerLayout)


def registerSampleData() -> None:
    """Offer the pair and the cine that ship with DLIR in the Sample Data module."""
    from DLIRRegistrationLib.sample_data import register_sample_data

    register_sample_data()


def registerLayout() -> None:
    """Let a scene that was saved with the three views side by side be opened with them, and look as it did."""
    from DLIRRegistrationLib.panel.parts.following import follow_layouts

    follow_layouts()


@parameterNodeWrapper
class DLIRRegistrationParameterNode:
    """Every choice of the panel and the nodes of the last result; saved with the scene."""

    # Inputs
    fixedVolume: vtkMRMLScalarVolumeNode
    movingVolume: vtkMRMLScalarVolumeNode
    model: str = DEFAULT_MODEL
    refinement: Refinement = Refinement.DEFAULT
    segmentations: list[vtkMRMLSegmentationNode]
    fixedMask: vtkMRMLSegmentationNode | vtkMRMLLabelMapVolumeNode | None
    fixedMaskSegment: str
    movingMask: vtkMRMLSegmentationNode | vtkMRMLLabelMapVolumeNode | None
    movingMaskSegment: str
    initialTransform: vtkMRMLTransformNode
    initialize: Start = Start.AUTO
    fixedSegmentation: vtkMRMLSegmentationNode
    fixedLandmarks: vtkMRMLMarkupsFiducialNode
    movingLandmarks: vtkMRMLMarkupsFiducialNode
    surfaces: list[vtkMRMLModelNode]
    kind: Kind = Kind.DEFORMABLE
    device: Device = Device.AUTO

    # Outputs; a node chosen here is overwritten
    wantWarped: bool = True
    warpedVolume: vtkMRMLScalarVolumeNode
    wantTransform: bool = True
    outputTransform: vtkMRMLTransformNode
    transformKind: TransformKind = TransformKind.NATIVE
    wantJacobian: bool = True
    jacobianVolume: vtkMRMLScalarVolumeNode
    wantErrorMap: bool = False
    errorMapVolume: vtkMRMLScalarVolumeNode
    outputSegmentation: vtkMRMLSegmentationNode
    outputLandmarks: vtkMRMLMarkupsFiducialNode

    # The last result, for Look and Trust
    resultFixed: vtkMRMLScalarVolumeNode
    resultMoving: vtkMRMLScalarVolumeNode
    resultWarped: vtkMRMLScalarVolumeNode
    resultTransform: vtkMRMLTransformNode
    resultJacobian: vtkMRMLScalarVolumeNode
    resultErrorMap: vtkMRMLScalarVolumeNode
    resultTable: vtkMRMLTableNode
    resultLandmarks: vtkMRMLMarkupsFiducialNode
    resultDrawn: list[vtkMRMLSegmentationNode]
    resultPropagated: list[vtkMRMLSegmentationNode]
    resultScoredBy: vtkMRMLSegmentationNode
    verdictLevel: str
    verdictReason: str
    resultChanges: str

    # Look
    fade: Annotated[float, WithinRange(0, 1)] = 0.5
    checkerboard: bool = False
    checkerboardSize: Annotated[float, WithinRange(1, 200)] = 20.0
    showBefore: bool = False
    showOutlines: bool = True
    showGrid: bool = False
    showGlyphs: bool = False
    showJacobian: bool = False
    showErrorMap: bool = False
    jacobianOpacity: Annotated[float, WithinRange(0, 1)] = 0.6

    # Sequence
    sequence: vtkMRMLSequenceNode
    referenceFrame: Annotated[int, WithinRange(1, 100000)] = 1
    sequenceSegmentation: vtkMRMLSegmentationNode

    # Train
    trainingData: str
    trainingPreset: str
    trainingOutput: str


class DLIRRegistrationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Ties scene, parameter node and panel together; what the panel does is in DLIRRegistrationLib.panel."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Any = None
        self.panel: Any = None
        self._root: Any = None
        self._imports: Any = None
        self._parameters: Any = None
        self._gui_tag: int | None = None  # there while panel and parameters are connected

    # -- Slicer calls these by name --------------------------------------------------------------

    def setup(self) -> None:
        """The module is opened for the first time, or reloaded."""
        # Needs Qt, while this file is also read where only the Logic is wanted.
        from DLIRRegistrationLib.display.importing import Imports
        from DLIRRegistrationLib.logic import DLIRRegistrationLogic
        from DLIRRegistrationLib.panel.panel import Panel

        ScriptedLoadableModuleWidget.setup(self)
        self._root = slicer.util.loadUI(self.resourcePath("UI/DLIRRegistration.ui"))
        self.layout.addWidget(self._root)
        self.ui = slicer.util.childWidgetVariables(self._root)
        self._root.setMRMLScene(slicer.mrmlScene)
        self.logic = DLIRRegistrationLogic()
        self.panel = Panel(self.ui, self.logic)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self._imports = Imports(scene)
        self.addObserver(scene, scene.StartImportEvent, self.onSceneStartImport)
        # After all others: as long as lists of nodes are being filled, nothing that they choose may add or remove one.
        self.addObserver(scene, scene.EndBatchProcessEvent, self.onSceneRead, priority=-100.0)
        # With a priority, to come before the lists of nodes: they would choose another node instead of a removed one.
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved, priority=100.0)
        self.initializeParameterNode()
        if self.parent.isEntered:  # reloaded while it is shown: Slicer does not call enter again
            self.enter()

    def enter(self) -> None:
        """The module is shown."""
        self.initializeParameterNode()
        self.panel.enter()

    def exit(self) -> None:
        """Another module is shown. What runs goes on, and its result will be found here."""
        self._disconnect()
        self.panel.exit()

    def cleanup(self) -> None:
        """The module is unloaded or reloaded, or Slicer ends."""
        self._disconnect()
        self.removeObservers()
        if self.panel is not None:  # else setup has failed, or not come so far
            self._imports.close()
            self.panel.close()
            self.logic.close()
        if self._root is not None:
            # Slicer only hides it on reloading, and its lists of nodes would follow the scene for ever.
            self._root.deleteLater()

    def onReload(self) -> None:
        """A developer wants the code as it is now. Slicer itself reads this file anew and no other."""
        from DLIRRegistrationLib.panel.parts.following import leave_layouts

        leave_layouts()
        for name in list(sys.modules):
            if name.partition(".")[0] in ("DLIRRegistrationLib", "dlir"):
                del sys.modules[name]
        super().onReload()
        registerLayout()

    # -- parameters ------------------------------------------------------------------------------

    def initializeParameterNode(self) -> None:
        """Show the parameters of the scene, which are made where there are none; once, until they are let go."""
        from DLIRRegistrationLib.panel.values import choose_volumes

        if self._gui_tag is None:
            self.setParameterNode(self.logic.getParameterNode())
        choose_volumes(self._parameters)

    def setParameterNode(self, node: Any) -> None:
        """Show other parameters; None for none, while a scene is being closed."""
        self._disconnect()
        self._parameters = cast(Any, DLIRRegistrationParameterNode)(node) if node is not None else None
        self.panel.set_parameters(self._parameters)
        if self._parameters is not None:
            # Widgets are found by their property SlicerParameterName in the .ui file.
            self._gui_tag = self._parameters.connectGui(self.ui)
            # Observes the node, not what wraps it: VTKObservationMixin holds for ever what it has observed, and each
            # wrapper reads all parameters at every change.
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self.panel.show()

    def _disconnect(self) -> None:
        if self._gui_tag is not None:
            self._parameters.disconnectGui(self._gui_tag)
            self.removeObserver(self._parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self._gui_tag = None

    # -- events ----------------------------------------------------------------------------------

    def onParametersModified(self, caller: Any = None, event: Any = None) -> None:
        self.panel.show()

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        self.setParameterNode(None)

    def onSceneEndClose(self, caller: Any, event: Any) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneStartImport(self, caller: Any, event: Any) -> None:
        self._disconnect()
        self.panel.host.reading = True

    def onSceneRead(self, caller: Any, event: Any) -> None:
        """Its parameters have replaced those that were here; with them comes the look it was saved with."""
        if self.panel.host.reading:
            self.panel.host.reading = False
            self.panel.look.forget()
            if self.parent.isEntered:
                self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller: Any, event: Any, node: Any) -> None:
        from DLIRRegistrationLib.panel.values import forget_node

        if self._parameters is not None:
            forget_node(self._parameters, node)
