"""What a trained model was made for: learned from its own pairs, as a user would bring them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from dlir.geometry import ImageGrid
from dlir.io.reading import Volume, read_image
from dlir.model.domain import Domain, Observed, Vector
from dlir.model.multistage import MultiStageModel
from dlir.model.preprocessing import scale
from dlir.registration.assessment import Assessment, assess, observed, seen_figures
from dlir.registration.initialization import initialize
from dlir.registration.oneshot import Registration
from dlir.registration.progress import Progress, silent
from dlir.training.draws import Draw, Drawn, InterPairs

# Pairs that it is learned from: those held out, and as many more of those trained with; too few say nothing.
_PAIRS, _LEAST = 150, 8
# Of the length of an image, a part of it has so much at least.
_SMALLEST_CROP = 0.5
# The figure that so many per cent of the pairs stay below.
_MOST = 95


def learn_domain(
    model: MultiStageModel,
    draws: Sequence[Draw],
    weights: Sequence[float],
    seed: int,
    device: torch.device,
    progress: Progress = silent,
) -> Domain | None:
    """The domain of a model, from images as they are on disk; None where there are too few pairs.

    draws, weights: as for `PairDataset`. Raises the errors of reading and registering.
    """
    pairs = list(_sample(draws, weights, seed))
    if len(pairs) < _LEAST:
        return None
    registration = Registration(model, device)
    seen: list[Observed] = []
    grids: list[ImageGrid] = []
    found: list[Assessment] = []
    cropped: list[Vector] = []
    generator = np.random.default_rng(seed)
    for number, (drawn, expected) in enumerate(pairs):
        progress("domain", number / len(pairs))
        fixed, moving = _volume(drawn.fixed.name), _volume(drawn.moving.name)
        start = initialize(fixed, moving, None, "auto", expected).transform
        prediction = registration.predict(fixed, moving, start)
        seen.append(observed(registration.spec, prediction))
        grids += [prediction.pair.fixed.working, prediction.pair.moving.working]
        parts = (_cropped(volume, generator) for volume in (fixed, moving))
        cropped += [seen_figures(scale(part.array, part.grid, model.spec.preprocessing), model.spec) for part in parts]
        found.append(assess(registration, fixed, moving, start, prediction))
    return Domain.of(seen, grids, cropped, _figures(found))


def _sample(draws: Sequence[Draw], weights: Sequence[float], seed: int) -> Iterator[tuple[Drawn, str]]:
    """Pairs, each once, and the start that is expected for them: all that are held out, and others by chance."""
    known = set[str]()
    chances = np.array(weights, float) / sum(weights)
    generator = np.random.default_rng(seed)
    held_out = [(drawn, draw) for draw in draws for drawn in draw.held_out()]
    # Where there are few, chance finds the same again and again.
    others = ((draws[k].draw(generator), draws[k]) for k in generator.choice(len(draws), 4 * _PAIRS, p=chances))
    for drawn, draw in (*held_out[:_PAIRS], *others):
        if drawn.name not in known and len(known) < _PAIRS:
            known.add(drawn.name)
            yield drawn, "centers" if isinstance(draw, InterPairs) else "scanner"


def _cropped(volume: Volume, generator: np.random.Generator) -> Volume:
    """Part of an image, as users cut theirs: from `_SMALLEST_CROP` of its length along each axis, to all of it."""
    box = []
    for size in volume.array.shape:
        kept = max(1, round(size * generator.uniform(_SMALLEST_CROP, 1)))
        first = int(generator.integers(size - kept + 1))
        box.append(slice(first, first + kept))
    grid = volume.grid.lattice([part.start for part in box[::-1]], (1, 1, 1), volume.array[tuple(box)].shape[::-1])
    return Volume(volume.array[tuple(box)], grid, volume.source)


def _volume(image: str) -> Volume:
    return read_image(image, role="training image")


def _figures(found: Sequence[Assessment]) -> dict[str, float]:
    figures = {}
    for name in ("inverse_consistency_mm", "displacement_mm"):
        values = [value for assessment in found if (value := getattr(assessment, name)) is not None]
        if values:
            figures[name] = float(np.percentile(values, _MOST))
    return figures
