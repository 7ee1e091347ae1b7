"""The module's Logic, as Slicer wants it."""

from __future__ import annotations

from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from DLIRRegistrationLib.api import RegistrationApi


class DLIRRegistrationLogic(RegistrationApi, ScriptedLoadableModuleLogic):
    """See `RegistrationApi` for what it does. Slicer's base class adds the parameter node."""

    def __init__(self) -> None:
        RegistrationApi.__init__(self)
        ScriptedLoadableModuleLogic.__init__(self)
