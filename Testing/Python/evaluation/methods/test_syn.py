"""ANTs, where it is installed; it is no part of the development set."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from dlir.errors import EvaluationError, how_to_install
from dlir.evaluation.methods.base import settings_digest
from dlir.evaluation.methods.syn import SynMethod
from dlir.io.reading import Volume
from dlir.registration.loading import Loaded
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from evaluation_runs import GRID, body

START = np.array([30.0, -20.0, 10.0])


def task() -> Loaded:
    shift = np.array([3.0, -2.0, 2.0])
    moved = type(GRID)(GRID.shape, GRID.spacing, tuple(np.array(GRID.origin) + START), GRID.direction)
    start = CompositeTransform((AffineTransform.translation(START.tolist()),))
    return Loaded(Volume(body(GRID, np.zeros(3)), GRID, "f"), Volume(body(GRID, shift), moved, "m"), start)


@pytest.mark.slow
def test_syn_finds_a_shift_in_the_right_direction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To about a millimetre, since ANTs' result differs from run to run, on one thread too; and leaves no files."""
    pytest.importorskip("ants", reason="antspyx (bench extra) is not installed")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = SynMethod(affine=True).register(task())
    points = GRID.center + np.array([[0, 0, 0], [4, 0, 0], [0, -4, 3]])
    expected = points + START + np.array([3.0, -2.0, 2.0])
    np.testing.assert_allclose(found.transform.apply(points), expected, atol=1.5)
    assert list(tmp_path.iterdir()) == []


def test_without_ants_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ants", None)
    with pytest.raises(
        EvaluationError, match=re.escape(f"ANTs is not installed; install it with: {how_to_install('bench')}")
    ):
        SynMethod().register(task())


def test_with_and_without_affine_are_two_methods() -> None:
    assert settings_digest(SynMethod()) != settings_digest(SynMethod(affine=True))
