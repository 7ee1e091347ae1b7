"""Names the images that a model was trained on in its card, by what they hold; weights stay.

    python Resources/amend_images.py MODEL CONFIGURATION DATA

For a model that is older than the naming: finds and divides the images in DATA as the training would. CONFIGURATION: a
preset's name or a file. Needs the train extra.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dlir.model.file import read_header, rewrite_card
from dlir.training.cache import DryCache
from dlir.training.card import images_entry
from dlir.training.config_file import load_config, preset_file
from dlir.training.data import load_data


def main(model: str, configuration: str, data: str) -> None:
    """model: a file. Raises the errors of `load_data`, and OutputError."""
    path, given = Path(model), Path(configuration)
    config = load_config(given if given.is_file() else preset_file(configuration))
    draws = load_data(config, Path(data), DryCache(Path(), config.spec), lambda what, why: print(f"left out: {why}"))
    card = read_header(path).card
    entries = images_entry(draws)
    card["training"] |= entries.pop("training")
    rewrite_card(path, card | entries)


if __name__ == "__main__":
    main(*sys.argv[1:])
