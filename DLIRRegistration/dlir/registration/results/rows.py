"""The figures of one registration as rows for people, and what has changed in short sentences. Needs no torch.

Keys of a report, all but `similarity` and `jacobian` optional, and every figure None where it is not defined:

    similarity: {measure, before, after, voxels_before, voxels_after}
    jacobian:   {folding_count, folding_percent, mean, sd, min, max}
    volumes:    {segment name: {before_ml, after_ml}}, on the moving image, and carried over on the fixed one
    labels:     {segment name: {before: {dice, hd_mm, asd_mm}, after: {...}}}
    error_map:  {median_mm, p95_mm, structures: {segment name: median in mm}}
    landmarks:  {count, before: {mean_mm, sd_mm, max_mm}, after: {...}}, on the moving image
    verdict:    {level, reason, inputs: {name: figure}}, see `dlir.registration.judging.verdict`
    refinement: {budget, kind, steps, seconds, stopped}; None where the pair was not optimised
    seconds:    {step: seconds}, device, model: {name, title, distances: {name: figure}, where it was chosen, reason},
    initialization: {mode, center_distance_mm, reason}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dlir.registration.choices import NO_MODEL
from dlir.registration.judging.verdict import scored_labels

# Structures that `changes` names; the table has all.
_NAMED = 2


@dataclass(frozen=True)
class Row:
    """One line of the report, ready to be shown; what does not apply is empty."""

    measure: str
    before: str = ""
    after: str = ""
    unit: str = ""


def report_rows(report: Mapping[str, Any]) -> list[Row]:
    """The report from top to bottom; figures that are missing or not defined have no row."""
    sections = (_images, _checks, _errors, _volumes, _labels, _landmarks, _circumstances)
    return [row for section in sections for row in section(report)]


def chosen_model(report: Mapping[str, Any]) -> str | None:
    """The name of the model, or "none", where it was chosen for the images; None where it was asked for."""
    model = report.get("model", {})
    return model["name"] if model.get("distances") else None


def changes(report: Mapping[str, Any]) -> list[str]:
    """What the registration has done, in short sentences: how far it moves, what became of volumes and scores."""
    inputs = report.get("verdict", {}).get("inputs", {})
    found: list[str] = []
    if (moved := inputs.get("displacement_mm")) is not None:
        found.append(f"95 % of the image moves by less than {moved:.1f} mm.")
    scored = scored_labels(report)
    for name in list(dict.fromkeys([*report.get("volumes", {}), *scored]))[:_NAMED]:
        told = [*_volume_change(report.get("volumes", {}).get(name)), *_overlap_change(scored.get(name))]
        if told:
            found.append(f"{name[:1].upper()}{name[1:]}: {', '.join(told)}.")
    if landmarks := report.get("landmarks"):
        before, after = landmarks["before"]["mean_mm"], landmarks["after"]["mean_mm"]
        if before is not None and after is not None:
            found.append(f"Landmarks: {before:.1f} → {after:.1f} mm apart on average.")
    if errors := report.get("error_map"):
        found.append(f"Error to expect: {errors['median_mm']:.1f} mm (median).")
    chosen = chosen_model(report)
    if chosen == NO_MODEL:
        found.append("No model was made for such images, so this pair was optimised.")
    elif chosen:
        found.append(f"Model chosen for these images: {chosen}.")
    return found


def _volume_change(figures: Mapping[str, Any] | None) -> Iterator[str]:
    if figures and figures["before_ml"] is not None and figures["after_ml"] is not None:
        yield f"{_volume(figures['before_ml'])} → {_volume(figures['after_ml'])} ml"


def _overlap_change(scores: Mapping[str, Any] | None) -> Iterator[str]:
    if scores and scores["before"]["dice"] is not None and scores["after"]["dice"] is not None:
        yield f"Dice {scores['before']['dice']:.2f} → {scores['after']['dice']:.2f}"


# -- sections -----------------------------------------------------------------------------------------


def _images(report: Mapping[str, Any]) -> Iterator[Row]:
    figures, jacobian = report["similarity"], report["jacobian"]
    yield from _row(f"Similarity ({figures['measure']})", figures, "", ".3f")
    part = jacobian["folding_percent"]
    yield Row("Folding", "", str(jacobian["folding_count"]), "voxels" if part is None else f"voxels ({part:.3g} %)")
    for name, key in (("smallest", "min"), ("largest", "max"), ("SD", "sd")):
        yield from _row(f"Jacobian, {name}", {"after": jacobian[key]}, "× volume", ".2f")


def _checks(report: Mapping[str, Any]) -> Iterator[Row]:
    """What the verdict has looked at besides, each with what it is held to."""
    inputs = report.get("verdict", {}).get("inputs", {})
    for measure, key, limit, unit, form in (
        ("Error there and back", "inverse_consistency_mm", "inverse_consistency_mm_limit", "mm", ".2f"),
        ("Displacement", "displacement_mm", "displacement_mm_limit", "mm", ".1f"),
        ("Distance from the model's images", "images_distance", "images_distance_limit", "", ".2f"),
        ("Distance to its networks", "networks_distance", "networks_distance_limit", "", ".2f"),
    ):
        most = inputs.get(limit)
        told = "" if most is None else f"(≤ {format(most, form)})"
        yield from _row(measure, {"after": inputs.get(key)}, f"{unit} {told}".strip(), form)
    yield from _row("Local similarity", {when: inputs.get(f"local_{when}") for when in ("before", "after")}, "", ".3f")


def _errors(report: Mapping[str, Any]) -> Iterator[Row]:
    """What the error map tells."""
    told = report.get("error_map")
    if not told:
        return
    for name, key in (("median", "median_mm"), ("95 % are below", "p95_mm")):
        yield from _row(f"Error to expect, {name}", {"after": told[key]}, "mm", ".1f")
    for name, error in told["structures"].items():
        yield from _row(f"Error to expect in {name}", {"after": error}, "mm", ".1f")


def _volumes(report: Mapping[str, Any]) -> Iterator[Row]:
    for name, figures in report.get("volumes", {}).items():
        before, after = figures["before_ml"], figures["after_ml"]
        if before is None or after is None:
            continue
        yield Row(f"Volume of {name}", _volume(before), _volume(after), "ml")
        if before > 0:
            yield Row(f"Volume change of {name}", "", f"{100 * (after / before - 1):+.0f}", "%")


def _labels(report: Mapping[str, Any]) -> Iterator[Row]:
    for name, scores in scored_labels(report).items():
        for measure, key, unit, form in (("Dice", "dice", "", ".3f"), ("HD", "hd_mm", "mm", ".1f")):
            yield from _row(f"{measure} of {name}", _when(scores, key), unit, form)
        yield from _row(f"ASD of {name}", _when(scores, "asd_mm"), "mm", ".2f")


def _landmarks(report: Mapping[str, Any]) -> Iterator[Row]:
    landmarks = report.get("landmarks")
    if not landmarks:
        return
    for name, key in ((f"mean of {landmarks['count']}", "mean_mm"), ("SD", "sd_mm"), ("largest", "max_mm")):
        yield from _row(f"TRE, {name}", _when(landmarks, key), "mm", ".2f")


def _circumstances(report: Mapping[str, Any]) -> Iterator[Row]:
    if report.get("seconds"):
        yield Row("Time", "", f"{sum(report['seconds'].values()):.1f}", "s")
    if report.get("device"):
        yield Row("Device", "", report["device"])
    if report.get("model"):
        yield Row("Model", "", report["model"].get("title") or report["model"]["name"])
        if chosen_model(report):
            yield Row("Chosen by distance", "", _distances(report["model"]["distances"]))
        if report["model"].get("reason"):
            yield Row("Why no model", "", report["model"]["reason"])
    if report.get("refinement"):
        yield Row("Refinement", "", _refinement(report["refinement"]))
    if report.get("initialization"):
        start = report["initialization"]
        yield Row("Start", "", f"{start['mode']}, {start['center_distance_mm']:.0f} mm between the centres")
        if start.get("reason"):
            yield Row("Why this start", "", start["reason"])


# -- small things -------------------------------------------------------------------------------------


def _when(scores: Mapping[str, Any], key: str) -> dict[str, float | None]:
    return {when: scores[when][key] for when in ("before", "after")}


def _row(measure: str, figures: Mapping[str, Any], unit: str, form: str) -> Iterator[Row]:
    """A row, unless neither figure is there."""
    before, after = (figures.get(when) for when in ("before", "after"))
    if before is not None or after is not None:
        shown = ["" if value is None else format(value, form) for value in (before, after)]
        yield Row(measure, shown[0], shown[1], unit)


def _distances(distances: Mapping[str, float | None]) -> str:
    """Of the images from what each model was made for, the nearest first."""
    return ", ".join(
        f"{name} {'of another size' if distance is None else format(distance, '.1f')}"
        for name, distance in distances.items()
    )


def _refinement(done: Mapping[str, Any]) -> str:
    """How long a pair was allowed to be optimised, and how long it was."""
    ended = ", ended early" if done["stopped"] and not done["budget"].endswith("s") else ""
    return f"{done['kind']}, {done['budget']}: {done['steps']} steps in {done['seconds']:.1f} s{ended}"


def _volume(ml: float) -> str:
    return f"{ml:.0f}" if ml >= 100 else f"{ml:.1f}"
