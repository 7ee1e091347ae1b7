"""Cross-validation over subjects (§6, §8.1): who is tested by which model, and what that model must never see."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

import numpy as np

from dlir.data.pair import Pair
from dlir.errors import EvaluationError, OptionError
from dlir.io.source import files_matching, stem


@dataclass(frozen=True)
class Fold:
    """One of `count` parts of the subjects.

    number: from 1. test: the subjects that are kept from training. files: what a subject's files are called, where that
    is not like the subject.
    """

    number: int
    count: int
    test: tuple[str, ...]
    files: Mapping[str, Set[str]] = field(default_factory=dict)

    def called(self, subject: str) -> set[str]:
        """Every name by which a tested subject's files are known."""
        return {subject, *self.files.get(subject, ())}

    def pairs(self, pairs: Iterable[Pair]) -> list[Pair]:
        """The pairs of which both subjects are tested in this fold."""
        return [p for p in pairs if p.fixed.subject in self.test and p.moving.subject in self.test]


def subjects_of(pairs: Iterable[Pair]) -> list[str]:
    """Every subject of the pairs, in order of appearance."""
    return list(dict.fromkeys(scan.subject for pair in pairs for scan in (pair.fixed, pair.moving)))


def make_folds(subjects: Sequence[str], count: int, seed: int) -> list[Fold]:
    """The subjects dealt to `count` folds by chance, each to one, their sizes differing by at most one.

    As many folds as subjects is leave-one-out, in the subjects' own order. Raises OptionError where there are more.
    """
    if not 2 <= count <= len(subjects):
        raise OptionError(f"{len(subjects)} subjects cannot be dealt to {count} folds; choose 2 to {len(subjects)}")
    order = np.arange(len(subjects))
    if count < len(subjects):
        np.random.default_rng(seed).shuffle(order)
    parts = [sorted(int(i) for i in order[k::count]) for k in range(count)]
    return [Fold(k + 1, count, tuple(subjects[i] for i in part)) for k, part in enumerate(parts)]


def with_others(fold: Fold, groups: Iterable[Sequence[str]], pairs: Iterable[Pair]) -> Fold:
    """The fold with all who are the same as its subjects, as `same_subjects` groups them, and what their files are
    called: like an image that nobody else has so.
    """
    test = tuple(name for group in groups if not set(group).isdisjoint(fold.test) for name in group)
    owners: dict[str, set[str]] = {}
    for scan in {scan for pair in pairs for scan in (pair.fixed, pair.moving)}:
        owners.setdefault(stem(scan.image), set()).add(scan.subject)
    files = {subject: {name for name, having in owners.items() if having == {subject}} for subject in test}
    return replace(fold, test=test, files=files)


def files_for_training(root: Path, patterns: Sequence[str], test: Iterable[str]) -> tuple[list[str], list[str]]:
    """The files below `root` that match a pattern, as patterns of their own: those to train on, and those kept back.

    A file belongs to a tested subject if it, or any folder above it, is called like that subject.
    """
    kept_back = set(test)
    found = files_matching(root, patterns)
    own = [file for file in found if not kept_back & _names(file)]
    return [glob.escape(file) for file in own], [file for file in found if file not in set(own)]


def check_kept_back(fold: Fold, kept_back: Sequence[str], root: Path) -> None:
    """Raises EvaluationError where a tested subject is not among the training files under its own name.

    What is not found cannot be kept from training: the model would be tested on what it has seen.
    """
    known = set().union(*(_names(file) for file in kept_back)) if kept_back else set()
    lost = [subject for subject in fold.test if known.isdisjoint(fold.called(subject))]
    if lost:
        raise EvaluationError(
            f"subject '{lost[0]}' has no training file in '{root}' that is called like it, so it cannot be kept from "
            "training; give the folder of the same data with --training-data"
        )


def _names(file: str) -> set[str]:
    """What a training file may be called by: its folders, and itself without its ending."""
    return {*PurePath(file).parts, stem(file)}
