"""Help: complete, and without what takes time to import (how long it takes is told by Benchmarks/speed.py)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cli_runs import SOURCE, succeed
from dlir import __version__

COMMANDS = ["register", "batch", "apply", "jacobian", "models", "train", "evaluate", "crossvalidate", "demo"]


def _run(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-m", "dlir", *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_lists_every_command() -> None:
    printed = _run("--help")
    assert all(command in printed for command in COMMANDS)


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
