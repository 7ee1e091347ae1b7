"""Adds a fact to a model's card: `python Resources/amend_card.py MODEL training.bending_energy "..."`; weights stay."""

from __future__ import annotations

import sys
from pathlib import Path

from dlir.model.file import read_header, rewrite_card


def main(model: str, name: str, text: str) -> None:
    """model: a file. name: of the field, dotted where it lies in a section."""
    path = Path(model)
    card = read_header(path).card
    *sections, field = name.split(".")
    section = card
    for key in sections:
        section = section.setdefault(key, {})
    section[field] = text
    rewrite_card(path, card)


if __name__ == "__main__":
    main(*sys.argv[1:])
