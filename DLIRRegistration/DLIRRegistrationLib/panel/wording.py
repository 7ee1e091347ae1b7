"""Messages of the core, which name options of the command line, in the words of the panel."""

from __future__ import annotations

from slicer.i18n import tr as _

from dlir.registration.choices import NO_MODEL
from DLIRRegistrationLib.panel.choices import Device, Kind, Start, no_model


def in_panel_words(message: str) -> str:
    """The message with every option as the panel calls it, in quotation marks."""
    for option, label in _labels().items():
        message = message.replace(option, f"“{label}”")
    return message


def step_in_words(step: str) -> str:
    """A step of the progress, as a clinician would call it; what has no other name keeps its own."""
    place, colon, own = step.rpartition(": ")
    words = f"{place}{colon}{_steps().get(own, own)}"
    return words[:1].upper() + words[1:]


def _steps() -> dict[str, str]:
    return {
        "reading": _("reading the images"),
        "handing over": _("handing over the images"),
        "choosing model": _("choosing a model"),
        "loading model": _("loading the model"),
        "preprocess": _("preparing the images"),
        "prepare": _("preparing the images"),
        "preparing": _("preparing the images"),
        "networks": _("aligning"),
        "compose": _("putting the steps together"),
        "resample": _("warping the moving image"),
        "resampling": _("warping the moving image"),
        "jacobian": _("looking for folds"),
        "labels": _("carrying segmentations over"),
        "figures": _("measuring the result"),
        "judging": _("judging the result"),
        "error map": _("estimating where it may be wrong"),
        "writing": _("handing over the result"),
        "nodes": _("showing the result"),
    }


def _labels() -> dict[str, str]:
    """What each option is called in the panel, by how messages name it."""
    return {
        **{f"--initialize {start.value}": _("Start from: {choice}").format(choice=start.label()) for start in Start},
        **{f"--device {device.value}": _("Device: {choice}").format(choice=device.label()) for device in Device},
        **{f"--kind {kind.value}": _("Kind: {choice}").format(choice=kind.label()) for kind in Kind},
        f"--model {NO_MODEL}": _("Model: {choice}").format(choice=no_model()),
        "--initial-transform": _("Initial transform"),
        "--initialize": _("Start from"),
        "--moving-landmarks": _("Moving landmarks"),
        "--fixed-landmarks": _("Fixed landmarks"),
        "--moving-label": _("Propagate"),
        "--fixed-label": _("Score by"),
        "--model": _("Model"),
        "--refine": _("Refinement"),
        "--kind": _("Kind"),
    }
