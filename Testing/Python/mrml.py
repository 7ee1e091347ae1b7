"""Real MRML without Slicer's application: a scene with its logics, and slice views that render into PNGs.

`slicer-core` is Slicer's own core built for plain Python. What the application adds to it (`slicer.mrmlScene`,
`slicer.modules`, `slicer.app`) is put in its place here, as far as code without windows may use it.
"""

from __future__ import annotations

import ctypes.util
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

from dlir.geometry import ImageGrid

_LOGICS = {
    "colors": "vtkSlicerColorLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "models": "vtkSlicerModelsLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "transforms": "vtkSlicerTransformLogic",
    "volumes": "vtkSlicerVolumesLogic",
}
_LAYERS = (
    "vtkMRMLColorLegendDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLTransformsDisplayableManager2D",
)
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class MRML:
    """A scene with the logics that Slicer's modules bring.

    scene: the vtkMRMLScene, also `slicer.mrmlScene`. application: the vtkSlicerApplicationLogic.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        (Path(self._folder.name) / "ColorFiles").mkdir()
        (Path(self._folder.name) / ".slicer-cache").touch()  # by which Slicer knows a cache folder of its own
        self.scene = slicer.vtkMRMLScene()
        self.application = self._application()
        self._file_access = self._remote_access()
        modules = {name: self._module(class_name) for name, class_name in _LOGICS.items()}
        slicer.mrmlScene = self.scene
        slicer.modules = SimpleNamespace(**modules)
        slicer.app = SimpleNamespace(
            applicationLogic=lambda: self.application,
            layoutManager=lambda: None,  # as without a main window
            processEvents=lambda: None,
            temporaryPath=self._folder.name,
            testingEnabled=lambda: True,
        )

    def close(self) -> None:
        """Empties the scene and takes away what was put into `slicer`."""
        self.scene.Clear(1)
        self.application.SetMRMLScene(None)
        for name in ("mrmlScene", "modules", "app"):
            delattr(slicer, name)
        self._folder.cleanup()

    # -- nodes -----------------------------------------------------------------------------------

    def add(self, class_name: str, name: str = "") -> Any:
        """A new node, "vtkMRML" and "Node" left out of its class name: `add("LinearTransform", "table")`."""
        return self.scene.AddNewNodeByClass(f"vtkMRML{class_name}Node", name)

    def volume(self, array: NDArray[Any], grid: ImageGrid, name: str = "volume", kind: str = "ScalarVolume") -> Any:
        """A volume node with `array` (z, y, x) lying on `grid` (LPS), set up without help from the code under test."""
        node = self.add(kind, name)
        slicer.util.updateVolumeFromArray(node, array)
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(_LPS_TO_RAS @ grid.index_to_physical))
        node.CreateDefaultDisplayNodes()
        return node

    def linear_transform(self, matrix: NDArray[np.float64], name: str = "table") -> Any:
        """A linear transform node whose matrix to parent (RAS) is the (4, 4) `matrix`."""
        node = self.add("LinearTransform", name)
        node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        return node

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Writes the scene with all its data as one .mrb file."""
        messages = slicer.vtkMRMLMessageCollection()
        assert self.scene.WriteToMRB(str(path), None, messages), messages.GetAllMessagesAsString()

    def load(self, path: Path) -> None:
        """Replaces the scene by that of an .mrb file."""
        self._read(path, clear=True)

    def add_scene(self, path: Path) -> None:
        """Reads the scene of an .mrb file into the one that is here."""
        self._read(path, clear=False)

    def _read(self, path: Path, *, clear: bool) -> None:
        messages = slicer.vtkMRMLMessageCollection()
        assert self.scene.ReadFromMRB(str(path), clear, messages), messages.GetAllMessagesAsString()

    def node(self, name: str) -> Any:
        """The first node of that name. Fails where there is none."""
        found = self.scene.GetFirstNodeByName(name)
        assert found is not None, f"no node named {name!r}"
        return found

    # -- setting up ------------------------------------------------------------------------------

    def _application(self) -> Any:
        application = slicer.vtkSlicerApplicationLogic()
        application.SetHomeDirectory(self._folder.name)
        application.SetShareDirectory(".")
        application.SetTemporaryPath(self._folder.name)
        application.SetMRMLScene(self.scene)
        application.GetColorLogic().SetMRMLScene(self.scene)
        application.GetColorLogic().AddDefaultColorNodes()
        application.SetSliceLogics(vtk.vtkCollection())
        application.SetViewLogics(vtk.vtkCollection())
        slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(application)
        slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(application)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        return application

    def _remote_access(self) -> tuple[Any, Any]:
        """What reading an .mrb file asks for."""
        remote, data = slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()
        for logic in (remote, data):
            logic.SetMRMLScene(self.scene)
            logic.SetMRMLApplicationLogic(self.application)
        remote.GetCacheManager().SetRemoteCacheDirectory(self._folder.name)
        data.SetAndObserveDataIOManager(remote.GetDataIOManager())
        remote.AddDataIOToScene()
        return remote, data

    def _module(self, class_name: str) -> SimpleNamespace:
        logic = getattr(slicer, class_name)()
        if hasattr(logic, "SetModuleShareDirectory"):
            logic.SetModuleShareDirectory(self._folder.name)
        logic.SetMRMLApplicationLogic(self.application)
        logic.SetMRMLScene(self.scene)
        self.application.SetModuleLogic(class_name.removeprefix("vtkSlicer").removesuffix("Logic"), logic)
        return SimpleNamespace(logic=lambda: logic)


def skip_without_rendering() -> None:
    """Skips the test where no library can render without a screen."""
    if not os.environ.get("DISPLAY") and not any(map(ctypes.util.find_library, ("EGL", "OSMesa"))):
        pytest.skip("no offscreen rendering: install libegl1 or libosmesa6")


class SliceView:
    """One slice view with the layers that Slicer draws, rendered offscreen.

    node: the vtkMRMLSliceNode; logic: the vtkMRMLSliceLogic, whose composite node holds the volumes shown.
    """

    def __init__(
        self, mrml: MRML, name: str = "Red", orientation: str = "Axial", size: tuple[int, int] = (500, 400)
    ) -> None:
        skip_without_rendering()
        if not os.environ.get("DISPLAY") and ctypes.util.find_library("EGL"):
            os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
        self.size = size
        self.renderer, self.window, self._interactor = self._window(size)
        self._image = self._image_mapper()  # what is added later is drawn over it
        self._layers = self._displayable_managers()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(mrml.application)
        mrml.application.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(mrml.scene)
        # A layout has made its nodes already.
        self.node = mrml.scene.GetSingletonNode(name, "vtkMRMLSliceNode") or self.logic.AddSliceNode(name)
        self.logic.SetSliceNode(self.node)
        self.node.SetOrientation(orientation)
        self._layers.SetMRMLDisplayableNode(self.node)

    def show(self, background: Any = None, foreground: Any = None, opacity: float = 0.5) -> None:
        """Puts volumes into the view and fits it to the background."""
        composite = self.logic.GetSliceCompositeNode()
        composite.SetBackgroundVolumeID(background.GetID() if background else None)
        composite.SetForegroundVolumeID(foreground.GetID() if foreground else None)
        composite.SetForegroundOpacity(opacity)
        self.logic.ResizeSliceNode(*self.size)
        self.logic.FitSliceToBackground()
        self.logic.SnapSliceOffsetToIJK()

    def pixels(self, png: Path | None = None) -> NDArray[np.uint8]:
        """(rows, columns, 3) of what the view shows, top row first; also written as a PNG where `png` is given."""
        self._image.SetInputConnection(self.logic.GetImageDataConnection())
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        if png is not None:
            writer = vtk.vtkPNGWriter()
            writer.SetFileName(str(png))
            writer.SetInputConnection(grab.GetOutputPort())
            writer.Write()
        image = grab.GetOutput()
        columns, rows, _ = image.GetDimensions()
        values = vtk_to_numpy(image.GetPointData().GetScalars())
        return values.reshape(rows, columns, -1)[::-1].copy()

    def _window(self, size: tuple[int, int]) -> tuple[Any, Any, Any]:
        renderer, window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        renderer.GetActiveCamera().ParallelProjectionOn()
        window.SetOffScreenRendering(1)
        window.SetSize(*size)
        window.AddRenderer(renderer)
        interactor = vtk.vtkRenderWindowInteractor()
        interactor.SetRenderWindow(window)
        interactor.Initialize()
        return renderer, window, interactor

    def _displayable_managers(self) -> Any:
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        for name in _LAYERS:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        group = slicer.vtkMRMLDisplayableManagerGroup()
        group.SetRenderer(self.renderer)
        group.Initialize(factory, self.renderer)
        return group

    def _image_mapper(self) -> Any:
        mapper, actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        actor.SetMapper(mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(actor)
        return mapper
