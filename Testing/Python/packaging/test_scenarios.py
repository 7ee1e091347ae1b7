"""The runner of the scenarios in Slicer: a line for each, the step that failed, and a status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="plays Slicer by a shell script")


def play(root: Path, folder: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """What the runner says of one scenario in which Slicer, played here, does what `script` says."""
    slicer = folder / "Slicer"
    slicer.write_text(f"#!/bin/sh\n{script}\n")
    slicer.chmod(0o755)
    command = [sys.executable, root / "Testing/Slicer/run.py", "--slicer", slicer, "--logs", folder / "logs"]
    return subprocess.run([*command, *options, "views"], capture_output=True, text=True, check=False, timeout=60)


def test_one_that_passes(repo_root: Path, tmp_path: Path) -> None:
    done = play(repo_root, tmp_path, 'echo "step: one: 1.0 s"; echo passed')
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["passed", "views"]
    assert done.stdout.splitlines()[1:] == ["All scenarios passed: views"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ('echo "step: one: 1.0 s"; echo "failed: two: there is no legend"; exit 1', "two: there is no legend"),
        ('echo "step: one: 1.0 s"; kill -SEGV $$', "Slicer ended with status -11 after 'one'"),
        ("exit 0", "Slicer ended with status 0 before the first step"),
        ('echo "step: one: 1.0 s"; sleep 60', "not over after 1 s, after 'one'"),
    ],
)
def test_one_that_fails_says_where(repo_root: Path, tmp_path: Path, script: str, reason: str) -> None:
    done = play(repo_root, tmp_path, script, "--limit", "1" if "sleep" in script else "30")
    assert done.returncode == 1
    assert done.stdout.startswith("FAILED  views")
    assert reason in done.stdout.splitlines()[0]
    assert (tmp_path / "logs" / "views.log").is_file()


def test_every_scenario_is_there(repo_root: Path) -> None:
    folder = repo_root / "Testing" / "Slicer"
    sys.path.insert(0, str(folder))
    try:
        from run import SCENARIOS
    finally:
        sys.path.remove(str(folder))
    others = {"bench", "run", "scene_state", "take_screenshots"}
    assert {path.stem for path in folder.glob("*.py")} - others == set(SCENARIOS)


def test_where_there_is_no_slicer_ci_says_so(repo_root: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "SLICER_KIT": str(tmp_path / "nothing")}
    done = subprocess.run(
        [repo_root / ".ci" / "slicer"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "left out" in done.stdout
