"""What an optimisation lets one choose from. Standard library only."""

from __future__ import annotations

from enum import Enum


class Kind(str, Enum):
    """How far a transform may go: turn and shift, stretch and shear too, or bend."""

    rigid = "rigid"
    affine = "affine"
    deformable = "deformable"
