"""Slicer's layout manager without Qt: real layouts, whose slice views are drawn offscreen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from mrml import MRML, SliceView


class Windows:
    """Stands in for qMRMLLayoutManager from now on: views appear as soon as the layout names them, Red at first.

    size: of each view, (width, height). narrowest: pixels that a view may be narrowed to, by its name. rendered: names
    of the views whose rendering was asked for. width: of all views together. playing: the browser node that the play
    button is for, with its tool bar in sight or not.
    """

    def __init__(self, mrml: MRML, size: tuple[int, int] = (320, 400)) -> None:
        self.rendered: list[str] = []
        self.narrowest: dict[str, int] = {}
        self.width = 800
        self.playing: Any = None
        self.tool_bar = False
        self._handlers: list[Callable[[int], None]] = []
        self._mrml, self._size = mrml, size
        self._views: dict[str, SliceView] = {}
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(mrml.scene)
        self._layout = self._logic.GetLayoutNode()
        self._layout.SetViewArrangement(self._layout.SlicerLayoutOneUpRedSliceView)
        self._observer = self._layout.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._create())
        self._create()
        slicer.app.layoutManager = lambda: self
        slicer.modules.sequences.setToolBarActiveBrowserNode = lambda browser: setattr(self, "playing", browser)
        slicer.modules.sequences.showSequenceBrowser = lambda browser: setattr(self, "tool_bar", True)

    def close(self) -> None:
        """Takes the windows away; the scene cannot be closed before."""
        slicer.app.layoutManager = lambda: None
        self._layout.RemoveObserver(self._observer)
        self._logic.SetMRMLScene(None)
        for view in self._views.values():
            self._mrml.application.GetSliceLogics().RemoveItem(view.logic)
            view.logic.SetMRMLScene(None)
        self._views.clear()

    def connect(self, signature: str, handler: Callable[[int], None]) -> None:
        """Handlers are told of each change of the layout, after the views are there."""
        assert signature == "layoutChanged(int)"
        self._handlers.append(handler)

    def disconnect(self, signature: str, handler: Callable[[int], None]) -> None:
        assert signature == "layoutChanged(int)"
        self._handlers.remove(handler)

    def layoutLogic(self) -> Any:  # noqa: N802
        return self._logic

    def viewport(self) -> Any:
        return SimpleNamespace(width=self.width)

    def setLayout(self, number: int) -> None:  # noqa: N802
        self._layout.SetViewArrangement(number)
        for handler in self._handlers:
            handler(number)

    def sliceWidget(self, name: str) -> Any:  # noqa: N802
        if name not in self._views:
            return None
        view = SimpleNamespace(scheduleRender=lambda: self.rendered.append(name))
        narrow = partial(self.narrowest.__setitem__, name)
        width = self.narrowest.get(name, 0)
        return SimpleNamespace(sliceView=lambda: view, minimumWidth=width, setMinimumWidth=narrow, children=list)

    def view(self, name: str) -> SliceView:
        return self._views[name]

    @property
    def shown(self) -> list[SliceView]:
        """The slice views of the current layout, from left to right."""
        nodes = self._logic.GetViewNodes()
        names = [nodes.GetItemAsObject(i).GetLayoutName() for i in range(nodes.GetNumberOfItems())]
        return [self._views[name] for name in names if name in self._views]

    def picture(self, png: Path | None = None) -> NDArray[np.uint8]:
        """(rows, columns, 3): the current layout's slice views side by side; also written where `png` is given."""
        whole = np.hstack([view.pixels() for view in self.shown])
        if png is not None:
            write_png(png, whole)
        return whole

    def _create(self) -> None:
        nodes = self._logic.GetViewNodes()
        for node in [nodes.GetItemAsObject(i) for i in range(nodes.GetNumberOfItems())]:
            name = node.GetLayoutName()
            if node.IsA("vtkMRMLSliceNode") and name not in self._views:
                self._views[name] = SliceView(self._mrml, name, node.GetOrientation(), self._size)
                self._views[name].logic.ResizeSliceNode(*self._size)


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes (rows, columns, 3), top row first."""
    from vtk.util.numpy_support import numpy_to_vtk

    rows, columns, channels = pixels.shape
    image = vtk.vtkImageData()
    image.SetDimensions(columns, rows, 1)
    image.GetPointData().SetScalars(numpy_to_vtk(pixels[::-1].reshape(-1, channels), deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetCompressionLevel(9)
    writer.SetInputData(image)
    writer.Write()
