"""Held out means held out: which pairs a model has seen, by what their images hold and by whose they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dlir.data.pair import Pair, Scan
from dlir.errors import DLIRError
from dlir.evaluation.methods.base import Method
from dlir.evaluation.methods.network import NetworkMethod
from dlir.io.content import content_hash
from dlir.model.card import TRAINING, VALIDATION

# Subjects that a line names before it counts the rest.
_NAMED = 8

# Gives the content hash of a scan's image, or None where that cannot be read.
Contents = Callable[[Scan], "str | None"]


def reading_contents() -> Contents:
    """Reads every image once. One that cannot be read has no content: whoever evaluates it will say why."""
    known: dict[str, str | None] = {}

    def content(scan: Scan) -> str | None:
        if scan.image not in known:
            try:
                known[scan.image] = content_hash(scan.read_image().array)
            except DLIRError:
                known[scan.image] = None
        return known[scan.image]

    return content


@dataclass(frozen=True)
class HeldOut:
    """pairs: those to evaluate. seen: how a method has seen a pair that is evaluated nevertheless, TRAINING or
    VALIDATION, by the names of the two. notes: what a reader must know of it, in lines. left_out: how many pairs.
    """

    pairs: list[Pair]
    seen: Mapping[tuple[str, str], str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    left_out: int = 0


def hold_out(
    pairs: Sequence[Pair], every: Iterable[Pair], methods: Sequence[Method], contents: Contents, *, allow_seen: bool
) -> HeldOut:
    """The pairs that no model has seen; with `allow_seen` all of them, and which of them were.

    A model has seen a pair if it was trained on one of its images, or chosen by it in validation, or on another image
    of the same subject. every: all pairs of the data set, which say who else is a subject's.
    """
    every = list(every)
    notes: list[str] = []
    seen: dict[tuple[str, str], str] = {}
    told: dict[str, dict[str, str]] = {}  # of a model that is used up to several of its stages, once
    for method in (m for m in methods if isinstance(m, NetworkMethod)):
        if method.digest not in told:
            told[method.digest] = seen_pairs(method.seen_images or {}, pairs, every, contents)
            notes += _notes(method, pairs, told[method.digest], allow_seen=allow_seen)
        seen |= {(method.name, pair): how for pair, how in told[method.digest].items()}
    if allow_seen:
        return HeldOut(list(pairs), seen, notes)
    known = {pair for _, pair in seen}
    left = [pair for pair in pairs if pair.name not in known]
    return HeldOut(left, {}, notes, len(pairs) - len(left))


def seen_pairs(
    images: Mapping[str, str], pairs: Sequence[Pair], every: Iterable[Pair], contents: Contents
) -> dict[str, str]:
    """TRAINING or VALIDATION for each of the pairs that has been seen, by its name.

    images: as `seen_images` gives them. Only images of subjects that are in `pairs` are read.
    """
    if not images:
        return {}
    wanted = {subject for pair in pairs for subject in _subjects(pair)}
    known: dict[str, set[str]] = {}
    for pair in every:
        if wanted & _subjects(pair):
            for scan in (pair.fixed, pair.moving):
                if (how := images.get(contents(scan) or "")) is not None:
                    for subject in {_subject(scan), *([pair.subject] if pair.subject else [])}:
                        known.setdefault(subject, set()).add(how)
    found = {pair.name: set().union(*(known.get(subject, set()) for subject in _subjects(pair))) for pair in pairs}
    return {name: TRAINING if TRAINING in how else VALIDATION for name, how in found.items() if how}


def same_subjects(pairs: Iterable[Pair], contents: Contents) -> list[list[str]]:
    """The subjects in order of appearance; together those that have an image in common, under whatever names."""
    groups: dict[str, list[str]] = {}  # every subject's
    first: dict[str, str] = {}  # who has an image of that content
    for scan in {s.name: s for pair in pairs for s in (pair.fixed, pair.moving)}.values():
        own = groups.setdefault(scan.subject, [scan.subject])
        other = groups[first.setdefault(contents(scan) or scan.name, scan.subject)]
        if other is not own:
            other += own
            groups |= dict.fromkeys(own, other)
    return list({id(group): group for group in groups.values()}.values())


def _subject(scan: Scan) -> str:
    return scan.subject or scan.name


def _subjects(pair: Pair) -> set[str]:
    return {_subject(pair.fixed), _subject(pair.moving), *([pair.subject] if pair.subject else [])}


def _notes(method: NetworkMethod, pairs: Sequence[Pair], found: Mapping[str, str], *, allow_seen: bool) -> list[str]:
    """What there is to say of a model: nothing where it is known to have seen none of the pairs."""
    if method.seen_images is None:
        return [
            f"{method.title} does not say which images it was trained on, so it cannot be checked whether these pairs "
            "are held out"
        ]
    if not found:
        return []
    people = sorted({subject for pair in pairs if pair.name in found for subject in _subjects(pair)})
    named = ", ".join(people[:_NAMED]) + (f" and {len(people) - _NAMED} more" if len(people) > _NAMED else "")
    which = f"{len(found)} of {len(pairs)} pairs (of {named})"
    why = f"{method.title} was trained on, or chosen by, their images or others of their subjects"
    if allow_seen:
        return [f"not held out: {which} are scored and marked as seen: {why}"]
    return [f"left out: {which}: {why}; --allow-seen scores them, marked"]
