"""What `--refine` may say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlir.errors import OptionError
from dlir.optimization.budget import Budget, budget_of


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("10s", Budget(seconds=10)),
        (" 2.5 S ", Budget(seconds=2.5)),
        (".5s", Budget(seconds=0.5)),
        ("50it", Budget(steps=50)),
        ("3.0IT", Budget(steps=3)),
        ("converged", Budget()),
        ("Off", None),
    ],
)
def test_texts(text: str, budget: Budget | None) -> None:
    assert budget_of(text) == budget


@pytest.mark.parametrize(
    "text",
    ["", "3x", "s", "it", "10", "-3s", "0s", "0it", "2.5it", "10 minutes", "nans", "infs", "1e3s", "on", "10s 5it"],
)
def test_others_are_refused_by_name(text: str) -> None:
    with pytest.raises(OptionError, match=r"--refine; give seconds \(10s\), steps \(50it\), converged or off"):
        budget_of(text)


@given(st.one_of(st.integers(1, 10**6).map(lambda n: Budget(steps=n)), st.integers(1, 86_400).map(Budget)))
def test_a_budget_is_written_as_it_is_read(budget: Budget) -> None:
    assert budget_of(str(budget)) == budget


def test_only_one_without_bounds_converges() -> None:
    assert Budget().converged
    assert budget_of(str(Budget())) == Budget()
    assert not Budget(seconds=1.0).converged
    assert not Budget(steps=1).converged
