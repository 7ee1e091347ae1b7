"""The examples in the docstrings of the API, on the pair and the model that ship."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["registering", "many", "sample"])
def test_examples(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"dlir.api.{module}"))
    assert found.attempted > 0
    assert found.failed == 0
