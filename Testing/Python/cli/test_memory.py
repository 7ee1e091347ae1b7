"""Voxel sizes out of proportion, under a limit on memory: one line at once, not a process that grows until it ends."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cli_runs import FIXED, Pair, body, snapshot, start
from dlir.io.writing import write_image
from training_runs import plain_config, write_subjects, write_volume

LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_AS, (10 << 30, 10 << 30))"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on memory, which this system has not")


def test_register(pair: Pair) -> None:
    grid = replace(FIXED, spacing=tuple(1000 * s for s in FIXED.spacing))
    micrometres = pair.folder / "micrometres.nrrd"
    write_image(micrometres, body(FIXED, FIXED.center, 0.0), grid)
    before = snapshot(pair.folder)
    for changes in ({"fixed": micrometres}, {"moving": micrometres}):
        process = start(pair.register(pair.folder / "out", **changes), LIMIT)
        stdout, stderr = process.communicate(timeout=120)
        assert (process.returncode, stdout, stderr.count("\n")) == (2, "", 1)
        for words in ("micrometres.nrrd", "measures 55 x 42 x 42 m", "correct the voxel size"):
            assert words in stderr
    assert snapshot(pair.folder) == before


def test_data_check_leaves_it_out(tmp_path: Path) -> None:
    folder, config = tmp_path / "data", tmp_path / "config.yaml"
    write_subjects(folder, ["first", "second", "held"])
    values = body(FIXED, FIXED.center, 0.0)
    write_volume(folder / "first" / "first_frame09.nii.gz", values, spacing=tuple(9e4 for _ in range(3)))
    config.write_text(yaml.safe_dump(plain_config()))
    process = start(["data", "check", "--data", folder, "--config", config, "--json"], LIMIT)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (1, "")
    (entry,) = yaml.safe_load(stdout)["left_out"]
    assert "first_frame09.nii.gz' measures" in entry["why"]
    assert "correct the voxel size" in entry["why"]


@pytest.mark.data
def test_the_case_of_micrometres(shared_cases: Path, tmp_path: Path) -> None:
    folder = shared_cases / "14_voxel_size_out_of_proportion"
    process = start(["data", "check", "--data", folder / "data", "--config", folder / "hip.yaml"], LIMIT)
    stdout, stderr = process.communicate(timeout=240)
    assert (process.returncode, stderr) == (1, "")
    assert "zz_micrometres.nii.gz" in stdout
    given = ["--fixed", folder / "ed_micrometres.nrrd", "--moving", folder / "es_micrometres.nrrd"]
    process = start(["register", "--device", "cpu", *given, "--output", tmp_path / "out"], LIMIT)
    stdout, stderr = process.communicate(timeout=240)
    assert (process.returncode, stdout, stderr.count("\n")) == (2, "", 1)
    assert "ed_micrometres.nrrd' measures 135 x 135 x 80 m" in stderr
    assert not (tmp_path / "out").exists()
