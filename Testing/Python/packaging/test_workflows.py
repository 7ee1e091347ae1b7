"""The hosted workflow is one that GitHub reads, asks for no more than it needs, and runs what the README promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from cmake_lists import ROOT

FOLDER = ROOT / ".github" / "workflows"
CI = FOLDER / "ci.yml"


def complaints(file: Path, schema: str) -> str:
    """What a schema that comes with check-jsonschema has against a workflow; empty where nothing."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, "--no-cache", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    found = yaml.safe_load(CI.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("schema", ["vendor.github-workflows", "custom.github-workflows-require-timeout"])
def test_every_workflow_fits_the_published_schema(schema: str) -> None:
    for file in FOLDER.iterdir():
        assert complaints(file, schema) == ""


def test_the_schema_finds_a_misspelt_key(tmp_path: Path) -> None:
    wrong = tmp_path / "ci.yml"
    wrong.write_text(CI.read_text(encoding="utf-8").replace("runs-on:", "runs_on:"), encoding="utf-8")
    assert "runs_on" in complaints(wrong, "vendor.github-workflows")


def test_it_may_read_only_and_the_newest_run_is_enough(workflow: dict[Any, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is True
    assert not [job for job in workflow["jobs"].values() if "permissions" in job]


def test_actions_are_pinned_to_a_major_version_and_keep_no_credentials(workflow: dict[Any, Any]) -> None:
    steps = [step for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert steps
    for step in steps:
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])
        if step["uses"].startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_every_supported_python_is_tested_on_every_system(workflow: dict[Any, Any]) -> None:
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert {"3.10", "3.11", "3.12", "3.13"} <= set(matrix["python"])
    stated = re.search(r'requires-python = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert stated
    supported = SpecifierSet(stated[1])
    assert all(version in supported for version in matrix["python"])
    assert "3.9" not in supported


def test_it_runs_what_the_makefile_has(workflow: dict[Any, Any]) -> None:
    commands = "\n".join(step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make (\S+)", commands, re.MULTILINE))
    assert targets == {"lint", "demo"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    assert "python -m pytest" in commands
    for file in re.findall(r"[\w./-]+\.(?:py|lock)", commands):
        assert (ROOT / file).is_file(), file
