"""Fixtures of the tests that need MRML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mrml import MRML


@pytest.fixture
def scene() -> Iterator[MRML]:
    """An empty scene with Slicer's logics; the test is skipped where slicer-core is not installed."""
    pytest.importorskip("slicer", reason="needs slicer-core")
    from mrml import MRML

    mrml = MRML()
    yield mrml
    mrml.close()
