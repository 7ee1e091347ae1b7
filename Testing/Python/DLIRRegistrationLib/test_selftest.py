"""What Slicer runs as the module's own test, on the sample that ships."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer

from DLIRRegistrationLib import dependencies, selftest
from DLIRRegistrationLib.selfcheck import SelfCheck, _read

if TYPE_CHECKING:
    from DLIRRegistrationLib.logic import DLIRRegistrationLogic
    from mrml import MRML


@pytest.mark.slow
def test_it_passes_in_a_scene_without_slicer_s_application(logic: DLIRRegistrationLogic) -> None:
    told: list[str] = []
    ticks: list[None] = []
    SelfCheck(logic, told.append, lambda: ticks.append(None)).run()
    assert told[-1] == "DLIR Registration: all as promised"
    assert len(told) == 8
    assert ticks


def test_the_sample_is_read_without_a_warning_of_vtk(scene: MRML) -> None:
    import vtk

    former, said = vtk.vtkOutputWindow.GetInstance(), vtk.vtkStringOutputWindow()
    vtk.vtkOutputWindow.SetInstance(said)
    try:
        cine = _read("cine.seq.nrrd", "Sequence", "VolumeSequenceStorage")
    finally:
        vtk.vtkOutputWindow.SetInstance(former)
    assert cine.GetNumberOfDataNodes() > 1
    assert said.GetOutput() == ""
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLStorageNode") == 0


def test_slicer_s_test_class_runs_it_in_an_empty_scene(scene: MRML, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.add("ScalarVolume", "of yesterday")
    checked: list[Any] = []

    def run(check: SelfCheck) -> None:
        assert slicer.mrmlScene.GetFirstNodeByName("of yesterday") is None
        checked.append(check.logic)

    monkeypatch.setattr(dependencies, "problem", lambda: None)
    monkeypatch.setattr(SelfCheck, "run", run)
    selftest.DLIRRegistrationTest().runTest()
    [logic] = checked
    assert logic.moduleName == "DLIRRegistration"
    assert logic.worker.state == "stopped"


def test_it_is_skipped_where_torch_is_missing(scene: MRML, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "problem", lambda: "Python packages are missing: torch.")
    with pytest.raises(unittest.SkipTest, match="torch"):
        selftest.DLIRRegistrationTest().runTest()


def test_what_is_not_as_promised_is_named(logic: DLIRRegistrationLogic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("DLIRRegistrationLib.selfcheck.resource_folder", lambda kind: Path("/nowhere"))
    with pytest.raises(AssertionError, match=r"not as promised: '.*fixed_ed\.nrrd' can be read"):
        SelfCheck(logic, lambda text: None, lambda: None).run()
