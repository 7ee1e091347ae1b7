"""Ejection fraction from a contour that `dlir cine` carries over the cycle, beside that of manual contours.

    python Benchmarks/ejection.py [--patients 65-75] [--held-out 81-100]

The cines of Sunnybrook, each registered to the end-diastole that was drawn, whose contour is carried to all phases; one
of them as DICOM, too. Then which of two images has to be fixed where a label is carried: ED and ES of Sunnybrook and
of ACDC, on patients to choose by and on others. Prints and keeps results/ejection.md. Labels are only measured, but
for the one that is carried.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from study import keep_tables, machine
from truth.store import default_data

from dlir.cohort.cine.register import FinishedCine, register_cine
from dlir.cohort.cine.request import CineRequest
from dlir.data.layouts.acdc import Acdc
from dlir.data.layouts.sunnybrook import Sunnybrook
from dlir.data.pair import Pair, Scan, select
from dlir.evaluation.held_out import reading_contents, seen_pairs
from dlir.io import Volume
from dlir.metrics.labels import dice
from dlir.model.card import seen_images
from dlir.model.catalogue import resolve_model
from dlir.model.file import read_header
from dlir.registration.pipeline import run
from dlir.registration.request import RegistrationRequest
from dlir.registration.session import Session

MODEL = "cardiac-cine"
# The cavity of the left ventricle, by data set, and in the names of a cine's structures.
SUNNYBROOK_LV, ACDC_LV = 1, 3
CAVITY = str(SUNNYBROOK_LV)
CASE, ARCHIVE = "SC-HF-I-4", "SC-HF-I-4_dicom.zip"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--patients", default="65-75", help="of ACDC, to choose by")
    parser.add_argument("--held-out", default="81-100", help="of ACDC, to report on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    session, folder = Session(), options.data / "sunnybrook"
    pairs = [pair for pair in Sunnybrook(folder).pairs() if pair.fixed.name.endswith("ED")]
    images = seen_images(read_header(resolve_model(MODEL)).card) or {}
    seen = seen_pairs(images, pairs, pairs, reading_contents())
    rows = [STUDY_HEAD]
    for pair in pairs:
        cine, _, phase = pair.fixed.image.rpartition("#")
        sources = {pair.fixed.subject: cine}
        if pair.fixed.subject == CASE:
            sources[f"{CASE} (DICOM)"] = str(folder / ARCHIVE)
        for name, source in sources.items():
            rows.append(study_row(name, pair, seen, registered(source, int(phase), pair.fixed, session)))
            print(*rows[-1], sep=" | ", flush=True)
    trained = [pair for pair in pairs if pair.name in seen]
    chosen_by = [Case(pair, SUNNYBROOK_LV) for pair in trained] + acdc(options.data, options.patients)
    sections = [(f"{len(pairs)} cines of Sunnybrook, left ventricle, {MODEL}", rows)]
    for title, cases in (
        (f"Chosen by: {len(trained)} of Sunnybrook, ACDC {options.patients}", chosen_by),
        (f"Others: ACDC {options.held_out}", acdc(options.data, options.held_out)),
    ):
        sections.append((f"{title}: {len(cases)} pairs of ED and ES, left ventricle", directions(cases, session)))
    keep_tables("ejection", sections, [*NOTES, machine()])


NOTES = (
    "Volumes are voxels. EF is (ED - ES) / ED in %. 'drawn' are the manual contours at both phases; 'carried' is the "
    "contour at ED as it lies on the phase at which ES was drawn; 'curve' is from the largest to the smallest volume "
    "of all phases. Cycle is how far points of the label come back from where they began, along the maps from phase "
    "to phase.",
    "Which image is fixed was chosen on the first patients of the second table; the third one reports on others.",
)

# -- whole cines --------------------------------------------------------------------------------------

STUDY_HEAD = (
    "study",
    "trained on",
    "ED drawn (ml)",
    "ES drawn (ml)",
    "ES carried (ml)",
    "EF drawn",
    "EF carried",
    "difference",
    "EF curve",
    "difference of the curve",
    "Dice at ES",
    "cycle, mean (mm)",
)


@dataclass(frozen=True, eq=False)
class Registered:
    """A cine, and its labels phase by phase (t, z, y, x)."""

    finished: FinishedCine
    labels: NDArray[Any]


def registered(cine: str, phase: int, drawn: Scan, session: Session) -> Registered:
    """To the phase on which ED was drawn."""
    from dlir.io.sequences import read_sequence

    with tempfile.TemporaryDirectory() as folder:
        finished = register_cine(
            CineRequest(cine, folder, phase, drawn.read_label(drawn.read_image()), model=MODEL, cycle=True), session
        )
        return Registered(finished, np.array(read_sequence(finished.files["labels"]).arrays))


def study_row(name: str, pair: Pair, seen: dict[str, str], found: Registered) -> tuple[str, ...]:
    ed, es = (labelled(scan) for scan in (pair.fixed, pair.moving))
    end_systole = int(pair.moving.image.rpartition("#")[2])
    drawn = ejected(volume(ed, SUNNYBROOK_LV), volume(es, SUNNYBROOK_LV))
    carried_ml = found.finished.volumes[end_systole][CAVITY]
    carried = ejected(volume(ed, SUNNYBROOK_LV), carried_ml)
    curve = next(one for one in found.finished.report["ejection"] if one["name"] == CAVITY)["ejection_percent"]
    overlap = dice(found.labels[end_systole] == SUNNYBROOK_LV, es.array == SUNNYBROOK_LV)
    return (
        name,
        "yes" if pair.name in seen else "no",
        f"{volume(ed, SUNNYBROOK_LV):.1f}",
        f"{volume(es, SUNNYBROOK_LV):.1f}",
        f"{carried_ml:.1f}",
        f"{drawn:.1f}",
        f"{carried:.1f}",
        f"{carried - drawn:+.1f}",
        f"{curve:.1f}",
        f"{curve - drawn:+.1f}",
        f"{overlap:.3f}",
        f"{found.finished.report['cycle']['mean_mm']:.1f}",
    )


# -- which image is fixed -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A pair whose fixed image is ED and whose moving one is ES, and the value of the cavity in its labels."""

    pair: Pair
    value: int


def acdc(data: Path, patients: str) -> list[Case]:
    """Of patients "65-75", those whose images differ: 74 and 76 are the same ones."""
    first, last = map(int, patients.split("-"))
    wanted = [f"patient{number:03d}" for number in range(first, last + 1) if number != 74]
    pairs = select(Acdc(data / "acdc").pairs(), wanted)
    return [Case(pair, ACDC_LV) for pair in pairs if pair.fixed.name.endswith("ED")]


def directions(cases: Iterable[Case], session: Session) -> list[tuple[str, ...]]:
    """A row for each image on which the label is drawn and each that is fixed."""
    errors: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for case in cases:
        for fixed, carried in both_ways(case, session).items():
            for drawn, found in carried.items():
                errors.setdefault((drawn, fixed), []).append(found)
        print(case.pair.name, flush=True)
    head = ("label drawn at", "fixed image", "error (ml)", "bias (ml)", "error of EF", "bias of EF", "Dice")
    return [head, *(direction_row(*key, errors[key]) for key in sorted(errors))]


def direction_row(drawn: str, fixed: str, errors: list[tuple[float, float, float]]) -> tuple[str, ...]:
    volumes, fractions, overlaps = zip(*errors, strict=True)
    figures = [figure for values in (volumes, fractions) for figure in (mean(map(abs, values)), mean(values))]
    return (
        drawn,
        fixed,
        *(f"{figure:+.1f}" if k % 2 else f"{figure:.1f}" for k, figure in enumerate(figures)),
        (f"{mean(overlaps):.3f}"),
    )


def both_ways(case: Case, session: Session) -> dict[str, dict[str, tuple[float, float, float]]]:
    """By the image that is fixed and the one that was drawn on: errors of the volume that is carried to the other, ml,
    and of the ejection fraction, %; and the Dice coefficient there.
    """
    scans = {"ED": case.pair.fixed, "ES": case.pair.moving}
    labels = {name: labelled(scan) for name, scan in scans.items()}
    true = ejected(*(volume(labels[name], case.value) for name in ("ED", "ES")))
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    for fixed, moving in (("ED", "ES"), ("ES", "ED")):
        request = RegistrationRequest(
            scans[fixed].read_image(),
            scans[moving].read_image(),
            None,
            model=MODEL,
            moving_labels=(labels[moving],),
            backward_labels=(labels[fixed],),
        )
        done = run(request, session).propagated
        for drawn, other, array in ((fixed, moving, done.backward[0]), (moving, fixed, done.after[0])):
            carried = Volume(array, labels[other].grid, "carried")
            ml = {drawn: volume(labels[drawn], case.value), other: volume(carried, case.value)}
            found.setdefault(fixed, {})[drawn] = (
                ml[other] - volume(labels[other], case.value),
                ejected(ml["ED"], ml["ES"]) - true,
                dice(array == case.value, labels[other].array == case.value),
            )
    return found


# -- small things -------------------------------------------------------------------------------------


def labelled(scan: Scan) -> Volume:
    return scan.read_label(scan.read_image())


def volume(label: Volume, value: int) -> float:
    """In ml."""
    return float(np.count_nonzero(label.array == value) * np.prod(label.grid.spacing) / 1000)


def ejected(ed: float, es: float) -> float:
    """Per cent."""
    return 100 * (ed - es) / ed


def mean(values: Iterable[float]) -> float:
    return statistics.mean(values)


if __name__ == "__main__":
    main()
