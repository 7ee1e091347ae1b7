"""Cells of tables that people open in a spreadsheet."""

from __future__ import annotations

import pytest

from dlir.io.text import as_cell


@pytest.mark.parametrize("text", ["=1+1", "+a", "-a", "@SUM(A1)", "-2+3", "\t=1", "\r=1", "-", "--5"])
def test_what_would_be_a_formula_is_text(text: str) -> None:
    assert as_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["", "a=1", " -a", "'=1", "-5", "+1.5e-3", "-inf", "1-2", -5, 0.5, None, True])
def test_what_is_none_stays(value: object) -> None:
    assert as_cell(value) is value
