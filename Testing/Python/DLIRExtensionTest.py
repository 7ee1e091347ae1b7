"""The extension as Slicer's own build has put it together. Runs inside of Slicer, by its test runner."""

from __future__ import annotations

import unittest

import numpy as np
import slicer

from dlir.model.catalogue import all_models, resource_folder
from DLIRRegistrationLib import dependencies
from DLIRRegistrationLib.sample_data import PAIR, SAMPLES, register_sample_data


class DLIRExtensionTest(unittest.TestCase):
    """Everything is in its place and works from there."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def test_both_modules_are_loaded(self) -> None:
        for name in ("dlirregistration", "dlirregister"):
            assert hasattr(slicer.modules, name), name

    def test_what_ships_is_found(self) -> None:
        usable = [entry.name for entry in all_models() if entry.bundled and entry.problem is None]
        assert sorted(usable) == ["cardiac-cine", "hippocampus"]
        assert list(resource_folder("Presets").glob("*.yaml"))
        for sample in SAMPLES:
            for file in sample.files:
                assert (resource_folder("SampleData") / file.name).is_file(), file.name
        assert "torch" in [requirement.name for requirement in dependencies.requirements()]

    def test_command_line_module_registers_the_sample(self) -> None:
        if dependencies.missing():
            self.skipTest(dependencies.problem() or "")
        import SampleData

        register_sample_data()
        fixed, moving = SampleData.downloadSamples(PAIR)[:2]
        warped = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Warped")
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Transform")
        chosen = {"fixed": fixed, "moving": moving, "warped": warped, "transform": transform, "device": "cpu"}
        run = slicer.cli.runSync(slicer.modules.dlirregister, parameters=chosen, update_display=False)
        assert run.GetStatus() == run.Completed, run.GetErrorText()
        target, before, after = (slicer.util.arrayFromVolume(node).astype(float) for node in (fixed, moving, warped))
        assert after.shape == target.shape
        assert correlation(target, after) > correlation(target, before) + 0.02
        assert not transform.IsLinear()


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
