"""A cine is registered to one of its frames, from the panel; played, saved and opened."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import slicer
from bench import MODEL, SAMPLE, Bench, play
from scene_state import check_scene, layers, nodes, shown_views

FRAMES = 4
FILE = Path(tempfile.mkdtemp(prefix="dlir-sequence-")) / "sequence.mrb"


def registered(bench: Bench) -> None:
    bench.open()
    cine = slicer.util.loadNodeFromFile(str(SAMPLE / "cine.seq.nrrd"), "SequenceFile")
    while cine.GetNumberOfDataNodes() > FRAMES:
        cine.RemoveDataNodeAtValue(cine.GetNthIndexValue(cine.GetNumberOfDataNodes() - 1))
    drawn = slicer.util.loadSegmentation(str(SAMPLE / "fixed_ed_label.nrrd"))
    bench.parameters.sequence, bench.parameters.sequenceSegmentation = cine, drawn
    bench.parameters.model = MODEL
    bench.spin(0.3)
    assert bench.ui.registerSequenceButton.enabled, bench.ui.registerSequenceButton.toolTip
    bench.ui.registerSequenceButton.click()
    bench.until(lambda: not bench.busy, "the sequence is registered")
    bench.spin(0.5)
    assert "Good" in bench.ui.statusLabel.text or "Check" in bench.ui.statusLabel.text, bench.ui.statusLabel.text
    _check(bench)


def played(bench: Bench) -> None:
    """Every frame shows, and its images are below and above each other."""
    browser = nodes("vtkMRMLSequenceBrowserNode")[0]
    for number in range(FRAMES):
        browser.SetSelectedItemNumber(number)
        bench.spin(0.1)
        shown = [layers(view) for view in shown_views()]
        assert all(below for below, above in shown), f"frame {number + 1} is seen: {shown}"
    check_scene(bench)


def saved_closed_and_opened(bench: Bench) -> None:
    bench.save(FILE)
    bench.clear()
    check_scene(bench)
    assert nodes("vtkMRMLSequenceNode") == []
    bench.load(FILE)
    _check(bench)


def a_sequence_is_deleted(bench: Bench) -> None:
    for node in nodes("vtkMRMLSequenceNode"):
        slicer.mrmlScene.RemoveNode(node)
        bench.spin(0.1)
    check_scene(bench)
    assert not bench.ui.registerSequenceButton.enabled, "there is nothing to register"


def _check(bench: Bench) -> None:
    check_scene(bench)
    sequences = {node.GetName(): node for node in nodes("vtkMRMLSequenceNode")}
    browser = nodes("vtkMRMLSequenceBrowserNode")[0]
    assert len(sequences) == 4, f"images, registered images, transforms, segmentations: {sorted(sequences)}"
    for name, node in sequences.items():
        assert node.GetNumberOfDataNodes() == FRAMES, f"'{name}' has {FRAMES} frames"
        assert browser.IsSynchronizedSequenceNode(node, True), f"'{name}' plays with the others"
        assert browser.GetProxyNode(node) is not None, f"'{name}' is shown"


play(registered, played, saved_closed_and_opened, a_sequence_is_deleted)
