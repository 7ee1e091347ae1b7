"""Work that comes in steps, done at once."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any


def exhausted(steps: Generator[Any, None, Any]) -> tuple[Any, int]:
    """What a generator returns, and in how many steps."""
    count = 0
    while True:
        try:
            next(steps)
            count += 1
        except StopIteration as end:
            return end.value, count
