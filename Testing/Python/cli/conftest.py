"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_runs import Pair, make_model, write_pair


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights."""
    return make_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def pair(tmp_path: Path, model_file: Path) -> Pair:
    """A small pair in a folder of its own."""
    return write_pair(tmp_path, model_file)


@pytest.fixture(autouse=True)
def _silence(capfd: pytest.CaptureFixture[str]) -> object:
    """No library may print past Python: what reached the terminal itself is nothing."""
    yield
    captured = capfd.readouterr()
    assert captured.err == ""
