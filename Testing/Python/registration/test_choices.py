"""What there is to choose from is listed once: everyone else reads that."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from cli_runs import SOURCE, succeed
from dlir.cli.common import DeviceOption
from dlir.registration.choices import DEVICES, INITIALIZATIONS, OUTPUT_FORMS, Device, Initialization

LISTED = SOURCE / "dlir" / "registration" / "choices.py"
STARTS = {mode.value for mode in Initialization}
OTHERS = sorted(set(SOURCE.rglob("*.py")) - {LISTED})


def lists(tree: ast.Module) -> Iterator[set[str]]:
    """The texts of each display, and of each class's attributes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            parts: list[ast.expr | None] = [*node.elts]
        elif isinstance(node, ast.Dict):
            parts = [*node.keys]
        elif isinstance(node, ast.ClassDef):
            parts = [item.value for item in node.body if isinstance(item, ast.Assign)]
        else:
            continue
        yield {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}


@pytest.mark.parametrize(
    "text", ['X = ("cpu", "auto", "mps", "cuda")', 'class X:\n    a = "centers"\n    b = "scanner"\n    c = "auto"']
)
def test_the_reader_sees_a_list(text: str) -> None:
    assert any(found >= set(DEVICES) or found >= STARTS for found in lists(ast.parse(text)))


@pytest.mark.parametrize("path", OTHERS, ids=[str(path.relative_to(SOURCE)) for path in OTHERS])
def test_nobody_else_lists_them(path: Path) -> None:
    for found in lists(ast.parse(path.read_text(encoding="utf-8"))):
        for choices in (DEVICES, STARTS, OUTPUT_FORMS):
            assert not found >= set(choices)


def test_the_command_line_offers_them() -> None:
    assert get_args(DeviceOption)[0] is Device
    for command in ("register", "evaluate"):
        said = " ".join(succeed([command, "--help"]).split())
        for name in (*DEVICES, *INITIALIZATIONS):
            assert name in said


def test_the_command_line_module_offers_them() -> None:
    spec = importlib.util.spec_from_file_location("DLIRRegister", SOURCE / "DLIRRegister" / "DLIRRegister.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.pop("DLIRRegister", None)
    spec.loader.exec_module(module)
    actions = {action.dest: action for action in module.make_parser()._actions if isinstance(action, argparse.Action)}
    assert tuple(actions["device"].choices or ()) == DEVICES
    assert tuple(actions["initialize"].choices or ()) == INITIALIZATIONS


def test_they_need_the_standard_library_only() -> None:
    modules = "choices", "codec", "progress", "request", "pipeline"
    code = f"import sys, {', '.join(f'dlir.registration.{name}' for name in modules)}\n"
    code += "print({'numpy', 'torch', 'SimpleITK'} & set(sys.modules) or 'nothing')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "nothing"


def test_names_and_values_are_the_same() -> None:
    """So that what the command line shows is what a request holds."""
    for kind in (Device, Initialization):
        assert [choice.name for choice in kind] == [choice.value for choice in kind]
