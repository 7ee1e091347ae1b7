"""The test that Slicer's build runs, run here on real MRML, with stand-ins for what only the application has."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from cli_runs import SOURCE
from DLIRRegistrationLib import dependencies
from sample_data_module import SampleDataModule

slicer = pytest.importorskip("slicer", reason="needs slicer-core")
vtk = pytest.importorskip("vtk")

FILE = SOURCE.parent / "Testing" / "Python" / "DLIRExtensionTest.py"
_STORAGE = {"vtkMRMLScalarVolumeNode": "vtkMRMLVolumeArchetypeStorageNode"}
_SUFFIX = {"vtkMRMLScalarVolumeNode": ".nrrd"}


class CommandLineRun(SimpleNamespace):
    """The node of a finished run."""

    Completed = 0x20

    def GetStatus(self) -> int:  # noqa: N802
        return self.Completed if self.code == 0 else self.Completed | 0x40

    def GetErrorText(self) -> str:  # noqa: N802
        return str(self.error)


class CommandLine:
    """Runs a command line module as Slicer does: nodes to files, the program, files to nodes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def runSync(self, module: Any, parameters: dict[str, Any], update_display: bool) -> CommandLineRun:  # noqa: N802
        flags, nodes, texts = [], {}, dict(parameters)
        for name, value in parameters.items():
            if isinstance(value, slicer.vtkMRMLNode):
                nodes[name] = value
                texts[name] = str(self._folder / f"{value.GetID()}{_SUFFIX.get(value.GetClassName(), '.h5')}")
        for name in ("fixed", "moving"):
            assert self._storage(nodes[name], texts[name]).WriteData(nodes[name])
        for name, text in texts.items():
            flags += [] if name in ("fixed", "moving") else [f"--{name}", text]
        command = [sys.executable, str(module.path), *flags, texts["fixed"], texts["moving"]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for name in ("warped", "transform"):
            if done.returncode == 0:
                assert self._storage(nodes[name], texts[name]).ReadData(nodes[name])
        return CommandLineRun(code=done.returncode, error=done.stderr)

    @staticmethod
    def _storage(node: Any, path: str) -> Any:
        kind = _STORAGE.get(node.GetClassName(), "vtkMRMLTransformStorageNode")
        storage = slicer.mrmlScene.AddNewNodeByClass(kind)
        storage.SetFileName(path)
        return storage


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The test case, in a scene."""
    from mrml import MRML

    mrml = MRML()
    monkeypatch.setitem(sys.modules, "SampleData", SampleDataModule(tmp_path))
    monkeypatch.setattr(slicer, "cli", CommandLine(tmp_path), raising=False)
    slicer.modules.dlirregistration = SimpleNamespace()
    slicer.modules.dlirregister = SimpleNamespace(path=SOURCE / "DLIRRegister" / "DLIRRegister.py")
    spec = importlib.util.spec_from_file_location("DLIRExtensionTest", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.DLIRExtensionTest
    mrml.close()


def run(case: Any, *names: str) -> unittest.TestResult:
    result = unittest.TestResult()
    unittest.TestSuite(case(name) for name in names).run(result)
    return result


def failures(result: unittest.TestResult) -> list[str]:
    return [text for _, text in result.failures + result.errors]


def test_it_passes_on_a_whole_extension(case: Any) -> None:
    result = run(case, "test_both_modules_are_loaded", "test_what_ships_is_found")
    assert failures(result) == []
    assert result.testsRun == 2


def test_it_fails_where_a_module_is_missing(case: Any) -> None:
    del slicer.modules.dlirregister
    assert "dlirregister" in failures(run(case, "test_both_modules_are_loaded"))[0]


def test_it_skips_the_run_where_torch_is_missing(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "_problem", lambda requirement: f"{requirement} is not installed")
    result = run(case, "test_command_line_module_registers_the_sample")
    assert "torch" in result.skipped[0][1]


@pytest.mark.slow
def test_its_run_passes(case: Any) -> None:
    result = run(case, "test_command_line_module_registers_the_sample")
    assert failures(result) == []
    assert result.skipped == []
    check_transform(
        *(slicer.mrmlScene.GetFirstNodeByName(name) for name in ("Cine end-systole", "Warped", "Transform"))
    )


def check_transform(moving: Any, warped: Any, transform: Any) -> None:
    """The transform that Slicer has read brings the moving volume to where the warped one is."""
    array, expected = (slicer.util.arrayFromVolume(node).astype(float) for node in (moving, warped))
    to_ras, to_ijk = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    warped.GetIJKToRASMatrix(to_ras)
    moving.GetRASToIJKMatrix(to_ijk)
    voxels = np.random.default_rng(1).integers((2, 40, 40), (8, 120, 120), (300, 3))
    places = []
    for k, j, i in voxels.tolist():
        ras = transform.GetTransformFromParent().TransformPoint(to_ras.MultiplyPoint((i, j, k, 1))[:3])
        places.append(to_ijk.MultiplyPoint((*ras, 1))[2::-1])
    found = map_coordinates(array, np.transpose(places), order=1)
    wanted = expected[tuple(voxels.T)]
    assert np.abs(found - wanted).max() < 0.01 * np.ptp(expected)
