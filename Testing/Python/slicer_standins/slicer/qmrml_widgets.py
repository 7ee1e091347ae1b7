"""Slicer's MRML widgets that the panel uses, backed by a real scene; names as in `slicer`."""

# ruff: noqa: N801, N802, N815
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pythonqt
import qt
import slicer
import vtk
from PySide6.QtCore import Property, QSize, Qt, Signal
from PySide6.QtGui import QStandardItem, QStandardItemModel
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QSizePolicy, QStyle, QStyleOptionComboBox, QStylePainter, QWidget

_NODE_ID = Qt.ItemDataRole.UserRole + 1
_CHECKED = Qt.CheckState.Checked
_NARROWEST = 110  # pixels


class qMRMLWidget(QWidget):
    """Hands the scene on to the widgets that the .ui file connects."""

    mrmlSceneChanged = Signal(object)
    SIGNALS = ("mrmlSceneChanged(vtkMRMLScene*)",)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self._scene


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """What the Python class of a module's panel is given as its parent, and by which Slicer calls it.

    Whether it is entered is no property to be set: `enter` and `exit` say so, before they tell the Python class.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._entered = False
        self._source = ""
        self._self: Any = None

    def setPythonSource(self, path: str) -> None:
        """Makes the module's Python object anew, which is `slicer.modules.<module>Widget` from now on."""
        name = f"{Path(path).stem}Widget"
        self._source = path
        self._self = getattr(sys.modules[Path(path).stem], name)(pythonqt.wrap(self))
        setattr(slicer.modules, name, self._self)

    def self(self) -> Any:
        return self._self

    def setup(self) -> None:
        self._self.setup()

    def reload(self) -> None:
        """Another Python object, which is set up; it is not told that it is entered already."""
        self.setPythonSource(self._source)
        self.setup()

    def enter(self) -> None:
        assert not self._entered
        self._entered = True
        self._self.enter()

    def exit(self) -> None:
        assert self._entered
        self._entered = False
        self._self.exit()

    isEntered = Property(bool, lambda self: self._entered)


class _Box(QComboBox):
    """Like ctkComboBox: says what to choose where nothing is chosen, and shortens a name in its middle."""

    hint = ""

    def shown_text(self) -> str:
        return self.currentText() if self.currentIndex() >= 0 else self.hint

    def paintEvent(self, event: Any) -> None:
        painter = QStylePainter(self)
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        control, field = QStyle.ComplexControl.CC_ComboBox, QStyle.SubControl.SC_ComboBoxEditField
        width = self.style().subControlRect(control, option, field, self).width()
        option.currentText = option.fontMetrics.elidedText(self.shown_text(), Qt.TextElideMode.ElideMiddle, width)
        painter.drawComplexControl(control, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def minimumSizeHint(self) -> QSize:
        hint = super().minimumSizeHint()
        return QSize(min(hint.width(), _NARROWEST), hint.height())


class _CheckableBox(_Box):
    """Like ctkCheckableComboBox: lists what is checked."""

    def checked_rows(self) -> list[int]:
        model = self.model()
        return [row for row in range(model.rowCount()) if model.item(row).checkState() == _CHECKED]

    def shown_text(self) -> str:
        checked = self.checked_rows()
        if checked and len(checked) == self.count():
            return "All"
        return ", ".join(self.itemText(row) for row in checked) or "None"


def _flag(name: str) -> Any:
    return Property(bool, lambda self: self.flags[name], lambda self, value: self.set_flag(name, value))


def _let_go(observed: list[tuple[Any, int]]) -> None:
    while observed:
        scene, tag = observed.pop()
        scene.RemoveObserver(tag)


class qMRMLNodeComboBox(QWidget):
    """The nodes of some types in the scene, as they come and go.

    When the chosen node is removed, Qt chooses its neighbour in the list, as in Slicer.
    """

    currentNodeChanged = Signal(object)
    SIGNALS: tuple[str, ...] = ("currentNodeChanged(vtkMRMLNode*)",)
    box_class: type[_Box] = _Box

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.flags = dict.fromkeys(
            ("addEnabled", "removeEnabled", "showChildNodeTypes", "selectNodeUponCreation"), True
        )
        self.flags |= {"noneEnabled": False, "renameEnabled": False}
        self._scene: Any = None
        self._observed: list[tuple[Any, int]] = []
        self._types: list[str] = []
        self._none = "None"
        self._requested = ""
        self.box = self.box_class(self)
        self.box.setModel(QStandardItemModel(self))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.box)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.setEnabled(False)
        self.box.currentIndexChanged.connect(lambda: self.currentNodeChanged.emit(self.currentNode()))
        observed = self._observed
        self.destroyed.connect(lambda: _let_go(observed))

    # -- Slicer's names --------------------------------------------------------------------------

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        _let_go(self._observed)
        self._scene = scene
        if scene is not None:
            events = {
                scene.NodeAddedEvent: self._on_added,
                scene.NodeAboutToBeRemovedEvent: self._on_removed,
                scene.EndCloseEvent: self._fill,
            }
            self._observed += [(scene, scene.AddObserver(event, handler)) for event, handler in events.items()]
        self._fill()
        self.setEnabled(scene is not None)
        if self._requested:
            self.setCurrentNodeID(self._requested)
        if scene is not None:  # told even where nothing was chosen before
            self.currentNodeChanged.emit(self.currentNode())

    def mrmlScene(self) -> Any:
        return self._scene

    def currentNode(self) -> Any:
        identifier = self.box.currentData(_NODE_ID)
        return self._scene.GetNodeByID(identifier) if self._scene is not None and identifier else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, identifier: str) -> None:
        if self._scene is None:
            self._requested = identifier
            return
        row = self.row(identifier) if identifier else -1
        self.box.setCurrentIndex(row if row >= 0 else 0 if self.flags["noneEnabled"] else -1)

    # -- the list --------------------------------------------------------------------------------

    def row(self, identifier: str) -> int:
        model = self.box.model()
        return next((row for row in range(model.rowCount()) if model.item(row).data(_NODE_ID) == identifier), -1)

    def item(self, text: str, identifier: str) -> QStandardItem:
        item = QStandardItem(text)
        item.setData(identifier, _NODE_ID)
        return item

    def _fits(self, node: Any) -> bool:
        if node is None or node.GetHideFromEditors():
            return False
        derived = self.flags["showChildNodeTypes"]
        return any(node.IsA(kind) if derived else node.GetClassName() == kind for kind in self._types)

    def _fill(self, *_: Any) -> None:
        chosen = self.currentNode()
        blocked = self.box.blockSignals(True)
        self._fill_anew(chosen)
        self.box.blockSignals(blocked)
        if self.currentNode() is not chosen:
            self.currentNodeChanged.emit(self.currentNode())

    def _fill_anew(self, chosen: Any) -> None:
        self.box.model().clear()
        if self._scene is None:
            return
        if self.flags["noneEnabled"]:
            self.box.model().appendRow(self.item(self._none, ""))
        for index in range(self._scene.GetNumberOfNodes()):
            self._append(self._scene.GetNthNode(index))
        self.setCurrentNode(chosen)

    def _append(self, node: Any) -> None:
        if self._fits(node):
            self.box.model().appendRow(self.item(node.GetName(), node.GetID()))

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_added(self, scene: Any, event: str, node: Any) -> None:
        self._append(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_removed(self, scene: Any, event: str, node: Any) -> None:
        row = self.row(node.GetID())
        if row >= 0 and not scene.IsClosing():
            self.box.model().removeRow(row)

    # -- properties ------------------------------------------------------------------------------

    def set_flag(self, name: str, value: bool) -> None:
        self.flags[name] = value
        self._fill()

    def _set_types(self, types: list[str]) -> None:
        self._types = list(types)
        self.box.hint = f"Select a {types[0].removeprefix('vtkMRML').removesuffix('Node')}" if types else ""
        self._fill()

    def _set_none(self, text: str) -> None:
        self._none = text
        self._fill()

    nodeTypes = Property("QStringList", lambda self: self._types, _set_types)
    noneDisplay = Property(str, lambda self: self._none, _set_none)
    currentNodeID = Property(
        str, lambda self: self.box.currentData(_NODE_ID) or "", lambda self, value: self.setCurrentNodeID(value)
    )
    noneEnabled = _flag("noneEnabled")
    addEnabled = _flag("addEnabled")
    removeEnabled = _flag("removeEnabled")
    renameEnabled = _flag("renameEnabled")
    showChildNodeTypes = _flag("showChildNodeTypes")
    selectNodeUponCreation = _flag("selectNodeUponCreation")


class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Several nodes, each with a check mark."""

    checkedNodesChanged = Signal()
    SIGNALS = (*qMRMLNodeComboBox.SIGNALS, "checkedNodesChanged()")
    box_class = _CheckableBox

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.flags["addEnabled"] = self.flags["removeEnabled"] = False
        self.box.model().itemChanged.connect(lambda item: (self.box.update(), self.checkedNodesChanged.emit()))

    def item(self, text: str, identifier: str) -> QStandardItem:
        item = super().item(text, identifier)
        item.setCheckable(True)
        return item

    def checkedNodes(self) -> list[Any]:
        model = self.box.model()
        return [self._scene.GetNodeByID(model.item(row).data(_NODE_ID)) for row in self.box.checked_rows()]

    def checkState(self, node: Any) -> Qt.CheckState:
        row = self.row(node.GetID())
        return self.box.model().item(row).checkState() if row >= 0 else Qt.CheckState.Unchecked

    def setCheckState(self, node: Any, state: Qt.CheckState) -> None:
        row = self.row(node.GetID())
        if row >= 0 and self.box.model().item(row).checkState() != state:
            self.box.model().item(row).setCheckState(state)


for _name in (
    "qMRMLCheckableNodeComboBox",
    "qMRMLNodeComboBox",
    "qMRMLWidget",
    "qSlicerScriptedLoadableModuleWidget",
):
    qt.custom_widgets.append(globals()[_name])
    globals()[_name] = pythonqt.class_of(globals()[_name])
