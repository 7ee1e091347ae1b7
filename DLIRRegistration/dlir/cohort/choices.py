"""What a batch lets one choose from. Standard library only."""

from __future__ import annotations

from enum import Enum


class Pairing(str, Enum):
    """Which images of a folder, or of a table of images, are registered to which: those that belong together, in order.

    consecutive: each to the one before it. first: each to the first. all: each to every other, both ways.
    """

    consecutive = "consecutive"
    first = "first"
    all = "all"
