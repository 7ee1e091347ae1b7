"""What the tests of dlir.io share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest

from dlir.geometry import ImageGrid

Refusal = Callable[..., AbstractContextManager[None]]


def _oblique() -> tuple[float, ...]:
    """A rotation about no axis of its own: every entry differs from 0, ±1."""
    a, b, c = 0.4, -0.7, 1.1
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return tuple((rz @ ry @ rx).ravel())


@pytest.fixture
def grid() -> ImageGrid:
    """Oblique, anisotropic, off centre, a different size along every axis."""
    return ImageGrid((5, 6, 7), (1.5, 2.0, 8.0), (-20.0, 35.0, 110.0), _oblique())


@pytest.fixture
def refusal() -> Refusal:
    """`with refusal(kind, *words)`: the block raises `kind` with a message of one line that has all the words."""

    @contextmanager
    def check(kind: type[Exception], *words: str) -> Iterator[None]:
        with pytest.raises(kind) as caught:
            yield
        message = str(caught.value)
        assert "\n" not in message
        for word in words:
            assert word in message

    return check
