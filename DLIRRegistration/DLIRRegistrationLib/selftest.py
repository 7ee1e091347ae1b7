"""The module's test as Slicer runs it: under Reload and Test, and from the command line."""

# ruff: noqa: N802

from __future__ import annotations

from typing import Any

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from DLIRRegistrationLib import dependencies
from DLIRRegistrationLib.logic import DLIRRegistrationLogic
from DLIRRegistrationLib.selfcheck import SelfCheck


class DLIRRegistrationTest(ScriptedLoadableModuleTest):
    """Registers the sample that ships, in the scene, with the real worker; see `SelfCheck`. Empties the scene."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self, **kwargs: Any) -> None:
        """Everything, one after the other. Skipped where torch is missing."""
        self.setUp()
        missing = dependencies.problem()
        if missing:
            self.skipTest(missing)
        logic = DLIRRegistrationLogic()
        try:
            SelfCheck(logic, self.delayDisplay, slicer.app.processEvents).run()
        finally:
            logic.close()
