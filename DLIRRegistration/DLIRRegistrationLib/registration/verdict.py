"""Whether to trust a registration, in plain language, from its report (see `DLIRRegistrationLib.registration.report`).

The limits are for warning, not for diagnosis. Those that no definition gives were set between two measurements of
the model `cardiac-cine`: "held out" are its 40 registrations of the two phases of hearts that it was not trained on,
for the similarity five of these hearts both ways; "mismatched" are registrations of hearts of different people, which
a verdict has to catch. The model `hippocampus`, whose images are of different people, keeps them all in 40 held out
pairs: similarity afterwards 0.73 to 0.86, of what lacked 0.45 to 0.72 removed, SD of the Jacobian 0.20 to 0.29.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
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
    for level, rules in _RULES:
        for rule in rules:
            for reason in rule(report):
                return Verdict(level, reason)
    return Verdict("good", _praise(report))


# -- failed -------------------------------------------------------------------------------------------


def _no_similarity(report: Mapping[str, Any]) -> Iterator[str]:
    if report["similarity"]["after"] is None:
        yield "No part of the fixed image has a counterpart in the moving one; try another initialization."


def _nearly_empty(report: Mapping[str, Any]) -> Iterator[str]:
    covered = _covered(report)
    if covered is not None and covered < COVERED_FAILED:
        yield f"Only {_percent(covered)} of the fixed image has a counterpart in the moving one; try another start."


def _carried_away(report: Mapping[str, Any]) -> Iterator[str]:
    before, after = (report["similarity"].get(f"voxels_{when}") for when in ("before", "after"))
    if before and after is not None and after < OVERLAP_LOST * before:
        yield f"The images overlap less than before ({_percent(after / before)} of it is left); try another start."


def _much_folding(report: Mapping[str, Any]) -> Iterator[str]:
    percent = report["jacobian"]["folding_percent"]
    if percent is not None and percent > FOLDING_FAILED_PERCENT:
        yield f"Tissue folds over itself in {percent:.1f} % of the image; the deformation cannot be relied upon."


def _similarity_fell(report: Mapping[str, Any]) -> Iterator[str]:
    before, after = _similarity(report)
    if None not in (before, after) and after < before - SIMILARITY_FALL:
        yield (
            f"The images match less than before (similarity {before:.2f} → {after:.2f}); "
            "try another start, or a model for such images."
        )


# -- check --------------------------------------------------------------------------------------------


def _some_folding(report: Mapping[str, Any]) -> Iterator[str]:
    count = report["jacobian"]["folding_count"]
    if count:
        yield f"Tissue folds over itself in {count} voxel{'s' if count > 1 else ''}; look at the worst place."


def _landmarks_worse(report: Mapping[str, Any]) -> Iterator[str]:
    landmarks = report.get("landmarks")
    if not landmarks:
        return
    before, after = (landmarks[when]["mean_mm"] for when in ("before", "after"))
    if after > before + TRE_RISE_MM:
        yield f"Landmarks are further apart than before (on average {before:.1f} → {after:.1f} mm)."


def _overlap_worse(report: Mapping[str, Any]) -> Iterator[str]:
    for name, scores in scored_labels(report).items():
        before, after = (scores[when]["dice"] for when in ("before", "after"))
        if None not in (before, after) and after < before - DICE_FALL:
            yield f"'{name}' overlaps less than before (Dice {before:.2f} → {after:.2f})."


def _partly_covered(report: Mapping[str, Any]) -> Iterator[str]:
    covered = _covered(report)
    if covered is not None and covered < COVERED_CHECK:
        yield f"Only {_percent(covered)} of the fixed image has a counterpart in the moving one; look at the rest."


def _still_different(report: Mapping[str, Any]) -> Iterator[str]:
    after = report["similarity"]["after"]
    if after < SIMILARITY_LOW:
        yield f"The images still differ (similarity {after:.2f} of 1); are they of the same person and kind?"


def _hardly_rose(report: Mapping[str, Any]) -> Iterator[str]:
    before, after = _similarity(report)
    if before is None or before >= SIMILARITY_ALIGNED:
        return
    if after - before < SIMILARITY_GAIN * (1 - before):
        yield f"The images match hardly better than before (similarity {before:.2f} → {after:.2f})."


def _uneven(report: Mapping[str, Any]) -> Iterator[str]:
    spread = report["jacobian"]["sd"]
    if spread is not None and spread > JACOBIAN_SD:
        yield f"Volume changes very unevenly from place to place (SD of the Jacobian {spread:.2f})."


def _extreme(report: Mapping[str, Any]) -> Iterator[str]:
    smallest, largest = report["jacobian"]["min"], report["jacobian"]["max"]
    if smallest is not None and smallest < JACOBIAN_SMALLEST:
        yield f"Somewhere tissue shrinks to {100 * smallest:.1f} % of its volume; look at the Jacobian map."
    if largest is not None and largest > JACOBIAN_LARGEST:
        yield f"Somewhere tissue grows to {largest:.0f} times its volume; look at the Jacobian map."


_RULES: tuple[tuple[Level, tuple[Callable[[Mapping[str, Any]], Iterator[str]], ...]], ...] = (
    ("failed", (_no_similarity, _nearly_empty, _carried_away, _much_folding, _similarity_fell)),
    (
        "check",
        (
            _some_folding,
            _landmarks_worse,
            _overlap_worse,
            _partly_covered,
            _still_different,
            _hardly_rose,
            _uneven,
            _extreme,
        ),
    ),
)


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
