"""Completion: the scripts that shells ask for, and what they are offered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli_runs import SOURCE
from dlir.cli import completion
from dlir.registration.choices import SIMILARITIES
from dlir.training.config_file import presets as known_presets

SHELLS = ("bash", "zsh", "fish")


def dlir(*arguments: str, **environment: str) -> str:
    """What the real command prints."""
    variables = {**os.environ, "PYTHONPATH": str(SOURCE), **environment}
    command = [sys.executable, "-m", "dlir", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def offered(typed: str, shell: str = "bash") -> str:
    """What a shell is told when Tab is pressed behind `typed`."""
    place = str(len(typed.split(" ")) - 1)
    asked = {"COMP_WORDS": typed, "COMP_CWORD": place, "_TYPER_COMPLETE_ARGS": typed}
    return dlir(_DLIR_COMPLETE=f"complete_{shell}", _TYPER_COMPLETE_FISH_ACTION="get-args", **asked)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_model_is_offered_in_every_shell(shell: str) -> None:
    assert "cardiac-cine" in offered("dlir register --model ca", shell)


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [("dlir reg", "register"), ("dlir register --fixed-l", "--fixed-landmarks"), ("dlir register --kind r", "rigid")],
)
def test_commands_options_and_choices_are_offered(typed: str, wanted: str) -> None:
    assert wanted in offered(typed)


def test_names_are_those_that_there_are() -> None:
    assert completion.models("") == ["cardiac-cine", "hippocampus"]
    assert completion.models_or_choice("") == ["auto", "none", "cardiac-cine", "hippocampus"]
    assert completion.models("hip") == ["hippocampus"]
    assert completion.presets("") == sorted(known_presets())
    assert completion.similarities("m") == [name for name in SIMILARITIES if name.startswith("m")]


def test_a_name_costs_no_heavy_import() -> None:
    code = (
        "import sys\nfrom dlir.cli import completion\ncompletion.models(''), completion.presets('')\n"
        "heavy = {'torch', 'SimpleITK', 'yaml', 'pydantic'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=SOURCE, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_it_is_shown_and_installed_for_the_shell_that_asks(tmp_path: Path) -> None:
    def ask(option: str) -> str:
        # Which shell it is, is told from the process above; python is no last command, so that bash stays there.
        typed = f"'{sys.executable}' -m dlir {option}; echo"
        variables = {**os.environ, "PYTHONPATH": str(SOURCE), "HOME": str(tmp_path)}
        done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, env=variables, check=False)
        return done.stdout

    assert "complete -o default -F _dlir_completion dlir" in ask("--show-completion")
    ask("--install-completion")
    (script,) = (tmp_path / ".bash_completions").iterdir()
    assert script.name == "dlir.sh"
    assert script.name in (tmp_path / ".bashrc").read_text()
