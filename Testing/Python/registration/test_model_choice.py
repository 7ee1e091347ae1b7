"""`--model auto`: the nearest model is taken, and which and how near is said; where none is near, so is that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cli_runs import FIXED, body, make_model
from dlir.errors import ModelError, notes_to
from dlir.io.reading import Volume
from dlir.model.catalogue import Entry
from dlir.model.domain import Domain, Observed
from dlir.model.file import ModelHeader, read_header
from dlir.model.preprocessing import scale
from dlir.registration import model_choice
from dlir.registration.assessment import seen_figures
from dlir.registration.model_choice import choose_model

CENTERS = FIXED.center + np.random.default_rng(5).uniform(-4, 4, (12, 3))


def volume(number: int) -> Volume:
    return Volume(body(FIXED, CENTERS[number], 0.5 * (number % 4)), FIXED, f"image {number}")


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> ModelHeader:
    """Of a model whose domain are images like `volume`."""
    header = read_header(make_model(tmp_path_factory.mktemp("model") / "near.safetensors"))
    images = [volume(number) for number in range(len(CENTERS))]
    seen = [seen_figures(scale(v.array, v.grid, header.spec.preprocessing), header.spec) for v in images]
    grids = [header.spec.preprocessing.working_grid(v.grid) for v in images]
    pairs = [Observed((a, b), (np.zeros(2),)) for a, b in zip(seen[::2], seen[1::2], strict=True)]
    return replace(header, domain=Domain.of(pairs, grids, {}))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModelHeader]:
    """The models that there are, by name."""
    models: dict[str, ModelHeader] = {}
    monkeypatch.setattr(model_choice, "all_models", lambda: [Entry(name, Path(name), h) for name, h in models.items()])
    return models


def of_specks(header: ModelHeader) -> ModelHeader:
    """The same for images that are as nothing beside these."""
    assert header.domain is not None
    low, high = header.domain.extent
    return replace(header, domain=replace(header.domain, extent=(low / 100, high / 100)))


def of_other_images(header: ModelHeader) -> ModelHeader:
    assert header.domain is not None
    images = replace(header.domain.images, mean=header.domain.images.mean + 100)
    return replace(header, domain=replace(header.domain, images=images))


def test_the_nearest_is_taken_and_the_distance_of_each_can_be_written(
    header: ModelHeader, installed: dict[str, ModelHeader]
) -> None:
    installed |= {"specks": of_specks(header), "other": of_other_images(header), "near": header}
    choice = choose_model(volume(0), volume(1))
    assert choice.path == header.path
    assert list(choice.distances) == ["near", "other", "specks"]
    near, other, specks = choice.distances.values()
    assert near is not None
    assert other is not None
    assert near < 2 < other
    assert specks is None
    json.dumps(choice.distances, allow_nan=False)


def test_where_none_is_near_it_says_what_they_are_for(header: ModelHeader, installed: dict[str, ModelHeader]) -> None:
    installed["other"] = replace(of_other_images(header), card={"anatomy": "knee", "modality": "CT"})
    with pytest.raises(ModelError, match="no installed model was made for images like 'image 0' and 'image 1'") as told:
        choose_model(volume(0), volume(1))
    assert "'other' is for knee, CT; choose one with --model" in str(told.value)


def test_a_model_that_does_not_say_what_it_is_for_is_not_chosen(
    header: ModelHeader, installed: dict[str, ModelHeader]
) -> None:
    installed["silent"] = replace(header, domain=None)
    notes: list[str] = []
    with notes_to(notes.append), pytest.raises(ModelError, match="no model is installed that says what it was trained"):
        choose_model(volume(0), volume(1))
    assert notes == ["passed over, because they do not say what they were trained on: silent"]
