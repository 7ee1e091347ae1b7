"""Stand-ins for what Slicer's application adds to its core: Qt as PythonQt gives it, MRML widgets, module classes.

They are as strict as the real ones where a module could trip, and do no more than this project's panel asks for.
Needs slicer-core and PySide6-Essentials.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent
_MODULES = ("i18n", "qmrml_widgets", "ScriptedLoadableModule", "parameterNodeWrapper")


def install_module_classes() -> None:
    """Makes the base classes of scripted modules importable, for tests of the Logic; needs slicer-core alone."""
    import slicer

    if str(_FOLDER / "slicer") not in slicer.__path__:
        slicer.__path__.append(str(_FOLDER / "slicer"))


def install() -> None:
    """Makes `qt`, `ctk` and the modules of `slicer` importable, and puts the MRML widgets into `slicer`."""
    import slicer

    if str(_FOLDER) in sys.path:
        return
    sys.path.insert(0, str(_FOLDER))
    install_module_classes()
    for name in _MODULES:
        module = importlib.import_module(f"slicer.{name}")
        for widget in vars(module) if name == "qmrml_widgets" else ():
            if widget.startswith(("qMRML", "qSlicer")):
                setattr(slicer, widget, getattr(module, widget))


def application() -> object:
    """The QApplication, drawn as Slicer draws on Linux, made on the first call."""
    from PySide6.QtWidgets import QApplication

    found = QApplication.instance()
    if found is None:
        found = QApplication(["tests"])
        found.setStyle("Fusion")
    return found
