"""The pairs of every kind on which methods are compared that were not trained for any: a recipe is chosen on *tune* and
told of *report*. These are of other subjects where the data have them, else other pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from dlir.data.layouts.acdc import Acdc
from dlir.data.pair import Pair, Scan, ordered_pairs, select
from truth.listing import (
    CENTERS,
    COLLECTIONS,
    SCANNER,
    SEED,
    Source,
    breast_phases,
    limb,
    lungs,
    prostate_phases,
    relative,
    scans_of,
)
from truth.pair import Split, TruthPair

HEARTS: Mapping[Split, Sequence[int]] = {"report": (81, 85, 89, 93, 97), "tune": (61, 65, 69, 73, 77)}
# CT and MR of the first three lie on each other within 1 mm; of the others within 2 to 8 mm, below which no error gets.
LIMBS: Mapping[Split, Sequence[str]] = {
    "report": ("STS_010", "STS_035", "STS_048"),
    "tune": ("STS_028", "STS_031", "STS_036"),
}
# So many pairs are reported; as many hippocampi tune, and the rest of the heads and necks.
HIPPOCAMPI, HEADS = 10, 8

Two = tuple[Scan, Scan]


def compared(data: Path) -> list[TruthPair]:
    """Every pair, group by group, those that are reported first. data: the folder of the real data, which is read."""
    found = [
        *_hippocampi(data),
        *_hearts(data),
        *_heads(data),
        *_brains(data),
        *_chain("lung_mr", data),
        *_chain("spine_mr", data),
        *_pairs(Source("lung_ct", CENTERS, "landmarks"), "report", _both(ordered_pairs(lungs()))),
        *_limbs(),
        *_contrast(),
    ]
    return [replace(pair, data=data) for pair in found]


def _pairs(of: Source, split: Split, chosen: Iterable[Two]) -> Iterator[TruthPair]:
    """The fixed scan of each is the first."""
    _, _, labels = COLLECTIONS.get(of.group, ("", ("", ""), None))
    yield from (of.pair(fixed, moving, split, labels) for fixed, moving in chosen)


def _both(pairs: Iterable[Pair]) -> list[Two]:
    return [(pair.fixed, pair.moving) for pair in pairs]


# -- between persons ----------------------------------------------------------------------------------


def _hippocampi(data: Path) -> Iterator[TruthPair]:
    """From the last name backwards, each image with the one before it unless that is the same person's."""
    names = sorted(path.name for path in (data / "hippocampus/images").iterdir())
    numbers = [int(name.split("_")[1][:3]) for name in names]
    scans = [
        Scan(f"person{(number + 1) // 2}", str(number), f"hippocampus/images/{name}", f"hippocampus/labels/{name}")
        for number, name in zip(numbers, names, strict=True)
    ]
    chosen: list[Two] = []
    while len(chosen) < 2 * HIPPOCAMPI:
        last = scans.pop()
        if scans[-1].subject != last.subject:
            chosen.append((scans.pop(), last))
    of = Source("hippocampus", CENTERS)
    yield from _pairs(of, "report", reversed(chosen[:HIPPOCAMPI]))
    yield from _pairs(of, "tune", reversed(chosen[HIPPOCAMPI:]))


def _heads(data: Path) -> Iterator[TruthPair]:
    """Each with the next, so that none is in two pairs."""
    chosen = _disjoint(scans_of("headneck_ct", data))
    of = Source("headneck_ct", CENTERS)
    yield from _pairs(of, "report", chosen[:HEADS])
    yield from _pairs(of, "tune", chosen[HEADS:])


def _brains(data: Path) -> Iterator[TruthPair]:
    """The same; those that tune are the same persons in other pairs."""
    scans = scans_of("brain_t1", data)
    of = Source("brain_t1", CENTERS)
    yield from _pairs(of, "report", _disjoint(scans))
    yield from _pairs(of, "tune", _disjoint([*scans[1:], scans[0]]))


def _chain(group: str, data: Path) -> Iterator[TruthPair]:
    """Each with the next; those that tune with the next but one, of a few persons."""
    scans = scans_of(group, data)
    of = Source(group, CENTERS)
    yield from _pairs(of, "report", pairwise(scans))
    yield from _pairs(of, "tune", zip(scans, scans[2:], strict=False))


def _disjoint(scans: Sequence[Scan]) -> list[Two]:
    return list(zip(scans[::2], scans[1::2], strict=True))


# -- of one person ------------------------------------------------------------------------------------


def _hearts(data: Path) -> Iterator[TruthPair]:
    """End-diastole and end-systole both ways."""
    every = Acdc(data / "acdc").pairs()
    for split, numbers in HEARTS.items():
        for fixed, moving in _both(select(every, [f"patient{number:03d}" for number in numbers])):
            yield Source("acdc", SCANNER).pair(relative(fixed, data), relative(moving, data), split)


def _limbs() -> Iterator[TruthPair]:
    """The MR moved in a known way."""
    of = Source("ct_mr", SCANNER, "motion")
    for split, subjects in LIMBS.items():
        for pair in _pairs(of, split, _both(map(limb, subjects))):
            yield replace(pair, seed=SEED + 1)


def _contrast() -> Iterator[TruthPair]:
    """Images between which contrast arrives and nothing moves, as they are and slightly moved."""
    phases = _both([*breast_phases(), *prostate_phases()])
    yield from _pairs(Source("no harm", SCANNER, "still"), "report", phases)
    for number, pair in enumerate(_pairs(Source("2 mm motion", SCANNER, "slight"), "report", phases)):
        yield replace(pair, seed=SEED + number)
