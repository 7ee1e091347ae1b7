"""The Snakemake example of the guide, run as it stands there but for the number of parts."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli_runs import SOURCE, make_model, write_pair


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("snakemake") is None, reason="snakemake is not installed: pip install snakemake")
def test_the_example_of_the_guide(tmp_path: Path, repo_root: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (repo_root / "docs" / "batch.md").read_text("utf-8"), re.DOTALL)
    assert "PARTS = 4\n" in example
    write_pair(tmp_path, make_model(tmp_path / "tiny.safetensors"))
    row = f"{{}}.nrrd,{{}}.nrrd,{tmp_path / 'tiny.safetensors'}\n"
    rows = [row.format("fixed", "moving"), row.format("lost", "moving"), row.format("moving", "fixed")]
    (tmp_path / "pairs.csv").write_text(f"fixed,moving,model\n{''.join(rows)}")
    (tmp_path / "Snakefile").write_text(example.replace("PARTS = 4", "PARTS = 2"))
    command = tmp_path / "bin" / "dlir"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{SOURCE}" exec "{sys.executable}" -m dlir "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)  # snakemake has a Python of its own
    done = subprocess.run(
        ["snakemake", "--cores", "2"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "results" / "summary.csv").open(newline="", encoding="utf-8") as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["done", "error", "done"]
