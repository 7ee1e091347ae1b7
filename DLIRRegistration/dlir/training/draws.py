"""The three ways to form pairs: within a subject, between subjects, or as listed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlir.training.cache import Prepared

# Pairs between subjects that are validated on: each validation subject as fixed image once, up to so many.
_MOST_VALIDATION_PAIRS = 40


@dataclass(frozen=True)
class Subject:
    """The volumes of one person; extremes: the two that differ most, where pairs are made within the subject."""

    name: str
    volumes: tuple[Prepared, ...]
    extremes: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Drawn:
    """Two images to be registered, and how messages call the pair."""

    fixed: Prepared
    moving: Prepared
    name: str


@dataclass(frozen=True)
class Draw:
    """Where pairs come from; how they are formed, each kind says.

    training, validation: the subjects, or the listed pairs, that are trained with and held out.
    """

    training: tuple[Any, ...]
    validation: tuple[Any, ...]

    def draw(self, generator: np.random.Generator) -> Drawn:
        """One pair for training."""
        raise NotImplementedError

    def held_out(self) -> list[Drawn]:
        """The pairs that are validated on, always the same."""
        raise NotImplementedError

    def counts(self) -> tuple[int, int]:
        """How many subjects, or listed pairs, are trained with and held out."""
        return len(self.training), len(self.validation)

    def images(self) -> Sequence[Prepared]:
        """Every image that may be trained with."""
        return _volumes(self.training)

    def validation_images(self) -> Sequence[Prepared]:
        """Every image of those who are held out."""
        return _volumes(self.validation)


def _volumes(subjects: Sequence[Subject]) -> list[Prepared]:
    return [volume for subject in subjects for volume in subject.volumes]


@dataclass(frozen=True)
class IntraPairs(Draw):
    """Any two volumes of one subject; with the probability `largest_motion` its extremes."""

    largest_motion: float = 0.0

    def draw(self, generator: np.random.Generator) -> Drawn:
        subject = self.training[generator.integers(len(self.training))]
        if generator.random() < self.largest_motion:
            first, second = generator.permutation(subject.extremes)
        else:
            first, second = generator.choice(len(subject.volumes), 2, replace=False)
        return _within(subject, first, second)

    def held_out(self) -> list[Drawn]:
        """The largest motion of each subject, both ways."""
        return [_within(s, *ends) for s in self.validation for ends in (s.extremes, s.extremes[::-1])]


def _within(subject: Subject, first: int, second: int) -> Drawn:
    return Drawn(subject.volumes[first], subject.volumes[second], f"{subject.name}: {first} to {second}")


class InterPairs(Draw):
    """Volumes of any two subjects, whatever their grids."""

    def draw(self, generator: np.random.Generator) -> Drawn:
        first, second = (self.training[i] for i in generator.choice(len(self.training), 2, replace=False))
        a, b = (int(generator.integers(len(subject.volumes))) for subject in (first, second))
        return Drawn(first.volumes[a], second.volumes[b], f"{first.name}: {a} to {second.name}: {b}")

    def held_out(self) -> list[Drawn]:
        """Each subject with the next by name."""
        subjects = self.validation[:_MOST_VALIDATION_PAIRS]
        return [
            Drawn(a.volumes[0], b.volumes[0], f"{a.name} to {b.name}")
            for a, b in zip(subjects, (*subjects[1:], *subjects[:1]), strict=True)
        ]


class ListedPairs(Draw):
    """The pairs of a manifest, in the roles that it gives."""

    training: tuple[Drawn, ...]
    validation: tuple[Drawn, ...]

    def draw(self, generator: np.random.Generator) -> Drawn:
        return self.training[generator.integers(len(self.training))]

    def held_out(self) -> list[Drawn]:
        return list(self.validation)

    def images(self) -> Sequence[Prepared]:
        return _ends(self.training)

    def validation_images(self) -> Sequence[Prepared]:
        return _ends(self.validation)


def _ends(pairs: Sequence[Drawn]) -> list[Prepared]:
    return [image for pair in pairs for image in (pair.fixed, pair.moving)]


def fingerprint(draws: Sequence[Draw]) -> str:
    """What tells one set of images from another, for people too: their number, and a digest of all that was read."""
    contents = [volume.content for draw in draws for volume in draw.images()]
    return f"{len(contents)} images, {hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:8]}"
