"""Adds to a model file what it lacks; its weights stay.

    python Resources/amend_model.py card MODEL training.bending_energy "..."   # a fact, by its dotted name
    python Resources/amend_model.py images MODEL CONFIGURATION DATA            # what its images hold, for its card
    python Resources/amend_model.py domain MODEL CONFIGURATION DATA [CACHE]    # what it was made for

For models that are older than these entries. The images in DATA are found and divided, and the domain is learned, as
the training with CONFIGURATION, a preset's name or a file, would do it; this needs the train extra.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlir.model.file import load_model, read_header, rewrite_card, save_model

if TYPE_CHECKING:
    from dlir.model.spec import ModelSpec
    from dlir.training.cache import Cache
    from dlir.training.config import TrainingConfig
    from dlir.training.draws import Draw


def amend_card(model: str, name: str, text: str) -> None:
    """model: a file. name: of the field, dotted where it lies in a section."""
    path = Path(model)
    card = read_header(path).card
    *sections, field = name.split(".")
    section = card
    for key in sections:
        section = section.setdefault(key, {})
    section[field] = text
    rewrite_card(path, card)


def name_images(model: str, configuration: str, data: str) -> None:
    """model: a file. Raises the errors of `load_data`, and OutputError."""
    from dlir.training.cache import DryCache
    from dlir.training.card import images_entry

    path = Path(model)
    _, draws = _trained_with(configuration, data, lambda spec: DryCache(Path(), spec))
    card = read_header(path).card
    entries = images_entry(draws)
    card["training"] |= entries.pop("training")
    rewrite_card(path, card | entries)


def add_domain(model: str, configuration: str, data: str, cache: str | None = None) -> None:
    """model: a file. cache: a folder of prepared images. Raises the errors of `load_data`, and OutputError."""
    import torch

    from dlir.training.cache import Cache
    from dlir.training.domain import learn_domain

    path = Path(model)
    network, header = load_model(path)
    with tempfile.TemporaryDirectory() as folder:
        config, draws = _trained_with(configuration, data, lambda spec: Cache(Path(cache or folder), spec))
        weights = [source.weight for source in config.sources]
        domain = learn_domain(network, draws, weights, config.seed, torch.device("cpu"), _tell)
    save_model(path, network, header.card, domain)
    if domain is not None:
        print(domain.pairs, "pairs", dict(domain.figures))


def _trained_with(
    configuration: str, data: str, cache: Callable[[ModelSpec], Cache]
) -> tuple[TrainingConfig, Sequence[Draw]]:
    from dlir.training.config_file import load_config, preset_file
    from dlir.training.data import load_data

    given = Path(configuration)
    config = load_config(given if given.is_file() else preset_file(configuration))
    return config, load_data(config, Path(data), cache(config.spec), _say)


def _say(what: str, why: str) -> None:
    print(f"left out: {why}", file=sys.stderr)


def _tell(step: str, fraction: float) -> None:
    print(f"{step} {fraction:.0%}", end="\r", file=sys.stderr, flush=True)


COMMANDS = {"card": amend_card, "images": name_images, "domain": add_domain}

if __name__ == "__main__":
    if sys.argv[1:2] == [] or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
