"""Help: complete, and without what takes time to import (how long it takes is told by Benchmarks/speed.py)."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from cli_runs import SOURCE, succeed
from dlir import __version__

COMMANDS = ["register", "batch", "cine", "apply", "jacobian", "invert", "models", "presets", "data", "train"]
COMMANDS += ["evaluate", "crossvalidate", "demo", "dicom"]
GROUPS = ["models", "presets", "data", "dicom"]


def _run(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-m", "dlir", *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_lists_every_command() -> None:
    printed = _run("--help")
    listed = printed.partition("Commands:")[2]
    assert {line.split()[0] for line in listed.splitlines() if line.strip()} == set(COMMANDS)


@pytest.mark.parametrize("group", [[], ["models"], ["presets"], ["data"], ["dicom"]])
def test_what_a_command_does_is_said_in_one_whole_line(group: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = succeed([*group, "--help"]).partition("Commands:")[2].splitlines()
    assert len(listed) > 1
    assert not [line for line in listed if line.endswith("...")]


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in GROUPS])
def test_help_calls_no_value_by_its_type_and_begins_with_what_is_needed(command: str) -> None:
    printed = succeed([command, "--help"])
    usage, rest = printed.partition("\n\n")[0], printed.partition("Options:")[2]
    assert not re.findall(r"^ +(?:-\w, )?--[\w-]+ (<(?:str|path|int|float|list).*?>)", rest, re.MULTILINE)
    needed = re.findall(r"^  (--[\w-]+) [^\[]*\[required\]", rest, re.MULTILINE)
    assert usage.startswith(" ".join(["Usage: dlir", command, *needed[:1]]))
    assert all(option in usage for option in needed)
    assert "  -q, --quiet" in rest


@pytest.mark.parametrize("command", ["register", "cine", "batch"])
def test_help_tells_of_registering_without_a_model(command: str) -> None:
    printed = " ".join(succeed([command, "--help"]).split())
    assert "none" in printed.partition("--model")[2].partition("--")[0]
    assert "off with a model, else 10s" in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys\nfrom dlir.cli import main\n"
        f"sys.argv = ['dlir', {command!r}, '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'torch', 'SimpleITK', 'numpy', 'rich.table', 'yaml', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=SOURCE)
    assert done.returncode == 0, done.stderr


def test_listing_models_imports_no_networks() -> None:
    code = (
        "import sys\nfrom dlir.cli import main\nsys.argv = ['dlir', 'models']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'torch', 'SimpleITK', 'scipy', 'matplotlib'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=SOURCE)
    assert done.returncode == 0, done.stderr
    assert "cardiac-cine" in done.stdout


def test_version() -> None:
    assert succeed(["--version"]) == f"{__version__}\n"


def test_apply_says_which_way_things_travel() -> None:
    printed = " ".join(succeed(["apply", "--help"]).split())
    assert "those drawn on the moving image travel to the fixed image with --inverse" in printed
    assert "an image or labels travel from moving to fixed without --inverse" in printed
