"""Images that no memory holds at a model's resolution, told before anything is computed."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from dlir.errors import GeometryError
from dlir.geometry import ImageGrid
from dlir.io import memory as limits
from dlir.io.memory import memory_limit
from dlir.model.memory import require_memory
from dlir.model.spec import ModelSpec, Preprocessing
from dlir.networks.spec import StageSpec

COARSE = StageSpec("bspline", (4, 4, 4), (6, 4, 4), (16, 16, 16))
FINE = StageSpec("bspline", (2, 2, 2), (4, 4, 4), (8, 8, 8))
SPEC = ModelSpec(Preprocessing((2.0, 2.0, 2.0)), (COARSE, FINE))


def test_an_image_in_micrometres_is_refused_by_its_extent(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = ImageGrid((10, 35, 35), (1289.0, 1289.0, 8000.0))
    monkeypatch.setattr("dlir.model.memory.memory_limit", lambda: 1e10)
    with pytest.raises(GeometryError) as caught:
        require_memory(SPEC, grid, "fixed image 'a.nrrd'")
    message = str(caught.value)
    for words in ("fixed image 'a.nrrd' measures 45 x 45 x 80 m", "2 x 2 x 2 mm", "10 GB", "correct the voxel size"):
        assert words in message
    require_memory(SPEC, ImageGrid((10, 35, 35), (1.289, 1.289, 8.0)), "a.nrrd")


def test_the_least_that_a_stage_needs_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 2 mm: 64³ voxels, two images and four channels, 4 bytes each."""
    grid, needed = ImageGrid((128, 128, 128)), 64**3 * 4 * 6
    monkeypatch.setattr("dlir.model.memory.memory_limit", lambda: float(needed))
    require_memory(SPEC, grid, "a.nrrd")
    monkeypatch.setattr("dlir.model.memory.memory_limit", lambda: needed - 1.0)
    with pytest.raises(GeometryError, match="measures 128 x 128 x 128 mm"):
        require_memory(SPEC, grid, "a.nrrd")


def test_the_smallest_of_all_limits_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_CGROUP", ())
    assert 1e8 < memory_limit() <= math.inf
    group = tmp_path / "memory.max"
    monkeypatch.setattr(limits, "_CGROUP", (str(group), str(tmp_path / "none")))
    for text, expected in (("max\n", math.inf), ("12345\n", 12345)):
        group.write_text(text)
        assert (memory_limit() == expected) == (expected < math.inf)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on memory, which this system has not")
def test_a_limit_on_the_process_counts() -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, -1))\n"
    code += "from dlir.io.memory import memory_limit; print(memory_limit() <= 3 << 30)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "True\n"
