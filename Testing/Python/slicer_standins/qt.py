"""Slicer's `qt`: the classes of Qt by their names, in PythonQt's manner."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import pythonqt
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

# Classes of stand-ins that a .ui file may name.
custom_widgets: list[type] = []


class _UiLoader(QtUiTools.QUiLoader):
    """Reads .ui files with the stand-ins' widgets in them; raises where one names a widget, signal or slot amiss."""

    def __init__(self) -> None:
        super().__init__()
        for widget in custom_widgets:
            self.registerCustomWidget(widget)

    def load(self, file: QtCore.QFile) -> QtWidgets.QWidget:
        root = ElementTree.fromstring(bytes(file.readAll().data()))
        unknown = {node.findtext("class") for node in root.iter("customwidget")} - {
            widget.__name__ for widget in custom_widgets
        }
        if unknown:
            raise RuntimeError(f"no stand-in for {', '.join(map(str, unknown))}")
        # Qt connects by C++ signatures, which signals and slots written in Python do not have.
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = super().load(buffer)
        for connection in connections if connections is not None else ():
            _connect(widget, connection)
        return widget


def _connect(widget: QtWidgets.QWidget, connection: ElementTree.Element) -> None:
    def find(tag: str) -> Any:
        name = connection.findtext(tag)
        found = widget if widget.objectName() == name else widget.findChild(QtCore.QObject, name)
        if found is None:
            raise RuntimeError(f"the .ui file connects {name}, which it does not have")
        return found

    def name_of(tag: str) -> str:
        return str(connection.findtext(tag)).partition("(")[0]

    getattr(find("sender"), name_of("signal")).connect(getattr(find("receiver"), name_of("slot")))


class _FileDialog(QtWidgets.QFileDialog):
    """Static functions of PythonQt give the file alone."""

    @staticmethod
    def getOpenFileName(*arguments: Any) -> str:  # noqa: N802
        return QtWidgets.QFileDialog.getOpenFileName(*arguments)[0]


_OWN = {"QUiLoader": _UiLoader, "QFileDialog": _FileDialog}


def __getattr__(name: str) -> Any:
    if name in _OWN:
        return pythonqt.class_of(_OWN[name])
    for module in (QtWidgets, QtCore, QtGui):
        if hasattr(module, name):
            found = getattr(module, name)
            return pythonqt.class_of(found) if isinstance(found, type) else found
    raise AttributeError(f"module 'qt' has no attribute '{name}'")
