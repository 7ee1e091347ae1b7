"""What a method of registration is to an evaluation: one class with a name, its settings, and one call."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from dlir.io.reading import Volume
from dlir.registration.loading import Loaded
from dlir.transforms.spatial import AffineTransform, CompositeTransform


@dataclass(frozen=True, eq=False)
class Registered:
    """What came of it. transform: fixed point -> moving point, LPS mm, `start` included.

    seconds: of the registration alone, from arrays in memory to the resampled image; None where nothing was done.
    device: where it ran in the end.
    """

    transform: CompositeTransform
    seconds: float | None
    device: str = "cpu"


class Method(Protocol):
    """A way to register. A new one is a class with these members.

    name: how tables call it. settings: plain values on which the outcome depends, and that tell runs apart.
    """

    name: str
    settings: Mapping[str, Any]

    def register(self, pair: Loaded) -> Registered:
        """Begin where the pair's `start` is, a shift at most.

        Raises a DLIRError where it cannot; the evaluation reports that and goes on.
        """
        ...


def settings_digest(method: Method) -> str:
    """Twelve letters that are the same for the same settings."""
    text = json.dumps(method.settings, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def as_many_threads_as_torch() -> int:
    """Has the next library that brings its own ITK begin with as many threads as torch, for timings that compare."""
    count = torch.get_num_threads()
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(count)
    return count


def before_shift(pair: Loaded) -> tuple[Volume, CompositeTransform]:
    """For a method that knows no start: the moving image where `start` puts it, and what to apply after its result.

    Moving the image instead of its points is exact for a shift, which is all that a start is.
    """
    matrix, grid = pair.start.matrix, pair.moving.grid
    x, y, z = (float(v) for v in grid.origin - matrix[:3, 3])
    shift = CompositeTransform((AffineTransform(matrix),) if pair.start.parts else ())
    return replace(pair.moving, grid=replace(grid, origin=(x, y, z))), shift
