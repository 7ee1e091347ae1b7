"""Help: complete, and there at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cli_runs import SOURCE, succeed
from dlir import __version__

COMMANDS = ["register", "apply", "jacobian", "models", "train", "evaluate", "crossvalidate", "demo"]


def _run(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-m", "dlir", *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_lists_every_command() -> None:
    printed = _run("--help")
    assert all(command in printed for command in COMMANDS)


@pytest.mark.skipif(os.name != "posix", reason="needs the processor time of child processes")
@pytest.mark.parametrize("arguments", [["--help"], ["register", "--help"], ["models"]])
def test_help_is_there_at_once(arguments: list[str]) -> None:
    """Half a second of work, the best of three; the time on the clock would depend on what else the machine does."""
    seconds = []
    for _ in range(3):
        before = os.times()
        _run(*arguments)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) <= 0.5


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


def test_version() -> None:
    assert succeed(["--version"]) == f"{__version__}\n"


def test_apply_says_which_way_things_travel() -> None:
    printed = " ".join(succeed(["apply", "--help"]).split())
    assert "those drawn on the moving image travel to the fixed image with --inverse" in printed
    assert "an image or labels travel from moving to fixed without --inverse" in printed
