"""The hosted workflow is one that GitHub reads, asks for no more than it needs, and runs what the README promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

import dlir
from cmake_lists import ROOT

FOLDER = ROOT / ".github" / "workflows"
CI = FOLDER / "ci.yml"
RELEASE = FOLDER / "release.yml"


def complaints(file: Path, schema: str) -> str:
    """What a schema that comes with check-jsonschema has against a workflow; empty where nothing."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, "--no-cache", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    return read(CI)


@pytest.fixture(scope="module")
def release() -> dict[Any, Any]:
    return read(RELEASE)


def read(file: Path) -> dict[Any, Any]:
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def commands(workflow: dict[Any, Any]) -> str:
    return "\n".join(step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step)


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


@pytest.mark.parametrize("file", [CI, RELEASE], ids=lambda file: file.stem)
def test_actions_are_pinned_to_a_major_version_and_keep_no_credentials(file: Path) -> None:
    steps = [step for job in read(file)["jobs"].values() for step in job["steps"] if "uses" in step]
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
    run = commands(workflow)
    assert made(run) == {"lint", "docs", "demo"}
    assert "python -m pytest" in run
    for file in re.findall(r"[\w./-]+\.(?:py|lock)", run):
        assert (ROOT / file).is_file(), file


def made(commands: str) -> set[str]:
    """The targets of the Makefile that commands make, which are there."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make (\S+)", commands, re.MULTILINE))
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    return targets


def test_a_release_is_linted_tested_tried_on_every_system_and_then_attached(release: dict[Any, Any]) -> None:
    jobs = release["jobs"]
    assert [jobs[name].get("needs") for name in ("build", "try", "release")] == [None, "build", "try"]
    assert made(commands(release)) == {"lint", "test", "wheel"}
    assert {name.split("-")[0] for name in jobs["try"]["strategy"]["matrix"]["os"]} == {"ubuntu", "macos", "windows"}
    assert "checkout" not in str(jobs["try"])  # what is tried is what is attached, and nothing beside it
    for command in ("pip install packages/*.whl", "dlir demo", "dlir.register(**dlir.sample_pair())"):
        assert command in commands(release)


def test_only_what_attaches_a_release_may_write(release: dict[Any, Any]) -> None:
    assert release["permissions"] == {"contents": "read"}
    assert {name for name, job in release["jobs"].items() if "permissions" in job} == {"release"}
    assert release[True] == {"push": {"tags": ["v*"]}}  # YAML reads the key "on" as true


def test_the_tag_of_a_release_must_be_the_version(release: dict[Any, Any], tmp_path: Path) -> None:
    (check,) = [step["run"] for step in release["jobs"]["build"]["steps"] if "version" in step.get("name", "")]
    for tag, code in ((f"v{dlir.__version__}", 0), ("v99.0", 1), ("v", 1)):
        done = subprocess.run(["bash", "-c", check], cwd=ROOT, env={**os.environ, "GITHUB_REF_NAME": tag}, check=False)
        assert done.returncode == code
