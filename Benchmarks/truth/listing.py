"""Which pairs there are: drawn from the folder of the real data once and for all, and divided by subject."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from dlir.data.layouts.acdc import Acdc
from dlir.data.layouts.sunnybrook import Sunnybrook
from dlir.data.pair import Pair, Scan, ordered_pairs, select
from truth.damage import DAMAGES, WRONG_PATIENT, WRONG_SIDE
from truth.pair import Split, Truth, TruthPair

SEED = 2019
SPLITS: tuple[Split, Split] = ("tune", "report")

# Kept from training: ACDC's last twenty patients, and of the hippocampi the last persons by number, who are not those
# by whom the training is judged either.
CINE_PATIENTS = [f"patient{number:03d}" for number in range(81, 101)]
SUNNYBROOK = "SC-HF-I-4"
HIPPOCAMPUS_PERSONS = 10
# Of each damage so many pairs in each split.
DAMAGED_HEARTS, DAMAGED_HIPPOCAMPI = 2, 1

CENTERS, SCANNER = "centers", "scanner"

# Of collections of one image a subject: the images, how the name of a label map differs, and which labels are drawn
# alike in all and whole, where that is not all of them.
COLLECTIONS: Mapping[str, tuple[str, tuple[str, str], Mapping[int, int] | None]] = {
    "headneck_ct": ("headneck_ct/*/ct.nii.gz", ("ct.nii", "labels.nii"), {value: value for value in (1, 3, 4, 7)}),
    "brain_t1": ("brain_t1/*/t1.nii.gz", ("t1.nii", "labels.nii"), None),
    "spine_mr": ("spine_mr/*_t1.nii.gz", ("_t1", "_labels"), None),
    "lung_mr": ("lung_mr/*.nii.gz", (".nii", "_lobes.nii"), None),
}
# Damage after which the scanner's positions mean nothing any more.
_UNPLACED = ("shifted", "wrong spacing", WRONG_PATIENT)


@dataclass(frozen=True)
class Source:
    """What the pairs of one group have in common."""

    group: str
    start: str
    truth: Truth = "labels"
    own: str = ""

    def pair(self, fixed: Scan, moving: Scan, split: Split, labels: Mapping[int, int] | None = None) -> TruthPair:
        pair = Pair(fixed, moving)
        return TruthPair(
            f"{self.group}/{pair.name}", self.group, split, pair, self.truth, self.start, self.own, labels=labels or {}
        )


def listed(data: Path) -> list[TruthPair]:
    """Every pair: own, foreign, damaged. data: the folder of the real data, which is read."""
    own = [*_hearts(data), *_hippocampi(data)]
    everything = [*own, *_foreign(data), *_damaged(own)]
    return [replace(pair, data=data) for pair in everything]


# -- of the models' own kind --------------------------------------------------------------------------


def _hearts(data: Path) -> Iterator[TruthPair]:
    """End-diastole and end-systole both ways; odd patients tune."""
    of = Source("acdc", SCANNER, own="cardiac-cine")
    for pair in select(Acdc(data / "acdc").pairs(), CINE_PATIENTS):
        split = SPLITS[int(pair.fixed.subject[-3:]) % 2 == 0]
        yield of.pair(relative(pair.fixed, data), relative(pair.moving, data), split)
    of = replace(of, group="sunnybrook")
    for pair in select(Sunnybrook(data / "sunnybrook").pairs(), [SUNNYBROOK]):
        yield of.pair(relative(pair.fixed, data), relative(pair.moving, data), "report")


def _hippocampi(data: Path) -> Iterator[TruthPair]:
    """Each person with the next of the same split, side by side, both ways."""
    images = {int(path.name.split("_")[1][:3]): path.name for path in (data / "hippocampus/images").iterdir()}
    persons = sorted({(number + 1) // 2 for number in images})[-HIPPOCAMPUS_PERSONS:]
    of = Source("hippocampus", CENTERS, own="hippocampus")
    for split, chosen in zip(SPLITS, (persons[::2], persons[1::2]), strict=True):
        for side in (1, 0):
            scans = [
                Scan(f"person{person}", f"{number}", f"hippocampus/images/{name}", f"hippocampus/labels/{name}")
                for person in chosen
                if (name := images.get(number := 2 * person - side))
            ]
            for a, b in _ring(scans):
                yield from (of.pair(a, b, split), of.pair(b, a, split))


# -- of no model's kind -------------------------------------------------------------------------------


def _foreign(data: Path) -> Iterator[TruthPair]:
    for group, (_, _, labels) in COLLECTIONS.items():
        yield from _neighbours(group, scans_of(group, data), labels)
    of = Source("lung_ct", CENTERS, "landmarks")
    yield from (of.pair(pair.fixed, pair.moving, "report") for pair in ordered_pairs(lungs()))
    yield from _limbs()
    yield from _abdomens(data)
    yield from _still()


def _neighbours(group: str, scans: Sequence[Scan], labels: Mapping[int, int] | None = None) -> Iterator[TruthPair]:
    """The first half of the subjects tune; each subject with the next of its half."""
    half = (len(scans) + 1) // 2
    for split, some in zip(SPLITS, (scans[:half], scans[half:]), strict=True):
        yield from (Source(group, CENTERS).pair(a, b, split, labels) for a, b in _ring(some))


def _limbs() -> Iterator[TruthPair]:
    """CT and the MR of the same limb, moved in two known ways each."""
    of = Source("ct_mr", SCANNER, "motion")
    for subject, split in (("STS_010", "tune"), ("STS_035", "report"), ("STS_048", "report")):
        for number in (1, 2):
            pair = of.pair(limb(subject).fixed, limb(subject).moving, cast(Split, split))
            yield replace(pair, name=f"{pair.name}, motion {number}", seed=SEED + number)


def _abdomens(data: Path) -> Iterator[TruthPair]:
    """CT and MR of two people, CT and CT of two people; one of them is in both, so all are of one split."""
    folder = "totalseg"
    ct, mr = (
        Scan(f"ts_{part}", "", f"{folder}/{part}.nii.gz", f"{folder}/{part}_labels.nii.gz") for part in ("ct", "mr")
    )
    rows = [line.split(",") for line in (data / folder / "common_labels.csv").read_text().split()[1:]]
    to_ct = {int(in_mr): int(in_ct) for _, in_ct, in_mr in rows}
    of = Source("abdomen", CENTERS)
    yield of.pair(ct, mr, "report", to_ct)
    yield of.pair(mr, ct, "report", {in_ct: in_mr for in_mr, in_ct in to_ct.items()})
    whole = Scan("CCTH-A01", "", "abdomen_ct/CCTH-A01.nii.gz", "abdomen_ct/CCTH-A01_labels.nii.gz")
    fair = {value: value for value in (5, 21, 75, 76)}  # liver, bladder, femurs
    yield from (of.pair(ct, whole, "report", fair), of.pair(whole, ct, "report", fair))


def _still() -> Iterator[TruthPair]:
    """Images between which contrast arrives and nothing moves."""
    breast, prostate = (Source(group, SCANNER, "still") for group in ("breast_dce", "prostate_dynamic_mr"))
    yield from (breast.pair(pair.fixed, pair.moving, "report") for pair in breast_phases())
    yield from (prostate.pair(pair.fixed, pair.moving, "tune") for pair in prostate_phases())


# -- damaged ------------------------------------------------------------------------------------------


def _damaged(own: Sequence[TruthPair]) -> Iterator[TruthPair]:
    rng = np.random.default_rng(SEED)
    for damage in DAMAGES:
        for group, count in (("acdc", DAMAGED_HEARTS), ("hippocampus", DAMAGED_HIPPOCAMPI)):
            for split in SPLITS:
                several = [pair for pair in own if pair.group == group and pair.split == split]
                if damage in (WRONG_PATIENT, WRONG_SIDE):
                    several = _mismatched(several, damage)
                chosen = rng.permutation(len(several))[:count]
                yield from (_with(several[i], damage, int(rng.integers(2**31))) for i in chosen)


def _with(pair: TruthPair, damage: str, seed: int) -> TruthPair:
    mixed = damage in (WRONG_PATIENT, WRONG_SIDE)
    return replace(
        pair,
        name=f"{pair.name}, {damage}",
        start=CENTERS if damage in _UNPLACED else pair.start,
        damage=damage,
        undamaged="" if mixed else pair.name,
        seed=seed,
    )


def _mismatched(pairs: Sequence[TruthPair], damage: str) -> list[TruthPair]:
    """The fixed image of each pair with the moving one of another, of another patient, or of another person's other
    side. Hearts have no sides, and hippocampi of two persons belong together.
    """
    if (damage == WRONG_SIDE) == (pairs[0].group == "acdc"):
        return []

    def fits(a: Scan, b: Scan) -> bool:
        other_side = a.part.isdigit() and (int(a.part) - int(b.part)) % 2 == 1
        return a.subject != b.subject and (other_side if damage == WRONG_SIDE else a.part != b.part)

    scans = {scan.name: scan for pair in pairs for scan in (pair.pair.fixed, pair.pair.moving)}.values()
    mixed = [Pair(a, b) for a in scans for b in scans if fits(a, b)]
    return [replace(pairs[0], name=f"{pairs[0].group}/{pair.name}", pair=pair) for pair in mixed]


# -- scans --------------------------------------------------------------------------------------------


def scans_of(group: str, data: Path) -> list[Scan]:
    """The subjects of one of COLLECTIONS, by name."""
    pattern, (old, new), _ = COLLECTIONS[group]
    paths = sorted(path.relative_to(data).as_posix() for path in data.glob(pattern))
    return [Scan(_subject(path), "", path, path.replace(old, new)) for path in paths if "_lobes" not in path]


def lungs() -> list[Scan]:
    """One lung at two times."""
    return [
        Scan("patient", part, f"lung_ct/{part}.mha", landmarks=f"lung_ct/{part}_landmarks.txt")
        for part in ("baseline", "followup")
    ]


def limb(subject: str) -> Pair:
    """The MR of a limb to its CT, which lie in one frame."""
    ct, mr = (Scan(subject, part, f"ct_mr/{subject}/{part}.nii.gz") for part in ("ct", "mr_t1"))
    return Pair(ct, mr)


def breast_phases() -> list[Pair]:
    """Two phases after contrast, each to the one before it."""
    before, *after = (Scan("UCSF-BR-06", f"phase{i}", f"breast_dce/UCSF-BR-06/phase{i}.nii.gz") for i in range(3))
    return [Pair(before, later) for later in after]


def prostate_phases() -> list[Pair]:
    """A frame soon after contrast and the last one, each to the first."""
    first, *others = (Scan("ProstateX-0218", str(i), f"prostate_dynamic_mr/dynamic.nii.gz#{i}") for i in (0, 6, 11))
    return [Pair(first, other) for other in others]


def _ring(scans: Sequence[Scan]) -> Iterable[tuple[Scan, Scan]]:
    """Each with the next, the last with the first; two make one such pair each way."""
    return zip(scans, [*scans[1:], *scans[:1]], strict=True)


def _subject(path: str) -> str:
    """The case that a file is of, from its folder or its name."""
    _, *folder, name = path.split("/")
    return folder[0] if folder else name.split(".")[0].split("_")[0]


def relative(scan: Scan, data: Path) -> Scan:
    """Without what the evaluation of a data set uses and scores do not."""
    image, label = (Path(text).relative_to(data).as_posix() if text else "" for text in (scan.image, scan.label))
    return Scan(scan.subject, scan.part, image, label)
