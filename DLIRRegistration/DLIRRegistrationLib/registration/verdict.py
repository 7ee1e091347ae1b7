"""Whether to trust a registration, in plain language, from its report (see `DLIRRegistrationLib.registration.report`).

The limits are for warning, not for diagnosis. Those that no definition gives were set between two measurements of
the model `cardiac-cine`: "held out" are its 40 registrations of the two phases of hearts that it was not trained on,
for the similarity five of these hearts both ways; "mismatched" are registrations of hearts of different people, which
a verdict has to catch. The model `hippocampus`, whose images are of different people, keeps them all in 40 held out
pairs: similarity afterwards 0.73 to 0.86, of what lacked 0.45 to 0.72 removed, SD of the Jacobian 0.20 to 0.29.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from DLIRRegistrationLib.registration.report import scored_labels

Level = Literal["good", "check", "failed"]

# Folding is never anatomy (§4). The paper's worst result that it still reports as usable, chest CT between different
# people, folds in 0.75 % of the voxels: beyond one per cent nothing of the deformation can be relied upon.
FOLDING_FAILED_PERCENT = 1.0
# Rounding and one more interpolation change NCC by some thousandths; a fall beyond that is a fall.
SIMILARITY_FALL = 0.01
# Less than this part of the fixed image has a counterpart: the result is nearly empty.
COVERED_FAILED = 0.05
# The transform has carried away this part of the overlap that there was at the start.
OVERLAP_LOST = 0.5

# Less than half of the fixed image has a counterpart. Held out 0.99 and more, mismatched from 0.47.
COVERED_CHECK = 0.5
# Registration removes this part of what lacks to full similarity. Held out 0.47 to 0.76, mismatched 0.27 to 0.44.
SIMILARITY_GAIN = 0.25
# Images this similar at the start need no rise. Two phases of one heart start at 0.91 to 0.98.
SIMILARITY_ALIGNED = 0.98
# Similarity afterwards. Held out 0.96 to 0.99, mismatched 0.39 to 0.54.
SIMILARITY_LOW = 0.7
# Spread of the Jacobian. Held out 0.09 to 0.25, mismatched 0.53 to 0.76; 0.45 in the paper's chest CT between people.
JACOBIAN_SD = 0.5
# One voxel's volume to a fiftieth, or tenfold. Held out 0.033 to 9.7.
JACOBIAN_SMALLEST, JACOBIAN_LARGEST = 0.02, 10.0
# Experts who draw the same structure twice differ by more.
DICE_FALL = 0.01
# Landmarks are placed to a voxel or so; this is half of a fine one.
TRE_RISE_MM = 0.5


@dataclass(frozen=True)
class Verdict:
    """level: "good", "check" (look before relying on it) or "failed". reason: a sentence with the figure behind it."""

    level: Level
    reason: str


def judge(report: Mapping[str, Any]) -> Verdict:
    """The verdict on a registration from its report. What the report does not know does not count against it."""
    for reason in _failures(report):
        return Verdict("failed", reason)
    for reason in _doubts(report):
        return Verdict("check", reason)
    return Verdict("good", _praise(report))


def _failures(report: Mapping[str, Any]) -> Iterator[str]:
    """Why the result cannot be relied upon, the gravest reason first."""
    (before, after), covered = _similarity(report), _covered(report)
    if after is None:
        yield "No part of the fixed image has a counterpart in the moving one; try another initialization."
    if covered is not None and covered < COVERED_FAILED:
        yield f"Only {_percent(covered)} of the fixed image has a counterpart in the moving one; try another start."
    voxels, left = (report["similarity"].get(f"voxels_{when}") for when in ("before", "after"))
    if voxels and left is not None and left < OVERLAP_LOST * voxels:
        yield f"The images overlap less than before ({_percent(left / voxels)} of it is left); try another start."
    percent = report["jacobian"]["folding_percent"]
    if percent is not None and percent > FOLDING_FAILED_PERCENT:
        yield f"Tissue folds over itself in {percent:.1f} % of the image; the deformation cannot be relied upon."
    if None not in (before, after) and after < before - SIMILARITY_FALL:
        yield (
            f"The images match less than before (similarity {before:.2f} → {after:.2f}); "
            "try another start, or a model for such images."
        )


def _doubts(report: Mapping[str, Any]) -> Iterator[str]:
    """Why to look before relying on a result that has not failed, the gravest reason first."""
    (before, after), covered, jacobian = _similarity(report), _covered(report), report["jacobian"]
    if count := jacobian["folding_count"]:
        yield f"Tissue folds over itself in {count} voxel{'s' if count > 1 else ''}; look at the worst place."
    if landmarks := report.get("landmarks"):
        apart, now = (landmarks[when]["mean_mm"] for when in ("before", "after"))
        if now > apart + TRE_RISE_MM:
            yield f"Landmarks are further apart than before (on average {apart:.1f} → {now:.1f} mm)."
    for name, scores in scored_labels(report).items():
        had, has = (scores[when]["dice"] for when in ("before", "after"))
        if None not in (had, has) and has < had - DICE_FALL:
            yield f"'{name}' overlaps less than before (Dice {had:.2f} → {has:.2f})."
    if covered is not None and covered < COVERED_CHECK:
        yield f"Only {_percent(covered)} of the fixed image has a counterpart in the moving one; look at the rest."
    if after < SIMILARITY_LOW:
        yield f"The images still differ (similarity {after:.2f} of 1); are they of the same person and kind?"
    if before is not None and before < SIMILARITY_ALIGNED and after - before < SIMILARITY_GAIN * (1 - before):
        yield f"The images match hardly better than before (similarity {before:.2f} → {after:.2f})."
    if jacobian["sd"] is not None and jacobian["sd"] > JACOBIAN_SD:
        yield f"Volume changes very unevenly from place to place (SD of the Jacobian {jacobian['sd']:.2f})."
    if jacobian["min"] is not None and jacobian["min"] < JACOBIAN_SMALLEST:
        yield f"Somewhere tissue shrinks to {100 * jacobian['min']:.1f} % of its volume; look at the Jacobian map."
    if jacobian["max"] is not None and jacobian["max"] > JACOBIAN_LARGEST:
        yield f"Somewhere tissue grows to {jacobian['max']:.0f} times its volume; look at the Jacobian map."


# -- small things -------------------------------------------------------------------------------------


def _praise(report: Mapping[str, Any]) -> str:
    before, after = _similarity(report)
    if before is None:
        return f"The images match (similarity {after:.2f} of 1), and nothing folds."
    if before >= SIMILARITY_ALIGNED:
        return f"The images matched from the start (similarity {before:.2f} → {after:.2f}), and nothing folds."
    return f"The images match better than before (similarity {before:.2f} → {after:.2f}), and nothing folds."


def _similarity(report: Mapping[str, Any]) -> tuple[Any, Any]:
    return report["similarity"]["before"], report["similarity"]["after"]


def _covered(report: Mapping[str, Any]) -> float | None:
    """Part of the fixed image with a counterpart; with masks, which the voxel counts are limited to, at the start."""
    if report.get("fixed_mask") or report.get("moving_mask"):
        start = report.get("initialization")
        return start["overlap"] if start else None
    voxels = report["similarity"].get("voxels_after")
    return None if voxels is None or "fixed" not in report else voxels / math.prod(report["fixed"]["shape"])


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"
