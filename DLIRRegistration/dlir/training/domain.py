"""What a trained model was made for: learned from its own pairs, as a user would bring them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from dlir.geometry import ImageGrid
from dlir.io.reading import Volume, read_image
from dlir.model.domain import Domain, Observed
from dlir.model.multistage import MultiStageModel
from dlir.model.spec import ModelSpec
from dlir.registration.choices import Initialization
from dlir.registration.initialization import initialize
from dlir.registration.judging.assessment import Assessment, assess, observed
from dlir.registration.oneshot import Registration
from dlir.registration.progress import Progress, silent
from dlir.training.draws import Draw, Drawn, InterPairs

# Pairs that it is learned from: those held out, and as many more of those trained with; too few say nothing.
_PAIRS, _LEAST = 150, 8
# Of the length of an image, a part of it has so much at least.
_SMALLEST_CROP = 0.5
# Figures of the pairs that a result is held to, and how many per cent of them stay below.
_KEPT = {"inverse_consistency_mm": 95, "displacement_mm": 95, "local_after": 5}


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
    registration, generator = Registration(model, device), np.random.default_rng(seed)
    seen: list[Observed] = []
    grids: list[ImageGrid] = []
    found: list[Assessment] = []
    for number, (drawn, expected) in enumerate(pairs):
        progress("domain", number / len(pairs))
        fixed, moving = (read_image(image.name, role="training image") for image in (drawn.fixed, drawn.moving))
        start = initialize(fixed, moving, None, Initialization.auto.value, expected).transform
        whole = registration.predict(fixed, moving, start)
        cut = registration.predict(*_cropped(fixed, moving, model.spec, generator), start)
        seen += [observed(registration.spec, view) for view in (whole, cut)]
        grids += [whole.pair.fixed, whole.pair.moving]
        found.append(assess(registration, whole))
    return Domain.of(seen, grids, _figures(found))


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
            expected = Initialization.centers if isinstance(draw, InterPairs) else Initialization.scanner
            yield drawn, str(expected.value)


def _cropped(fixed: Volume, moving: Volume, spec: ModelSpec, generator: np.random.Generator) -> tuple[Volume, Volume]:
    """The same part of both images, as users cut theirs: from `_SMALLEST_CROP` of the length along each axis, to all of
    it; no less than the model needs.
    """
    shares = generator.uniform(_SMALLEST_CROP, 1, 3)
    places = generator.uniform(0, 1, 3)
    parts = []
    for volume in (fixed, moving):
        working = spec.preprocessing.working_grid(volume.grid)
        least = np.array(spec.smallest) / working.size
        # In the order of the image's own axes, which may be others than the model's: the most that any axis needs.
        kept = np.maximum(shares, min(1.0, float(least.max())))
        box = [_part(size, share, place) for size, share, place in zip(volume.array.shape, kept, places, strict=True)]
        array = volume.array[tuple(box)]
        grid = volume.grid.lattice([part.start for part in box[::-1]], (1, 1, 1), array.shape[::-1])
        parts.append(Volume(array, grid, volume.source))
    return parts[0], parts[1]


def _part(size: int, share: float, place: float) -> slice:
    kept = min(size, int(np.ceil(size * share)))
    first = round((size - kept) * place)
    return slice(first, first + kept)


def _figures(found: Sequence[Assessment]) -> dict[str, float]:
    figures = {}
    for name, share in _KEPT.items():
        values = [value for assessment in found if (value := getattr(assessment, name)) is not None]
        if values:
            figures[name] = float(np.percentile(values, share))
    return figures
