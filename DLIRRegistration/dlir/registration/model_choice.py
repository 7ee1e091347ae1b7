"""`--model auto`: which of the installed models was made for images like these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dlir.errors import GeometryError, ModelError, note
from dlir.io.reading import Volume
from dlir.model.catalogue import all_models
from dlir.model.domain import OTHER_SIZE, Domain, in_words
from dlir.model.file import ModelHeader
from dlir.model.memory import require_memory
from dlir.model.preprocessing import scale
from dlir.registration.judging.assessment import seen_figures
from dlir.registration.judging.verdict import DOUBTFUL_IMAGES, UNLIKE_IMAGES, made_for


@dataclass(frozen=True)
class Choice:
    """The model that fits best; None where none was made for such images, and `doubt` says so.

    distances: of every model that was compared, by name, its own pairs keep about 1; None where the images are of
    another order of size. doubt: what to refuse the pair with if the networks find it unlike their own, too; None
    where the images alone leave no doubt.
    """

    model: ModelHeader | None
    distances: dict[str, float | None]
    doubt: ModelError | None = None


def choose_model(fixed: Volume, moving: Volume) -> Choice:
    """The installed model whose domain both images are nearest to."""
    compared: dict[str, tuple[float, ModelHeader]] = {}
    silent = []
    for entry in all_models():
        if entry.header is None:
            note(f"model '{entry.name}' cannot be used and is passed over: {entry.problem}")
        elif entry.header.domain is None:
            silent.append(entry.name)
        else:
            try:
                distance = _distance(entry.header, entry.header.domain, fixed, moving)
            except GeometryError:  # too large for the memory that the model needs
                distance = OTHER_SIZE
            compared[entry.name] = distance, entry.header
    if silent:
        note(f"passed over, because they do not say what they were made for: {', '.join(silent)}")
    if not compared:
        none = ModelError("no model is installed that says what it was made for; choose one with --model")
        return Choice(None, {}, none)
    ranked = sorted(compared, key=lambda name: compared[name][0])
    nearest, header = compared[ranked[0]]
    refusal = _refusal(fixed, moving, [compared[name][1] for name in ranked])
    found = {name: compared[name][0] for name in ranked}
    distances = {name: None if far == OTHER_SIZE else round(far, 3) for name, far in found.items()}
    if nearest > UNLIKE_IMAGES:
        return Choice(None, distances, refusal)
    return Choice(header, distances, refusal if nearest > DOUBTFUL_IMAGES else None)


def _refusal(fixed: Volume, moving: Volume, models: Sequence[ModelHeader]) -> ModelError:
    known = "; ".join(map(_offer, models))
    measured = " and ".join(f"'{volume.source}' ({in_words(volume.grid.extent)} mm)" for volume in (fixed, moving))
    return ModelError(
        f"no installed model was made for images like {measured}: {known}; correct the voxel size if that is "
        "wrong, choose one with --model to try it all the same, or train one on such images"
    )


def _offer(model: ModelHeader) -> str:
    """What a model is for, in words."""
    assert model.domain is not None
    return f"'{model.path.stem}' is for {made_for(model)}, {model.domain.sizes}, or parts of such"


def _distance(model: ModelHeader, domain: Domain, fixed: Volume, moving: Volume) -> float:
    """Of the image that is further from the domain; OTHER_SIZE for one that is larger or smaller by far."""
    largest = 0.0
    for volume in (fixed, moving):
        working = model.spec.preprocessing.working_grid(volume.grid)
        require_memory(model.spec, volume.grid, f"'{volume.source}'")
        needed = zip(working.size, model.spec.smallest, strict=True)
        if any(n < least for n, least in needed) or domain.size_differs(working):
            return OTHER_SIZE
        figures = seen_figures(scale(volume.array, volume.grid, model.spec.preprocessing), model.spec)
        largest = max(largest, domain.image_distance(figures))
    return largest
