"""Whether to trust a registration, in plain language: the one judgement of command, worker, batch and panel.

The limits are for warning, not for diagnosis. Those that no definition gives were chosen on the *tune* half of the
pairs with truth that `Benchmarks/verdict.py` lists; its table, on the other half, says what they are worth. Needs no
torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from dlir.model.domain import Domain
    from dlir.model.file import ModelHeader
    from dlir.registration.judging.assessment import Assessment

Level = Literal["good", "check", "failed"]
LEVELS: tuple[Level, ...] = get_args(Level)

# Folding is never anatomy (§4). The paper's worst result that it still reports as usable, chest CT between different
# people, folds in 0.75 % of the voxels: beyond one per cent nothing of the deformation can be relied upon.
FOLDING_FAILED_PERCENT = 1.0
# Rounding and one more interpolation change NCC by some thousandths; a fall beyond that is a fall.
SIMILARITY_FALL = 0.01
# A fall by this part of what lacked to full similarity, and what is no more than rounding: images that were aligned can
# hardly fall further.
RELATIVE_FALL, ROUNDING = 0.1, 1e-3
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
# Times what the model's own pairs hardly ever exceed: the error there and back, how far points move, and the distances
# from the domain, by the images and by what the networks make of them. Held out 0.4 to 1.0 and 0.4 to 1.5.
CONSISTENCY, DISPLACEMENT, UNLIKE_IMAGES, UNLIKE_NETWORKS = 1.5, 1.5, 1.8, 2.0
# Images further off than the first may be small parts of the model's own, or of another organ that looks like them: the
# networks must then find them no further off than the second. Other organs: 1.7 and more.
DOUBTFUL_IMAGES, DOUBTFUL_NETWORKS = 1.35, 1.6
# The part of the local similarity that nearly all of the model's own pairs reach.
LOCAL = 0.75
# For a pair that was optimised without a model: the error there and back in samples, a second optimum as a part of the
# best one's value, and the volume that the affine part may change by. Right ones 0.1 to 3.4, up to 0.92, 0.79 to 1.26;
# a wrong hippocampus comes back 4.7 samples off.
SAMPLES_APART, AMBIGUOUS, VOLUME = 4.0, 0.93, 1.7
# A mirror image fits better by that: right ones up to 1.03, since bodies have two sides alike; a lung whose voxels are
# in reverse order 1.09. Degrees that no patient turns by between two scans: reversed along another axis, a body of two
# sides fits after half a turn. Right ones up to 16.
MIRRORED, TURNED = 1.06, 100.0
# Spread of its Jacobian, since nothing holds it to what a model has learned: right ones up to 0.51.
JACOBIAN_SD_OPTIMISED = 0.6
_NCC = "local_ncc"
# Of the fixed image, without a model: twelve numbers fit anything where there are not many more voxels than that.
FEWEST_VOXELS = 2_000
# So many times the limit of the error there and back, and the result is no result.
CONSISTENCY_FAILED = 4.0
# Landmarks are placed to a voxel or so; this is half of a fine one.
TRE_RISE_MM = 0.5


@dataclass(frozen=True)
class Verdict:
    """level: "good", "check" (look before relying on it) or "failed". reason: a sentence with the figure behind it.

    inputs: the figures that were looked at, by name; None for one that is not known.
    """

    level: Level
    reason: str
    inputs: Mapping[str, float | None] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a report."""
        return asdict(self)

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> Verdict:
        """As it stands in a report; a report of a DLIR that wrote none is judged by what it says."""
        found = report.get("verdict")
        return judge(report) if found is None else cls.from_dict(found)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """What `to_dict` made plain."""
        return cls(values["level"], values["reason"], values["inputs"])

    def beyond(self, name: str) -> bool:
        """Whether an input is known and beyond what results of the model stay below."""
        figure, most = _limited(self.inputs, name)
        return figure > most

    def reaches(self, level: Level) -> bool:
        """Whether it is as bad as `level`, or worse."""
        return LEVELS.index(self.level) >= LEVELS.index(level)


def worst_of(verdicts: Mapping[int, Verdict], noun: str) -> Verdict:
    """Of the images of a sequence, the verdict that gives most reason to doubt; its reason says by number which one.

    noun: what they are called, "frame" or "phase".
    """
    number = max(verdicts, key=lambda number: LEVELS.index(verdicts[number].level))
    worst = verdicts[number]
    if worst.level == "good":
        return Verdict("good", f"All {len(verdicts)} registered {noun}s match, and nothing folds.", worst.inputs)
    count = sum(verdict.level == worst.level for verdict in verdicts.values())
    others = f" The same level: {count - 1} more." if count > 1 else ""
    return Verdict(worst.level, f"{noun.capitalize()} {number}: {worst.reason}{others}", worst.inputs)


def judge(report: Mapping[str, Any], inputs: Mapping[str, float | None] | None = None, unlike: str = "") -> Verdict:
    """The verdict on a registration. What is not known does not count against it.

    report: as `results.report` builds it, with what `results.propagation` adds. inputs: `Assessment` and the limits of
    the model, see `limits`; None where only the report is left. unlike: in words, why the pair is not the model's
    business, where it is not.
    """
    inputs = {**_own_inputs(report), **_without_padding(report, inputs or {})}
    for reason in _failures(report, inputs):
        return Verdict("failed", f"{reason} {unlike}".strip(), inputs)
    for reason in _doubts(report, inputs, unlike):
        return Verdict("check", reason, inputs)
    return Verdict("good", _praise(inputs), inputs)


def verdict_on(report: Mapping[str, Any], model: ModelHeader | None, assessment: Assessment | None) -> Verdict:
    """The verdict on what a model made of a pair: by its report, and by what the model was made for.

    Without a model, on what an optimisation did.
    """
    from dlir.model.file import name_of

    inputs = {} if assessment is None else assessment.to_dict()
    if model is None:
        return judge(report, inputs | _optimised_limits(inputs))
    if model.domain is None:
        unlike = f"The model '{name_of(model)}' does not say what it was made for; look at the result."
        return judge(report, inputs, unlike)
    inputs |= limits(model.domain.figures, doubtful=_known(inputs, "images_distance") > DOUBTFUL_IMAGES)
    return judge(report, inputs, _unlike(model, model.domain, inputs))


def _optimised_limits(inputs: Mapping[str, float | None]) -> dict[str, float]:
    """What a result without a model is held to, by the names of inputs."""
    apart = _known(inputs, "sample_mm") * SAMPLES_APART
    return {
        "inverse_consistency_mm_limit": apart,
        "ambiguity_limit": AMBIGUOUS,
        "affine_volume_limit": VOLUME,
        "affine_turn_degrees_limit": TURNED,
        "mirrored_limit": MIRRORED,
    }


def _unlike(model: ModelHeader, domain: Domain, inputs: Mapping[str, float | None]) -> str:
    """Why a pair is not the model's business, or nothing where it is."""
    from dlir.model.domain import OTHER_SIZE  # numpy, which `dlir --help` does without

    (images, likest), (networks, nearest) = (_limited(inputs, f"{name}_distance") for name in ("images", "networks"))
    if images == OTHER_SIZE:
        return (
            f"This does not look like {made_for(model)}: an image is far larger or smaller than the model's own, of "
            f"{domain.sizes}{_trained_on(model)}."
        )
    for distance, most, what in (
        (images, likest, "the images lie"),
        (networks, nearest, "to its networks the pair lies"),
    ):
        if distance > most:
            return (
                f"This does not look like {made_for(model)}: {what} {distance:.2f} times as far off as the outermost "
                f"of the model's own, and {most:g} is the limit{_trained_on(model)}."
            )
    return ""


def _trained_on(model: ModelHeader) -> str:
    """The beginning of what the card says of the data."""
    data = str(model.card.get("data") or "").split(". ")[0].rstrip(".")
    return f"; trained on {data}" if data else ""


def made_for(model: ModelHeader) -> str:
    """What a model is for, in the words of its card."""
    from dlir.model.file import name_of

    told = [str(model.card[key]) for key in ("anatomy", "modality") if model.card.get(key)]
    return ", ".join(told) or f"what the model '{name_of(model)}' was trained on"


def limits(figures: Mapping[str, float], *, doubtful: bool = False) -> dict[str, float]:
    """What a result of a model is held to, by the names of inputs.

    figures: of the model's domain. doubtful: whether the images alone leave a doubt that they are of its kind.
    """
    factors = {"inverse_consistency_mm": CONSISTENCY, "displacement_mm": DISPLACEMENT, "local_after": LOCAL}
    return {f"{name}_limit": factor * figures[name] for name, factor in factors.items() if name in figures} | {
        "images_distance_limit": UNLIKE_IMAGES,
        "networks_distance_limit": DOUBTFUL_NETWORKS if doubtful else UNLIKE_NETWORKS,
    }


def _own_inputs(report: Mapping[str, Any]) -> dict[str, float | None]:
    (before, after), jacobian = _similarity(report), report["jacobian"]
    return {
        "covered": _covered(report),
        "similarity_before": before,
        "similarity_after": after,
        "folding_count": jacobian["folding_count"],
        **{f"jacobian_{name}": jacobian[name] for name in ("min", "max", "sd")},
    }


def _without_padding(report: Mapping[str, Any], inputs: Mapping[str, float | None]) -> dict[str, float | None]:
    """The inputs, without a similarity of whole images where masks say what counts, or where it is not known."""
    masked = report.get("fixed_mask") or report.get("moving_mask")
    kept = dict(inputs)
    for name in ("similarity_before", "similarity_after"):
        if name in kept and (masked or kept[name] is None):
            del kept[name]
    return kept


def _failures(report: Mapping[str, Any], inputs: Mapping[str, float | None]) -> Iterator[str]:
    """Why the result cannot be relied upon, the gravest reason first."""
    before, after, covered = inputs["similarity_before"], inputs["similarity_after"], _known(inputs, "covered")
    if after is None:
        yield "No part of the fixed image has a counterpart in the moving one; try another initialization."
    if covered < COVERED_FAILED:
        yield f"Only {_percent(covered)} of the fixed image has a counterpart in the moving one; try another start."
    voxels, left = (report["similarity"].get(f"voxels_{when}") for when in ("before", "after"))
    if voxels and left is not None and left < OVERLAP_LOST * voxels:
        yield f"The images overlap less than before ({_percent(left / voxels)} of it is left); try another start."
    percent = report["jacobian"]["folding_percent"]
    if percent is not None and percent > FOLDING_FAILED_PERCENT:
        yield f"Tissue folds over itself in {percent:.1f} % of the image; the deformation cannot be relied upon."
    apart, most = _limited(inputs, "inverse_consistency_mm")
    if apart > CONSISTENCY_FAILED * most:
        yield (
            f"Registered the other way round, {_comes_back(inputs)} {apart:.1f} mm from where it began "
            f"(more than {most:.1f} mm is doubtful); the result cannot be relied upon."
        )
    if _correlated(report) and before is not None and after is not None and after < before - SIMILARITY_FALL:
        yield (
            f"The images match less than before (similarity {before:.2f} → {after:.2f}); "
            "try another start, or a model for such images."
        )


def _doubts(report: Mapping[str, Any], inputs: Mapping[str, float | None], unlike: str) -> Iterator[str]:
    """Why to look before relying on a result that has not failed, the gravest reason first."""
    covered = _known(inputs, "covered")
    if covered < COVERED_CHECK:
        yield f"Only {_percent(covered)} of the fixed image has a counterpart in the moving one; look at the rest."
    if unlike:
        yield unlike
    yield from _measured(report)
    yield from _inconsistent(inputs)
    yield from _uncertain(report, inputs)
    optimised = inputs.get("sample_mm") is not None
    yield from _dissimilar(inputs, optimised=optimised)
    yield from _uneven(report["jacobian"], JACOBIAN_SD_OPTIMISED if optimised else JACOBIAN_SD)


def _measured(report: Mapping[str, Any]) -> Iterator[str]:
    """What labels and landmarks of both images say."""
    if landmarks := report.get("landmarks"):
        apart, now = (landmarks[when]["mean_mm"] for when in ("before", "after"))
        if None not in (apart, now) and now > apart + TRE_RISE_MM:
            yield f"Landmarks are further apart than before (on average {apart:.1f} → {now:.1f} mm)."
    for name, scores in scored_labels(report).items():
        had, has = (scores[when]["dice"] for when in ("before", "after"))
        if None not in (had, has) and has < had - DICE_FALL:
            yield f"'{name}' overlaps less than before (Dice {had:.2f} → {has:.2f})."


def _inconsistent(inputs: Mapping[str, float | None]) -> Iterator[str]:
    """What the registration the other way round says, and how far points are moved."""
    apart, most = _limited(inputs, "inverse_consistency_mm")
    if apart > most:
        yield (
            f"Registered the other way round, {_comes_back(inputs)} {apart:.1f} mm from where it began; "
            f"results of this kind that are right stay below {most:.1f} mm."
        )
    moved, most = _limited(inputs, "displacement_mm")
    if moved > most:
        yield f"Points move by up to {moved:.0f} mm, and this model has learned motion up to {most:.0f} mm."


def _uncertain(report: Mapping[str, Any], inputs: Mapping[str, float | None]) -> Iterator[str]:
    """What speaks against a pair that was optimised without a model."""
    second, most = _limited(inputs, "ambiguity")
    if second > most:
        yield (
            f"Another position fits nearly as well ({_percent(second)} as alike at low resolution), as where "
            "neighbours look alike; look at the result, try --initialize 2, or give a start."
        )
    volume, most = _limited(inputs, "affine_volume")
    if volume > most or volume < 1 / most:
        yield f"The moving image is scaled to {volume:.2f} times its volume; are the voxel sizes right?"
    alike, most = _limited(inputs, "mirrored")
    if alike > most:
        yield (
            f"Mirrored, the moving image fits better ({_percent(alike)} as alike at low resolution); are its voxels in "
            "the order that its header says?"
        )
    turn, most = _limited(inputs, "affine_turn_degrees")
    if turn > most:
        yield f"The moving image is turned by {turn:.0f} degrees; is its orientation what its header says?"
    refinement = report.get("refinement") or {}
    done, planned = len(refinement.get("stages", ())), refinement.get("planned_stages", 0)
    if refinement.get("stopped") and done < planned:
        yield f"The optimisation was ended after {done} of {planned} stages; refine the result further."
    if inputs.get("not_turned") == 1:
        yield "It was ended before the result was checked the other way round; look at the result."
    voxels = math.prod(report["fixed"]["shape"]) if "fixed" in report else FEWEST_VOXELS
    if inputs.get("sample_mm") is not None and voxels < FEWEST_VOXELS:
        yield f"The fixed image has {voxels} voxels, too few to tell chance from likeness; look at the result."
    if refinement.get("same_contrast") is False and not refinement.get("stages"):
        yield "The images differ in contrast, so that they were only moved and not bent; look at how they fit."


def _dissimilar(inputs: Mapping[str, float | None], *, optimised: bool) -> Iterator[str]:
    before, after = inputs["similarity_before"], _known(inputs, "similarity_after")
    if after < SIMILARITY_LOW:
        yield f"The images still differ (similarity {after:.2f} of 1); are they of the same person and kind?"
    if before is not None and after < before - RELATIVE_FALL * (1 - before) - ROUNDING:
        yield f"The images matched better before (similarity {before:.3f} → {after:.3f})."
    hardly = before is not None and before < SIMILARITY_ALIGNED and after - before < SIMILARITY_GAIN * (1 - before)
    if hardly and not optimised:  # a pair that lay right is left there, and the way back says what that is worth
        yield f"The images match hardly better than before (similarity {before:.2f} → {after:.2f})."
    was, now = _known(inputs, "local_before"), _known(inputs, "local_after")
    if now < was - SIMILARITY_FALL:
        yield f"In their details the images match less than before (local similarity {was:.2f} → {now:.2f})."
    least = _known(inputs, "local_after_limit")
    if now < least:
        yield (
            f"In their details the images still differ (local similarity {now:.2f}); results of this model that are "
            f"right reach {least:.2f}."
        )


def _uneven(jacobian: Mapping[str, Any], most: float) -> Iterator[str]:
    if count := jacobian["folding_count"]:
        yield f"Tissue folds over itself in {count} voxel{'s' if count > 1 else ''}; look at the worst place."
    if jacobian["sd"] is not None and jacobian["sd"] > most:
        yield f"Volume changes very unevenly from place to place (SD of the Jacobian {jacobian['sd']:.2f})."
    if jacobian["min"] is not None and jacobian["min"] < JACOBIAN_SMALLEST:
        yield f"Somewhere tissue shrinks to {100 * jacobian['min']:.1f} % of its volume; look at the Jacobian map."
    if jacobian["max"] is not None and jacobian["max"] > JACOBIAN_LARGEST:
        yield f"Somewhere tissue grows to {jacobian['max']:.0f} times its volume; look at the Jacobian map."


# -- small things -------------------------------------------------------------------------------------


def scored_labels(report: Mapping[str, Any]) -> dict[str, Any]:
    """The labels of a report whose scores mean something: a label that one of two images lacks has a Dice of 0
    whatever the registration did, and no distances.
    """
    return {
        name: scores
        for name, scores in report.get("labels", {}).items()
        if any(scores[when]["asd_mm"] is not None for when in ("before", "after"))
    }


def _praise(inputs: Mapping[str, float | None]) -> str:
    before, after = inputs["similarity_before"], _known(inputs, "similarity_after")
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


def _known(inputs: Mapping[str, float | None], name: str) -> float:
    """A figure, or `nan`, which is beyond no limit."""
    value = inputs.get(name)
    return math.nan if value is None else value


def _limited(inputs: Mapping[str, float | None], name: str) -> tuple[float, float]:
    """A figure, and what results of the model stay below."""
    return _known(inputs, name), _known(inputs, f"{name}_limit")


def _correlated(report: Mapping[str, Any]) -> bool:
    """Whether images that fit are to correlate: not where contrasts differ, or where something else was optimised."""
    refinement = report.get("refinement") or {}
    return refinement.get("same_contrast") is not False and refinement.get("similarity", _NCC) == _NCC


def _comes_back(inputs: Mapping[str, float | None]) -> str:
    """Who does, in words: of an optimised pair one point in four, at edges, is further off."""
    return "a point comes back" if inputs.get("sample_mm") is None else "one edge in four comes back more than"


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"
