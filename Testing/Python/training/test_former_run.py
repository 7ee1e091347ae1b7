"""A run folder as it was before checkpoints said how bending energy is computed is continued to its end.

Testing/Data/run-folder-1 was left by an interrupt in the third of six iterations of the second of two stages. The
images it was made with are not kept: they are whole numbers, so any machine makes the same ones again.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from cli_runs import refuse, succeed
from dlir.model.file import load_model, read_header
from DLIRRegistrationLib.training import TrainingRun

OLD = Path(__file__).resolve().parents[2] / "Data" / "run-folder-1"
# The similarity in the two rows that the code of that time added when it went on.
ITS_OWN_END = (0.8300789, 0.8786923)

_SHAPE = (4, 24, 24)
_SPACING = (1.0, 1.0, 4.0)
# x, y, radius and height of some bumps, voxels in plane.
_BUMPS = ((6, 7, 5, 3), (16, 6, 6, 2), (8, 17, 4, 5), (17, 16, 7, 2), (12, 12, 3, 7))


def write_images(folder: Path) -> None:
    """Two frames for each of three subjects, the bumps of the second one shifted."""
    _, y, x = np.indices(_SHAPE)
    for number, name in enumerate(("one", "two", "held")):
        (folder / name).mkdir(parents=True)
        for frame, shift in (("ed", 0), ("es", 1 + number % 2)):
            image = np.zeros(_SHAPE, np.int16)
            for cx, cy, radius, height in _BUMPS:
                squared = (x - cx - shift) ** 2 + (y - cy + number) ** 2
                image += (height * np.maximum(radius**2 - squared, 0)).astype(np.int16)
            written = sitk.GetImageFromArray(image)
            written.SetSpacing(_SPACING)
            sitk.WriteImage(written, str(folder / name / f"{frame}.nrrd"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The old folder, with its images beside it."""
    write_images(tmp_path / "images")
    folder = Path(shutil.copytree(OLD, tmp_path / "run"))
    options = json.loads((folder / "run.json").read_text())
    places = {name: str(tmp_path / options[name]) for name in ("data", "cache")}
    (folder / "run.json").write_text(json.dumps({**options, **places}))
    return folder


def test_it_is_continued_to_where_it_would_have_ended(run: Path) -> None:
    left = json.loads((run / "history.json").read_text())
    begun, _ = load_model(run / "model.safetensors")
    assert "model.safetensors" in succeed(["train", "--resume", run, "--device", "cpu"])
    history = json.loads((run / "history.json").read_text())
    assert history[:4] == left
    assert [(row["phase"], row["iteration"]) for row in history[4:]] == [(1, 4), (1, 6)]
    # Chains and bending energies are exact today; what else decides the result is as it was.
    assert [row["similarity"] for row in history[4:]] == pytest.approx(ITS_OWN_END, abs=1e-4)
    ended, header = load_model(run / "model.safetensors")
    assert (header.card["training"]["phases_completed"], header.card["training"]["pairs_drawn"]) == (2, 24)
    before, after = begun.state_dict(), ended.state_dict()
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"1"}  # the first stage was finished


def test_its_card_says_that_bending_energy_has_changed_on_the_way(run: Path) -> None:
    assert "bending_energy" not in read_header(run / "model.safetensors").card["training"]
    succeed(["train", "--resume", run, "--device", "cpu"])
    training = read_header(run / "model.safetensors").card["training"]
    assert training["bending_energy"] == "midpoint rule, then integral"
    assert training["precision"] == "float32"
    assert "midpoint rule, then integral" in succeed(["models", "show", run / "model.safetensors"])


def test_it_is_protected_from_other_runs_and_images(run: Path, tmp_path: Path) -> None:
    new = ["train", "--data", tmp_path / "images", "--preset", "hippocampus", "--output", run, "--licence", "CC0"]
    refuse(new, tmp_path / "run", "already holds a run with another configuration")
    shutil.rmtree(tmp_path / "images" / "one")
    write_images(tmp_path / "more")
    shutil.move(tmp_path / "more" / "held", tmp_path / "images" / "one")
    with pytest.raises(AssertionError, match="was made with other images"):
        succeed(["train", "--resume", run, "--device", "cpu"])


def test_slicers_panel_shows_its_curve_and_offers_to_continue(run: Path) -> None:
    found = TrainingRun(run)
    assert [row["iteration"] for row in found.history] == [2, 4, 6, 2]
    assert found.resumable
    assert found.model == run / "model.safetensors"
