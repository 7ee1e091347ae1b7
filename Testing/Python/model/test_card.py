"""What a model says of itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cli_runs import CARD, SOURCE, make_model
from dlir.model.card import full_text, one_line
from dlir.model.file import ModelHeader, read_header


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> ModelHeader:
    return read_header(make_model(tmp_path_factory.mktemp("card") / "tiny.safetensors"))


def test_one_line(header: ModelHeader) -> None:
    assert one_line(header) == "none · any · CC0"
    assert one_line(replace(header, card={"modality": "CT", "anatomy": ""})) == "CT"
    assert one_line(replace(header, card={})) == ""


def test_full_text_has_all_but_the_configuration(header: ModelHeader) -> None:
    lines = full_text(header).splitlines()
    for key in ("name", "title", "anatomy", "modality", "licence"):
        assert f"{key:<10}  {CARD[key]}" in lines
    assert lines[lines.index("stages") + 2] == "  1  bspline  2 × 2 × 2        16 × 16 × 16       4, 4, 4, 4"
    assert "  hours     0.5" in lines
    assert not any("config" in line for line in lines)


def test_needs_no_torch(tmp_path: Path) -> None:
    file = make_model(tmp_path / "tiny.safetensors")
    code = (
        "import sys; from pathlib import Path; from dlir.model.card import full_text; "
        f"from dlir.model.file import read_header; full_text(read_header(Path({str(file)!r}))); "
        "sys.exit(bool({'torch', 'SimpleITK', 'safetensors', 'typer', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=SOURCE, check=False).returncode == 0
